"""The local server pushes orders over NGTT, and bears whoever connects."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ngtt_support import CONFIRM, FETCH, ORDER, PATIENCE, PING, REJECT, Gone, Peer, order, writes
from server_support import Device
from smok_fast.client.certificate import (
    DevelopmentCertificates,
    create_development_certificates,
)
from smok_fast.ngtt.protocol import MAX_DATA, NGTTFrame, NGTTHeaderType, server_address
from smok_fast.ngtt.uplink.connection import client_context
from smok_fast.server import LocalServer
from smok_fast.server import ngtt as server_ngtt
from smok_fast.testing import Admin, wait_until

DEVICE_ID = "1"

Connect = Callable[..., "Client"]


class Client(Peer):
    """A device that says what a test tells it to."""

    def fetch(self) -> Client:
        self.send(NGTTFrame(0, FETCH))
        return self

    def orders(self, *sections: Any) -> list[int]:
        """See these sections come as orders, one each.

        :return: their transaction IDs
        """
        tids = []
        for section in sections:
            frame = self.expect(ORDER)
            assert frame.real_data == [section]
            tids.append(frame.tid)
        return tids

    def answer(self, packet_type: NGTTHeaderType, *tids: int) -> None:
        """Answer orders, and wait until the server has dealt with that."""
        self.send(*(NGTTFrame(tid, packet_type) for tid in tids), NGTTFrame(9, PING))
        assert self.receive() == NGTTFrame(9, PING)

    def is_idle(self) -> bool:
        """Whether the server has sent nothing but the answer to this."""
        self.send(NGTTFrame(8, PING, b"data"))
        return self.receive() == NGTTFrame(8, PING)

    def wait_for_end(self) -> None:
        with contextlib.suppress(OSError, Gone):
            while True:
                self.receive()

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def certificate(device_certificate: Callable[..., DevelopmentCertificates]) -> Any:
    return device_certificate(DEVICE_ID)


@pytest.fixture
def server(smok_ngtt_server: LocalServer) -> LocalServer:
    return smok_ngtt_server


@pytest.fixture
def admin(server: LocalServer) -> Admin:
    return server.admin


def connect_to(server: LocalServer, context: ssl.SSLContext) -> Client:
    plain = socket.create_connection(server_address(server.ngtt_address, {}, ""), PATIENCE)
    return Client(context.wrap_socket(plain, server_hostname="127.0.0.1"))


@pytest.fixture
def connect(server: LocalServer, certificate: DevelopmentCertificates) -> Iterator[Connect]:
    with contextlib.ExitStack() as stack:

        def make(used: DevelopmentCertificates = certificate) -> Client:
            context = client_context(used.cert, used.key, certificate.ca_cert)
            client = connect_to(server, context)
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def http(server: LocalServer, certificate: DevelopmentCertificates) -> Iterator[Device]:
    """The same device over HTTP."""
    device = Device(server.url, certificate.cert)
    device.session.verify = str(certificate.ca_cert)
    with device.session:
        yield device


def test_orders_are_pushed_when_they_are_queued_and_kept_until_confirmed(
    admin: Admin, connect: Connect
) -> None:
    admin.queue_orders(DEVICE_ID, writes(1))
    client = connect().fetch()
    (first,) = client.orders(*writes(1))
    admin.queue_orders(DEVICE_ID, writes(2, 3))
    second, third = client.orders(*writes(2, 3))
    assert len({first, second, third}) == 3
    state = admin.ngtt(DEVICE_ID)
    assert (state.connected, state.under_way, state.confirmed) == (True, 3, 0)
    assert admin.pending_orders(DEVICE_ID) == writes(1, 2, 3)
    client.answer(CONFIRM, second)
    assert admin.pending_orders(DEVICE_ID) == writes(1, 3)
    client.answer(CONFIRM, first, third)
    assert admin.pending_orders(DEVICE_ID) == []
    assert admin.ngtt(DEVICE_ID).confirmed == 3


def test_a_rejected_order_does_not_come_again(
    admin: Admin, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    admin.queue_orders(DEVICE_ID, ["nonsense"])
    client = connect().fetch()
    tids = client.orders("nonsense")
    client.answer(REJECT, *tids)
    assert admin.pending_orders(DEVICE_ID) == []
    assert admin.ngtt(DEVICE_ID).rejected == 1
    assert f"device 1 rejects order {tids[0]}" in caplog.text


def test_an_answer_to_nothing_changes_nothing(admin: Admin, connect: Connect) -> None:
    client = connect().fetch()
    admin.queue_orders(DEVICE_ID, writes(1))
    (tid,) = client.orders(*writes(1))
    client.answer(CONFIRM, tid + 1, 0)
    assert admin.pending_orders(DEVICE_ID) == writes(1)


def test_nothing_is_pushed_to_a_device_that_has_not_asked(
    admin: Admin, connect: Connect, http: Device
) -> None:
    client = connect()
    assert client.is_idle()
    admin.queue_orders(DEVICE_ID, writes(1))
    assert client.is_idle()
    assert http.post("/v1/device/orders").json() == writes(1)


def test_each_order_goes_one_way(admin: Admin, connect: Connect, http: Device) -> None:
    client = connect().fetch()
    admin.queue_orders(DEVICE_ID, writes(1, 2))
    (first, _) = client.orders(*writes(1, 2))
    client.answer(CONFIRM, first)
    assert http.post("/v1/device/orders").json() == []
    client.close()
    wait_until(lambda: not admin.ngtt(DEVICE_ID).connected, PATIENCE)
    assert http.post("/v1/device/orders").json() == writes(2)
    assert connect().fetch().is_idle()


def test_what_was_not_confirmed_comes_again_with_the_same_id(
    admin: Admin, connect: Connect, server: LocalServer
) -> None:
    admin.queue_orders(DEVICE_ID, writes(1, 2, 3))
    client = connect().fetch()
    tids = client.orders(*writes(1, 2, 3))
    client.answer(CONFIRM, tids[1])
    client.fetch()  # asking again is as good as connecting again
    assert client.orders(*writes(1, 3)) == [tids[0], tids[2]]
    client.close()
    again = connect().fetch()
    assert again.orders(*writes(1, 3)) == [tids[0], tids[2]]
    server.kill()
    again.wait_for_end()
    server.start()
    assert connect().fetch().orders(*writes(1, 3)) == [tids[0], tids[2]]


def test_an_id_is_not_used_again(admin: Admin, connect: Connect) -> None:
    client = connect().fetch()
    tids = []
    for _ in range(5):
        admin.queue_orders(DEVICE_ID, writes(1))
        (tid,) = client.orders(*writes(1))
        client.answer(CONFIRM, tid)
        tids.append(tid)
    assert len(set(tids)) == 5


def test_a_hundred_orders_are_under_way_at_most(admin: Admin, connect: Connect) -> None:
    sections = writes(*range(150))
    admin.queue_orders(DEVICE_ID, sections)
    client = connect().fetch()
    tids = client.orders(*sections[:100])
    assert client.is_idle()
    assert admin.ngtt(DEVICE_ID).under_way == 100
    client.send(*(NGTTFrame(tid, CONFIRM) for tid in tids))
    client.orders(*sections[100:])


def test_a_new_connection_takes_the_place_of_the_old(admin: Admin, connect: Connect) -> None:
    old = connect().fetch()
    admin.queue_orders(DEVICE_ID, writes(1))
    old.orders(*writes(1))
    new = connect().fetch()
    new.orders(*writes(1))
    old.wait_for_end()
    admin.queue_orders(DEVICE_ID, writes(2))
    new.orders(*writes(2))
    assert admin.ngtt(DEVICE_ID).connected


def test_devices_get_their_own_orders(
    admin: Admin,
    connect: Connect,
    device_certificate: Callable[..., DevelopmentCertificates],
) -> None:
    one, two = connect().fetch(), connect(device_certificate("2")).fetch()
    admin.queue_orders("2", writes(2))
    admin.queue_orders("1", writes(1))
    one.orders(*writes(1))
    two.orders(*writes(2))
    assert sorted(admin.devices()) == ["1", "2"]


@pytest.mark.parametrize(
    "section", [{"a": 1 << 2050}, {"a": "x" * MAX_DATA}], ids=["no MiniJSON", "too long"]
)
def test_an_order_that_no_frame_can_carry_holds_nothing_up(
    admin: Admin, connect: Connect, section: Any
) -> None:
    admin.queue_orders(DEVICE_ID, [section, *writes(1)])
    connect().fetch().orders(*writes(1))
    assert admin.ngtt(DEVICE_ID).rejected == 1
    assert admin.pending_orders(DEVICE_ID) == writes(1)


# --- Who connects ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (MAX_DATA + 1).to_bytes(4) + b"\0\1\0\0",
        b"\xff" * 100_000,
        bytes(NGTTFrame(0, FETCH))[:-1],
    ],
    ids=["HTTP", "too long", "noise", "half a frame"],
)
def test_garbage_ends_its_own_connection_only(
    admin: Admin,
    connect: Connect,
    device_certificate: Callable[..., DevelopmentCertificates],
    sent: bytes,
) -> None:
    well = connect(device_certificate("2")).fetch()
    client = connect()
    with contextlib.suppress(OSError):
        client.socket.sendall(sent)
        if sent.startswith(b"\0\0\0\0"):
            client.socket.unwrap()
    client.wait_for_end()
    admin.queue_orders("2", writes(1))
    well.orders(*writes(1))


def test_what_is_not_for_a_server_is_ignored(connect: Connect) -> None:
    client = connect()
    client.send(*(NGTTFrame(1, historical, b"x") for historical in range(3, 9)))
    client.send(NGTTFrame(1, 99), order(1, []))
    assert client.is_idle()


def test_byte_for_byte_is_fine(admin: Admin, connect: Connect) -> None:
    client = connect()
    admin.queue_orders(DEVICE_ID, writes(1))
    for byte in bytes(NGTTFrame(0, FETCH)):
        client.socket.sendall(bytes([byte]))
    client.orders(*writes(1))


@pytest.fixture
def refusal(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> Callable[[ssl.SSLContext], str]:
    """Tells why the server refuses who connects like this, by its log."""
    caplog.set_level(logging.INFO, "smok_fast.server")

    def reason(context: ssl.SSLContext) -> str:
        caplog.clear()
        with (
            contextlib.suppress(OSError, Gone),
            contextlib.closing(connect_to(server, context)) as client,
        ):
            client.fetch().receive()
        said = "NGTT: the connection of 127.0.0.1 has ended: "
        wait_until(lambda: said in caplog.text, PATIENCE)
        assert "is connected" not in caplog.text
        return caplog.text.partition(said)[2]

    return reason


def test_a_certificate_of_the_ca_is_needed(
    refusal: Callable[[ssl.SSLContext], str],
    certificate: DevelopmentCertificates,
    tmp_path: Path,
) -> None:
    foreign = create_development_certificates(tmp_path, DEVICE_ID)
    context = client_context(foreign.cert, foreign.key, certificate.ca_cert)
    assert "certificate verify failed" in refusal(context)
    anonymous = ssl.create_default_context(cafile=str(certificate.ca_cert))
    assert "peer did not return a certificate" in refusal(anonymous)


def test_a_certificate_of_no_device_is_refused(
    refusal: Callable[[ssl.SSLContext], str], certificate: DevelopmentCertificates
) -> None:
    folder = certificate.ca_cert.parent
    context = client_context(folder / "server.crt", folder / "server.key", certificate.ca_cert)
    assert "unsuitable certificate purpose" in refusal(context)


def test_who_does_not_shake_hands_keeps_nobody_waiting(
    server: LocalServer, admin: Admin, connect: Connect
) -> None:
    address = server_address(server.ngtt_address, {}, "")
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(address, PATIENCE))
        admin.queue_orders(DEVICE_ID, writes(1))
        connect().fetch().orders(*writes(1))


def test_time_outs(monkeypatch: pytest.MonkeyPatch, server: LocalServer, connect: Connect) -> None:
    monkeypatch.setattr(server_ngtt, "HANDSHAKE_WITHIN", 0.05)
    with socket.create_connection(server_address(server.ngtt_address, {}, ""), PATIENCE) as mute:
        assert mute.recv(1) == b""
    monkeypatch.setattr(server_ngtt, "HANDSHAKE_WITHIN", PATIENCE)
    monkeypatch.setattr(server_ngtt, "SILENT_FOR", 0.05)
    connect().wait_for_end()


def test_who_does_not_read_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, admin: Admin, connect: Connect
) -> None:
    monkeypatch.setattr(server_ngtt, "UNREAD_FOR", 0.05)
    client = connect().fetch()
    assert client.is_idle()
    text = "x" * 1_000_000
    for _ in range(20):
        admin.queue_orders(DEVICE_ID, [text])
    wait_until(lambda: not admin.ngtt(DEVICE_ID).connected, PATIENCE)
    assert len(admin.pending_orders(DEVICE_ID)) == 20


def test_too_many_connections_are_turned_away(
    monkeypatch: pytest.MonkeyPatch, server: LocalServer
) -> None:
    monkeypatch.setattr(server_ngtt, "MOST_CONNECTIONS", 3)
    address = server_address(server.ngtt_address, {}, "")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(address, PATIENCE))
        assert stack.enter_context(socket.create_connection(address, PATIENCE)).recv(1) == b""


# --- Starting and stopping ------------------------------------------------------------------------


def test_stopping_ends_the_connections(server: LocalServer, connect: Connect) -> None:
    address = server.ngtt_address
    for end in (server.stop, server.kill):
        client = connect().fetch()
        assert client.is_idle()
        end()
        client.wait_for_end()
        server.start()
        assert server.ngtt_address == address
    assert connect().is_idle()


def test_ngtt_needs_certificates_and_a_free_port(
    server: LocalServer, certificate: DevelopmentCertificates
) -> None:
    folder = certificate.ca_cert.parent
    files: dict[str, Any] = {
        "certificate": folder / "server.crt",
        "key": folder / "server.key",
        "ca_file": certificate.ca_cert,
    }
    with pytest.raises(ValueError, match="NGTT needs a certificate"):
        LocalServer(ngtt_port=0)
    with pytest.raises(ValueError, match="NGTT needs a certificate"):
        LocalServer(ngtt_port=0, **{**files, "ca_file": None})
    taken = LocalServer(ngtt_port=server.ngtt_port, **files)
    with pytest.raises(OSError, match="in use"):
        taken.start()
    taken.close()
    without = LocalServer()
    with pytest.raises(RuntimeError, match="no port for NGTT"):
        _ = without.ngtt_address
    without.close()
