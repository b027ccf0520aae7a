"""A device whose orders are pushed over NGTT."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from gateway_support import DEVICE_ID, PATIENCE, QUICK
from ngtt_support import (
    CONFIRM,
    PING,
    REJECT,
    Peer,
    ScriptedServer,
    order,
    quick,
    server_tls,
    writes,
)
from pathpoint_support import Scripted
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.client.certificate import DevelopmentCertificates
from smok_fast.exceptions import UnavailableError
from smok_fast.extras import InMemoryEventDatabase
from smok_fast.ngtt.protocol import NGTTFrame, NGTTHeaderType
from smok_fast.pathpoint import Pathpoint
from smok_fast.server import LocalServer
from smok_fast.sync import orders as intake
from smok_fast.testing import wait_until


class Device(SMOKDevice):
    """Notes what is written to its pathpoints. ``writing`` is what ``on_write`` gives."""

    writing: Any = None

    def __init__(self, certificate: DevelopmentCertificates, **options: Any) -> None:
        self.log: list[Any] = []
        options = {"use_ngtt": True, "ca_certs": certificate.ca_cert, **QUICK, **options}
        super().__init__(
            str(certificate.cert), str(certificate.key), InMemoryEventDatabase(), **options
        )

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        if name == "W404":
            raise KeyError(name)
        pathpoint = Scripted(self, name, storage_level, log=self.log)
        pathpoint.writing = lambda: self.writing() if callable(self.writing) else self.writing
        return pathpoint

    @property
    def written(self) -> list[Any]:
        return [value for _, _, value in self.log]

    def wait_for_writes(self, *values: Any) -> None:
        wait_until(lambda: len(self.log) >= len(values), PATIENCE)
        assert self.written == [*values]


Make = Callable[..., Device]


@pytest.fixture
def certificate(device_certificate: Callable[..., DevelopmentCertificates]) -> Any:
    return device_certificate(DEVICE_ID)


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smok_fast.ngtt.uplink.thread.Backoff", lambda *_, **__: quick())


@pytest.fixture
def make(certificate: DevelopmentCertificates) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> Device:
            return stack.enter_context(Device(certificate, **options))

        yield make


@pytest.fixture
def pushed(make_pushed: Make, smok_ngtt_server: LocalServer) -> Device:
    """A device of the local server that has said everything it had to say."""
    device = make_pushed()
    wait_until(lambda: device.baobs_loaded, PATIENCE)
    wait_until(lambda: smok_ngtt_server.admin.ngtt(DEVICE_ID).connected, PATIENCE)
    return device


@pytest.fixture
def make_pushed(smok_ngtt_server: LocalServer, make: Make) -> Make:
    """Makes devices of the local server."""
    return functools.partial(make, url=smok_ngtt_server.url, ngtt=smok_ngtt_server.ngtt_address)


@pytest.fixture
def scripted(
    smok_server: LocalServer, certificate: DevelopmentCertificates, make: Make
) -> Iterator[Callable[..., tuple[Device, ScriptedServer]]]:
    """Makes a device of a scripted NGTT server beside a local one for HTTP."""
    tls = server_tls(certificate)
    with contextlib.ExitStack() as stack:

        def start(
            *scripts: Callable[[Peer], object], listening: bool = True, **options: Any
        ) -> tuple[Device, ScriptedServer]:
            server = stack.enter_context(ScriptedServer(tls, *scripts, listening=listening))
            device = make(url=smok_server.url, ngtt=server.address, **options)
            stack.callback(device.close)
            return device, server

        yield start


class Signals:
    """Events by name, for scripts and tests to wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, threading.Event] = {}

    def __call__(self, name: str) -> threading.Event:
        with self._lock:
            return self._events.setdefault(name, threading.Event())

    def set(self, name: str) -> None:
        self(name).set()

    def wait(self, name: str) -> None:
        assert self(name).wait(PATIENCE), name


@pytest.fixture
def signals() -> Signals:
    return Signals()


def pending(future: Future[None]) -> Callable[[], Future[None]]:
    return lambda: future


# --- With the local server ------------------------------------------------------------------------


def test_ngtt_has_one_thread_of_its_own(make_pushed: Make, smok_ngtt_server: LocalServer) -> None:
    before = set(threading.enumerate())
    device = make_pushed(delayed_boot=True)
    assert set(threading.enumerate()) == before
    device.continue_boot()
    wait_until(lambda: smok_ngtt_server.admin.ngtt(DEVICE_ID).connected, PATIENCE)
    started = {thread for thread in threading.enumerate() if thread not in before}
    named = [(thread.name, thread.daemon) for thread in started if thread.name == "ngtt uplink"]
    assert named == [("ngtt uplink", True)]
    assert {"CommunicatorThread", "OrderExecutorThread", "ArchivingAndMacroThread"} < {
        thread.name for thread in started
    }
    device.close()
    assert not any(thread.name == "ngtt uplink" for thread in threading.enumerate())


