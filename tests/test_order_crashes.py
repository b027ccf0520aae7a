"""A program that is killed again and again while orders arrive: what was promised is kept."""

from __future__ import annotations

import collections
import contextlib
import random
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smok_fast.server import LocalServer
from smok_fast.testing import wait_until

VICTIM = Path(__file__).with_name("order_victim.py")

ORDERS = 1000
KILLS = 8
PATIENCE = 60


class Victim:
    """The program, run after run, and what it has noted."""

    def __init__(self, *arguments: object, notes: Path) -> None:
        self._command = [sys.executable, str(VICTIM), *map(str, arguments), str(notes)]
        self._notes = notes
        self._process: subprocess.Popen[bytes] | None = None
        notes.touch()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        assert self._process is not None
        self._process.communicate()
        assert self._process.returncode == 0

    @property
    def writes(self) -> collections.Counter[int]:
        """How often each value was written."""
        lines = self._noted.splitlines()
        return collections.Counter(int(line[7:]) for line in lines if line.startswith("writes "))

    def reported(self, what: str) -> collections.Counter[int]:
        """How often each value was reported so."""
        pattern = rf"^says WriteOrder\('W\d', (\d+), .*before, {what}$"
        return collections.Counter(map(int, re.findall(pattern, self._noted, re.MULTILINE)))

    @property
    def _noted(self) -> str:
        """The lines so far, without one that is just being written."""
        text = self._notes.read_text()
        return text[: text.rfind("\n") + 1]


@pytest.fixture
def device_id() -> str:
    return f"victim {uuid.uuid4().hex[:8]}"


@pytest.fixture
def make_victim(
    smok_ngtt_server: LocalServer,
    device_certificate: Callable[..., Any],
    device_id: str,
    tmp_path: Path,
) -> Iterator[Callable[[bool], Victim]]:
    with contextlib.ExitStack() as stack:

        def make(pushed: bool) -> Victim:
            made = device_certificate(device_id)
            server = smok_ngtt_server
            victim = Victim(
                made.cert, made.key, made.ca_cert, tmp_path / "state", server.url,
                server.ngtt_address if pushed else "-", notes=tmp_path / "notes",
            )  # fmt: skip
            stack.callback(victim.kill)
            return victim

        yield make


def section(value: int) -> dict[str, Any]:
    """A FORCE write of an even value, and every now and then an ADVISE write of an odd one."""
    orders = [{"type": "write", "path": "W1", "value": 2 * value, "advise": 1}]
    if value % 5 == 0:
        orders.insert(0, {"type": "write", "path": "W2", "value": 2 * value + 1, "advise": 0})
    return {"orders": orders, "disposition": int(value % 50 == 0)}


def check(victim: Victim) -> None:
    """See that each promise was kept."""
    writes, again = victim.writes, victim.reported("done again")
    forced = {value: count for value, count in writes.items() if value % 2 == 0}
    advised = {value: count for value, count in writes.items() if value % 2}
    assert forced.keys() == {2 * value for value in range(ORDERS)}
    assert {v: n for v, n in forced.items() if n > 1 + again[v]} == {}
    assert {v: n for v, n in advised.items() if n > 1} == {}
    lost = {2 * value + 1 for value in range(0, ORDERS, 5)} - advised.keys()
    assert lost <= victim.reported("not done again").keys()


def test_orders_that_are_fetched_survive_kills(
    make_victim: Callable[[bool], Victim], smok_ngtt_server: LocalServer, device_id: str
) -> None:
    """The next orders are given once the ones before were begun: what is on its way in an answer
    when the program is killed is lost, since asking over HTTP is all the acknowledgement there is.
    """
    chance = random.Random(5)
    victim = make_victim(False)
    victim.start()
    size = ORDERS // (2 * KILLS)
    for number, start in enumerate(range(0, ORDERS, size)):
        batch = range(start, min(start + size, ORDERS))
        smok_ngtt_server.admin.queue_orders(device_id, map(section, batch))
        wanted = chance.randint(1, len(batch) // 2)
        wait_until(
            lambda batch=batch, wanted=wanted: (
                sum(2 * value in victim.writes for value in batch) >= wanted
            ),
            PATIENCE,
            0.003,
        )
        if number % 2 == 0:
            victim.kill()
            victim.start()
    wait_until(lambda: all(2 * value in victim.writes for value in range(ORDERS)), PATIENCE)
    victim.close()
    check(victim)


def test_orders_that_are_pushed_survive_kills(
    make_victim: Callable[[bool], Victim], smok_ngtt_server: LocalServer, device_id: str
) -> None:
    chance = random.Random(6)
    admin = smok_ngtt_server.admin
    admin.queue_orders(device_id, map(section, range(ORDERS)))
    victim = make_victim(True)
    for _ in range(KILLS):
        victim.start()
        wanted = len(victim.writes) + chance.randint(1, ORDERS // KILLS)
        wait_until(lambda wanted=wanted: len(victim.writes) >= wanted, PATIENCE, 0.003)
        victim.kill()
    victim.start()
    wait_until(lambda: not admin.pending_orders(device_id), PATIENCE)
    victim.close()
    check(victim)
