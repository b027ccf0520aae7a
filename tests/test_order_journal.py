"""Orders and crashes: what the state file has when the program is cut off, and what the next one
makes of it.

A crash is a copy of the state file at a certain moment: what a power cut would leave on the disk.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from gateway_support import DEVICE_ID, PATIENCE, QUICK
from ngtt_support import (
    CONFIRM,
    Peer,
    ScriptedServer,
    order,
    quick,
    server_tls,
)
from pathpoint_support import Scripted
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.pathpoint import Pathpoint
from smok_fast.server import LocalServer
from smok_fast.state import OrderJournal, StateFile
from smok_fast.sync import orders as intake
from smok_fast.testing import Admin, wait_until

ADVISE, FORCE = 0, 1


class Device(SMOKDevice):
    """Notes what it is told to do. ``writing`` is what ``on_write`` gives."""

    writing: Any = None

    def __init__(self, certificate: Any, state: Path, **options: Any) -> None:
        self.log: list[Any] = []
        self.state = state
        super().__init__(str(certificate.cert), str(certificate.key), state, **{**QUICK, **options})

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        pathpoint = Scripted(self, name, storage_level, log=self.log)
        pathpoint.writing = lambda: self.writing() if callable(self.writing) else self.writing
        return pathpoint

    def execute_sysctl(self, op_type: str, op_args: str) -> bool:
        self.log.append(("sysctl", op_type))
        return True

    def wait_for(self, *log: Any) -> None:
        wait_until(lambda: len(self.log) >= len(log), PATIENCE)
        assert self.log == [*log]


Make = Callable[..., Device]


@pytest.fixture
def make(
    smok_server: LocalServer,
    device_certificate: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Make]:
    """Makes devices; ``after=device`` makes one of the program that follows its crash."""
    monkeypatch.setattr("smok_fast.client.device.RESTORE_AFTER", 0.0)
    monkeypatch.setattr(intake, "LINGER", 0.05)
    monkeypatch.setattr("smok_fast.ngtt.uplink.thread.Backoff", lambda *_, **__: quick())
    certificate = device_certificate(DEVICE_ID)
    runs = itertools.count()
    with contextlib.ExitStack() as stack:

        def make(after: Device | None = None, **options: Any) -> Device:
            state = tmp_path / f"run{next(runs)}" / "state"
            state.parent.mkdir()
            if after is not None:
                for file in after.state.parent.glob("state*"):
                    if file.is_file():
                        shutil.copyfile(file, state.parent / file.name)
            options.setdefault("url", smok_server.url)
            options.setdefault("ca_certs", certificate.ca_cert)
            return stack.enter_context(Device(certificate, state, **options))

        yield make


def write(value: Any, advise: int = FORCE, path: str = "W1", **fields: Any) -> dict[str, Any]:
    return {"type": "write", "path": path, "value": value, "advise": advise, **fields}


def section(*orders: Any, disposition: int = 0) -> dict[str, Any]:
    return {"orders": [*orders], "disposition": disposition}


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [message for message in caplog.messages if words in message]


class Gate:
    """An ``on_write`` that does not return before it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self._open.wait(PATIENCE)

    def wait(self) -> None:
        assert self.entered.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


# --- Over HTTP ------------------------------------------------------------------------------------


