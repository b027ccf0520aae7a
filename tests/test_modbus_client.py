"""The MODBUS TCP client over real sockets, against servers that misbehave."""

import json
import logging
import struct
import threading
import time
from pathlib import Path

import pytest

from modbus_peers import PATIENCE, Peer, ScriptedServer, eventually, wait_for
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.modbus import (
    BadResponseError,
    ClientClosedError,
    ConnectFailedError,
    ConnectionLostError,
    ExceptionResponseError,
    FrameError,
    ModbusError,
    NoResponseError,
    QueueFullError,
    RegisterModel,
    Table,
    TcpClient,
    TcpServer,
)
from smok_fast.modbus.bus import MOST_QUEUED

MALFORMED = [
    case
    for case in json.loads((Path(__file__).parent / "data" / "modbus_malformed.json").read_text())
    if case["role"] == "client"
]
ERRORS = {
    "Timeout": NoResponseError,
    "strict: ignored, Timeout": NoResponseError,
    "ignored and counted; Timeout": NoResponseError,
    "FrameError": FrameError,
    "BadResponse": BadResponseError,
    "ConnectionClosed": ConnectionLostError,
    "exception": ExceptionResponseError,
}
#: Long enough for what is answered, short enough to wait for what is not.
SHORT = 0.25


def client_of(server, **arguments):
    arguments = {"timeout": PATIENCE, "reconnect_delay": 0, **arguments}
    return TcpClient("127.0.0.1", server.port, **arguments)


def bus_threads():
    return [t for t in threading.enumerate() if t.name.startswith("ModbusBusThread")]


class Gate:
    """A script that answers everything, once it was opened, and tells what came."""

    def __init__(self):
        self.asked = threading.Event()
        self.opened = threading.Event()
        self.addresses = []

    def __call__(self, peer):
        while True:
            query = peer.query()
            self.addresses.append(query.address)
            self.asked.set()
            wait_for(self.opened)
            peer.send(query.addresses())


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case["name"])
def test_malformed_answers_end_as_specified_and_the_next_request_is_answered(case):
    expected = case["expected"]
    error = next((ERRORS[key] for key in ERRORS if expected.startswith(key)), None)

    def misbehave(peer):
        peer.query()
        for chunk in case["answer_chunks_hex"]:
            peer.send(bytes.fromhex(chunk))
        if case["then"] == "silence":
            peer.serve()

    timeout = SHORT if error is NoResponseError else PATIENCE
    with (
        ScriptedServer(misbehave, Peer.serve) as server,
        client_of(server, timeout=timeout) as client,
    ):
        if expected.startswith("values"):
            assert client.read_holding_registers(1, 0, 2) == case["good_values"]
        else:
            with pytest.raises(error) as failure:
                client.read_holding_registers(1, 0, 2)
            if error is ExceptionResponseError:
                assert failure.value.code == int(expected.split()[1])
        ignored = (client.stale_answers, client.answers_of_other_units)
        assert ignored == (
            int("stale" in case["name"]),
            int("other unit" in case["name"]),
        )
        again = eventually(lambda: client.read_holding_registers(1, 7, 2), NoResponseError)
        assert again == [7, 8]
        if "close" in expected:
            assert server.accepted == 2
        elif error in (None, NoResponseError, ExceptionResponseError):
            assert server.accepted == 1


