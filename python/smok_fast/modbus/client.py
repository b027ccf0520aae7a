"""The MODBUS TCP client: what users call, and the read group of the pathpoints that use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Protocol, cast

from smok_fast._core import ModbusRequest
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.modbus.bus import Bus
from smok_fast.modbus.connection import TcpConnection
from smok_fast.modbus.exceptions import (
    BadResponseError,
    ConnectionLostError,
    FrameError,
    NoResponseError,
)
from smok_fast.modbus.group import GroupReader
from smok_fast.modbus.names import RegisterName, RegisterValue, Table
from smok_fast.pathpoint import AdviseLevel, Pathpoint, ReadGroup, ReadResult

__all__ = ["TcpClient"]

_READ_FUNCTIONS = frozenset(Table)
_WRITE_FUNCTIONS = {Table.COILS: 5, Table.HOLDING_REGISTERS: 6}


class _HasRegister(Protocol):
    register: RegisterName


class TcpClient(ReadGroup):
    """A client of one MODBUS TCP server, or of a gateway with a bus of many units behind it.

    Every method may be called by any thread. One daemon thread, ``ModbusBusThread-<name>``, started
    by the first request, owns the connection and carries out one request after another, writes
    before reads. It connects when there is something to send; while the server cannot be reached,
    requests fail at once, and only one per back-off period (doubling, with jitter) pays for an
    attempt. An outage is logged once, by ``smok_fast.modbus``, and so is its end.

    Addresses are counted from 0, as they stand in the request: what a manual calls holding register
    40001 or 1 is mostly address 0. Requests beyond the limits of the specification (2000 bits or
    125 registers read, 1968 bits or 123 registers written) raise ValueError at once.

    What fails, fails with one of :mod:`smok_fast.modbus.exceptions`; all of them are
    OperationFailedErrors with the right reason.

    :param host: name or address of the server
    :param port: TCP port
    :param timeout: seconds from a request to the end of its answer
    :param connect_timeout: seconds that connecting may take (for each address that the host's name
        has)
    :param retries: how often a read is sent again after no answer, a malformed one, or a broken
        connection. The orders of a device are tried again anyway, so that the default is 0. Writes
        are never sent twice: the first may have been carried out.
    :param max_gap: how many unwanted registers in a row may be read in order to save a request,
        when pathpoints are read together
    :param reconnect_delay: seconds between the first failed attempt to connect and the second,
        about; doubled with every further one
    :param max_reconnect_delay: seconds between two attempts at most
    :param name: name for the thread and for messages, ``host:port`` by default
    """

    def __init__(
        self,
        host: str,
        port: int = 502,
        *,
        timeout: float = 1.0,
        connect_timeout: float = 3.0,
        retries: int = 0,
        max_gap: int = 8,
        reconnect_delay: float = 0.5,
        max_reconnect_delay: float = 10.0,
        name: str | None = None,
    ) -> None:
        self.name = f"{host}:{port}" if name is None else name
        self._close_timeout = max(timeout, connect_timeout)
        self._retries = retries
        self._connection = TcpConnection(
            host,
            port,
            timeout=timeout,
            connect_timeout=connect_timeout,
            reconnect_delay=reconnect_delay,
            max_reconnect_delay=max_reconnect_delay,
        )
        self._bus = Bus(self.name, self._connection.disconnect)
        self._reader = GroupReader(self._transact_after_writes, max_gap)

    @property
    def stale_answers(self) -> int:
        """How many answers were ignored because they came too late, or to nothing."""
        return self._connection.stale

    @property
    def answers_of_other_units(self) -> int:
        """How many answers were ignored because they came from another unit than was asked."""
        return self._connection.other_unit

    def read_coils(self, unit: int, address: int, count: int = 1) -> list[bool]:
        """Read coils (function 1) and wait for them.

        :param unit: unit identifier, 0 to 255
        :param address: first address
        :param count: how many, 1 to 2000
        :raises ModbusError: there is no value, see :mod:`smok_fast.modbus.exceptions`
        """
        return cast("list[bool]", self._wait(ModbusRequest(unit, Table.COILS, address, count)))

    def read_discrete_inputs(self, unit: int, address: int, count: int = 1) -> list[bool]:
        """Read discrete inputs (function 2); as :meth:`read_coils`."""
        request = ModbusRequest(unit, Table.DISCRETE_INPUTS, address, count)
        return cast("list[bool]", self._wait(request))

    def read_holding_registers(self, unit: int, address: int, count: int = 1) -> list[int]:
        """Read holding registers (function 3) and wait for them.

        :param unit: unit identifier, 0 to 255
        :param address: first address
        :param count: how many, 1 to 125
        :return: unsigned 16-bit numbers
        :raises ModbusError: there is no value, see :mod:`smok_fast.modbus.exceptions`
        """
        return self._wait(ModbusRequest(unit, Table.HOLDING_REGISTERS, address, count))

    def read_input_registers(self, unit: int, address: int, count: int = 1) -> list[int]:
        """Read input registers (function 4); as :meth:`read_holding_registers`."""
        return self._wait(ModbusRequest(unit, Table.INPUT_REGISTERS, address, count))

    def write_coil(self, unit: int, address: int, value: bool) -> None:
        """Write one coil (function 5) and wait until it is written.

        :param unit: unit identifier, 0 to 255
        :param address: address
        :param value: whether it is on
        :raises ModbusError: the unit did not confirm the write, see
            :mod:`smok_fast.modbus.exceptions`
        """
        self._wait(ModbusRequest(unit, 5, address, value))

    def write_register(self, unit: int, address: int, value: int) -> None:
        """Write one holding register (function 6) and wait until it is written.

        :param unit: unit identifier, 0 to 255
        :param address: address
        :param value: 0 to 65535
        :raises ModbusError: the unit did not confirm the write, see
            :mod:`smok_fast.modbus.exceptions`
        """
        self._wait(ModbusRequest(unit, 6, address, value))

    def write_coils(self, unit: int, address: int, values: Iterable[bool]) -> None:
        """Write consecutive coils (function 15) and wait until they are written.

        :param unit: unit identifier, 0 to 255
        :param address: first address
        :param values: whether each is on, 1 to 1968
        :raises ModbusError: the unit did not confirm the write, see
            :mod:`smok_fast.modbus.exceptions`
        """
        self._wait(ModbusRequest(unit, 15, address, values))

    def write_registers(self, unit: int, address: int, values: Iterable[int]) -> None:
        """Write consecutive holding registers (function 16) and wait until they are written.

        :param unit: unit identifier, 0 to 255
        :param address: first address
        :param values: 0 to 65535 each, 1 to 123 of them
        :raises ModbusError: the unit did not confirm the write, see
            :mod:`smok_fast.modbus.exceptions`
        """
        self._wait(ModbusRequest(unit, 16, address, values))

    def submit_read(
        self, unit: int, table: Table, address: int, count: int = 1
    ) -> Future[list[int]]:
        """Queue the reading of a table's elements.

        :param unit: unit identifier, 0 to 255
        :param table: what to read
        :param address: first address
        :param count: how many
        :return: ends with the values (bools from tables of bits) or a ModbusError. Its callbacks
            run in the bus thread, and must not wait for further requests.
        """
        return self._submit(ModbusRequest(unit, Table(table), address, count))

    def submit_write(
        self, unit: int, table: Table, address: int, values: int | Iterable[int]
    ) -> Future[list[int]]:
        """Queue a write, which goes before the reads that wait.

        :param unit: unit identifier, 0 to 255
        :param table: COILS or HOLDING_REGISTERS
        :param address: first address
        :param values: one value, written with function 5 or 6, or several, written with function 15
            or 16
        :return: ends with an empty list when the write is confirmed, or with a ModbusError; as for
            :meth:`submit_read`
        """
        function = _WRITE_FUNCTIONS.get(table)
        if function is None:
            raise ValueError(f"{Table(table).name} cannot be written")
        if isinstance(values, Iterable):
            function += 10  # 5 and 6 write one, 15 and 16 write several
        return self._submit(ModbusRequest(unit, function, address, values))

    def submit_read_value(self, register: RegisterName) -> Future[RegisterValue]:
        """Queue the reading of one value.

        :param register: where it is, see :func:`smok_fast.modbus.parse_name`
        :return: ends with the value or an OperationFailedError, which is of reason TYPE for a float
            that is NaN or infinite; as for :meth:`submit_read`
        """
        request = register.read_request()

        def read() -> RegisterValue:
            values = self._transact(request)
            try:
                return register.decode(values)
            except ValueError as error:
                raise OperationFailedError(OperationFailedReason.TYPE) from error

        return self._bus.submit(read, is_write=False)

    def submit_write_value(self, register: RegisterName, value: RegisterValue) -> Future[None]:
        """Queue the writing of one value, which goes before the reads that wait.

        :param register: where it is, see :func:`smok_fast.modbus.parse_name`
        :param value: a value of the register's type
        :return: ends when the write is confirmed, or with a ModbusError; as for :meth:`submit_read`
        :raises OperationFailedError: the table cannot be written (reason INVALID), or the type
            cannot hold the value (reason TYPE)
        """
        if not register.is_writable:
            raise OperationFailedError(OperationFailedReason.INVALID)
        try:
            request = register.write_request(value)
        except ValueError as error:
            raise OperationFailedError(OperationFailedReason.TYPE) from error

        def write() -> None:
            self._transact(request)

        return self._bus.submit(write, is_write=True)

    def on_read_group(
        self, pathpoints: Sequence[Pathpoint], advise: AdviseLevel
    ) -> Future[Sequence[ReadResult]]:
        """Read pathpoints together, in as few requests as their addresses allow.

        Called by OrderExecutorThread. When a unit refuses to read registers together, they are read
        in smaller groups, so that each gets its own value or its own failure.

        :param pathpoints: what to read: ModbusPathpoints, or others that have a ``register``
        :param advise: not used: trying again is the executor's business
        :return: ends with a value or an OperationFailedError for each pathpoint, in the same order
        """
        registers = [it.register for it in cast("Sequence[_HasRegister]", pathpoints)]
        return self._bus.submit(partial(self._reader.read, registers), is_write=False)

    def close(self) -> None:
        """Break off what is on its way, fail what waits with ClientClosedError, and end the thread.

        Returns within the time-outs, whatever the server does. May be called again.
        """
        self._connection.interrupt()
        self._bus.close(self._close_timeout)

    def __enter__(self) -> TcpClient:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TcpClient {self.name}>"

    def _submit(self, request: ModbusRequest) -> Future[list[int]]:
        is_write = request.function not in _READ_FUNCTIONS
        return self._bus.submit(partial(self._transact, request), is_write=is_write)

    def _wait(self, request: ModbusRequest) -> list[int]:
        if self._bus.is_current_thread():
            raise RuntimeError(
                "a Future's callback runs in the bus thread, which cannot wait for itself: "
                "use submit_read or submit_write"
            )
        return self._submit(request).result()

    def _transact_after_writes(self, request: ModbusRequest) -> list[int]:
        self._bus.run_writes()
        return self._transact(request)

    def _transact(self, request: ModbusRequest) -> list[int]:
        """Carry out a request, in the bus thread."""
        retries = self._retries if request.function in _READ_FUNCTIONS else 0
        for _ in range(retries):
            try:
                return self._connection.transact(request)
            except (NoResponseError, ConnectionLostError, BadResponseError, FrameError):
                continue
        return self._connection.transact(request)
