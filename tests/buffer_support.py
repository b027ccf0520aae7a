"""Buffers of samples on disk: what is in them, programs that write to them, and their uploads."""

from __future__ import annotations

import random
import subprocess
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from smok_fast._core import Buffer
from smok_fast.exceptions import OperationFailedError
from smok_fast.extras import BufferedPathpointDatabase

NATIVE = "smok_fast.extras.pp_native"

#: What each of the tests' programs starts with.
PRELUDE = """
import sys
from smok_fast.extras import BufferedPathpointDatabase
"""

#: No file is shorter, so that little is needed for many.
SMALL = {"segment_bytes": 256 << 10, "max_bytes": 8 * (256 << 10)}


def noise(count: int, seed: int = 1) -> array[float]:
    """Doubles that no compression makes shorter: 8 bytes each."""
    chance = random.Random(seed)
    return array("d", (chance.random() for _ in range(count)))


def told(samples: Iterable[tuple[float, Any]]) -> list[tuple[float, Any]]:
    """Samples in a form that can be compared: a failure is its reason."""
    return [
        (timestamp, value.reason if isinstance(value, OperationFailedError) else value)
        for timestamp, value in samples
    ]


def archived(database: BufferedPathpointDatabase, name: str) -> list[tuple[float, Any]]:
    """All samples of a pathpoint that are kept."""
    return told(database.get_archive_data(name, None, None))


def on_disk(folder: Path) -> dict[str, list[tuple[float, Any]]]:
    """What somebody else finds in a folder, by pathpoint, whoever has it open."""
    buffer = Buffer.look_at(folder)
    return {name: told(buffer.range(name)) for name in buffer.names()}


def upload_all(database: BufferedPathpointDatabase) -> dict[str, list[Any]]:
    """Have a server take everything that waits; returns it, by pathpoint and in that order."""
    taken: dict[str, list[Any]] = defaultdict(list)
    while (batch := database.get_data_to_sync()) is not None:
        for entry in batch.to_json():
            taken[entry["path"]] += map(tuple, entry["values"])
        batch.acknowledge()
    return dict(taken)


def said(caplog: pytest.LogCaptureFixture, start: str) -> int:
    """How often the log has a message that starts so."""
    return sum(record.getMessage().startswith(start) for record in caplog.records)


@contextmanager
def program(text: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Run a program; gives the process and what it prints. It is killed at the end."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()
