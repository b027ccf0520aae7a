"""The MODBUS TCP server over real sockets, with clients that misbehave."""

import json
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modbus_peers import PATIENCE, wait_for
from smok_fast.modbus import RegisterModel, Table, TcpClient, TcpServer

MALFORMED = {
    case["name"]: case
    for case in json.loads((Path(__file__).parent / "data" / "modbus_malformed.json").read_text())
    if case["role"] == "server"
}


def model():
    """Unit 1, registers 0 to 199 are 7."""
    registers = RegisterModel()
    registers.define(1, Table.HOLDING_REGISTERS, 0, [7] * 200)
    return registers


@pytest.fixture
def server():
    with TcpServer(model()) as server:
        yield server


class RawClient:
    """A client that sends whatever it is told to."""

    def __init__(self, server):
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        # So that a client that does not read is felt by the server before it has sent megabytes.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.connect(("127.0.0.1", server.port))

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, size):
        """So many bytes, or fewer if the server has closed the connection."""
        data = b""
        while len(data) < size:
            try:
                chunk = self.socket.recv(size - len(data))
            except ConnectionResetError:
                break
            if not chunk:
                break
            data += chunk
        return data

    def ask(self, pdu, unit=1, transaction=1):
        """The PDU that answers this one."""
        self.send(struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu)
        head = self.receive(7)
        assert head[:4] + head[6:] == struct.pack(">HHB", transaction, 0, unit)
        return self.receive(int.from_bytes(head[4:6]) - 1)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.socket.close()


def send_case(client, name):
    for chunk in MALFORMED[name]["request_chunks_hex"]:
        client.send(bytes.fromhex(chunk))


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        (
            "two requests glued",
            "0001 0000 0005 01 03 02 0007" + "0002 0000 0005 01 03 02 0007",
        ),
        ("FC16 byte count 4 for 1 reg", "0001 0000 0003 01 90 03"),
        ("FC15 16 coils, 1 byte", "0001 0000 0003 01 8f 03"),
        # The case is of a server that has function 43; to this one it is an illegal function.
        ("FC43/14 code 7", "0001 0000 0003 01 ab 01"),
        # Over TCP unit 0 is a broadcast by option: here it is a unit that is not there.
        ("unit 0 (broadcast) write", "0001 0000 0003 00 86 0b"),
        ("unit 0 read", "0001 0000 0003 00 83 0b"),
    ],
)
def test_odd_requests_are_answered_as_specified(server, name, answers):
    expected = bytes.fromhex(answers)
    with RawClient(server) as client:
        send_case(client, name)
        assert client.receive(len(expected)) == expected
        assert client.ask(bytes.fromhex("0300000001")) == bytes.fromhex("03020007")


@pytest.mark.parametrize("name", ["length 0 then good", "length 65535; good later"])
def test_a_client_that_does_not_speak_modbus_is_disconnected(server, name):
    with RawClient(server) as client, RawClient(server) as other:
        with suppress(ConnectionError):  # it may come between the chunks
            send_case(client, name)
        assert client.receive(1) == b""
        assert other.ask(bytes.fromhex("0300000001")) == bytes.fromhex("03020007")


def test_requests_in_front_of_garbage_are_answered(server):
    with RawClient(server) as client:
        client.send(bytes.fromhex("000100000006010300000001") + b"GET / HTTP/1.1\r\n\r\n")
        assert client.receive(1000) == bytes.fromhex("0001000000050103020007")


