"""Pathpoints that are computed from others, as ``rW{W1r4002}+{W1r4003}``.

After ``r`` and the letter of the type follows an expression in which braces hold pathpoints: see
:mod:`smok_fast.sensor.reparse`. The device makes them, one for each name; users only provide the
native ones. A reparse pathpoint records nothing: its value and its archive are computed when they
are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from smok_fast._columns import numbers, samples_of
from smok_fast._core import Computation, Expression
from smok_fast.basics import StorageLevel
from smok_fast.exceptions import OperationFailedError
from smok_fast.pathpoint.orders import AdviseLevel, ReadOrder, Section
from smok_fast.pathpoint.pathpoint import Pathpoint
from smok_fast.pathpoint.series import merge_series
from smok_fast.pathpoint.typing import PathpointType, PathpointValueType, ValueOrExcept

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["ReparsePathpoint"]


class ReparsePathpoint(Pathpoint):
    """A pathpoint that is computed from others. Get it by ``SMOKDevice.get_pathpoint``.

    ``get()`` computes the value from the latest ones of the constituents. It has the timestamp of
    the newest, and fails if the last read of any of them failed, or with a
    :class:`~smok_fast.exceptions.ReparseError` if the expression has no value for these.

    :param device: the device
    :param name: its name
    :param storage_level: how long values are kept; passed on to constituents that are made now,
        while those that are known keep theirs
    :raises ValueError: the name declares no type, or its expression is wrong (then it is a
        :class:`~smok_fast.exceptions.ReparseSyntaxError`)
    :raises KeyError: the device does not have one of its constituents
    :ivar expression: the compiled expression
    :ivar slave_pathpoints: its constituents, in the order of the expression's variables
    """

    def __init__(
        self,
        device: SMOKDevice,
        name: str,
        storage_level: StorageLevel = StorageLevel.TREND,
    ) -> None:
        super().__init__(None, name, storage_level)
        self.device = device
        self.expression = Expression(name[2:])
        self.slave_pathpoints = [
            device.get_pathpoint(constituent, storage_level)
            for constituent in self.expression.variables
        ]
        # get() is native, since a method here that calls it takes as long as the computation.
        self._compute_by(Computation(self.expression, name, self.slave_pathpoints))

    @property
    def current_timestamp(self) -> int | None:
        """When the newest constituent was read, in milliseconds since the epoch; None if there is
        no value.
        """
        try:
            return self.get()[0]
        except OperationFailedError as error:
            return None if error.reason is None else int(error.timestamp)

    @property
    def current_value(self) -> ValueOrExcept | None:
        """The value, or the OperationFailedError that stands for it; None if there is none yet."""
        try:
            return self.get()[1]
        except OperationFailedError as error:
            return None if error.reason is None else error

    def get_archive(
        self, starting_at: int | None, stopping_at: int | None = None
    ) -> Iterator[tuple[float, ValueOrExcept]]:
        """Compute the values over time, from what this device has recorded, while you iterate. May
        be called by any thread.

        What a constituent had before ``starting_at`` is not looked at, so there is nothing until
        each has a sample after it: start early enough for the slowest one. Of each row every
        expression is evaluated by itself, so one that handles too much text together with those in
        it has an archive, but no present value.

        :param starting_at: milliseconds since the epoch, inclusive; None for the oldest
        :param stopping_at: milliseconds since the epoch, inclusive; None for the newest
        :return: an iterator of (milliseconds since the epoch, value or OperationFailedError): one
            for each timestamp of any constituent, with the latest values of the others
        """
        archives = [slave.get_archive(starting_at, stopping_at) for slave in self.slave_pathpoints]
        for timestamp, values in merge_series(*archives):
            yield timestamp, self._evaluate(timestamp, values)

    def get_archive_arrays(
        self, starting_at: int | None = None, stopping_at: int | None = None
    ) -> tuple[memoryview[int], memoryview[Any]]:
        """Compute the values over time in columns: see :meth:`get_archive` for what, and
        :meth:`Pathpoint.get_archive_arrays` for how. May be called by any thread.

        :param starting_at: milliseconds since the epoch, inclusive; None for the oldest
        :param stopping_at: milliseconds since the epoch, inclusive; None for the newest
        :return: timestamps and as many values; what has none is NaN
        :raises TypeError: it holds texts
        """
        if _holds_texts(self):
            raise TypeError(f"{self.name} holds texts")
        timestamps, values = self._archive_samples(starting_at, stopping_at)
        if not isinstance(values, memoryview):
            values = numbers(values)
        return timestamps, values

    def _archive_samples(
        self, starting_at: int | None, stopping_at: int | None
    ) -> tuple[memoryview[int], Sequence[ValueOrExcept]]:
        has_own_archive = type(self).get_archive is not ReparsePathpoint.get_archive
        # All texts at once may be more than there is room for.
        if has_own_archive or any(map(_holds_texts, self._constituents())):
            return samples_of(self.get_archive(starting_at, stopping_at))
        kind = PathpointType.get_type(self.name)
        columns = [
            slave._archive_samples(starting_at, stopping_at) for slave in self.slave_pathpoints
        ]
        return self.expression.evaluate_series(columns, kind.name)

    def _constituents(self) -> Iterator[Pathpoint]:
        """What it is computed from, at any depth."""
        for slave in self.slave_pathpoints:
            yield slave
            if isinstance(slave, ReparsePathpoint):
                yield from slave._constituents()

    def _evaluate(self, timestamp: float, values: list[ValueOrExcept]) -> ValueOrExcept:
        operands: list[PathpointValueType] = []
        for value in values:
            if isinstance(value, OperationFailedError):
                return value
            operands.append(value)
        try:
            return self.expression.evaluate_as(self.name, operands)
        except OperationFailedError as error:
            error.timestamp = timestamp
            return error

    def natives(self) -> set[Pathpoint]:
        """The native pathpoints that have to be read for this one. May be called by any thread.

        :return: the pathpoints, each once, as deep as expressions nest
        """
        return {native for slave in self.slave_pathpoints for native in slave.natives()}

    def read(self, advise_level: AdviseLevel = AdviseLevel.ADVISE) -> Section:
        """A section that reads the native pathpoints that this one is computed from. May be called
        by any thread.

        :param advise_level: how hard to try
        :return: the section; give it to ``SMOKDevice.execute``
        """
        names = sorted(native.name for native in self.natives())
        return Section([ReadOrder(name, advise_level) for name in names])

    def write(
        self,
        value: PathpointValueType,
        advise_level: AdviseLevel = AdviseLevel.ADVISE,
        stale_after: float | None = None,
    ) -> Section:
        """An empty section: there is nothing to write to. May be called by any thread.

        :param value: ignored
        :param advise_level: ignored
        :param stale_after: ignored
        """
        return Section()

    def on_new_storage_level(self, new_storage_level: StorageLevel) -> None:
        """Take over a new storage level. Constituents are kept at least as long.

        May be called by any thread; the device does not call it, since the server keeps no
        values of a computed pathpoint.

        :param new_storage_level: the new level
        """
        self.storage_level = new_storage_level
        for constituent in self._constituents():
            if new_storage_level < constituent.storage_level:
                constituent.on_new_storage_level(new_storage_level)

    def can_read(self) -> bool:
        """Whether it may be read: always; its constituents decide for themselves."""
        return True

    def set_new_value(self, timestamp: object = None, value: object = None, *args: object) -> None:
        """Nothing: the value is computed.

        :param timestamp: ignored
        :param value: ignored
        :param args: ignored
        """

    def on_read(self, advise: AdviseLevel) -> NoReturn:
        """Not to be called: :meth:`read` reads the constituents.

        :raises RuntimeError: always
        """
        raise RuntimeError("a reparse pathpoint is read by reading its constituents")

    def on_write(self, value: PathpointValueType, advise: AdviseLevel) -> NoReturn:
        """Not to be called: nothing can be written.

        :raises RuntimeError: always
        """
        raise RuntimeError("a reparse pathpoint cannot be written")


def _holds_texts(pathpoint: Pathpoint) -> bool:
    return PathpointType.get_type(pathpoint.name) is PathpointType.u