def test_every_function_asks_what_it_says_and_returns_what_is_answered():
    registers = RegisterModel()
    for table in (Table.HOLDING_REGISTERS, Table.INPUT_REGISTERS):
        registers.define(1, table, 0, [1000 * table + place for place in range(200)])
    for table in (Table.COILS, Table.DISCRETE_INPUTS):
        registers.define(1, table, 0, [place % table == 0 for place in range(2000)])
    with TcpServer(registers) as server, client_of(server) as client:
        assert client.read_coils(1, 0, 2000) == [True] * 2000
        assert client.read_discrete_inputs(1, 1, 4) == [False, True, False, True]
        assert client.read_holding_registers(1, 3) == [3003]
        assert client.read_input_registers(1, 75, 125) == [*range(4075, 4200)]
        client.write_coil(1, 3, False)
        client.write_coils(1, 5, [False, True, False])
        assert client.read_coils(1, 3, 6) == [False, True, False, True, False, True]
        client.write_register(1, 0, 65535)
        client.write_registers(1, 1, [1, 2])
        assert client.read_holding_registers(1, 0, 4) == [65535, 1, 2, 3003]
        assert client.submit_write(1, Table.COILS, 0, False).result(PATIENCE) == []
        assert client.submit_write(1, Table.HOLDING_REGISTERS, 0, [9]).result(PATIENCE) == []
        assert client.submit_read(1, Table.COILS, 0).result(PATIENCE) == [False]
        assert client.submit_read(1, Table.HOLDING_REGISTERS, 0).result(PATIENCE) == [9]
        with pytest.raises(ValueError, match="INPUT_REGISTERS cannot be written"):
            client.submit_write(1, Table.INPUT_REGISTERS, 0, 1)
        with pytest.raises(ValueError, match="1 to 125 elements"):
            client.read_input_registers(1, 0, 126)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1, "invalid"), (2, "invalid"), (3, "invalid"), (7, "invalid"), (0, "invalid")]
    + [(code, "timeout") for code in (4, 5, 6, 8, 10, 11)],
)
def test_a_refusal_has_the_reason_that_its_code_means(code, reason):
    def refuse(peer):
        query = peer.query()
        peer.send(query.answer(bytes([query.function | 0x80, code])))
        peer.serve()

    with ScriptedServer(refuse) as server, client_of(server) as client:
        with pytest.raises(ExceptionResponseError, match=rf"exception {code} \(") as refusal:
            client.write_register(1, 0, 1)
        assert refusal.value.code == code
        assert refusal.value.reason is OperationFailedReason(reason)
        assert isinstance(refusal.value, OperationFailedError)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoResponseError, "timeout"),
        (ConnectFailedError, "timeout"),
        (ConnectionLostError, "timeout"),
        (ClientClosedError, "timeout"),
        (QueueFullError, "timeout"),
        (FrameError, "malformed"),
        (BadResponseError, "malformed"),
    ],
)
def test_every_error_tells_the_smok_server_its_reason(error, reason):
    failure = error("what happened")
    assert failure.reason is OperationFailedReason(reason)
    assert isinstance(failure, ModbusError)
    assert str(failure) == "what happened"
    assert failure.timestamp <= time.time() * 1000


def test_a_late_answer_is_never_taken_for_that_of_the_next_request():
    def one_behind(peer):
        late = [peer.query()]
        while True:
            late.append(peer.query())
            for query in late:
                peer.send(query.addresses())
            late.clear()

    with ScriptedServer(one_behind) as server, client_of(server, timeout=SHORT) as client:
        with pytest.raises(NoResponseError, match="unit 1 did not answer within"):
            client.read_holding_registers(1, 100)
        assert eventually(lambda: client.read_holding_registers(1, 200), NoResponseError) == [200]
        assert client.stale_answers >= 1
        assert server.accepted == 1


def test_an_endless_stream_of_stale_answers_does_not_put_off_the_time_out():
    def flood(peer):
        query = peer.query()
        query.transaction += 1
        while True:
            peer.send(query.addresses() * 100)

    with ScriptedServer(flood) as server, client_of(server, timeout=SHORT) as client:
        with pytest.raises(NoResponseError):
            client.read_holding_registers(1, 0)
        assert client.stale_answers > 0


def test_a_server_that_stays_silent_is_connected_to_anew():
    def swallow(peer):
        while True:
            peer.query()

    with (
        ScriptedServer(swallow, Peer.serve) as server,
        client_of(server, timeout=SHORT) as client,
    ):
        for _ in range(3):
            with pytest.raises(NoResponseError):
                client.read_holding_registers(1, 5)
        assert eventually(lambda: client.read_holding_registers(1, 5), NoResponseError) == [5]
        assert server.accepted == 2


