"""Pathpoints that are MODBUS registers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, cast

from smok_fast.basics import StorageLevel
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.modbus.client import TcpClient
from smok_fast.modbus.names import RegisterName, RegisterValue, parse_name
from smok_fast.pathpoint import (
    AdviseLevel,
    Pathpoint,
    PathpointType,
    PathpointValueType,
    to_type,
)

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["ModbusPathpoint"]


class ModbusPathpoint(Pathpoint):
    """A register or a bit of a MODBUS unit.

    Its name tells which: ``W1r4002`` is holding register 4002 of unit 1. For the names see
    :mod:`smok_fast.modbus.names`. Pathpoints of one client that are due together are read together.
    A device that has no other pathpoints provides them in three lines::

        class Gateway(SMOKDevice):
            def provide_unknown_pathpoint(self, name, storage_level=StorageLevel.TREND):
                return ModbusPathpoint.provide(self, name, storage_level, client=self.modbus)

    :param device: the device, or None
    :param name: name of the pathpoint
    :param storage_level: how long its values are kept
    :param callable_on_change: called with the pathpoint after each new value
    :param read_no_often_than: seconds between two reads at least; None for no limit
    :param client: the client through which the unit is reached
    :raises ValueError: this is not the name of a register
    :ivar register: what the name says
    :ivar client: the client through which the unit is reached
    """

    register: RegisterName
    client: TcpClient

    def __init__(
        self,
        device: SMOKDevice | str | None,
        name: str | StorageLevel | None = None,
        storage_level: StorageLevel = StorageLevel.TREND,
        callable_on_change: Callable[[Pathpoint], None] | None = None,
        read_no_often_than: float | None = None,
        *,
        client: TcpClient,
    ) -> None:
        # The base class registers the pathpoint with its device, from when on it may be read.
        self.register = parse_name(device if isinstance(device, str) else str(name))
        self.client = client
        super().__init__(
            device, name, storage_level, callable_on_change, read_no_often_than, read_group=client
        )

    @classmethod
    def provide(
        cls,
        device: SMOKDevice,
        name: str,
        storage_level: StorageLevel = StorageLevel.TREND,
        *,
        client: TcpClient,
    ) -> ModbusPathpoint:
        """The pathpoint of this name, for ``SMOKDevice.provide_unknown_pathpoint``.

        :param device: the device that asks
        :param name: name of the pathpoint
        :param storage_level: how long its values are kept
        :param client: the client through which the unit is reached
        :raises KeyError: this is not the name of a register
        """
        try:
            return cls(device, name, storage_level, client=client)
        except ValueError as error:
            raise KeyError(str(error)) from error

    def on_read(self, advise: AdviseLevel) -> Future[PathpointValueType | None]:
        """Queue the reading of the register. Called by OrderExecutorThread.

        :param advise: not used: trying again is the executor's business
        :return: ends with the value or an OperationFailedError
        """
        future = self.client.submit_read_value(self.register)
        return cast("Future[PathpointValueType | None]", future)  # Future is invariant

    def on_write(self, value: PathpointValueType, advise: AdviseLevel) -> Future[None]:
        """Queue the writing of the register, coerced to its type. Called by OrderExecutorThread.

        :param value: value to write
        :param advise: not used: trying again is the executor's business
        :return: ends when the unit has confirmed the write, or with an OperationFailedError
        :raises OperationFailedError: the table cannot be written (reason INVALID), or this is no
            value of the pathpoint's type (reason TYPE)
        """
        try:
            coerced = to_type(value, PathpointType(self.register.type))
        except (ValueError, TypeError, OverflowError) as error:
            raise OperationFailedError(OperationFailedReason.TYPE) from error
        return self.client.submit_write_value(self.register, cast("RegisterValue", coerced))