@pytest.mark.parametrize(
    ("request_hex", "answer_hex"),
    [
        ("0300000000", "8303"),
        ("030000007e", "8303"),
        ("0300c60003", "8302"),
        ("03ffff0002", "8302"),
        ("0300c60002", "030400070007"),
        ("0400000001", "8402"),
        ("0100000001", "8102"),
        ("0500001234", "8503"),
        ("06ffff0001", "8602"),
        ("1000c60003060001000200 03".replace(" ", ""), "9002"),
        ("64", "e401"),
        ("80", "8001"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_right_code(server, request_hex, answer_hex):
    with RawClient(server) as client:
        assert client.ask(bytes.fromhex(request_hex)) == bytes.fromhex(answer_hex)
    assert server.registers.read(1, Table.HOLDING_REGISTERS, 198, 2) == [7, 7]


def test_requests_may_come_byte_by_byte(server):
    with RawClient(server) as client:
        for byte in bytes.fromhex("000100000006010300000001"):
            client.send(bytes([byte]))
        assert client.receive(11) == bytes.fromhex("0001000000050103020007")


def test_a_client_that_does_not_read_its_answers_stops_only_itself_and_loses_none(server):
    with RawClient(server) as greedy, RawClient(server) as other:
        requests = b"".join(
            struct.pack(">HHHBBHH", number, 0, 6, 1, 3, 0, 125) for number in range(65536)
        )
        sent = 0
        greedy.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):  # until the server has stopped to read
            while True:
                start = sent % len(requests)
                sent += greedy.socket.send(requests[start : start + 12_000])
        assert other.ask(bytes.fromhex("0300000001")) == bytes.fromhex("03020007")
        greedy.socket.settimeout(PATIENCE)
        # More of them than fitted into the sockets' buffers.
        for number in range(min(sent // 12, 30_000)):
            assert greedy.receive(259)[:2] == number.to_bytes(2)


def test_the_client_that_was_silent_for_longest_makes_room_for_another():
    read, answer = bytes.fromhex("0300000001"), bytes.fromhex("03020007")
    with (
        TcpServer(model(), max_clients=2) as server,
        RawClient(server) as first,
        RawClient(server) as second,
    ):
        for client in (first, second, first):
            assert client.ask(read) == answer
        with RawClient(server) as third:
            assert third.ask(read) == answer
            assert second.receive(1) == b""
            assert first.ask(read) == answer


def test_a_write_is_told_after_it_was_made_and_a_failing_callback_is_a_device_failure(caplog):
    registers = model()
    seen = []

    def on_write(unit, table, address, values):
        seen.append((unit, table, address, values, registers["W1r5"]))
        if values == [13]:
            raise RuntimeError("stuck valve")

    registers.on_write = on_write
    with TcpServer(registers) as server, RawClient(server) as client:
        assert client.ask(bytes.fromhex("060005000c")) == bytes.fromhex("060005000c")
        assert client.ask(bytes.fromhex("060005000d")) == bytes.fromhex("8604")
        assert client.ask(bytes.fromhex("0300050001")) == bytes.fromhex("0302000d")
    assert seen == [
        (1, Table.HOLDING_REGISTERS, 5, [12], 12),
        (1, Table.HOLDING_REGISTERS, 5, [13], 13),
    ]
    (record,) = caplog.records
    assert "stuck valve" in record.exc_text


def test_it_stops_at_once_with_clients_connected_and_starts_again_on_its_port(server):
    with RawClient(server) as client:
        client.ask(bytes.fromhex("0300000001"))
        port = server.port
        server.stop()
        server.stop()
        assert client.receive(1) == b""
        assert not [t for t in threading.enumerate() if t.name == "ModbusServerThread"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    server.start()
    server.start()
    assert server.port == port
    with RawClient(server) as client:
        assert client.ask(bytes.fromhex("0300000001")) == bytes.fromhex("03020007")


def test_a_callback_may_stop_the_server():
    stopped = threading.Event()
    registers = model()

    def stop(*_):
        server.stop()
        stopped.set()

    registers.on_write = stop
    with TcpServer(registers) as server, RawClient(server) as client:
        client.send(bytes.fromhex("000100000006010600000001"))
        wait_for(stopped)
        assert client.receive(1000) in (b"", bytes.fromhex("000100000006010600000001"))


def test_a_port_that_is_taken_is_an_error(server):
    with pytest.raises(OSError, match="in use"):
        TcpServer(model(), port=server.port).start()


def test_many_clients_are_served_at_the_same_time(server):
    with RawClient(server) as idle:
        clients = [TcpClient("127.0.0.1", server.port, timeout=PATIENCE) for _ in range(40)]
        futures = [
            client.submit_write(1, Table.HOLDING_REGISTERS, place, [place, place])
            for place, client in enumerate(clients)
        ]
        assert [future.result(PATIENCE) for future in futures] == [[]] * 40
        for client in clients:
            client.close()
        assert idle.ask(bytes.fromhex("0300000001")) == bytes.fromhex("03020000")


@pytest.fixture(scope="module")
def attacked():
    with TcpServer(RegisterModel({"W2i0": 9})) as server:
        yield server


@settings(deadline=None)
@given(chunks=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5))
def test_garbage_never_ends_the_service(attacked, chunks):
    with RawClient(attacked) as client, suppress(ConnectionError):
        for chunk in chunks:
            client.send(chunk)
    with RawClient(attacked) as client:
        assert client.ask(bytes.fromhex("0400000001"), unit=2) == bytes.fromhex("04020009")


def test_values_are_set_and_read_under_the_names_of_pathpoints():
    registers = RegisterModel({"f1l100": 61.5, "B1f0": True, "w2r7": -3})
    assert (registers["f1l100"], registers["B1f0"], registers["w2r7"]) == (61.5, True, -3)
    assert registers["W2r7"] == 65533
    registers["f1l100"] = -0.5
    assert registers.read(1, Table.INPUT_REGISTERS, 100, 2) == [0xBF00, 0]
    assert [registers.has_unit(unit) for unit in (1, 2, 3)] == [True, True, False]
    for name in ("W1r0", "W3r0", "f2r7"):
        with pytest.raises(KeyError):
            registers[name]
    with pytest.raises(ValueError, match="not the name of a register"):
        registers["x"] = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((256, Table.COILS, 0, [0]), "a unit is 0 to 255, not 256"),
        ((1, Table.COILS, 65535, [0, 1]), "2 elements from address 65535 on do not exist"),
        ((1, Table.COILS, 0, [2]), "COILS hold 0 to 1"),
        ((1, Table.HOLDING_REGISTERS, 0, [65536]), "HOLDING_REGISTERS hold 0 to 65535"),
    ],
)
def test_registers_that_no_unit_has_cannot_be_defined(arguments, message):
    registers = RegisterModel()
    with pytest.raises(ValueError, match=message):
        registers.define(*arguments)
    assert not registers.has_unit(1)


def test_a_write_that_reaches_past_what_exists_changes_nothing():
    registers = RegisterModel({"W1r0": 1, "W1r1": 2})
    with pytest.raises(KeyError):
        registers.write(1, Table.HOLDING_REGISTERS, 1, [9, 9])
    assert registers["W1r1"] == 2