def test_an_order_is_pushed_written_and_confirmed(
    smok_ngtt_server: LocalServer, pushed: Device
) -> None:
    admin = smok_ngtt_server.admin
    admin.queue_orders(DEVICE_ID, writes(1, 2))
    pushed.wait_for_writes(1, 2)
    wait_until(lambda: admin.ngtt(DEVICE_ID).confirmed == 2, PATIENCE)
    assert admin.pending_orders(DEVICE_ID) == []
    assert pushed.uplink is not None
    assert pushed.uplink.reachable is True
    assert pushed.uplink.last_contact is not None


def test_orders_that_wait_come_with_the_connection(
    smok_ngtt_server: LocalServer, make_pushed: Make
) -> None:
    smok_ngtt_server.admin.queue_orders(DEVICE_ID, writes(*range(250)))
    device = make_pushed()
    device.wait_for_writes(*range(250))
    wait_until(lambda: smok_ngtt_server.admin.ngtt(DEVICE_ID).confirmed == 250, PATIENCE)


def test_an_order_is_confirmed_once_all_of_it_was_executed(
    smok_ngtt_server: LocalServer, pushed: Device
) -> None:
    admin = smok_ngtt_server.admin
    future: Future[None] = Future()
    pushed.writing = pending(future)
    admin.queue_orders(DEVICE_ID, writes(1))
    pushed.wait_for_writes(1)
    pushed.writing = None
    admin.queue_orders(DEVICE_ID, writes(2))
    wait_until(lambda: admin.ngtt(DEVICE_ID).confirmed == 1, PATIENCE)
    assert admin.pending_orders(DEVICE_ID) == writes(1)
    future.set_result(None)
    wait_until(lambda: admin.ngtt(DEVICE_ID).confirmed == 2, PATIENCE)


def test_an_order_whose_connection_is_cut_is_executed_once_and_confirmed_over_the_next(
    smok_ngtt_server: LocalServer, pushed: Device
) -> None:
    admin = smok_ngtt_server.admin
    future: Future[None] = Future()
    pushed.writing = pending(future)
    admin.queue_orders(DEVICE_ID, writes(1))
    pushed.wait_for_writes(1)
    smok_ngtt_server.kill()
    smok_ngtt_server.start()
    wait_until(lambda: admin.ngtt(DEVICE_ID).under_way == 1, PATIENCE)
    future.set_result(None)
    wait_until(lambda: admin.ngtt(DEVICE_ID).confirmed == 1, PATIENCE)
    assert pushed.written == [1]
    assert admin.pending_orders(DEVICE_ID) == []


def test_an_order_that_ends_while_the_connection_is_cut_is_confirmed_when_it_is_back(
    smok_ngtt_server: LocalServer, pushed: Device
) -> None:
    admin = smok_ngtt_server.admin
    future: Future[None] = Future()
    pushed.writing = pending(future)
    admin.queue_orders(DEVICE_ID, writes(1))
    pushed.wait_for_writes(1)
    smok_ngtt_server.kill()
    future.set_result(None)
    smok_ngtt_server.start()
    # Over NGTT, or over HTTP if that was asked in between.
    wait_until(lambda: admin.pending_orders(DEVICE_ID) == [], PATIENCE)
    admin.queue_orders(DEVICE_ID, writes(2))
    pushed.writing = None
    pushed.wait_for_writes(1, 2)


def test_the_same_order_given_again_is_executed_again(
    smok_ngtt_server: LocalServer, pushed: Device
) -> None:
    for number in range(1, 6):
        smok_ngtt_server.admin.queue_orders(DEVICE_ID, writes(7))
        pushed.wait_for_writes(*[7] * number)


def test_what_was_under_way_at_the_end_stays_with_the_server(
    smok_ngtt_server: LocalServer, pushed: Device, make_pushed: Make
) -> None:
    admin = smok_ngtt_server.admin
    pushed.writing = pending(Future())
    admin.queue_orders(DEVICE_ID, writes(1))
    pushed.wait_for_writes(1)
    pushed.close()
    wait_until(lambda: not admin.ngtt(DEVICE_ID).connected, PATIENCE)
    assert admin.pending_orders(DEVICE_ID) == writes(1)
    again = make_pushed()
    again.wait_for_writes(1)
    wait_until(lambda: admin.ngtt(DEVICE_ID).confirmed == 1, PATIENCE)


