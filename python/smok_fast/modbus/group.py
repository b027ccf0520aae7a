"""Reading many registers with few requests.

The core plans which registers are read together. A unit may refuse such a request because one
register in it does not exist, wanted or just in the way: then its halves are tried, down to single
registers, so that one bad register costs no other its value. What was learned is kept as cuts,
addresses that no further request spans, so that the same search is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smok_fast._core import ModbusBlock, ModbusPlanner, ModbusRequest, RegisterName
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.modbus.exceptions import ExceptionResponseError
from smok_fast.pathpoint import ReadResult

__all__ = ["GroupReader"]

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
        self._planner = ModbusPlanner(max_gap)

    def read(self, registers: list[RegisterName]) -> Sequence[ReadResult]:
        """Read these registers.

        :param registers: what to read, of any units and tables
        :return: a value or an error for each, in the same order
        """
        results: list[ReadResult] = [None] * len(registers)
        for block in self._planner.plan(registers):
            self._read_block(block, results)
        return results

    def _read_block(self, block: ModbusBlock, results: list[ReadResult]) -> bool:
        """Read a block with one request, or with several if that is refused.

        :return: whether the request was accepted
        """
        try:
            values = self._transact(block.request)
        except OperationFailedError as error:
            if isinstance(error, ExceptionResponseError) and error.code in REFUSED_TOGETHER:
                halves = block.halves()
                if halves is not None:
                    self._read_halves(*halves, results)
                    return False
                self._planner.cut_around(block)
            for index in block.indices:
                results[index] = error
            return False
        for index, value in zip(block.indices, block.decode(values), strict=True):
            results[index] = _not_a_number() if value is None else value
        return True

    def _read_halves(
        self, left: ModbusBlock, right: ModbusBlock, results: list[ReadResult]
    ) -> None:
        left_accepted = self._read_block(left, results)
        right_accepted = self._read_block(right, results)
        if left_accepted and right_accepted:
            # Nothing is wrong with either, so it is what lies between them, or their number.
            self._planner.cut_before(right)


def _not_a_number() -> OperationFailedError:
    return OperationFailedError(OperationFailedReason.TYPE)
