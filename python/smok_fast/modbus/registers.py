"""The registers of simulated MODBUS units, as :class:`smok_fast.modbus.TcpServer` serves them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from smok_fast.modbus.names import RegisterValue, Table, parse_name

__all__ = ["RegisterModel", "WriteCallback"]

#: Called with unit, table, first address and values after a client's write.
WriteCallback: TypeAlias = Callable[[int, Table, int, Sequence[int]], None]


class RegisterModel:
    """Coils, discrete inputs, holding and input registers of any number of units.

    What was defined exists: by :meth:`define`, or by setting a value under a pathpoint's name::

        registers = RegisterModel({"f1l100": 61.5, "B1f0": False, "W1r10": 55})
        registers["f1l100"] = 62.0  # what the simulated boiler measures
        set_point = registers["W1r10"]  # what a client has written, perhaps

    Every method may be called by any thread; a value of several registers is read and written as a
    whole.

    :param values: what to define, values by the names of pathpoints, see
        :mod:`smok_fast.modbus.names`
    :param on_write: called by the server's thread after a client has written
    :ivar on_write: the same, may be set later
    """

    def __init__(
        self,
        values: Mapping[str, RegisterValue] | None = None,
        *,
        on_write: WriteCallback | None = None,
    ) -> None:
        self.on_write = on_write
        self._lock = threading.Lock()
        self._units: dict[int, dict[Table, dict[int, int]]] = {}
        for name, value in (values or {}).items():
            self[name] = value

    def __getitem__(self, name: str) -> RegisterValue:
        """The value under the name of a pathpoint.

        :raises KeyError: its registers are not defined
        :raises ValueError: this is not the name of a register, or they hold a float that is no
            number
        """
        register = parse_name(name)
        table = Table(register.table)
        return register.decode(self.read(register.unit, table, register.address, register.count))

    def __setitem__(self, name: str, value: RegisterValue) -> None:
        """Define the value under the name of a pathpoint; this does not call ``on_write``.

        :raises ValueError: this is not the name of a register, or the type cannot hold the value
        """
        register = parse_name(name)
        table = Table(register.table)
        self.define(register.unit, table, register.address, register.encode(value))

    def define(self, unit: int, table: Table, address: int, values: Iterable[int]) -> None:
        """Set consecutive elements of a table, which exist from now on.

        This does not call ``on_write``.

        :param unit: unit identifier, 0 to 255
        :param table: which table
        :param address: first address
        :param values: registers as 0 to 65535, bits as bools or 0 and 1
        :raises ValueError: a unit, an address or a value is out of range
        """
        values = list(values)
        greatest = 1 if table.holds_bits else 0xFFFF
        if not 0 <= unit <= 0xFF:
            raise ValueError(f"a unit is 0 to 255, not {unit}")
        if not 0 <= address <= 0x10000 - len(values):
            raise ValueError(f"{len(values)} elements from address {address} on do not exist")
        if not all(0 <= value <= greatest for value in values):
            raise ValueError(f"{table.name} hold 0 to {greatest}, not {values}")
        with self._lock:
            cells = self._units.setdefault(unit, {}).setdefault(table, {})
            cells.update(enumerate(values, address))

    def has_unit(self, unit: int) -> bool:
        """Whether anything of this unit is defined."""
        return unit in self._units

    def read(self, unit: int, table: Table, address: int, count: int) -> list[int]:
        """The values of consecutive elements.

        :param unit: unit identifier
        :param table: which table
        :param address: first address
        :param count: how many
        :raises KeyError: not all of them are defined
        """
        with self._lock:
            cells = self._units[unit][table]
            return [cells[place] for place in range(address, address + count)]

    def write(self, unit: int, table: Table, address: int, values: Sequence[int]) -> None:
        """Set consecutive elements that exist, all of them or none, and call ``on_write``.

        This is what a client does.

        :param unit: unit identifier
        :param table: which table
        :param address: first address
        :param values: what to write
        :raises KeyError: not all of them are defined
        """
        with self._lock:
            cells = self._units[unit][table]
            new = dict(enumerate(values, address))
            if missing := new.keys() - cells.keys():
                raise KeyError(min(missing))
            cells.update(new)
        if self.on_write is not None:
            self.on_write(unit, table, address, values)
