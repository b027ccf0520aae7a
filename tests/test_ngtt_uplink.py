"""The NGTT connection over real sockets, against servers that misbehave."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ngtt_support import (
    CONFIRM,
    FETCH,
    PATIENCE,
    PING,
    REJECT,
    Gone,
    Peer,
    ScriptedServer,
    WatchedClock,
    order,
    quick,
    server_tls,
    writes,
)
from smok_fast._backoff import Backoff
from smok_fast.basics import Environment
from smok_fast.client.certificate import (
    DevelopmentCertificates,
    create_development_certificates,
    create_server_certificate,
)
from smok_fast.exceptions import InvalidCredentials, UnavailableError
from smok_fast.ngtt.exceptions import ConnectionFailed
from smok_fast.ngtt.orders import Order
from smok_fast.ngtt.protocol import NGTTFrame
from smok_fast.ngtt.uplink import NGTTConnection
from smok_fast.testing import wait_until

THREAD = "smok_fast.ngtt.uplink.thread"

Connect = Callable[..., NGTTConnection]


@pytest.fixture
def certificate(device_certificate: Callable[..., DevelopmentCertificates]) -> Any:
    return device_certificate("1")


@pytest.fixture
def serve(certificate: DevelopmentCertificates) -> Iterator[Callable[..., ScriptedServer]]:
    """Makes servers of a script for each connection."""
    tls = server_tls(certificate)
    with contextlib.ExitStack() as stack:

        def make(*scripts: Callable[[Peer], object], **options: Any) -> ScriptedServer:
            return stack.enter_context(ScriptedServer(tls, *scripts, **options))

        yield make


@pytest.fixture
def connect(certificate: DevelopmentCertificates) -> Iterator[Connect]:
    """Makes connections whose pauses are short. Theirs end before the servers' scripts do."""
    with contextlib.ExitStack() as stack:

        def make(
            address: str,
            on_new_order: Callable[[Order], None] | None = Order.acknowledge,
            used: DevelopmentCertificates = certificate,
            **options: Any,
        ) -> NGTTConnection:
            options = {"ca_certs": certificate.ca_cert, "backoff": quick(), **options}
            made = NGTTConnection(used.cert, used.key, on_new_order, address=address, **options)
            stack.callback(made.join, PATIENCE)
            stack.callback(made.close)
            return made

        yield make


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """What the connection has logged, without the server's port."""
    return [
        re.sub(r"127\.0\.0\.1:\d+", "SERVER", record.getMessage())
        for record in caplog.records
        if record.name == THREAD and record.levelno >= level
    ]


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The reasons for which there was no connection."""
    return [
        message.partition("(")[2].partition(");")[0]
        for message in messages(caplog)
        if message.startswith("No NGTT connection")
    ]


# --- Orders ---------------------------------------------------------------------------------------


def test_orders_are_fetched_delivered_and_answered(
    serve: Callable[..., ScriptedServer], connect: Connect
) -> None:
    answered = threading.Event()
    seen: list[Order] = []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(order(7, writes(1)))
        assert peer.expect(CONFIRM, 7).data == b""
        peer.send(order(8, writes(2)))
        assert peer.expect(REJECT, 8).data == b""
        answered.set()
        peer.serve()

    def on_new_order(new: Order) -> None:
        seen.append(new)
        (new.acknowledge if new.tid == 7 else new.nack)()
        new.acknowledge()  # answered already: no-ops
        new.nack()

    connection = connect(serve(script).address, on_new_order)
    assert answered.wait(PATIENCE)
    assert [(new.tid, new.data, new.confirmed) for new in seen] == [
        (7, writes(1), True),
        (8, writes(2), True),
    ]
    assert connection.connected
    assert connection.reachable is True
    assert connection.last_contact is not None


def test_without_a_callback_no_orders_are_fetched(
    serve: Callable[..., ScriptedServer], connect: Connect
) -> None:
    def script(peer: Peer) -> None:
        peer.send(order(1, writes(1)))  # uncalled for, and ignored
        peer.serve()

    connection = connect(serve(script).address, None)
    wait_until(lambda: connection.reachable, PATIENCE)


@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["bytewise", "by 7", "at once"])
def test_frames_come_in_pieces_or_many_at_once(
    serve: Callable[..., ScriptedServer],
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    size: int,
) -> None:
    others = [NGTTFrame(5, historical, b"old") for historical in range(3, 9)]
    others += [NGTTFrame(5, 77, b"new"), NGTTFrame(5, CONFIRM)]
    frames = [order(1, writes(1)), *others, order(2, writes(2)), NGTTFrame(9, PING)]
    stream = b"".join(map(bytes, frames)) + b"".join(bytes(order(tid, [])) for tid in range(3, 200))
    done = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        for start in range(0, len(stream), size):
            peer.socket.sendall(stream[start : start + size])
        for tid in range(1, 200):
            peer.expect(CONFIRM, tid)
        done.set()
        peer.serve()

    server = serve(script)
    connect(server.address)
    assert done.wait(PATIENCE)
    assert server.accepted == 1
    # Historical types are expected; of others one is enough to know.
    assert messages(caplog) == ["Ignored, not for a device: NGTTFrame(5, 77, b'new')"]


def test_ten_threads_may_answer(serve: Callable[..., ScriptedServer], connect: Connect) -> None:
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
    tids: list[int] = []
    done = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(*(order(tid, writes(tid)) for tid in range(1, 1001)))
        tids.extend(peer.expect(CONFIRM).tid for _ in range(1000))
        done.set()
        peer.serve()

    def answer() -> None:
        while (new := orders.get()) is not None:
            new.acknowledge()

    threads = [threading.Thread(target=answer) for _ in range(10)]
    for thread in threads:
        thread.start()
    try:
        connect(serve(script).address, orders.put)
        assert done.wait(PATIENCE)
    finally:
        for _ in threads:
            orders.put(None)
        for thread in threads:
            thread.join()
    assert sorted(tids) == [*range(1, 1001)]


def test_a_callback_that_raises_is_logged_and_the_next_order_comes(
    serve: Callable[..., ScriptedServer], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(order(1, []), order(2, []))
        peer.expect(CONFIRM, 2)
        done.set()
        peer.serve()

    def on_new_order(new: Order) -> None:
        if new.tid == 1:
            raise SystemExit
        new.acknowledge()

    server = serve(script)
    connect(server.address, on_new_order)
    assert done.wait(PATIENCE)
    assert server.accepted == 1
    assert messages(caplog) == ["on_new_order raised on <Order 1: b'@'>"]


def test_a_callback_may_have_the_connection_made_anew(
    serve: Callable[..., ScriptedServer], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def first(peer: Peer) -> None:
        peer.greet().send(order(1, []))
        peer.serve()

    def second(peer: Peer) -> None:
        peer.greet().send(order(1, []))
        peer.expect(CONFIRM, 1)
        done.set()
        peer.serve()

    server = serve(first, second)

    def on_new_order(new: Order) -> None:
        if server.accepted == 1:
            raise ConnectionFailed(False, "too much to do")
        new.acknowledge()

    connect(server.address, on_new_order)
    assert done.wait(PATIENCE)
    assert complaints(caplog) == ["too much to do"]


def test_an_answer_goes_over_the_connection_of_its_order_or_nowhere(
    serve: Callable[..., ScriptedServer], connect: Connect
) -> None:
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()

    def first(peer: Peer) -> None:
        peer.greet().send(order(1, []))

    def second(peer: Peer) -> None:
        peer.greet().send(order(2, []))
        peer.expect(CONFIRM, 2)
        peer.expect(CONFIRM, 3)

    server = serve(first, second, Peer.serve)
    connect(server.address, orders.put)
    old, new = orders.get(timeout=PATIENCE), orders.get(timeout=PATIENCE)
    old.acknowledge()
    assert not old.confirmed
    assert not old.is_settled
    new.acknowledge()
    Order([], 3, new.sock).acknowledge()
    assert new.confirmed
    server.wait_for_connections(3)


def test_an_answer_is_settled_once_a_ping_after_it_was_answered(
    serve: Callable[..., ScriptedServer], connect: Connect
) -> None:
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    release = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet().send(order(1, []), order(2, []))
        assert peer.receive().packet_type == CONFIRM
        ping = peer.receive()
        peer.send(NGTTFrame(ping.tid + 1, PING))  # the answer to something else
        assert release.wait(PATIENCE)
        peer.send(ping)
        peer.serve()

    connect(serve(script).address, orders.put)
    first, second = orders.get(timeout=PATIENCE), orders.get(timeout=PATIENCE)
    first.acknowledge()
    assert first.confirmed
    assert not first.is_settled
    assert not second.is_settled
    release.set()
    wait_until(lambda: first.is_settled, PATIENCE)
    assert not second.is_settled


# --- Servers that misbehave -----------------------------------------------------------------------


def working(done: threading.Event) -> Callable[[Peer], object]:
    """The script of a server that is well, and that tells when it has delivered an order."""

    def script(peer: Peer) -> None:
        peer.greet().send(order(1, writes(1)))
        peer.expect(CONFIRM, 1)
        done.set()
        peer.serve()

    return script


HUGE = (1001).to_bytes(4) + b"\0\1\0\1" + bytes(1001)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not NGTT: a frame with 1213486160 bytes of data"),
        (HUGE, "not NGTT: a frame with 1001 bytes of data, the limit is 1000"),
        (bytes(order(1, writes(1)))[:-1], "closed by the server"),
        (b"\0\0\0", "closed by the server"),
        (b"", "closed by the server"),
    ],
    ids=["garbage", "too long", "truncated data", "truncated header", "nothing"],
)
def test_garbage_ends_the_connection_is_logged_once_and_the_next_one_works(
    serve: Callable[..., ScriptedServer],
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
    reason: str,
) -> None:
    caplog.set_level(logging.INFO)
    done = threading.Event()
    orders = []

    def misbehave(peer: Peer) -> None:
        # Closing a connection with something unread resets it.
        assert [peer.receive().packet_type for _ in range(2)] == [FETCH, PING]
        peer.socket.sendall(sent)

    def on_new_order(new: Order) -> None:
        orders.append(new.data)
        new.acknowledge()

    server = serve(misbehave, misbehave, misbehave, working(done))
    connection = connect(server.address, on_new_order, max_data=1000)
    assert done.wait(PATIENCE)
    assert server.accepted == 4
    assert orders == [writes(1)]
    assert connection.reachable is True
    logged = messages(caplog, logging.INFO)
    assert len(logged) == 2
    assert logged[0].startswith(f"No NGTT connection to SERVER ({reason}")
    assert logged[1] == "NGTT connection to SERVER is there"


def test_what_is_in_front_of_garbage_is_delivered(
    serve: Callable[..., ScriptedServer], connect: Connect
) -> None:
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    sent = bytes(order(1, writes(1))) + b"garbage!" * 10

    def script(peer: Peer) -> None:
        peer.socket.sendall(sent)
        peer.serve()

    connect(serve(script, Peer.serve).address, orders.put)
    assert orders.get(timeout=PATIENCE).data == writes(1)


def test_a_server_without_tls(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        peer.socket.recv(100)
        peer.socket.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

    with ScriptedServer(None, script) as server:
        connection = connect(server.address)
        server.wait_for_connections(3)
        assert connection.reachable is False
        connection.close()
    assert complaints(caplog) == ["TLS: wrong version number"]


def test_nobody_listens_and_then_somebody_does(
    serve: Callable[..., ScriptedServer], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()
    changes: list[bool | None] = []
    server = serve(working(done), listening=False)
    connection = connect(
        server.address, on_change=lambda: changes.append(connection.reachable), start=False
    )
    assert connection.reachable is None
    connection.start()
    wait_until(lambda: connection.reachable is False, PATIENCE)
    assert not connection.connected
    server.listen()
    assert done.wait(PATIENCE)
    assert changes == [False, True]
    assert complaints(caplog) == ["Connection refused"]


def test_a_name_that_does_not_exist(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    connection = connect("no-such-host.invalid:1")
    wait_until(lambda: connection.reachable is False, PATIENCE)
    assert complaints(caplog)[0].startswith("cannot look it up: ")


# --- Certificates ---------------------------------------------------------------------------------


def refused(
    connection: NGTTConnection, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> str:
    """Why there is no connection, after several tries."""
    server.wait_for_connections(3)
    wait_until(lambda: connection.reachable is False, PATIENCE)
    connection.close()
    (reason,) = complaints(caplog)
    return reason


def unused(peer: Peer) -> None:
    """The script of a server that nobody is to talk to."""
    with contextlib.suppress(Gone):
        frame = peer.receive()
        raise AssertionError(f"it was told {frame}")


def test_a_server_of_another_ca_is_refused_and_told_nothing(
    certificate: DevelopmentCertificates,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    foreign = create_development_certificates(tmp_path, "1")
    with ScriptedServer(server_tls(foreign, ca_file=certificate.ca_cert), unused) as server:
        reason = refused(connect(server.address), server, caplog)
    assert reason.startswith("its certificate is refused: ")


def test_a_server_of_another_name_is_refused(
    certificate: DevelopmentCertificates, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer(server_tls(certificate, ("127.0.0.2", "localhost")), unused) as server:
        reason = refused(connect(server.address), server, caplog)
    assert (
        reason == "its certificate is refused: IP address mismatch, certificate is not valid "
        "for '127.0.0.1'."
    )


def test_without_configured_cas_only_public_ones_are_trusted(
    serve: Callable[..., ScriptedServer], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(unused)
    reason = refused(connect(server.address, ca_certs=None), server, caplog)
    assert reason.startswith("its certificate is refused: ")


def test_a_device_of_another_ca_is_refused_by_the_server(
    serve: Callable[..., ScriptedServer],
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    foreign = create_development_certificates(tmp_path, "1")
    server = serve(unused)
    reason = refused(connect(server.address, used=foreign), server, caplog)
    assert reason == "TLS: tlsv1 alert unknown ca"


@pytest.mark.parametrize("environment", list(Environment))
def test_certificates_of_every_environment_are_used(
    device_certificate: Callable[..., DevelopmentCertificates],
    serve: Callable[..., ScriptedServer],
    connect: Connect,
    environment: Environment,
) -> None:
    done = threading.Event()
    connect(serve(working(done)).address, used=device_certificate("2", environment))
    assert done.wait(PATIENCE)


def test_the_server_may_be_named_by_the_environment(
    certificate: DevelopmentCertificates,
    serve: Callable[..., ScriptedServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = threading.Event()
    monkeypatch.setenv("SMOK_NGTT", serve(working(done)).address)
    monkeypatch.setenv("SMOK_CA_CERTS", str(certificate.ca_cert))
    connection = NGTTConnection(str(certificate.cert), str(certificate.key), Order.acknowledge)
    assert done.wait(PATIENCE)
    connection.close()


def test_what_cannot_be_used_is_told_at_once(
    certificate: DevelopmentCertificates, tmp_path: Path
) -> None:
    cert, key = certificate.cert, certificate.key
    server = create_server_certificate(certificate.ca_cert.parent)
    broken = tmp_path / "broken.crt"
    broken.write_text("nothing")
    with pytest.raises(InvalidCredentials, match="TLS refuses it"):
        NGTTConnection(server.cert, key)
    with pytest.raises(InvalidCredentials, match="missing"):
        NGTTConnection(tmp_path / "missing", key)
    with pytest.raises(InvalidCredentials, match="bad device ID"):
        NGTTConnection(server.cert, server.key)
    with pytest.raises(UnavailableError, match="there is no"):
        NGTTConnection(cert, key, ca_certs=tmp_path / "missing")
    with pytest.raises(UnavailableError, match="SMOK's CA certificate"):
        NGTTConnection(cert, key, ca_certs=broken)
    with pytest.raises(ValueError, match="NGTT server"):
        NGTTConnection(cert, key, address="a:b")


def test_ca_certs_may_be_a_directory(
    certificate: DevelopmentCertificates,
    serve: Callable[..., ScriptedServer],
    connect: Connect,
    tmp_path: Path,
) -> None:
    shutil.copy(certificate.ca_cert, tmp_path / "root.crt")
    done = threading.Event()
    connect(serve(working(done)).address, ca_certs=tmp_path)
    assert done.wait(PATIENCE)


# --- Time -----------------------------------------------------------------------------------------


@pytest.fixture
def watched() -> WatchedClock:
    return WatchedClock()


def pass_time(clock: WatchedClock, connection: NGTTConnection, seconds: float) -> None:
    """Let time pass, and see that the connection has noticed."""
    clock.pass_by(seconds, connection.wake)


def test_a_ping_follows_thirty_seconds_of_silence_on_our_side(
    serve: Callable[..., ScriptedServer], connect: Connect, watched: WatchedClock
) -> None:
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        assert go.wait(PATIENCE)
        peer.send(order(1, []))
        assert peer.receive().packet_type == CONFIRM  # and no ping before it
        while True:
            ping = peer.receive()
            assert ping.packet_type == PING
            assert ping.data == b""
            peer.send(ping, order(ping.tid, []))

    connection = connect(serve(script).address, orders.put, clock=watched)
    wait_until(lambda: connection.reachable, PATIENCE)
    pass_time(watched, connection, 29.9)
    go.set()
    first = orders.get(timeout=PATIENCE)
    first.acknowledge()
    assert orders.get(timeout=PATIENCE).tid == 2  # a ping follows the answer at once
    assert first.is_settled
    for tid in (3, 4, 5):
        pass_time(watched, connection, 29.9)
        assert orders.empty()
        pass_time(watched, connection, 0.1)
        assert orders.get(timeout=PATIENCE).tid == tid


def test_a_server_that_answers_nothing_for_ninety_seconds_is_given_up(
    serve: Callable[..., ScriptedServer],
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    watched: WatchedClock,
) -> None:
    pinged = threading.Event()

    def falls_silent(peer: Peer) -> None:
        peer.greet()
        assert peer.receive().packet_type == PING
        pinged.set()
        peer.receive()

    server = serve(falls_silent, Peer.serve)
    connection = connect(server.address, clock=watched)
    wait_until(lambda: connection.reachable, PATIENCE)
    pass_time(watched, connection, 30)
    assert pinged.wait(PATIENCE)
    pass_time(watched, connection, 89.9)
    assert connection.connected
    assert server.accepted == 1
    watched.advance(0.1)
    connection.wake()
    server.wait_for_connections(2)
    assert complaints(caplog) == ["nothing was received for 90 s"]


def test_any_sign_of_life_counts(
    serve: Callable[..., ScriptedServer], connect: Connect, watched: WatchedClock
) -> None:
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    go = threading.Semaphore(0)

    def answers_no_pings(peer: Peer) -> None:
        peer.greet()
        for tid in range(1, 4):
            go.acquire()
            peer.send(order(tid, []))
        peer.expect(PING)
        peer.receive()

    server = serve(answers_no_pings)
    connection = connect(server.address, orders.put, clock=watched)
    wait_until(lambda: connection.reachable, PATIENCE)
    for tid in range(1, 4):
        pass_time(watched, connection, 80)
        go.release()
        assert orders.get(timeout=PATIENCE).tid == tid
    assert connection.connected


def test_a_server_that_does_not_read_is_given_up(
    serve: Callable[..., ScriptedServer], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    released = threading.Event()

    def deaf(peer: Peer) -> None:
        peer.greet().send(order(1, []))
        released.wait(PATIENCE)

    connection = connect(serve(deaf, Peer.serve).address, orders.put)
    sock = orders.get(timeout=PATIENCE).sock
    # However much the sockets hold, this is more.
    while sock.connected:
        sock.send_frame(1, CONFIRM, bytes(100_000))
    assert sock.send_frame(1, CONFIRM) is None
    wait_until(lambda: connection.connected, PATIENCE)
    released.set()
    assert complaints(caplog) == ["the server does not read"]


def test_pauses_grow_from_one_to_sixty_seconds(
    serve: Callable[..., ScriptedServer], connect: Connect, watched: WatchedClock
) -> None:
    # A server that answers before it breaks the connection gets no more of them for that.
    server = serve(Peer.greet)
    backoff = Backoff(1.0, 60.0, clock=watched, uniform=lambda: 1.0)
    connection = connect(server.address, clock=watched, backoff=backoff)
    for number, pause in enumerate((1, 2, 4, 8, 16, 32, 60, 60), 1):
        wait_until(lambda pause=pause: backoff.pause(watched.now) == pause, PATIENCE)
        pass_time(watched, connection, pause - 0.01)
        assert server.accepted == number
        watched.advance(0.01)
        connection.wake()
        server.wait_for_connections(number + 1)


def test_a_connection_that_has_lasted_makes_the_next_pause_short(
    serve: Callable[..., ScriptedServer], connect: Connect, watched: WatchedClock
) -> None:
    cut = threading.Event()
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()

    def lasts(peer: Peer) -> None:
        peer.greet().send(order(1, []))
        peer.send(peer.receive())
        assert cut.wait(PATIENCE)

    server = serve(Peer.greet, Peer.greet, lasts, Peer.serve)
    backoff = Backoff(1.0, 60.0, clock=watched, uniform=lambda: 1.0)
    connection = connect(server.address, orders.put, clock=watched, backoff=backoff)
    for number, pause in enumerate((1, 2), 1):
        server.wait_for_connections(number)
        wait_until(lambda pause=pause: backoff.pause(watched.now) == pause, PATIENCE)
        pass_time(watched, connection, pause)
    assert orders.get(timeout=PATIENCE)
    pass_time(watched, connection, 30)
    wait_until(lambda: not backoff.failing, PATIENCE)
    cut.set()
    wait_until(lambda: backoff.pause(watched.now) == 1, PATIENCE)


# --- The end --------------------------------------------------------------------------------------


def close(connection: NGTTConnection) -> None:
    connection.close()
    connection.join(PATIENCE)
    assert not connection.is_alive()
    assert not connection.connected
    connection.close()


def test_close_while_nothing_happens(
    serve: Callable[..., ScriptedServer], connect: Connect
) -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        with contextlib.suppress(Gone):
            peer.serve()
        gone.set()

    def fetches(peer: Peer) -> None:
        peer.greet()
        script(peer)

    connection = connect(serve(fetches).address)
    wait_until(lambda: connection.reachable, PATIENCE)
    close(connection)
    assert gone.wait(PATIENCE)


def test_close_sends_what_waits(serve: Callable[..., ScriptedServer], connect: Connect) -> None:
    confirmed = threading.Event()
    arrived = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet().send(order(1, []))
        peer.expect(CONFIRM, 1)
        confirmed.set()

    def on_new_order(new: Order) -> None:
        new.acknowledge()
        connection.terminate()
        arrived.set()

    connection = connect(serve(script).address, on_new_order, start=False)
    connection.start()
    assert arrived.wait(PATIENCE)
    close(connection)
    assert confirmed.wait(PATIENCE)


def test_close_while_connecting(connect: Connect, watched: WatchedClock) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        # Whoever comes after these waits for a place in the queue.
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        connection = connect(f"127.0.0.1:{port}", clock=watched)
        watched.wait_for_looks(3)
        assert not connection.connected
        close(connection)


def test_connecting_has_a_time_out(
    connect: Connect, watched: WatchedClock, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        connection = connect(f"127.0.0.1:{port}", clock=watched, start=False)
        connection.start()
        watched.wait_for_looks(3)
        watched.advance(10)
        connection.wake()
        wait_until(lambda: connection.reachable is False, PATIENCE)
        connection.close()
    assert complaints(caplog) == ["timed out"]


def test_close_and_time_out_while_shaking_hands(
    connect: Connect, watched: WatchedClock, caplog: pytest.LogCaptureFixture
) -> None:
    hello = threading.Semaphore(0)

    def silent(peer: Peer) -> None:
        assert peer.socket.recv(1)
        hello.release()
        while peer.socket.recv(65536):
            pass

    with ScriptedServer(None, silent) as server:
        connection = connect(server.address, clock=watched)
        assert hello.acquire(timeout=PATIENCE)
        watched.advance(10)
        connection.wake()
        wait_until(lambda: connection.reachable is False, PATIENCE)
        assert hello.acquire(timeout=PATIENCE)
        close(connection)
    assert complaints(caplog) == ["TLS handshake: timed out"]


def test_close_while_sending_is_blocked(
    serve: Callable[..., ScriptedServer], connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smok_fast.ngtt.uplink.connection.MAX_UNSENT", 100_000_000)
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    closed = threading.Event()
    received: queue.SimpleQueue[int] = queue.SimpleQueue()

    def deaf(peer: Peer) -> None:
        peer.greet().send(order(1, []))
        assert closed.wait(PATIENCE)
        count = 0
        with contextlib.suppress(OSError):
            while data := peer.socket.recv(65536):
                count += len(data)
        received.put(count)

    connection = connect(serve(deaf).address, orders.put)
    sock = orders.get(timeout=PATIENCE).sock
    # More than the sockets hold.
    for _ in range(30):
        assert sock.send_frame(1, CONFIRM, bytes(1_000_000))
    close(connection)
    closed.set()
    assert received.get(timeout=PATIENCE) < 30_000_000


def test_close_while_backing_off(serve: Callable[..., ScriptedServer], connect: Connect) -> None:
    server = serve(Peer.serve, listening=False)
    connection = connect(server.address, backoff=Backoff(60, 60))
    wait_until(lambda: connection.reachable is False, PATIENCE)
    close(connection)


def test_close_from_a_callback(serve: Callable[..., ScriptedServer], connect: Connect) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet().send(order(1, []))
        peer.serve()

    def on_new_order(new: Order) -> None:
        connection.close()
        closed.set()

    connection = connect(serve(script).address, on_new_order, start=False)
    connection.start()
    assert closed.wait(PATIENCE)
    close(connection)


def test_close_before_the_start(connect: Connect) -> None:
    connection = connect("127.0.0.1:1", start=False)
    close(connection)
    connection.start()
    connection.join(PATIENCE)
    assert not connection.is_alive()


def test_it_may_be_forbidden_to_connect(
    serve: Callable[..., ScriptedServer], connect: Connect
) -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        with contextlib.suppress(Gone):
            peer.serve()
        gone.set()

    server = serve(script)
    connection = connect(server.address, start=False)
    connection.allow(False)
    connection.start()
    connection.allow(True)
    wait_until(lambda: connection.reachable, PATIENCE)
    connection.allow(False)
    assert gone.wait(PATIENCE)
    wait_until(lambda: connection.reachable is None, PATIENCE)
    assert server.accepted == 1
    connection.allow(True)
    server.wait_for_connections(2)
    wait_until(lambda: connection.reachable, PATIENCE)
