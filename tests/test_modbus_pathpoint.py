"""Pathpoints that are registers of a MODBUS unit."""

import pytest

from modbus_peers import PATIENCE
from smok_fast.basics import StorageLevel
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.modbus import ModbusPathpoint, RegisterModel, TcpClient, TcpServer, parse_name
from smok_fast.pathpoint import AdviseLevel

ADVISE = AdviseLevel.ADVISE


@pytest.fixture
def registers():
    return RegisterModel(
        {
            "W1r4002": 7,
            "w1r1": -7,
            "B1r2": True,
            "f1r10": 1.5,
            "d1r20": -2.25,
            "f1l100": 61.5,
            "W1i5": 40000,
            "B1f3": False,
            "B1d4": True,
        }
    )


@pytest.fixture
def client(registers):
    with (
        TcpServer(registers) as server,
        TcpClient("127.0.0.1", server.port, timeout=PATIENCE) as client,
    ):
        yield client


def read(pathpoint):
    return pathpoint.on_read(ADVISE).result(PATIENCE)


def write(pathpoint, value):
    return pathpoint.on_write(value, ADVISE).result(PATIENCE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("W1r4002", 7),
        ("w1r1", -7),
        ("B1r2", 1),
        ("f1r10", 1.5),
        ("d1r20", -2.25),
        ("f1l100", 61.5),
        ("W1i5", 40000),
        ("B1f3", 0),
        ("B1d4", 1),
    ],
)
def test_each_type_and_table_is_read(client, name, value):
    result = read(ModbusPathpoint(None, name, client=client))
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("W1r4002", 65535, 65535),
        ("W1r4002", 70000, 65535),
        ("W1r4002", -1, 0),
        ("W1r4002", 12.9, 12),
        ("w1r1", -40000, -32768),
        ("B1r2", 0, False),
        ("f1r10", 2, 2.0),
        ("f1r10", "3.5", 3.5),
        ("d1r20", 0.1, 0.1),
        ("B1f3", 1, True),
    ],
)
def test_a_value_is_coerced_to_the_type_and_written(client, registers, name, value, written):
    pathpoint = ModbusPathpoint(None, name, client=client)
    assert write(pathpoint, value) is None
    assert registers[name] == written
    assert read(pathpoint) == written


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("W1i5", 1, OperationFailedReason.INVALID),
        ("f1l100", 1.0, OperationFailedReason.INVALID),
        ("B1d4", True, OperationFailedReason.INVALID),
        ("W1r4002", "seven", OperationFailedReason.TYPE),
        ("W1r4002", None, OperationFailedReason.TYPE),
        ("W1r4002", float("inf"), OperationFailedReason.TYPE),
        ("f1r10", float("nan"), OperationFailedReason.TYPE),
        ("f1r10", 1e300, OperationFailedReason.TYPE),
        ("W1r9999", 1, OperationFailedReason.INVALID),
        ("W9r1", 1, OperationFailedReason.TIMEOUT),
    ],
)
def test_a_write_that_cannot_be_made_fails_for_the_right_reason(client, name, value, reason):
    with pytest.raises(OperationFailedError) as failure:
        write(ModbusPathpoint(None, name, client=client), value)
    assert failure.value.reason is reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [("W1r9999", OperationFailedReason.INVALID), ("W9r1", OperationFailedReason.TIMEOUT)],
)
def test_a_read_that_the_server_refuses_fails_for_the_right_reason(client, name, reason):
    with pytest.raises(OperationFailedError) as failure:
        read(ModbusPathpoint(None, name, client=client))
    assert failure.value.reason is reason


def test_both_forms_of_the_constructor_name_the_register_and_the_group(client):
    for pathpoint in (
        ModbusPathpoint(None, "W1r4002", StorageLevel.PERMANENT, client=client),
        ModbusPathpoint("W1r4002", StorageLevel.PERMANENT, client=client),
    ):
        assert pathpoint.name == "W1r4002"
        assert pathpoint.register == parse_name("W1r4002")
        assert pathpoint.storage_level is StorageLevel.PERMANENT
        assert pathpoint.read_group is pathpoint.client is client


def test_what_is_no_register_is_a_value_error_or_an_unknown_pathpoint(client):
    with pytest.raises(ValueError, match="not the name of a register"):
        ModbusPathpoint(None, "Wtemperature", client=client)
    with pytest.raises(KeyError, match="not the name of a register"):
        ModbusPathpoint.provide(None, "Wtemperature", client=client)
    provided = ModbusPathpoint.provide(None, "f1l100", StorageLevel.PERMANENT, client=client)
    assert isinstance(provided, ModbusPathpoint)
    assert provided.storage_level is StorageLevel.PERMANENT
    assert read(provided) == 61.5
