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
most significant register comes first, at the lowest address. A
bit is 0 or 1. ``B`` of a register is 1 if it is not 0, and is written as 0 or 1.

Source of the form and of the tables ``r``, ``f`` and ``l``: names in deployed SMOK devices. ``i``
and ``d`` are ours.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

from smok_fast._core import RegisterName

__all__ = ["RegisterName", "RegisterValue", "Table", "parse_name"]

#: What a register pathpoint can hold.
RegisterValue: TypeAlias = int | float


class Table(enum.IntEnum):
    """The tables of a MODBUS unit; the values are the codes of the functions that read them."""

    COILS = 1  #: bits that can be written
    DISCRETE_INPUTS = 2  #: bits that can only be read
    HOLDING_REGISTERS = 3  #: 16-bit registers that can be written
    INPUT_REGISTERS = 4  #: 16-bit registers that can only be read

    @property
    def holds_bits(self) -> bool:
        """Whether it holds bits instead of registers."""
        return self <= Table.DISCRETE_INPUTS


def parse_name(name: str) -> RegisterName:
    """The register that a pathpoint's name means.

    :param name: name of the pathpoint, as ``W1r4002``
    :raises ValueError: it is not the name of a register; the message says why
    """
    return RegisterName(name)
