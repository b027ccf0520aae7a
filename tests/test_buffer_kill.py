"""A process that records and uploads is killed again and again, and nothing is lost, invented,
changed, or sent in another order than it was recorded.

The server's content at the end is everything that was reported durable, and at most what was
recorded besides. ``SMOK_FAST_KILLS`` says how often to kill; ``make soak`` does it many times.
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import buffer_recorder
from buffer_recorder import LEVELS
from smok_fast.server import LocalServer
from smok_fast.testing import Admin

KILLS = int(os.environ.get("SMOK_FAST_KILLS", "200"))

#: After so many kills everything is looked at, and another device begins.
ROUND = 200

#: Each process begins with the next multiple of this, so that no number is used twice.
NUMBERS = 1_000_000

#: Each so-manieth process is a whole device.
DEVICE_EVERY = 10


class Zygote:
    """Makes processes of tests/buffer_recorder.py, one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, buffer_recorder.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate()

    def run(
        self, job: dict[str, Any], kill_after: int | None = None
    ) -> tuple[list[list[str]], bool]:
        """Run a process.

        :param kill_after: kill it once it has said so many things; None to let it end
        :return: what it has said, and whether it was killed before its end
        """
        self._write(json.dumps(job))
        pid = None
        said: list[list[str]] = []
        while pid is None or not (len(said) == kill_after or ["closed"] in said[-1:]):
            words = self._read()
            if words[0] == "pid":
                pid = int(words[1])
            else:
                said.append(words)
        if kill_after is not None:
            os.kill(pid, signal.SIGKILL)
        self._write("")
        while (words := self._read())[0] != "end":
            said.append(words)
        status = int(words[1])
        assert status in (0, signal.SIGKILL)
        return said, status == signal.SIGKILL

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _read(self) -> list[str]:
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        assert words, "the process has ended"
        assert words[0] != "error", words
        return words


class Ledger:
    """What the processes of one device have said, and what that means for the server."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.recorded: dict[int, int] = {}
        self.durable: dict[int, int] = {}
        self.acknowledged: dict[str, int] = defaultdict(int)
        self.sent: dict[str, int] = defaultdict(int)
        #: There must be no samples of a pathpoint between these two.
        self.gaps: list[tuple[str, int, int]] = []

    def add(self, start: int, said: list[list[str]]) -> None:
        """Take account of a process, whose first number was this one."""
        self.starts.append(start)
        self.recorded[start] = self.durable[start] = start - 1
        out: list[str] = []
        for what, *words in said:
            if what == "r":
                self.recorded[start] = int(words[0])
            elif what == "d":
                self.durable[start] = int(words[0])
            elif what == "u":
                assert out in ([], words), "it is the same until the server has it"
                out = words
                self._note_sent(shares(words))
            elif what == "a":
                for path, _, last in shares(out):
                    self.acknowledged[path] = last
                out = []

    def _note_sent(self, upload: Iterator[tuple[str, int, int]]) -> None:
        for path, first, last in upload:
            assert first > self.acknowledged[path], "an acknowledgement is durable"
            if first > self.sent[path]:
                self.gaps.append((path, self.sent[path], first))
            self.sent[path] = max(self.sent[path], last)

    def check(self, admin: Admin, device_id: str) -> None:
        """The server has what it ought to have."""
        held: dict[str, list[int]] = {}
        for path in LEVELS:
            samples = admin.values(device_id, path)
            numbers = held[path] = [sample.timestamp for sample in samples]
            expected: list[int] = []
            for start in self.starts:
                begin = bisect.bisect_left(numbers, start)
                count = bisect.bisect_left(numbers, start + NUMBERS) - begin
                assert self.durable[start] <= start + count - 1 <= self.recorded[start], path
                expected += range(start, start + count)
            assert numbers == expected, path
            for sample in samples:
                given = sample.error_code or sample.value
                assert given == buffer_recorder.value_of(path, sample.timestamp)
        for path, before, after in self.gaps:
            between = bisect.bisect_left(held[path], after) - bisect.bisect(held[path], before)
            assert between == 0, "what was recorded first is sent first"
        assert admin.conflicts(device_id) == []


def shares(upload: list[str]) -> Iterator[tuple[str, int, int]]:
    """The pathpoints of an upload, with the first and the last number of each."""
    _, *words = upload
    for path, first, last in zip(words[::3], words[1::3], words[2::3], strict=True):
        yield path, int(first), int(last)


@pytest.mark.timeout(120 + KILLS)
def test_kill_9_while_it_records_and_uploads_loses_invents_and_reorders_nothing(
    tmp_path: Path, device_certificate: Callable[..., Any]
) -> None:
    chance = random.Random(KILLS)
    with Zygote() as zygote:
        for number, start in enumerate(range(0, KILLS, ROUND)):
            device_id = f"round {number}"
            certificate = device_certificate(device_id)
            with LocalServer() as server:
                job = {
                    "folder": str(tmp_path / f"{number}.buffer"),
                    "state": str(tmp_path / f"{number}.state"),
                    "cert": str(certificate.cert),
                    "key": str(certificate.key),
                    "url": server.url,
                }
                kills = min(ROUND, KILLS - start)
                one_round(zygote, job, kills, server.admin, device_id, chance)


def one_round(
    zygote: Zygote,
    job: dict[str, Any],
    kills: int,
    admin: Admin,
    device_id: str,
    chance: random.Random,
) -> None:
    ledger = Ledger()
    killed = 0
    for number in itertools.count(1):
        job["first"] = number * NUMBERS
        job["device"] = number % DEVICE_EVERY == 0
        job["durability"] = chance.choice([0, 0.001, 0.01, 1.0])
        job["chunks"] = chance.randrange(30)
        job["is_last"] = killed == kills
        if job["is_last"]:
            break
        if chance.random() < 0.3:
            spoil_an_upload(admin, chance)
        said, was_killed = zygote.run(job, kill_after=chance.randrange(30))
        ledger.add(job["first"], said)
        killed += was_killed
    admin.remove_faults()
    said, _ = zygote.run(job)
    ledger.add(job["first"], said)
    assert said[-1] == ["closed"]
    ledger.check(admin, device_id)


def spoil_an_upload(admin: Admin, chance: random.Random) -> None:
    """Have the server take an upload and not say so, fail at it, or be slow."""
    fault: dict[str, Any] = chance.choice(
        [{"drop": True, "handled": True}, {"drop": True}, {"status": 503}, {"delay": 0.05}]
    )
    admin.fault("/v1/device/pathpoints", method="POST", **fault)