def test_what_was_fetched_and_not_begun_is_executed_after_a_crash_without_more_ado(
    make: Make, gate: Gate, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    first = make()
    first.writing = gate
    barrier = section(write(0), disposition=1)
    every_kind = section(
        {"type": "read", "path": "W2", "advise": FORCE},
        write("text", ADVISE, path="u1", stale_after=4e9),
        write(1.5, FORCE, path="d1"),
        write(2, stale_after=1.0),
        {"type": "wait", "time": 0},
        {"type": "sysctl", "op_type": "switch", "op_args": "on"},
    )
    admin.queue_orders(DEVICE_ID, [barrier, every_kind])
    gate.wait()
    second = make(after=first)
    second.wait_for(
        ("write", "W1", 0),
        ("read", "W2"),
        ("write", "u1", "text"),
        ("write", "d1", 1.5),
        ("sysctl", "switch"),
    )
    assert len(said(caplog, "may have been executed")) == 1  # the one that was under way
    assert len(said(caplog, "is stale, dropped")) == 1


def test_what_was_begun_and_not_ended_is_executed_again_if_it_may_be_and_reported(
    make: Make, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    first = make()
    first.writing = Future
    admin.queue_orders(
        DEVICE_ID,
        [
            section(
                {"type": "read", "path": "W2"},
                {"type": "sysctl", "op_type": "reboot", "op_args": ""},
                write(1, ADVISE),
                write(2, FORCE),
            )
        ],
    )
    wait_until(lambda: len(first.log) == 4, PATIENCE)
    second = make(after=first)
    second.wait_for(("read", "W2"), ("write", "W1", 2))
    assert said(caplog, "may have been executed") == [
        "SysctlOrder('reboot', '') may have been executed before, not done again",
        "WriteOrder('W1', 1, AdviseLevel.ADVISE, None) may have been executed before, "
        "not done again",
        "WriteOrder('W1', 2, AdviseLevel.FORCE, None) may have been executed before, done again",
    ]
    third = make(after=first)  # as if the second one had been cut off, too
    third.wait_for(("read", "W2"), ("write", "W1", 2))


def test_what_was_executed_is_not_executed_after_a_crash(
    make: Make, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    first = make()
    admin.queue_orders(DEVICE_ID, [section(write(value)) for value in range(100)])
    wait_until(lambda: len(first.log) == 100, PATIENCE)
    wait_until(lambda: not left_in(first), PATIENCE)
    second = make(after=first)
    admin.queue_orders(DEVICE_ID, [section(write("last"))])
    wait_until(lambda: ("write", "W1", "last") in first.log + second.log, PATIENCE)
    assert second.log in ([], [("write", "W1", "last")])
    assert said(caplog, "may have been") == []


def left_in(device: Device) -> list[Any]:
    """What the state file on the disk says is not done."""
    copy = device.state.with_name("copy")
    copy.mkdir(exist_ok=True)
    for file in device.state.parent.glob("state*"):
        if file.is_file():
            shutil.copyfile(file, copy / file.name)
    with StateFile(copy / "state") as state:
        return OrderJournal(state).unfinished()


def test_what_the_last_run_has_left_goes_before_what_is_new(
    make: Make, gate: Gate, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    first.writing = gate
    admin.queue_orders(DEVICE_ID, [section(write(0), disposition=1), section(write(1))])
    gate.wait()
    first.allow_sync = False
    monkeypatch.setattr("smok_fast.client.device.RESTORE_AFTER", 3600.0)
    second = make(after=first)
    admin.queue_orders(DEVICE_ID, [section(write(2))])
    wait_until(lambda: len(second.order_intake._held or []) == 3, PATIENCE)
    assert second.log == []
    second.order_intake.release()
    second.wait_for(*[("write", "W1", value) for value in (0, 1, 2)])


def test_a_device_with_a_delayed_boot_executes_what_was_left_as_soon_as_it_boots(
    make: Make, gate: Gate, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    first.writing = gate
    admin.queue_orders(DEVICE_ID, [section(write(0), disposition=1), section(write(1))])
    gate.wait()
    monkeypatch.setattr("smok_fast.client.device.RESTORE_AFTER", 3600.0)
    second = make(after=first, delayed_boot=True)
    second.continue_boot()
    second.wait_for(("write", "W1", 0), ("write", "W1", 1))


def test_what_close_has_kept_from_being_executed_is_executed_by_the_next_run(
    make: Make, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    first = make()
    first.writing = Future
    admin.queue_orders(DEVICE_ID, [section(write(0, ADVISE)), section(write(1), disposition=1)])
    wait_until(lambda: first.log and first.queue_length == 0, PATIENCE)
    first.close()
    second = make(after=first)
    second.wait_for(("write", "W1", 1))
    assert len(said(caplog, "not done again")) == 1


def test_an_order_of_the_last_run_that_makes_no_sense_is_dropped(
    make: Make, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    first = make(allow_sync=False)
    assert first.state_file is not None
    journal = OrderJournal(first.state_file)
    journal.add("http", [b"\xff garbage", b"", b"\x40"])
    journal.add("ngtt:none", [b"\x40"])
    journal.add("http", [b"\x41\x51\x06orders\x41\x52\x04type\x84wait\x04time\x06\x00"])
    journal.commit()
    second = make(after=first)
    admin.queue_orders(DEVICE_ID, [section(write(1))])
    second.wait_for(("write", "W1", 1))
    assert len(said(caplog, "An order of the last run makes no sense, dropped")) == 4
    wait_until(lambda: not left_in(second), PATIENCE)


def test_a_batch_costs_three_transactions_however_long_it_is(
    make: Make, gate: Gate, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make()
    commits: list[int] = []
    commit = OrderJournal.commit

    def count(journal: OrderJournal, *, at_once: bool = True) -> None:
        commits.append(len(device.log))
        assert at_once
        commit(journal, at_once=at_once)

    monkeypatch.setattr(OrderJournal, "commit", count)
    device.writing = gate
    admin.queue_orders(DEVICE_ID, [section(write(value)) for value in range(60)])
    gate.wait()
    gate.open()
    wait_until(lambda: len(device.log) == 60, PATIENCE)
    wait_until(lambda: not left_in(device), PATIENCE)
    # The executor may take the first of them before all are in the queue.
    assert 3 <= len(commits) <= 5
    assert commits[:2] == [0, 0]
    assert commits[-1] == 60


def test_a_disk_that_fails_holds_up_no_order(
    make: Make, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no disk")

    device = make()
    monkeypatch.setattr("smok_fast.state.file._check_space", fail)
    admin.queue_orders(DEVICE_ID, [section(write(value)) for value in range(10)])
    device.wait_for(*[("write", "W1", value) for value in range(10)])


# --- Over NGTT ------------------------------------------------------------------------------------


@pytest.fixture
def script(device_certificate: Callable[..., Any]) -> Iterator[Callable[..., str]]:
    """Starts a server that follows scripts; gives its address."""
    with contextlib.ExitStack() as stack:

        def start(*scripts: Callable[[Peer], object]) -> str:
            tls = server_tls(device_certificate(DEVICE_ID))
            return stack.enter_context(ScriptedServer(tls, *scripts)).address

        yield start


def deliver(*sections: Any, then: Callable[[Peer], object] | None = None) -> Any:
    """A script that gives order 7, and says when it was confirmed."""
    confirmed = threading.Event()

    def run(peer: Peer) -> None:
        peer.greet()
        peer.send(order(7, [*sections]))
        peer.expect(CONFIRM, 7)
        confirmed.set()
        (then or Peer.serve)(peer)

    run.confirmed = confirmed  # type: ignore[attr-defined]
    return run


def test_a_pushed_order_that_was_executed_is_not_executed_after_a_crash_but_confirmed(
    make: Make, script: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    crashed = threading.Event()

    def until_the_crash(peer: Peer) -> None:  # no ping is answered: the confirmation was lost
        assert crashed.wait(PATIENCE)

    lost = deliver(section(write(1)), then=until_the_crash)
    first = make(use_ngtt=True, ngtt=script(lost))
    assert lost.confirmed.wait(PATIENCE)
    wait_until(lambda: [row.state for row in left_in(first)] == ["executed"], PATIENCE)
    again = deliver(section(write(1)))
    second = make(after=first, use_ngtt=True, ngtt=script(again))
    crashed.set()
    assert again.confirmed.wait(PATIENCE)
    assert second.log == []
    assert len(said(caplog, "Order 7 was delivered again, and is not executed twice")) == 1


@pytest.mark.parametrize(
    ("advise", "done"), [(FORCE, [("write", "W1", 1)]), (ADVISE, [])], ids=["FORCE", "ADVISE"]
)
def test_a_pushed_order_of_which_nobody_knows_is_reported_and_executed_if_it_may_be(
    make: Make,
    script: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
    advise: int,
    done: list[Any],
) -> None:
    orders = section(write(1, advise))

    def never_confirmed(peer: Peer) -> None:
        peer.greet()
        peer.send(order(7, [orders]))
        peer.serve()

    first = make(use_ngtt=True, ngtt=script(never_confirmed))
    first.writing = Future
    first.wait_for(("write", "W1", 1))
    again = deliver(orders)
    second = make(after=first, use_ngtt=True, ngtt=script(again))
    assert again.confirmed.wait(PATIENCE)
    assert second.log == done
    assert len(said(caplog, "may have been executed before")) == 1


def test_a_pushed_order_of_which_nobody_knows_may_come_again_over_http(
    make: Make, script: Callable[..., str], admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    def never_confirmed(peer: Peer) -> None:
        peer.greet()
        peer.send(order(7, [section(write(1, ADVISE)), section(write(2))]))
        peer.serve()

    first = make(use_ngtt=True, ngtt=script(never_confirmed))
    first.writing = Future
    first.wait_for(("write", "W1", 1), ("write", "W1", 2))
    second = make(after=first)
    admin.queue_orders(DEVICE_ID, [section(write(n, n - 1)) for n in (1, 2)] + [section(write(3))])
    second.wait_for(("write", "W1", 2), ("write", "W1", 3))
    assert len(said(caplog, "may have been executed before")) == 2


def test_another_order_with_the_same_id_is_no_repetition(
    make: Make, script: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    lost = deliver(section(write(1)))
    first = make(use_ngtt=True, ngtt=script(lost))
    assert lost.confirmed.wait(PATIENCE)
    other = deliver(section(write(2)))
    second = make(after=first, use_ngtt=True, ngtt=script(other))
    assert other.confirmed.wait(PATIENCE)
    assert second.log == [("write", "W1", 2)]


def test_what_the_server_is_known_to_know_leaves_the_journal(
    make: Make, script: Callable[..., str]
) -> None:
    served = deliver(section(write(1)))
    device = make(use_ngtt=True, ngtt=script(served))
    assert served.confirmed.wait(PATIENCE)

    wait_until(lambda: device.log and not left_in(device), PATIENCE)


def test_the_same_order_an_hour_later_may_be_another_one(
    make: Make,
    script: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = deliver(section(write(1)), then=lambda peer: peer.receive())
    first = make(use_ngtt=True, ngtt=script(lost))
    assert lost.confirmed.wait(PATIENCE)
    wait_until(lambda: [row.state for row in left_in(first)] == ["executed"], PATIENCE)
    monkeypatch.setattr(intake, "SURE_FOR", 0.0)
    again = deliver(section(write(1)))
    second = make(after=first, use_ngtt=True, ngtt=script(again))
    assert again.confirmed.wait(PATIENCE)
    assert second.log == [("write", "W1", 1)]
    assert len(said(caplog, "may have been executed before, done again")) == 1
