"""The class that users subclass: one value that SMOK can read and write.

Name, latest value and recording (``get``, ``set_new_value``, ``can_read``) live in the native
:class:`smok_fast._core.PathpointCore`; here is what a user overrides. A pathpoint is attached to
one device, once, by its constructor or by ``SMOKDevice.register_pathpoint``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeAlias

from smok_fast._columns import samples_of
from smok_fast._core import PathpointCore
from smok_fast.basics import StorageLevel
from smok_fast.exceptions import InstanceNotReady, OperationFailedError
from smok_fast.pathpoint.orders import AdviseLevel, ReadOrder, Section, WriteOrder
from smok_fast.pathpoint.typing import PathpointValueType, ValueOrExcept

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["Pathpoint", "ReadGroup", "ReadResult"]

#: What a read gives: a value, a failure, or None if nothing was read.
ReadResult: TypeAlias = PathpointValueType | OperationFailedError | None


class Pathpoint(PathpointCore):
    """A pathpoint; subclass it and override :meth:`on_read` and :meth:`on_write`.

    Timestamps are in milliseconds since the epoch throughout, as the server wants them. One in
    seconds is not recognised: ``set_new_value`` takes it for a moment in January 1970.

    Both ``Pathpoint(device, "W1", …)`` and ``Pathpoint("W1", …)`` followed by
    ``device.register_pathpoint(pathpoint)`` do the same; the first form registers by itself, and
    None for the device leaves it out.

    :param device: the device, or None
    :param name: name of the pathpoint; its first letter is its type, see :class:`PathpointType`
    :param storage_level: how long its values are kept
    :param callable_on_change: called with the pathpoint after each new value, by the thread that
        recorded it. What it raises is logged.
    :param read_no_often_than: seconds between two reads at least; None for no limit
    :param read_group: reads this pathpoint together with others, see :class:`ReadGroup`
    :raises ValueError: the name declares no type, or there is no such storage level
    :ivar name: name of the pathpoint
    :ivar storage_level: how long its values are kept
    :ivar current_timestamp: when the latest value was read, in milliseconds since the epoch; None
        before the first
    :ivar current_value: the latest value, or the OperationFailedError instance that stands for it
    :ivar last_read: when a value last came, in seconds of ``time.monotonic()``; 0 before the first
    :ivar device: the device, None while there is none
    """

    device: SMOKDevice | None

    def __init__(
        self,
        device: SMOKDevice | str | None,
        name: str | StorageLevel | None = None,
        storage_level: StorageLevel = StorageLevel.TREND,
        callable_on_change: Callable[[Pathpoint], None] | None = None,
        read_no_often_than: float | None = None,
        *,
        read_group: ReadGroup | None = None,
    ) -> None:
        if isinstance(device, str):
            if not isinstance(storage_level, int):
                raise TypeError("without a device, give what follows the storage level by name")
            if isinstance(name, str):
                raise TypeError(f"what follows the name is a storage level, not {name!r}")
            if name is not None:
                storage_level = name
            device, name = None, device
        if not isinstance(name, str):
            raise TypeError(f"a pathpoint needs a name, not {name!r}")
        self._identify(name)
        self.device = None
        self.storage_level = StorageLevel(storage_level)
        self.callable_on_change = callable_on_change
        self.read_no_often_than = read_no_often_than
        self.read_group = read_group
        if device is not None:
            device.register_pathpoint(self)

    def on_read(
        self, advise: AdviseLevel
    ) -> PathpointValueType | Future[PathpointValueType | None] | None:
        """Read the pathpoint. Override it; by default it reads nothing.

        Called by OrderExecutorThread, for orders, macros and archiving alike. What takes long
        should return a Future, so that other pathpoints need not wait.

        :param advise: how hard to try
        :return: the value, None if nothing was read, or a Future of either
        :raises OperationFailedError: the read failed; so may the Future
        """
        return None

    def on_write(self, value: PathpointValueType, advise: AdviseLevel) -> Future[None] | None:
        """Write the pathpoint. Override it; by default it writes nothing.

        Called by OrderExecutorThread.

        :param value: value to write, as it was ordered: coerce it with :func:`to_type` where needed
        :param advise: how hard to try
        :return: None if it is written, or a Future that ends when it is
        :raises OperationFailedError: the write failed; so may the Future. It is tried again
            according to ``advise``.
        """
        return None

    def on_new_storage_level(self, new_storage_level: StorageLevel) -> None:
        """Take over a storage level that was set on the server, which is asked for them every 10
        minutes. Called by CommunicatorThread; call super() when you override it.

        :param new_storage_level: the new level
        """
        self.storage_level = new_storage_level

    def get_archive(
        self, starting_at: int | None, stopping_at: int | None = None
    ) -> Iterator[tuple[float, ValueOrExcept]]:
        """What this device has recorded; the server is not asked. May be called by any thread.

        :param starting_at: milliseconds since the epoch, inclusive; None for the oldest
        :param stopping_at: milliseconds since the epoch, inclusive; None for the newest
        :return: an iterator of (milliseconds since the epoch, value or OperationFailedError
            instance), in time order
        :raises InstanceNotReady: it is attached to no device
        """
        if self.device is None:
            raise InstanceNotReady("attach this pathpoint to a device first")
        return self.device.pp_database.get_archive_data(self.name, starting_at, stopping_at)

    def get_archive_arrays(
        self, starting_at: int | None = None, stopping_at: int | None = None
    ) -> tuple[memoryview[int], memoryview[Any]]:
        """The same as :meth:`get_archive`, in two columns that NumPy takes without copying them:
        ``numpy.asarray(timestamps)``. May be called by any thread.

        :param starting_at: milliseconds since the epoch, inclusive; None for the oldest
        :param stopping_at: milliseconds since the epoch, inclusive; None for the newest
        :return: timestamps (format ``q``, milliseconds since the epoch) and as many values (format
            ``q`` if all are integers, else ``d``); a failed read is NaN
        :raises InstanceNotReady: it is attached to no device
        :raises TypeError: it holds texts
        """
        if self.device is None:
            raise InstanceNotReady("attach this pathpoint to a device first")
        return self.device.pp_database.get_archive_columns(self.name, starting_at, stopping_at)

    def _archive_samples(
        self, starting_at: int | None, stopping_at: int | None
    ) -> tuple[Sequence[int], Sequence[ValueOrExcept]]:
        """What :meth:`get_archive` gives, in two sequences: for expressions over it."""
        if self.device is None or type(self).get_archive is not Pathpoint.get_archive:
            return samples_of(self.get_archive(starting_at, stopping_at))
        return self.device.pp_database.get_archive_samples(self.name, starting_at, stopping_at)

    def natives(self) -> set[Pathpoint]:
        """The native pathpoints that have to be read for this one: itself, unless it is computed
        from others.
        """
        return {self}

    def read(self, advise_level: AdviseLevel = AdviseLevel.ADVISE) -> Section:
        """A section that reads this pathpoint; hand it to ``SMOKDevice.execute``.

        :param advise_level: how hard to try
        """
        return Section([ReadOrder(self.name, advise_level)])

    def write(
        self,
        value: PathpointValueType,
        advise_level: AdviseLevel = AdviseLevel.ADVISE,
        stale_after: float | None = None,
    ) -> Section:
        """A section that writes this pathpoint; hand it to ``SMOKDevice.execute``.

        :param value: value to write
        :param advise_level: how hard to try
        :param stale_after: seconds since the epoch after which it is not to be written any more
        """
        return Section([WriteOrder(self.name, value, advise_level, stale_after)])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pathpoint):
            return NotImplemented
        return self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class ReadGroup(abc.ABC):
    """Reads several pathpoints at once, such as neighbouring registers on one bus.

    Pathpoints name their group with ``read_group=``; the executor hands it those of a section in
    one call, in place of one ``on_read`` for each.
    """

    @abc.abstractmethod
    def on_read_group(
        self, pathpoints: Sequence[Pathpoint], advise: AdviseLevel
    ) -> Sequence[ReadResult] | Future[Sequence[ReadResult]]:
        """Read these pathpoints. Called by OrderExecutorThread.

        :param pathpoints: what to read
        :param advise: how hard to try: the highest of their orders
        :return: one result for each, in the same order: a value, an OperationFailedError instance,
            or None if it was not read; or a Future of such a sequence
        :raises OperationFailedError: all of them failed; so may the Future
        """