def test_an_idle_connection_that_the_server_closed_is_replaced_without_a_failure(caplog):
    closed = threading.Event()

    def answer_once(peer):
        peer.send(peer.query().addresses())
        peer.half_close()
        closed.set()

    with ScriptedServer(answer_once, Peer.serve) as server, client_of(server) as client:
        assert client.read_holding_registers(1, 1) == [1]
        wait_for(closed)
        client.write_register(1, 2, 2)
        assert server.accepted == 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_while_the_server_is_down_requests_fail_at_once_and_the_outage_is_told_once(caplog):
    with (
        ScriptedServer(Peer.serve, listening=False) as server,
        client_of(server, reconnect_delay=3600, max_reconnect_delay=3600) as client,
    ):
        for _ in range(5):
            with pytest.raises(ConnectFailedError) as failure:
                client.read_holding_registers(1, 0)
            assert failure.value.reason is OperationFailedReason.TIMEOUT
        server.listen()
        with pytest.raises(ConnectFailedError, match="next attempt in"):
            client.read_holding_registers(1, 0)
        assert server.accepted == 0
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert f"no connection to MODBUS server 127.0.0.1:{server.port}" in warnings[0]


def test_the_end_of_an_outage_is_told_once_and_ends_the_back_off(caplog):
    with ScriptedServer(Peer.serve, listening=False) as server, client_of(server) as client:
        for _ in range(3):
            with pytest.raises(ConnectFailedError):
                client.read_holding_registers(1, 0)
        server.listen()
        assert [client.read_holding_registers(1, place) for place in range(3)] == [[0], [1], [2]]
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == 2
        assert messages[1] == f"MODBUS server 127.0.0.1:{server.port} is back"


def test_a_server_that_hangs_up_on_every_request_is_one_outage(caplog):
    def hang_up(peer):
        peer.query()

    with ScriptedServer(hang_up) as server, client_of(server) as client:
        for _ in range(4):
            with pytest.raises(ConnectionLostError):
                client.read_holding_registers(1, 0)
        assert server.accepted == 4
    assert len(caplog.records) == 1


def test_a_server_that_never_answered_is_backed_off_from_like_one_that_is_down():
    def hang_up(peer):
        peer.query()

    with ScriptedServer(hang_up) as server, client_of(server, reconnect_delay=3600) as client:
        with pytest.raises(ConnectionLostError):
            client.read_holding_registers(1, 0)
        with pytest.raises(ConnectFailedError):
            client.read_holding_registers(1, 0)
        assert server.accepted == 1


def test_a_host_name_that_cannot_be_one_is_no_connection():
    with TcpClient("x" * 64 + ".invalid") as client, pytest.raises(ConnectFailedError):
        client.read_holding_registers(1, 0)


def test_reads_are_repeated_as_often_as_asked_and_writes_never():
    def hang_up(peer):
        peer.query()

    with (
        ScriptedServer(hang_up, hang_up, Peer.serve) as server,
        client_of(server, retries=2) as client,
    ):
        assert client.read_holding_registers(1, 7) == [7]
        assert server.accepted == 3
    with ScriptedServer(hang_up) as server, client_of(server, retries=2) as client:
        with pytest.raises(ConnectionLostError):
            client.write_register(1, 7, 7)
        assert server.accepted == 1


def test_writes_that_wait_go_before_reads_that_wait():
    gate = Gate()
    with ScriptedServer(gate) as server, client_of(server) as client:
        futures = [client.submit_read(1, Table.HOLDING_REGISTERS, 0)]
        wait_for(gate.asked)
        futures += [client.submit_read(1, Table.HOLDING_REGISTERS, place) for place in (1, 2)]
        futures += [client.submit_write(1, Table.HOLDING_REGISTERS, 50 + n, 1) for n in (0, 1)]
        gate.opened.set()
        for future in futures:
            future.result(PATIENCE)
    assert gate.addresses == [0, 50, 51, 1, 2]


