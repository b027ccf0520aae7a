"""``make bench``: what the library does per second, against the reference client in the same run.

Each row is measured in processes of their own, ours and the peer's in turn, several times; the
ratio of each pair counts, and its median, least and greatest are printed. Both sides check what
they have computed, and a wrong result ends the run with an error. The peer is ``smok`` 0.21 in
``.bench-venv`` (``make bench`` sets it up), pymodbus for the rows about MODBUS, and CPython's own
``eval`` of a compiled code object for the expression; for latency over NGTT it is a program that
reads the connection and does nothing else.

The bars are the project's goals; they are printed beside the ratios and judge nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
OURS = HERE / "ours.py"
REFERENCE = HERE / "peers" / "reference.py"
PYMODBUS = HERE / "peers" / "pymodbus_peer.py"
SQLITE = HERE / "peers" / "sqlite_peer.py"
CPYTHON = HERE / "peers" / "cpython.py"
BENCH_PYTHON = HERE.parent / ".bench-venv" / "bin" / "python"


class Row(NamedTuple):
    """One thing that is measured.

    :ivar name: what the scripts know it by
    :ivar what: what it is, for people
    :ivar unit: of the figures
    :ivar bar: the project's goal for the ratio
    :ivar peer: the script that measures the peer
    :ivar python: the Python that runs it
    :ivar less_is_better: whether the ratio is the peer's figure by ours, not ours by the peer's
    :ivar own_name: what our script knows it by, if by another name
    :ivar peer_name: what the peer's script knows it by, if by another name
    """

    name: str
    what: str
    unit: str
    bar: str
    peer: Path = REFERENCE
    python: Path = BENCH_PYTHON
    less_is_better: bool = False
    own_name: str = ""
    peer_name: str = ""


# fmt: off
ROWS = [
    Row("execute", "execute a read: on_read giving an int, to the buffer", "/s", "25"),
    Row(
        "execute_bare", "the same, against a bare loop of on_read()", "/s", "0.25", OURS,
        own_name="execute", peer_name="bare_loop",
    ),
    Row("set_new_value", "Pathpoint.set_new_value", "/s", "12"),
    Row("queue", "queue: put and get a section", "/s", "10"),
    Row("decode", "decode orders from JSON to sections", "/s", "10"),
    Row("decode_objects", "the same, and look at each order", "/s", "", peer_name="decode"),
    Row("body", "build uploads of a backlog on disk, samples", "/s", "80"),
    Row("body_bytes", "an upload's body, bytes for each sample", "B", "1", less_is_better=True),
    Row("arrays", "set_new_values, arrays (goal: 20 M/s); SQLite", "/s", "20 M", SQLITE),
    Row("ingest", "registers until durable, samples (goal: 3 M/s); SQLite", "/s", "3 M", SQLITE),
    Row(
        "ingest_bytes", "the same, bytes for each sample (goal: 2.5); SQLite", "B", "2.5", SQLITE,
        less_is_better=True,
    ),
    Row(
        "ingest_noise_bytes", "noisy singles, bytes for each (goal: 6); SQLite", "B", "6", SQLITE,
        less_is_better=True,
    ),
    Row(
        "polled_bytes", "registers, durable each second, bytes; SQLite", "B", "", SQLITE,
        less_is_better=True,
    ),
    Row(
        "ingest_written", "bytes written for each stored (goal: 2); SQLite", "", "2", SQLITE,
        less_is_better=True,
    ),
    Row(
        "buffer_memory", "memory for each sample buffered, bytes", "B", "43", less_is_better=True
    ),
    Row(
        "reopen", "open a buffer of 100 M samples (goal: 2 s); SQLite, 3 M", "s", "2 s", SQLITE,
        less_is_better=True,
    ),
    Row("modbus_decode", "MODBUS TCP: decode 125 registers", "/s", "20", PYMODBUS),
    Row("modbus_encode", "MODBUS TCP: encode an answer of 125 registers", "/s", "20", PYMODBUS),
    Row("reparse_get", "get() of a reparse pathpoint of two", "/s", "50"),
    Row("reparse_expression", "evaluate an expression; compiled by CPython", "/s", "3", CPYTHON),
    Row("reparse_series", "evaluate it over two series (goal: 30 M/s)", "/s", "30 M"),
    Row(
        "ngtt_latency", "NGTT, server's send to on_write; bare TLS read", "ms", "1 ms", OURS,
        less_is_better=True, peer_name="ngtt_bare",
    ),
    Row(
        "ngtt_latency_p99", "the same, 99th percentile", "ms", "5 ms", OURS,
        less_is_better=True, peer_name="ngtt_bare_p99",
    ),
    Row(
        "ngtt_latency_hung", "the same with another bus hung; without, median", "ms", "1", OURS,
        less_is_better=True, peer_name="ngtt_latency",
    ),
    Row("import", "import the client, above a bare Python", "s", "2.4", less_is_better=True),
    Row("memory", "resident memory of an idle device", "MB", "1.3", less_is_better=True),
]
# fmt: on


def measure(python: Path | str, script: Path, name: str) -> float:
    """Run one measurement in a process of its own."""
    done = subprocess.run(
        [str(python), str(script), name], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{script.name} {name} failed:\n{done.stderr}")
    return float(done.stdout.splitlines()[-1])


def run(row: Row, repetitions: int) -> dict[str, Any]:
    """Measure a row; ours and the peer's in turn."""
    python = sys.executable if row.peer != REFERENCE else row.python
    peer_name = row.peer_name or row.name
    own_name = row.own_name or row.name
    pairs = []
    for _ in range(repetitions):
        ours = measure(sys.executable, OURS, own_name)
        pairs.append((ours, measure(python, row.peer, peer_name)))
    ratios = [peer / own if row.less_is_better else own / peer for own, peer in pairs]
    return {
        "row": row.what,
        "unit": row.unit,
        "ours": statistics.median(own for own, _ in pairs),
        "peer": statistics.median(peer for _, peer in pairs),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "greatest": max(ratios),
        "bar": row.bar,
    }


def number(value: float) -> str:
    """A figure with three digits that count."""
    for limit, suffix in ((1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g} "


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write the figures if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="*", choices=[row.name for row in ROWS])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if not BENCH_PYTHON.exists():
        sys.exit("run it by: make bench")
    print(f"{platform.processor() or platform.machine()}, CPython {platform.python_version()}")
    print(f"{'':52}{'ours':>10}{'peer':>10}{'ratio':>8}{'least-greatest':>17}{'bar':>6}")
    results = []
    for row in ROWS:
        if options.rows and row.name not in options.rows:
            continue
        result = run(row, options.repetitions)
        results.append(result)
        spread = f"{result['least']:.3g}-{result['greatest']:.3g}"
        print(
            f"{row.what:52}{number(result['ours']) + row.unit:>10}"
            f"{number(result['peer']) + row.unit:>10}{result['ratio']:>8.3g}{spread:>17}"
            f"{row.bar:>6}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
