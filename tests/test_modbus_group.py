"""Registers that are read together: how many requests it takes, and who gets which failure."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from modbus_peers import PATIENCE, Peer, ScriptedServer, wait_for
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.modbus import (
    ConnectFailedError,
    ExceptionResponseError,
    ModbusPathpoint,
    NoResponseError,
    RegisterModel,
    Table,
    TcpClient,
    TcpServer,
)
from smok_fast.pathpoint import AdviseLevel


class RecordingModel(RegisterModel):
    """Registers that record what clients read, and that may be read only so many at once."""

    def __init__(self, values=None, most=125):
        super().__init__(values)
        self.reads = []
        self.most = most

    def read(self, unit, table, address, count):
        self.reads.append((unit, int(table), address, count))
        if count > self.most:
            raise KeyError(address)
        return super().read(unit, table, address, count)

    def take_reads(self):
        reads, self.reads = self.reads, []
        return reads


def holding(addresses):
    model = RecordingModel()
    for address in addresses:
        model.define(1, Table.HOLDING_REGISTERS, address, [address + 1000])
    return model


def read(client, *names):
    pathpoints = [ModbusPathpoint(None, name, client=client) for name in names]
    assert {pathpoint.read_group for pathpoint in pathpoints} == {client}
    return client.on_read_group(pathpoints, AdviseLevel.ADVISE).result(PATIENCE)


def client_of(server, **arguments):
    return TcpClient("127.0.0.1", server.port, timeout=PATIENCE, reconnect_delay=0, **arguments)


def test_neighbours_are_read_with_one_request_for_each_unit_and_table():
    model = RecordingModel(
        {"W1r0": 7, "f1r8": 1.5, "w1r10": -1, "B1f0": True, "B1f100": False, "W2r0": 9}
    )
    model.define(1, Table.HOLDING_REGISTERS, 0, [7, *[0] * 7])
    model.define(1, Table.COILS, 1, [False] * 99)
    with TcpServer(model) as server, client_of(server) as client:
        names = ["w1r10", "B1f100", "W1r0", "W2r0", "f1r8", "B1f0", "W1r0"]
        assert read(client, *names) == [-1, False, 7, 9, 1.5, True, 7]
    assert model.take_reads() == [(1, 1, 0, 101), (1, 3, 0, 11), (2, 3, 0, 1)]


def test_the_gap_that_is_bridged_can_be_chosen():
    model = holding(range(10))
    with TcpServer(model) as server, client_of(server, max_gap=2) as client:
        assert read(client, "W1r0", "W1r3", "W1r7") == [1000, 1003, 1007]
    assert model.take_reads() == [(1, 3, 0, 4), (1, 3, 7, 1)]


def test_a_hole_between_registers_is_found_once_and_then_avoided():
    model = holding([*range(5), *range(6, 10)])
    names = [f"W1r{address}" for address in (0, 1, 4, 6, 9)]
    with TcpServer(model) as server, client_of(server) as client:
        for _ in range(2):
            assert read(client, *names) == [1000, 1001, 1004, 1006, 1009]
            asked = model.take_reads()
        assert asked == [(1, 3, 0, 5), (1, 3, 6, 4)]


def test_one_register_that_does_not_exist_costs_no_other_its_value():
    model = holding(address for address in range(16) if address != 5)
    names = [f"W1r{address}" for address in range(16)]
    with TcpServer(model) as server, client_of(server) as client:
        for _ in range(2):
            results = read(client, *names)
            asked = model.take_reads()
            failure = results.pop(5)
            assert isinstance(failure, ExceptionResponseError)
            assert failure.reason is OperationFailedReason.INVALID
            assert results == [address + 1000 for address in range(16) if address != 5]
        assert asked == [(1, 3, 0, 5), (1, 3, 5, 1), (1, 3, 6, 10)]


def test_a_register_that_exists_again_is_read_again():
    model = holding([4, 6])
    with TcpServer(model) as server, client_of(server) as client:
        assert isinstance(read(client, "W1r4", "W1r5", "W1r6")[1], ExceptionResponseError)
        model["W1r5"] = 5
        assert read(client, "W1r4", "W1r5", "W1r6") == [1004, 5, 1006]


def test_a_unit_that_reads_only_a_few_registers_at_once_is_asked_for_fewer():
    model = holding(range(64))
    model.most = 16
    names = [f"W1r{address}" for address in range(64)]
    with TcpServer(model) as server, client_of(server) as client:
        for _ in range(3):
            assert read(client, *names) == [address + 1000 for address in range(64)]
            asked = model.take_reads()
        assert asked == [(1, 3, start, 16) for start in (0, 16, 32, 48)]


def test_several_pathpoints_on_one_bad_register_ask_once():
    model = holding([0])
    with TcpServer(model) as server, client_of(server) as client:
        results = read(client, "W1r5", "w1r5", "B1r5")
    assert all(isinstance(result, ExceptionResponseError) for result in results)
    assert model.take_reads() == [(1, 3, 5, 1)]


def test_a_unit_that_does_not_answer_fails_its_own_pathpoints_only():
    def serve_unit_1(peer):
        while True:
            query = peer.query()
            if query.unit == 1:
                peer.send(query.addresses())

    with (
        ScriptedServer(serve_unit_1) as server,
        TcpClient("127.0.0.1", server.port, timeout=1) as client,
    ):
        results = read(client, "W2r0", "W1r1", "W1r3", "W2r3")
    assert results[1:3] == [1, 3]
    assert isinstance(results[0], NoResponseError)
    assert isinstance(results[3], NoResponseError)


def test_a_server_that_is_down_fails_all_of_them():
    with (
        ScriptedServer(Peer.serve, listening=False) as server,
        client_of(server) as client,
    ):
        results = read(client, "W1r0", "W2r0", "B3f0")
    assert [type(result) for result in results] == [ConnectFailedError] * 3


def test_a_float_that_is_no_number_fails_alone():
    model = holding([2])
    model.define(1, Table.HOLDING_REGISTERS, 0, [0x7FC0, 0])
    with TcpServer(model) as server, client_of(server) as client:
        failure, value = read(client, "f1r0", "W1r2")
    assert value == 1002
    assert isinstance(failure, OperationFailedError)
    assert failure.reason is OperationFailedReason.TYPE


def test_a_write_goes_between_the_requests_of_a_group():
    asked = threading.Event()
    opened = threading.Event()
    order = []

    def serve(peer):
        while True:
            query = peer.query()
            order.append((query.unit, query.function))
            asked.set()
            wait_for(opened)
            peer.send(query.addresses())

    with ScriptedServer(serve) as server, client_of(server) as client:
        pathpoints = [ModbusPathpoint(None, f"W{unit}r0", client=client) for unit in (1, 2)]
        reading = client.on_read_group(pathpoints, AdviseLevel.ADVISE)
        wait_for(asked)
        writing = client.submit_write(9, Table.HOLDING_REGISTERS, 0, 1)
        opened.set()
        assert reading.result(PATIENCE) == [0, 0]
        writing.result(PATIENCE)
    assert order == [(1, 3), (9, 6), (2, 3)]


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.integers(0, 60), min_size=1),
    st.lists(st.tuples(st.sampled_from("Wwf"), st.integers(0, 60)), min_size=1),
    st.integers(0, 10),
)
def test_read_together_gives_what_reading_one_by_one_gives(defined, wanted, max_gap):
    names = [f"{letter}1r{address}" for letter, address in wanted]
    model = holding(defined)
    with TcpServer(model) as server, client_of(server, max_gap=max_gap) as client:
        for _ in range(2):
            for name, result in zip(names, read(client, *names), strict=True):
                try:
                    assert result == model[name]
                except KeyError:
                    assert isinstance(result, ExceptionResponseError)
                    assert result.code == 2