def test_a_request_that_was_cancelled_while_it_waited_is_not_sent():
    gate = Gate()
    with ScriptedServer(gate) as server, client_of(server) as client:
        first = client.submit_read(1, Table.HOLDING_REGISTERS, 0)
        wait_for(gate.asked)
        cancelled = client.submit_write(1, Table.HOLDING_REGISTERS, 1, 1)
        assert cancelled.cancel()
        last = client.submit_read(1, Table.HOLDING_REGISTERS, 2)
        gate.opened.set()
        assert (first.result(PATIENCE), last.result(PATIENCE)) == ([0], [2])
    assert gate.addresses == [0, 2]


def test_a_queue_that_is_full_fails_further_requests_at_once():
    gate = Gate()
    with ScriptedServer(gate) as server, client_of(server) as client:
        client.submit_read(1, Table.HOLDING_REGISTERS, 0)
        wait_for(gate.asked)
        waiting = [client.submit_read(1, Table.COILS, 0) for _ in range(MOST_QUEUED)]
        with pytest.raises(QueueFullError):
            client.submit_write(1, Table.COILS, 0, True).result(PATIENCE)
        client.close()
        gate.opened.set()
    assert all(isinstance(future.exception(PATIENCE), ClientClosedError) for future in waiting)


def test_closing_fails_what_is_on_its_way_and_what_waits_and_ends_the_thread():
    gate = Gate()
    with ScriptedServer(gate) as server:
        client = client_of(server)
        futures = [client.submit_read(1, Table.HOLDING_REGISTERS, 0)]
        wait_for(gate.asked)
        futures.append(client.submit_read(1, Table.HOLDING_REGISTERS, 1))
        futures.append(client.submit_write(1, Table.HOLDING_REGISTERS, 2, 2))
        assert len(bus_threads()) == 1
        client.close()
        for future in futures:
            with pytest.raises(ClientClosedError, match="is closed"):
                future.result(PATIENCE)
        assert bus_threads() == []
        client.close()
        with pytest.raises(ClientClosedError, match="is closed"):
            client.read_holding_registers(1, 0)
        gate.opened.set()
    assert gate.addresses == [0]


def test_a_client_that_was_never_used_has_no_thread_and_can_be_closed():
    client = TcpClient("127.0.0.1", 1)
    assert bus_threads() == []
    client.close()
    with pytest.raises(ClientClosedError):
        client.read_coils(1, 0)
    assert bus_threads() == []


def test_a_callback_may_close_the_client_but_not_wait_for_it():
    outcome = []
    called = threading.Event()

    def callback(_):
        try:
            client.read_holding_registers(1, 1)
        except RuntimeError as error:
            outcome.append(str(error))
        client.close()
        called.set()

    gate = Gate()
    with ScriptedServer(gate) as server, client_of(server) as client:
        future = client.submit_read(1, Table.HOLDING_REGISTERS, 0)
        future.add_done_callback(callback)
        gate.opened.set()
        wait_for(called)
    assert len(outcome) == 1
    assert "use submit_read or submit_write" in outcome[0]


def test_threads_that_share_a_client_each_get_their_own_answers():
    wrong = []

    def read(client, base):
        for place in range(base, base + 200):
            values = client.read_holding_registers(1, place, 3)
            if values != [place, place + 1, place + 2]:
                wrong.append((place, values))

    with ScriptedServer(Peer.serve) as server, client_of(server) as client:
        threads = [
            threading.Thread(target=read, args=(client, base)) for base in range(0, 4000, 500)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.accepted == 1
        assert len(bus_threads()) == 1
    assert wrong == []


def test_a_write_that_is_confirmed_with_another_value_is_a_bad_response():
    def confirm_another(peer):
        query = peer.query()
        peer.send(query.answer(struct.pack(">BHH", 6, query.address, query.argument + 1)))
        peer.serve()

    with (
        ScriptedServer(confirm_another) as server,
        client_of(server) as client,
        pytest.raises(BadResponseError, match="does not repeat"),
    ):
        client.write_register(1, 0, 1)


def test_the_thread_and_the_messages_carry_the_name_of_the_client():
    with ScriptedServer(Peer.serve) as server, client_of(server, name="boiler") as client:
        client.read_holding_registers(1, 0)
        assert [thread.name for thread in bus_threads()] == ["ModbusBusThread-boiler"]
        assert repr(client) == "<TcpClient boiler>"
