"""Names of MODBUS pathpoints: which register a name means, and how its value is laid out there.

A name is ``<type><unit><table><address>``, as ``W1r4002``: unit 1, holding register 4002, an
unsigned 16-bit number.

* type: the letter of :class:`smok_fast.pathpoint.PathpointType`, but not ``u``;
* unit: 0 to 255;
* table: one letter, see below;
* address: 0 to 65535, as it stands in the request: counted from 0, and nothing is subtracted. What
  a manual calls holding register 40001 or 1 is mostly address 0.

===== ================= ===== ====== =================================
table what it is        read  write  types
===== ================= ===== ====== =================================
``r`` holding registers FC 3  FC 6/16 ``W`` ``w`` ``B`` ``f`` ``d``
``i`` input registers   FC 4  no     ``W`` ``w`` ``B`` ``f`` ``d``
``l`` input registers   FC 4  no     ``f``: the float of two registers
``f`` coils             FC 1  FC 5   ``B`` ``W`` ``w``
``d`` discrete inputs   FC 2  no     ``B`` ``W`` ``w``
===== ================= ===== ====== =================================

``W`` and ``w`` are one register, ``f`` is two (an IEEE 754 single), ``d`` is four (a double); the
most significant register comes first, at the lowest address. ``B`` of a register is whether it is
not 0, and is written as 0 or 1.
``W`` and ``w`` of a bit are 0 or 1.

Source of the form and of the tables ``r``, ``f`` and ``l``: names in deployed SMOK devices. ``i``
and ``d`` are ours.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import struct
from collections.abc import Sequence
from typing import TypeAlias

from smok_fast._core import ModbusRequest
from smok_fast.exceptions import OperationFailedError, OperationFailedReason

__all__ = ["RegisterName", "RegisterValue", "Table", "parse_name"]

#: What a register pathpoint can hold.
RegisterValue: TypeAlias = int | float


class Table(enum.IntEnum):
    """The four tables of a MODBUS unit; the values are the codes of the functions that read
    them.
    """

    COILS = 1  #: bits that can be written
    DISCRETE_INPUTS = 2  #: bits that can only be read
    HOLDING_REGISTERS = 3  #: 16-bit registers that can be written
    INPUT_REGISTERS = 4  #: 16-bit registers that can only be read

    @property
    def holds_bits(self) -> bool:
        """Whether it holds bits instead of registers."""
        return self <= Table.DISCRETE_INPUTS

    @property
    def is_writable(self) -> bool:
        """Whether MODBUS has functions that write it."""
        return self in (Table.COILS, Table.HOLDING_REGISTERS)


_NAME = re.compile(r"([A-Za-z])([0-9]{1,3})([A-Za-z])([0-9]{1,5})")
_TABLES = {
    "r": Table.HOLDING_REGISTERS,
    "i": Table.INPUT_REGISTERS,
    "l": Table.INPUT_REGISTERS,
    "f": Table.COILS,
    "d": Table.DISCRETE_INPUTS,
}
_COUNTS = {"B": 1, "W": 1, "w": 1, "f": 2, "d": 4}


@dataclasses.dataclass(frozen=True, slots=True)
class RegisterName:
    """What the name of a MODBUS pathpoint says; made by :func:`parse_name`.

    :ivar type: the type letter: B, W, w, f or d
    :ivar unit: unit identifier, 0 to 255
    :ivar table: which table
    :ivar address: first address, counted from 0
    """

    type: str
    unit: int
    table: Table
    address: int

    @property
    def count(self) -> int:
        """How many registers or bits hold the value."""
        return _COUNTS[self.type]

    def decode(self, values: Sequence[int]) -> RegisterValue:
        """The value that these registers or bits hold.

        :param values: as many as :attr:`count` says
        :raises OperationFailedError: a float in them is NaN or infinite, which no pathpoint can be:
            reason TYPE
        """
        if self.type == "W":
            return int(values[0])
        if self.type == "B":
            return values[0] != 0
        if self.type == "w":
            return values[0] - 0x10000 if values[0] > 0x7FFF else int(values[0])
        layout, words = (">f", ">2H") if self.type == "f" else (">d", ">4H")
        (value,) = struct.unpack(layout, struct.pack(words, *values))
        if not math.isfinite(value):
            raise OperationFailedError(OperationFailedReason.TYPE)
        return float(value)

    def encode(self, value: RegisterValue) -> list[int]:
        """The registers or bits that hold this value.

        :param value: a value of the pathpoint's type, see :func:`smok_fast.pathpoint.to_type`
        :raises OperationFailedError: the type cannot hold it: reason TYPE
        """
        try:
            if self.type == "B" or self.table.holds_bits:
                return [int(bool(value))]
            if self.type in "Ww":
                return [
                    *struct.unpack(">H", struct.pack(">H" if self.type == "W" else ">h", value))
                ]
            if not math.isfinite(value):
                raise OperationFailedError(OperationFailedReason.TYPE)
            layout, words = (">f", ">2H") if self.type == "f" else (">d", ">4H")
            return [*struct.unpack(words, struct.pack(layout, value))]
        except (struct.error, OverflowError, TypeError) as error:
            raise OperationFailedError(OperationFailedReason.TYPE) from error

    def read_request(self) -> ModbusRequest:
        """The request that reads it."""
        return ModbusRequest(self.unit, self.table, self.address, self.count)

    def write_request(self, value: RegisterValue) -> ModbusRequest:
        """The request that writes it: function 5 for a coil, 6 for one register, 16 for several.

        :param value: a value of the pathpoint's type, see :func:`smok_fast.pathpoint.to_type`
        :raises OperationFailedError: the table cannot be written (reason INVALID), or the type
            cannot hold the value (reason TYPE)
        """
        if not self.table.is_writable:
            raise OperationFailedError(OperationFailedReason.INVALID)
        values = self.encode(value)
        if self.table is Table.COILS:
            return ModbusRequest(self.unit, 5, self.address, values[0])
        if len(values) == 1:
            return ModbusRequest(self.unit, 6, self.address, values[0])
        return ModbusRequest(self.unit, 16, self.address, values)


def parse_name(name: str) -> RegisterName:
    """The register that a pathpoint's name means.

    :param name: name of the pathpoint, as ``W1r4002``
    :raises ValueError: it is not the name of a register; the message says why
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is not the name of a register: <type><unit><table><address>, as W1r4002"
        )
    type_, unit, table_letter, address = match[1], int(match[2]), match[3], int(match[4])
    if type_ not in _COUNTS:
        raise ValueError(f"{name!r}: registers have the types B, W, w, f and d, not {type_}")
    if table_letter not in _TABLES:
        raise ValueError(f"{name!r}: the tables are r, i, l, f and d, there is no {table_letter}")
    register = RegisterName(type_, unit, _TABLES[table_letter], address)
    if table_letter == "l" and type_ != "f":
        raise ValueError(f"{name!r}: table l holds floats, so that its only type is f")
    if register.table.holds_bits and register.count > 1:
        raise ValueError(f"{name!r}: table {table_letter} holds bits, which are no {type_}")
    try:
        register.read_request()
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error
    return register
