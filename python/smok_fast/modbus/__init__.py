"""MODBUS: a TCP client, pathpoints that are registers, and a small TCP server for demonstrations.

A device whose pathpoints are the registers of a MODBUS TCP server::

    class Gateway(SMOKDevice):
        def __init__(self, modbus: TcpClient, **arguments):
            self.modbus = modbus
            super().__init__(**arguments)

        def provide_unknown_pathpoint(self, name, storage_level=StorageLevel.TREND):
            return ModbusPathpoint.provide(self, name, storage_level, client=self.modbus)
"""

from smok_fast.modbus.client import TcpClient
from smok_fast.modbus.exceptions import (
    BadResponseError,
    ClientClosedError,
    ConnectFailedError,
    ConnectionLostError,
    ExceptionResponseError,
    FrameError,
    ModbusError,
    NoResponseError,
    QueueFullError,
)
from smok_fast.modbus.names import RegisterName, Table, parse_name
from smok_fast.modbus.pathpoint import ModbusPathpoint
from smok_fast.modbus.registers import RegisterModel
from smok_fast.modbus.server import TcpServer

__all__ = [
    "BadResponseError",
    "ClientClosedError",
    "ConnectFailedError",
    "ConnectionLostError",
    "ExceptionResponseError",
    "FrameError",
    "ModbusError",
    "ModbusPathpoint",
    "NoResponseError",
    "QueueFullError",
    "RegisterModel",
    "RegisterName",
    "Table",
    "TcpClient",
    "TcpServer",
    "parse_name",
]
