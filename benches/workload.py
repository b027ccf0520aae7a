"""What both sides of a benchmark work on. Imports nothing but the standard library, since the peer
runs in another environment.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

#: How many pathpoints are read, and how often each in one section.
PATHPOINTS = 1_000
ROUNDS = 20

#: How many values are set, spread over 100 pathpoints.
VALUES = 100_000

SECTIONS = 100_000

#: What an upload carries: pathpoints, and samples of each.
BODY = (100, 1_000)
#: How many times that ours has on its disk: it builds bodies from what is stored.
BACKLOG = 10
START = 1_700_000_000_000

#: How often a reparse pathpoint is asked for its value.
GETS = 100_000

#: What the reparse rows compute: of two registers, and of two columns of this many floats each,
#: which have every other timestamp in common.
REPARSE_PATHPOINT = "rW{W1r1}+{W1r2}"
REPARSE_EXPRESSION = "2*max({W1r1}-{W1r2}/10,0.0)"
REPARSE_VALUES = (615, 482)
REPARSE_RESULT = 2 * max(615 - 482 / 10, 0.0)
EVALUATIONS = 200_000
SERIES = 1_000_000

#: How many orders are pushed, one after the other.
PUSHES = 2_000

#: One answer of 125 registers to request 1 of unit 1.
REGISTERS = [(7 * index) % 65536 for index in range(125)]


#: How many times ten minutes of registers are stored, and how many noisy floats.
INGEST_ROUNDS = 20
NOISE = (100, 10_000)

#: How many samples a buffer is opened with again.
REOPENED = 100_000_000


def registers() -> dict[str, tuple[array, array]]:
    """Ten minutes of a boiler room: timestamps and values by name. See make_registers.py."""
    columns = {}
    path = Path(__file__).parent / "data" / "registers.csv.gz"
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        name, steps, texts = line.split(";")
        timestamps = array("q", itertools.accumulate(map(int, steps.split(","))))
        values = array("d" if "." in texts else "q")
        for text in texts.split(","):
            values.append((float(text) if "." in texts else int(text)) if text else values[-1])
        columns[name] = timestamps, values
    return columns


def repeated(columns: dict[str, tuple[array, array]]) -> Iterator[dict[str, tuple[array, array]]]:
    """The same columns again and again, each time ten minutes later."""
    for index in range(INGEST_ROUNDS):
        later = index * 600_000
        yield {
            name: (array("q", (timestamp + later for timestamp in timestamps)), values)
            for name, (timestamps, values) in columns.items()
        }


def noise() -> dict[str, tuple[array, array]]:
    """Singles, as ``f`` pathpoints hold them, that have noise in all their digits."""
    dice, count = random.Random(1), NOISE[1]
    columns = {}
    for number in range(NOISE[0]):
        first = START + number
        timestamps = array("q", (first + 100 * index + dice.randrange(4) for index in range(count)))
        singles = array("f", (dice.gauss(21.0, 0.5) for _ in range(count)))
        columns[f"f1l{number}"] = timestamps, array("d", singles)
    return columns


def check(condition: bool, what: str) -> None:
    """End the process with an error if a result is wrong."""
    if not condition:
        sys.exit(f"wrong result: {what}")


def rate(count: int, work: Callable[[], object], repetitions: int = 5) -> float:
    """How often per second of CPU time, all threads together, so that what else the machine does
    counts less: the median of several runs after a first one that does not count.
    """
    rates = []
    for _ in range(repetitions + 1):
        started = time.process_time()
        work()
        rates.append(count / (time.process_time() - started))
    return statistics.median(rates[1:])


def orders_body() -> bytes:
    """Orders as a server sends them: 100 sections of 50 orders, reads and writes in turn."""
    orders = [
        {"type": "read", "path": f"W1r{index}", "advise": 0}
        if index % 2
        else {"type": "write", "path": f"W1r{index}", "value": index, "advise": 1}
        for index in range(50)
    ]
    return json.dumps([{"orders": orders, "disposition": 0}] * 100).encode()


ORDERS = 5_000


def import_seconds(module: str) -> float:
    """How long importing a module takes in a fresh process, less what a bare Python takes."""

    def timed(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - started

    pairs = [(timed(f"import {module}"), timed("pass")) for _ in range(3)]
    return statistics.median(loaded - bare for loaded, bare in pairs)


def resident_megabytes() -> float:
    """The resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmRSS in /proc/self/status")