def test_a_device_that_may_not_talk_does_not_connect(
    smok_ngtt_server: LocalServer, make_pushed: Make
) -> None:
    admin = smok_ngtt_server.admin
    device = make_pushed(allow_sync=False)
    admin.queue_orders(DEVICE_ID, writes(1))
    device.allow_sync = True
    device.wait_for_writes(1)
    device.allow_sync = False
    wait_until(lambda: not admin.ngtt(DEVICE_ID).connected, PATIENCE)


# --- Orders that come again -----------------------------------------------------------------------


def test_a_confirmation_that_got_lost_is_sent_again(
    scripted: Callable[..., Any], signals: Signals
) -> None:
    def loses_it(peer: Peer) -> None:
        peer.greet().send(order(1, writes(1)), order(2, writes(2)))
        for _ in range(2):
            while peer.receive().packet_type == PING:
                pass  # unanswered: nobody can know that the confirmation has arrived

    def sends_again(peer: Peer) -> None:
        peer.greet().send(order(1, writes(1)), order(2, writes(2)), order(1, writes(3)))
        for tid in (1, 2, 1):
            peer.expect(CONFIRM, tid)
        signals.set("confirmed")
        peer.serve()

    device, _ = scripted(loses_it, sends_again)
    signals.wait("confirmed")
    assert device.written == [1, 2, 3]


def test_a_transaction_id_may_be_used_again_once_it_was_confirmed(
    scripted: Callable[..., Any], signals: Signals
) -> None:
    def first(peer: Peer) -> None:
        peer.greet().send(order(1, writes(5)))
        assert peer.receive() == NGTTFrame(1, CONFIRM)
        ping = peer.receive()
        peer.send(order(1, writes(5)))
        assert peer.receive() == NGTTFrame(1, CONFIRM)
        # The answer to the next ping proves that the confirmation has arrived.
        peer.send(ping)
        peer.send(peer.receive())

    def second(peer: Peer) -> None:
        peer.greet().send(order(1, writes(5)))
        peer.expect(CONFIRM, 1)
        signals.set("confirmed")
        peer.serve()

    device, _ = scripted(first, second)
    signals.wait("confirmed")
    assert device.written == [5, 5, 5]


def test_a_server_that_sends_an_order_again_while_it_is_executed(
    scripted: Callable[..., Any], signals: Signals
) -> None:
    def script(peer: Peer) -> None:
        peer.greet().send(order(1, writes(1)), order(1, writes(1)), order(2, writes(2)))
        peer.expect(CONFIRM, 2)
        signals.set("seen")
        peer.expect(CONFIRM, 1)
        signals.set("confirmed")
        peer.serve()

    future: Future[None] = Future()
    results = iter([future, None, None])
    device, _ = scripted(script, delayed_boot=True)
    device.writing = lambda: next(results)
    device.continue_boot()
    signals.wait("seen")
    future.set_result(None)
    signals.wait("confirmed")
    assert device.written == [1, 2]


def test_what_is_under_way_is_not_executed_again_because_http_has_it_too(
    scripted: Callable[..., Any], signals: Signals, smok_server: LocalServer
) -> None:
    future: Future[None] = Future()
    results = iter([future])

    def script(peer: Peer) -> None:
        peer.greet().send(order(1, writes(1)))
        signals.wait("cut")

    device, server = scripted(script, delayed_boot=True)
    device.writing = lambda: next(results, None)
    device.continue_boot()
    device.wait_for_writes(1)
    # What such a server gives out once the connection is gone.
    smok_server.admin.queue_orders(DEVICE_ID, writes(1, 2, 1))
    signals.set("cut")
    server.close()
    device.wait_for_writes(1, 2, 1)
    future.set_result(None)
    assert smok_server.admin.pending_orders(DEVICE_ID) == []


