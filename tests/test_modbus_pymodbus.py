"""Against pymodbus, which nobody here wrote: our client with its server, its client with ours."""

import asyncio
import threading

import pytest
from pymodbus.client import ModbusTcpClient
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from modbus_peers import PATIENCE, eventually
from smok_fast.modbus import (
    ConnectFailedError,
    ConnectionLostError,
    ExceptionResponseError,
    ModbusPathpoint,
    RegisterModel,
    Table,
    TcpClient,
    TcpServer,
)
from smok_fast.pathpoint import AdviseLevel


class PymodbusServer:
    """A pymodbus server in a thread of its own, which can be killed and started again."""

    def __init__(self):
        self.port = 0
        # Separate tables: coils, discrete inputs, holding registers, input registers.
        self._device = SimDevice(
            id=1,
            simdata=(
                [SimData(0, values=[True, False] * 8, datatype=DataType.BITS)],
                [SimData(0, values=[False, True] * 8, datatype=DataType.BITS)],
                [SimData(0, values=[*range(200)], datatype=DataType.REGISTERS)],
                [SimData(100, values=61.5, datatype=DataType.FLOAT32)],
            ),
        )
        self.start()

    def start(self):
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()
        assert self._started.wait(PATIENCE)

    def kill(self):
        self._loop.call_soon_threadsafe(self._killed.set)
        self._thread.join()

    async def _serve(self):
        self._loop = asyncio.get_running_loop()
        self._killed = asyncio.Event()
        server = ModbusTcpServer(self._device, address=("127.0.0.1", self.port))
        await server.serve_forever(background=True)
        self.port = server.transport.sockets[0].getsockname()[1]
        self._started.set()
        await self._killed.wait()
        await server.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.kill()


@pytest.fixture
def peer():
    with PymodbusServer() as server:
        yield server


@pytest.fixture
def client(peer):
    with TcpClient("127.0.0.1", peer.port, timeout=PATIENCE, reconnect_delay=0) as client:
        yield client


def test_all_tables_are_read(client):
    assert client.read_coils(1, 0, 5) == [True, False, True, False, True]
    assert client.read_discrete_inputs(1, 1, 3) == [True, False, True]
    assert client.read_holding_registers(1, 75, 125) == [*range(75, 200)]
    assert client.read_input_registers(1, 100, 2) == [0x4276, 0]


def test_coils_and_registers_are_written(client):
    client.write_coil(1, 1, True)
    client.write_coils(1, 2, [False, True])
    assert client.read_coils(1, 0, 5) == [True, True, False, True, True]
    client.write_register(1, 0, 65535)
    client.write_registers(1, 1, [4660, 1])
    assert client.read_holding_registers(1, 0, 4) == [65535, 4660, 1, 3]


def test_an_address_that_does_not_exist_is_refused(client):
    with pytest.raises(ExceptionResponseError) as refusal:
        client.read_holding_registers(1, 1000)
    assert refusal.value.code == 2
    with pytest.raises(ExceptionResponseError):
        client.write_register(1, 1000, 1)
    assert client.read_holding_registers(1, 1) == [1]


def test_pathpoints_are_read_together_and_written(client):
    names = ["W1r7", "f1l100", "B1f2", "W1r1000", "B1d0"]
    pathpoints = [ModbusPathpoint(None, name, client=client) for name in names]
    results = client.on_read_group(pathpoints, AdviseLevel.ADVISE).result(PATIENCE)
    failure = results.pop(3)
    assert results == [7, 61.5, True, False]
    assert isinstance(failure, ExceptionResponseError)
    ModbusPathpoint(None, "f1r10", client=client).on_write(-2.5, AdviseLevel.ADVISE).result(
        PATIENCE
    )
    assert client.read_holding_registers(1, 10, 2) == [0xC020, 0]


def test_a_server_that_is_killed_and_started_again_is_found_again(peer, client):
    client.write_register(1, 5, 55)
    peer.kill()
    with pytest.raises((ConnectFailedError, ConnectionLostError)):
        client.read_holding_registers(1, 5)
    with pytest.raises(ConnectFailedError):
        client.read_holding_registers(1, 5)
    peer.start()
    assert eventually(lambda: client.read_holding_registers(1, 5), ConnectFailedError) == [5]
    client.write_register(1, 5, 56)
    assert client.read_holding_registers(1, 5) == [56]


def test_the_client_of_pymodbus_reads_and_writes_our_server():
    written = []
    registers = RegisterModel(on_write=lambda *arguments: written.append(arguments))
    for table, values in {
        Table.COILS: [True, False, True] * 6,
        Table.DISCRETE_INPUTS: [False, True] * 9,
        Table.HOLDING_REGISTERS: [*range(200)],
        Table.INPUT_REGISTERS: [*range(65535, 65335, -1)],
    }.items():
        registers.define(17, table, 0, values)
    with TcpServer(registers) as server:
        client = ModbusTcpClient("127.0.0.1", port=server.port, timeout=PATIENCE)
        assert client.connect()
        unit = {"device_id": 17}
        assert client.read_coils(0, count=18, **unit).bits[:18] == [True, False, True] * 6
        assert client.read_discrete_inputs(1, count=2, **unit).bits[:2] == [True, False]
        assert client.read_holding_registers(75, count=125, **unit).registers == [*range(75, 200)]
        assert client.read_input_registers(0, count=2, **unit).registers == [65535, 65534]
        assert not client.write_coil(1, True, **unit).isError()
        assert not client.write_register(2, 40000, **unit).isError()
        assert not client.write_coils(3, [True] * 9, **unit).isError()
        assert not client.write_registers(4, [1, 2, 3], **unit).isError()
        assert client.read_holding_registers(200, count=1, **unit).exception_code == 2
        assert client.mask_write_register(address=1, **unit).exception_code == 1
        assert client.read_coils(0, count=1, device_id=9).exception_code == 11
        client.close()
    assert written == [
        (17, Table.COILS, 1, [True]),
        (17, Table.HOLDING_REGISTERS, 2, [40000]),
        (17, Table.COILS, 3, [True] * 9),
        (17, Table.HOLDING_REGISTERS, 4, [1, 2, 3]),
    ]
    assert registers["W17r2"] == 40000
    assert registers["B17f1"] == 1
