"""Values of pathpoints: the current ones, the archived ones, and those that the server lacks."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from smok_fast._columns import columns_of, samples_of

if TYPE_CHECKING:
    from smok_fast.pathpoint import PathpointValueType, ValueOrExcept

__all__ = ["BaseDataToSynchronize", "BasePathpointDatabase"]


class BaseDataToSynchronize(abc.ABC):
    """A batch of samples on its way to the server."""

    __slots__ = ()

    @abc.abstractmethod
    def acknowledge(self) -> None:
        """The server has the batch. Called by CommunicatorThread."""

    @abc.abstractmethod
    def negative_acknowledge(self) -> None:
        """The server did not take the batch; it is to come again. Called by CommunicatorThread."""

    @abc.abstractmethod
    def to_json(self) -> list[dict[str, Any]]:
        """The samples: a list of ``{"path": name, "values": [sample, …]}``.

        A sample is ``{"timestamp": milliseconds, "value": value}`` or, for a failed read,
        ``{"timestamp": milliseconds, "error_code": code}`` with a code of
        :class:`~smok_fast.exceptions.OperationFailedReason`. The short form of the protocol,
        ``[milliseconds, value]`` and ``[False, milliseconds, code]``, will do as well.
        Called by CommunicatorThread.
        """


class BasePathpointDatabase(abc.ABC):
    """Keeps samples of native pathpoints. Must be safe to call from many threads."""

    __slots__ = ()

    def checkpoint(self) -> None:
        """Called by CommunicatorThread about every 60 seconds, maybe more often.

        Does nothing by default.
        """

    @abc.abstractmethod
    def on_new_data(
        self, pathpoint: str, timestamp: float, value_or_exception: ValueOrExcept
    ) -> None:
        """A pathpoint was read, or its read failed.

        Called by OrderExecutorThread, and by user threads that call ``Pathpoint.set_new_value``.

        :param pathpoint: name of the native pathpoint
        :param timestamp: when, in milliseconds since the epoch
        :param value_or_exception: its value, or the OperationFailedError
        """

    @abc.abstractmethod
    def get_current_value(self, pathpoint: str) -> tuple[float, PathpointValueType]:
        """The newest value of a pathpoint, whether the server has it or not.

        Called by user threads.

        :returns: timestamp in milliseconds since the epoch, and the value
        :raises OperationFailedError: its last read failed
        :raises NotReadedError: it was not read yet
        """

    @abc.abstractmethod
    def get_archive_data(
        self, pathpoint: str, start: float | None, stop: float | None
    ) -> Iterator[tuple[float, ValueOrExcept]]:
        """Samples of a pathpoint that are kept on the device, oldest first.

        Called by user threads.

        :param pathpoint: name of the native pathpoint
        :param start: first millisecond since the epoch, None for the earliest kept
        :param stop: last millisecond since the epoch, None for the latest kept
        :returns: timestamp in milliseconds, and the value or the OperationFailedError
        """

    def get_archive_columns(
        self, pathpoint: str, start: float | None, stop: float | None
    ) -> tuple[memoryview[int], memoryview[Any]]:
        """The same in two columns: timestamps of format ``q``, and values of format ``q`` if all
        are integers, else ``d``; a failed read is NaN. By default made from
        :meth:`get_archive_data`.

        Called by user threads.

        :raises TypeError: the pathpoint holds texts
        """
        return columns_of(self.get_archive_data(pathpoint, start, stop))

    def get_archive_samples(
        self, pathpoint: str, start: float | None, stop: float | None
    ) -> tuple[Sequence[int], Sequence[ValueOrExcept]]:
        """The same in two sequences with every value as it was recorded: an integer is no float,
        and a failed read is its exception. By default made from :meth:`get_archive_data`.

        Called by user threads.
        """
        return samples_of(self.get_archive_data(pathpoint, start, stop))

    @abc.abstractmethod
    def get_data_to_sync(self) -> BaseDataToSynchronize | None:
        """The next batch for the server, None if it has everything.

        The batch before is acknowledged, one way or the other, before the next one is asked for.
        Called by CommunicatorThread.
        """