def test_more_orders_than_are_executed_make_the_server_send_them_later(
    scripted: Callable[..., Any],
    signals: Signals,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(intake, "MAX_PUSHED", 3)
    future: Future[None] = Future()
    all_orders = [order(tid, writes(tid)) for tid in range(1, 6)]

    def first(peer: Peer) -> None:
        peer.greet().send(*all_orders)
        peer.serve()

    def second(peer: Peer) -> None:
        signals.set("again")
        peer.greet()
        signals.wait("executed")
        for sent in all_orders:
            peer.send(sent)
            peer.expect(CONFIRM, sent.tid)
        signals.set("confirmed")
        peer.serve()

    device, _ = scripted(first, second, delayed_boot=True)
    device.writing = pending(future)
    device.continue_boot()
    signals.wait("again")
    device.wait_for_writes(1, 2, 3)
    future.set_result(None)
    device.writing = None
    signals.set("executed")
    signals.wait("confirmed")
    assert device.written == [1, 2, 3, 4, 5]
    assert "more orders are pushed than are executed" in caplog.text


# --- Orders that make no sense --------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"\xff", b"\x50", b"\x82ab", b"\x42\x03\x01\x03\x02"], ids=repr)
def test_what_cannot_be_decoded_is_rejected(
    scripted: Callable[..., Any], signals: Signals, body: bytes
) -> None:
    def script(peer: Peer) -> None:
        peer.greet().send(NGTTFrame(5, NGTTHeaderType.ORDER, body), order(6, writes(1)))
        peer.expect(REJECT, 5)
        peer.expect(CONFIRM, 6)
        signals.set("done")
        peer.serve()

    device, server = scripted(script)
    signals.wait("done")
    assert device.written == [1]
    assert server.accepted == 1


@pytest.mark.parametrize(
    "sections",
    [
        [],
        [{"orders": []}],
        [{"orders": [{"type": "dance"}, {"type": "write", "path": "W1", "value": 1}]}],
        [5, *writes(1)],
        [{"orders": [{"type": "write", "path": "W404", "value": 1}]}, *writes(1)],
    ],
    ids=repr,
)
def test_the_rest_of_an_order_is_executed_and_confirmed(
    scripted: Callable[..., Any], signals: Signals, sections: list[Any]
) -> None:
    def script(peer: Peer) -> None:
        peer.greet().send(order(5, sections))
        peer.expect(CONFIRM, 5)
        signals.set("done")
        peer.serve()

    device, _ = scripted(script)
    signals.wait("done")
    assert device.written == ([1] if "W1" in str(sections) else [])


def test_an_empty_body_is_no_sections(scripted: Callable[..., Any], signals: Signals) -> None:
    def script(peer: Peer) -> None:
        peer.greet().send(NGTTFrame(5, NGTTHeaderType.ORDER))
        peer.expect(CONFIRM, 5)
        signals.set("done")
        peer.serve()

    scripted(script)
    signals.wait("done")


# --- HTTP while there is no NGTT ------------------------------------------------------------------


def test_orders_are_fetched_over_http_only_while_ngtt_is_down(
    scripted: Callable[..., Any], signals: Signals, smok_server: LocalServer
) -> None:
    admin = smok_server.admin

    def script(peer: Peer) -> None:
        peer.greet().send(order(1, writes(2)))
        peer.expect(CONFIRM, 1)
        peer.serve()

    device, server = scripted(script, listening=False)
    admin.queue_orders(DEVICE_ID, writes(1))
    device.wait_for_writes(1)
    server.listen()
    device.wait_for_writes(1, 2)
    assert device.uplink.reachable is True
    # A poll may have been under way; those after it would be told by the call.
    fault = admin.fault("/v1/device/orders", status=500, times=None)
    admin.queue_orders(DEVICE_ID, writes(3))
    calls = admin.fault_hits(fault)
    device.get_pathpoint("W2").set_new_value(1, 1)  # orders are asked for after uploads, too
    wait_until(lambda: admin.values(DEVICE_ID, "W2"), PATIENCE)
    assert admin.fault_hits(fault) - calls <= 1
    assert admin.pending_orders(DEVICE_ID) == writes(3)
    admin.remove_faults()
    server.close()
    device.wait_for_writes(1, 2, 3)


def test_without_the_switch_there_is_no_connection(smok_server: LocalServer, make: Make) -> None:
    device = make(url=smok_server.url, use_ngtt=False)
    assert device.uplink is None
    smok_server.admin.queue_orders(DEVICE_ID, writes(1))
    device.wait_for_writes(1)


def test_a_device_without_orders_does_not_connect(smok_server: LocalServer, make: Make) -> None:
    assert make(url=smok_server.url, dont_obtain_orders=True).uplink is None


# --- Where the server is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "environment", "server"),
    [
        ({"ngtt": "a:1", "url": "http://b:2"}, {"SMOK_NGTT": "c:3"}, ("a", 1)),
        ({"url": "http://b:2"}, {"SMOK_NGTT": "c:3"}, ("c", 3)),
        ({"url": "http://b:2"}, {}, ("b", 2405)),
        ({"url": "http://[::1]:2"}, {}, ("::1", 2405)),
        ({}, {"SMOK_BASE_URL": "https://b"}, ("b", 2405)),
        ({}, {}, ("rapid-rs", 2405)),
    ],
    ids=str,
)
def test_where_the_server_is(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    environment: dict[str, str],
    server: tuple[str, int],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    device = make(delayed_boot=True, **options)
    assert device.uplink is not None
    assert device.uplink.server == server


def test_a_server_or_a_ca_that_cannot_be_is_told_at_once(
    certificate: DevelopmentCertificates, tmp_path: Any
) -> None:
    with pytest.raises(ValueError, match="NGTT server"):
        Device(certificate, ngtt="a:b")
    with pytest.raises(UnavailableError, match="there is no"):
        Device(certificate, ca_certs=tmp_path / "missing")
