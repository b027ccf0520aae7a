"""Makes ``data/registers.csv.gz``: what the demonstration's boiler room gives in ten minutes when
each of its registers is polled at its own interval, with a few milliseconds of jitter, as polls
have.

A line a register: name; timestamps in milliseconds since the epoch, the first one whole and then
the steps; values, left empty where they are those before. Run it with the project's Python; the
same seed gives the same file.
"""

from __future__ import annotations

import gzip
import itertools
import random
from pathlib import Path

from smok_fast.cli.boiler_room import POINTS, STEP, BoilerRoom

MINUTES = 10
START = 1_764_000_000_000
FILE = Path(__file__).parent / "data" / "registers.csv.gz"


def main() -> None:
    room, jitter = BoilerRoom(seed=1), random.Random(2)
    due = {point.name: jitter.random() * point.interval for point in POINTS}
    samples: dict[str, list[tuple[int, float]]] = {point.name: [] for point in POINTS}
    for step in range(int(MINUTES * 60 / STEP)):
        room.step(STEP)
        for point in POINTS:
            while due[point.name] < step * STEP:
                timestamp = START + int(1_000 * due[point.name]) + jitter.randrange(4)
                samples[point.name].append((timestamp, room.registers[point.name]))
                due[point.name] += point.interval
    with gzip.GzipFile(FILE, "wb", mtime=0) as file:
        for name, series in samples.items():
            file.write(line(name, series).encode())


def line(name: str, series: list[tuple[int, float]]) -> str:
    times = [timestamp for timestamp, _ in series]
    steps = [times[0]] + [later - earlier for earlier, later in itertools.pairwise(times)]
    values = [value for _, value in series]
    texts = [
        "" if index and value == values[index - 1] else repr(value)
        for index, value in enumerate(values)
    ]
    return f"{name};{','.join(map(str, steps))};{','.join(texts)}\n"


if __name__ == "__main__":
    main()
