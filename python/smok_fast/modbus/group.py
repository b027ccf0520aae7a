"""Reading many registers with few requests.

The core plans which registers are read together. A unit may refuse such a request because one
register in it does not exist, wanted or just in the way: then its halves are tried, down to single
registers, so that one bad register costs no other its value. What was learned is kept as cuts,
addresses that no further request spans, so that the same search is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smok_fast._core import ModbusRequest, modbus_plan
from smok_fast.exceptions import OperationFailedError
from smok_fast.modbus.exceptions import ExceptionResponseError
from smok_fast.modbus.names import RegisterName
from smok_fast.pathpoint import ReadResult

__all__ = ["GroupReader"]

LAST_ADDRESS = 0xFFFF

#: Exceptions after which fewer registers may be read: illegal data address, and illegal data value,
#: with which some units say that they do not read so many at once.
REFUSED_TOGETHER = (2, 3)


class GroupReader:
    """Reads the registers of one bus. It belongs to the bus thread.

    :param transact: sends a request and returns the values that were read, or raises ModbusError
    :param max_gap: how many unwanted registers may be read in a row to save a request
    """

    def __init__(self, transact: Callable[[ModbusRequest], list[int]], max_gap: int) -> None:
        self._transact = transact
        self._max_gap = max_gap
        self._cuts: set[tuple[int, int, int]] = set()

    def read(self, registers: Sequence[RegisterName]) -> Sequence[ReadResult]:
        """Read these registers.

        :param registers: what to read, of any units and tables
        :return: a value or an error for each, in the same order
        """
        results: dict[int, ReadResult] = {}
        items = [
            (register.unit, int(register.table), register.address, register.count)
            for register in registers
        ]
        for request, places in modbus_plan(items, self._max_gap, list(self._cuts)):
            self._read_block(request, places, registers, results)
        return [results[place] for place in range(len(registers))]

    def _read_block(
        self,
        request: ModbusRequest,
        places: Sequence[int],
        registers: Sequence[RegisterName],
        results: dict[int, ReadResult],
    ) -> bool:
        """Read the registers at these places with one request, or with several if that is refused.

        :return: whether the request was accepted
        """
        try:
            values = self._transact(request)
        except OperationFailedError as error:
            refused = isinstance(error, ExceptionResponseError) and error.code in REFUSED_TOGETHER
            if refused and any(registers[place].count < request.count for place in places):
                self._read_halves(places, registers, results)
                return False
            if refused:
                self._cut_around(registers[places[0]])
            results.update(dict.fromkeys(places, error))
            return False
        for place in places:
            results[place] = _decode(registers[place], values, request.address)
        return True

    def _read_halves(
        self,
        places: Sequence[int],
        registers: Sequence[RegisterName],
        results: dict[int, ReadResult],
    ) -> None:
        middle = len(places) // 2
        left, right = places[:middle], places[middle:]
        accepted = [
            self._read_block(
                _spanning([registers[place] for place in half]), half, registers, results
            )
            for half in (left, right)
        ]
        if all(accepted):
            # Nothing is wrong with either half, so it is what lies between them, or their number.
            boundary = registers[right[0]]
            self._cuts.add((boundary.unit, boundary.table, boundary.address))

    def _cut_around(self, register: RegisterName) -> None:
        for address in (register.address, register.address + register.count):
            if address <= LAST_ADDRESS:
                self._cuts.add((register.unit, register.table, address))


def _spanning(registers: Sequence[RegisterName]) -> ModbusRequest:
    """The request that reads all of these, which are in the order of their addresses."""
    first = registers[0]
    end = max(register.address + register.count for register in registers)
    return ModbusRequest(first.unit, first.table, first.address, end - first.address)


def _decode(register: RegisterName, values: Sequence[int], start: int) -> ReadResult:
    offset = register.address - start
    try:
        return register.decode(values[offset : offset + register.count])
    except OperationFailedError as error:
        return error
