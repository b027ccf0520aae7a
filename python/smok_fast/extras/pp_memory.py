"""Samples in the native buffer, in memory: the default when a device is given no pathpoint
database.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from smok_fast import minijson
from smok_fast._core import Buffer
from smok_fast.exceptions import NotReadedError, OperationFailedError
from smok_fast.extras.pp_database import BaseDataToSynchronize, BasePathpointDatabase

if TYPE_CHECKING:
    from smok_fast.pathpoint import PathpointValueType, ValueOrExcept

__all__ = ["BufferUpload", "InMemoryPathpointDatabase"]

#: About how long an upload's body may be, in bytes. Small enough for a slow link to carry in a few
#: seconds, so that orders need not wait long for it.
UPLOAD_BYTES = 256 * 1024


class BufferUpload(BaseDataToSynchronize):
    """An upload that the native buffer has made.

    :ivar body: the request's body, MiniJSON
    :ivar samples: how many samples it carries
    """

    __slots__ = ("_buffer", "_token", "body", "samples")

    def __init__(self, buffer: Buffer, body: bytes, token: int, samples: int) -> None:
        self._buffer = buffer
        self._token = token
        self.body = body
        self.samples = samples

    def acknowledge(self) -> None:
        """The server has it. Called by CommunicatorThread."""
        self._buffer.acknowledge(self._token)

    def negative_acknowledge(self) -> None:
        """It was not delivered: the same one comes again. Called by CommunicatorThread."""
        self._buffer.refuse(self._token)

    def reject(self) -> None:
        """The server refused its content: smaller ones come next. Called by CommunicatorThread."""
        self._buffer.refuse(self._token, rejected=True)

    def to_json(self) -> list[dict[str, Any]]:
        """What the body says."""
        content: list[dict[str, Any]] = minijson.loads(self.body)
        return content


class InMemoryPathpointDatabase(BasePathpointDatabase):
    """Keeps samples in memory until the server has them, and then as an archive, within a cap.

    Beyond the cap the oldest samples that the server has go first; one that it has not goes only
    when there are no others, and is counted. Everything is forgotten when the program ends.

    :param capacity: how many samples are kept at most
    :ivar buffer: the native buffer
    """

    def __init__(self, capacity: int = 1_000_000) -> None:
        if capacity < 1:
            raise ValueError("the capacity must be at least 1")
        self.buffer = Buffer(capacity)

    def on_new_data(
        self, pathpoint: str, timestamp: float, value_or_exception: ValueOrExcept
    ) -> None:
        """Record a sample. Pathpoints of a device do this natively, without this call.

        :raises ValueError: the pathpoint cannot hold the value
        """
        self.buffer.record(pathpoint, timestamp, value_or_exception)

    def get_current_value(self, pathpoint: str) -> tuple[int, PathpointValueType]:
        """The newest value of a pathpoint."""
        latest = self.buffer.latest(pathpoint)
        if latest is None:
            raise NotReadedError
        timestamp, value = latest
        if isinstance(value, OperationFailedError):
            raise value
        return timestamp, value

    def get_archive_data(
        self, pathpoint: str, start: float | None, stop: float | None
    ) -> Iterator[tuple[int, ValueOrExcept]]:
        """Samples of a pathpoint with start <= timestamp <= stop, oldest first."""
        return self.buffer.range(pathpoint, start, stop)

    def get_data_to_sync(self) -> BufferUpload | None:
        """The next upload, or None."""
        upload = self.buffer.next_upload(UPLOAD_BYTES)
        return None if upload is None else BufferUpload(self.buffer, *upload)
