"""What the databases that keep samples in the native buffer have in common.

What the server rejects ends up in a :class:`~smok_fast.extras.quarantine.Quarantine`: it is kept,
and the rest is uploaded. A sample leaves the buffer for there only once it is safely in there.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smok_fast import minijson
from smok_fast._core import Buffer
from smok_fast.exceptions import NotReadedError, OperationFailedError
from smok_fast.extras.pp_database import BaseDataToSynchronize, BasePathpointDatabase
from smok_fast.extras.quarantine import Quarantine, QuarantineUpload

if TYPE_CHECKING:
    from smok_fast.pathpoint import PathpointValueType, ValueOrExcept

__all__ = ["BufferReport", "BufferStatistics", "BufferUpload", "NativePathpointDatabase"]

logger = logging.getLogger(__name__)

#: About how long an upload's body may be, in bytes. Small enough for a slow link to carry in a few
#: seconds, so that orders need not wait long for it.
UPLOAD_BYTES = 256 * 1024

#: How often at most it is logged that samples of the same pathpoint were set aside, or that samples
#: were given up, in seconds.
LOG_EVERY = 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class BufferReport:
    """What a buffer found when it was opened.

    :ivar segments: segments on disk
    :ivar samples: samples in them
    :ivar pending: samples of those that the server lacks
    :ivar truncated_bytes: bytes of torn ends, which were cut off
    :ivar quarantined_bytes: bytes that are no samples; they are set aside in ``*.damaged`` files
    :ivar nameless_samples: samples of which nobody knows the pathpoint any more
    :ivar cursor_damaged_bytes: bytes of what the server has that make no sense: some samples may be
        sent again
    :ivar problems: what could not be read or written
    """

    segments: int
    samples: int
    pending: int
    truncated_bytes: int
    quarantined_bytes: int
    nameless_samples: int
    cursor_damaged_bytes: int
    problems: list[str]

    @property
    def is_damaged(self) -> bool:
        """Whether something is lost or in doubt; a torn end is usual after a power cut. May be
        called by any thread.
        """
        return bool(self.quarantined_bytes or self.nameless_samples or self.cursor_damaged_bytes)


@dataclasses.dataclass(frozen=True, slots=True)
class BufferStatistics:
    """The figures of a buffer, in samples since it was opened unless said otherwise.

    :ivar pathpoints: pathpoints known
    :ivar recorded: recorded
    :ivar acknowledged: acknowledged by the server
    :ivar pending: waiting for their upload, from before too
    :ivar kept: kept, acknowledged ones included
    :ivar dropped: what the server lacks and a cap or damage has cost
    :ivar refused: not recorded since their timestamp was not above the latest one
    :ivar volatile: not durable yet
    :ivar segments: segments on disk
    :ivar bytes: their length in bytes
    :ivar volatile_bytes: bytes in memory that are not durable
    :ivar written_bytes: bytes written to disk
    :ivar damaged_bytes: bytes of segments that are no samples
    :ivar quarantined: rejected by the server and kept, from before too
    :ivar trouble: why nothing can be written, None while it can
    """

    pathpoints: int
    recorded: int
    acknowledged: int
    pending: int
    kept: int
    dropped: int
    refused: int
    volatile: int
    segments: int
    bytes: int
    volatile_bytes: int
    written_bytes: int
    damaged_bytes: int
    quarantined: int
    trouble: str | None


class BufferUpload(BaseDataToSynchronize):
    """An upload that the native buffer has made.

    :ivar body: the request's body, MiniJSON
    :ivar samples: how many samples it carries
    """

    __slots__ = ("_database", "_is_last_try", "_token", "body", "samples")

    def __init__(
        self,
        database: NativePathpointDatabase,
        body: bytes,
        token: int,
        samples: int,
        is_last_try: bool,
    ) -> None:
        self._database = database
        self._token = token
        self._is_last_try = is_last_try
        self.body = body
        self.samples = samples

    def acknowledge(self) -> None:
        """The server has it. Called by CommunicatorThread."""
        self._database.buffer.acknowledge(self._token)

    def negative_acknowledge(self) -> None:
        """It was not delivered: the same one comes again. Called by CommunicatorThread."""
        self._database.buffer.refuse(self._token)

    def reject(self, reason: str) -> None:
        """The server refused its content: smaller ones come next, or what is in it goes into the
        quarantine. Called by CommunicatorThread.

        :param reason: what the server said
        """
        if self._is_last_try:
            self._database.set_aside(self._token, self.to_json(), reason)
        else:
            self._database.buffer.refuse(self._token, rejected=True)

    def to_json(self) -> list[dict[str, Any]]:
        """What the body says. Called by CommunicatorThread."""
        content: list[dict[str, Any]] = minijson.loads(self.body)
        return content


class NativePathpointDatabase(BasePathpointDatabase):
    """Keeps samples in the native buffer. Pathpoints record into it without a call of this class.

    :param buffer: the buffer
    :param quarantine: where samples go that the server rejects
    :ivar buffer: the native buffer
    :ivar quarantine: samples that the server has rejected
    :ivar path: the folder of the buffer, None if it is in memory
    """

    path: Path | None = None

    def __init__(self, buffer: Buffer, quarantine: Quarantine) -> None:
        self.buffer = buffer
        self.quarantine = quarantine
        self._logged: dict[tuple[str, str], float] = {}

    def checkpoint(self) -> None:
        """Log what has happened to the buffer. Called by CommunicatorThread."""
        for what, detail in self.buffer.take_events():
            self._log(what, detail)

    def flush(self) -> None:
        """Return once everything that was recorded before is durable. May be called by any thread.

        :raises OSError: it is not; it stays in memory, and is tried again later
        """
        self.buffer.flush()

    def close(self) -> None:
        """Make durable what is not, and let go of the files. What is recorded later is lost. No-op
        if called more than once; what goes wrong is logged. May be called by any thread.
        """
        try:
            self.buffer.close()
        except OSError as error:
            logger.error("Samples could not be saved in %s: %s", self.path, error)
        self.checkpoint()
        self.quarantine.close()

    def statistics(self) -> BufferStatistics:
        """The present figures. May be called by any thread; cheap."""
        return BufferStatistics(**self.buffer.statistics(), quarantined=len(self.quarantine))

    def on_new_data(
        self, pathpoint: str, timestamp: float, value_or_exception: ValueOrExcept
    ) -> None:
        """Record a sample. Pathpoints of a device do this natively, without this call. Called by
        OrderExecutorThread, and by user threads that call ``Pathpoint.set_new_value``.

        :raises ValueError: the pathpoint cannot hold the value
        """
        self.buffer.record(pathpoint, timestamp, value_or_exception)

    def get_current_value(self, pathpoint: str) -> tuple[int, PathpointValueType]:
        """The newest value of a pathpoint. Called by user threads."""
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
        """Samples of a pathpoint with start <= timestamp <= stop, in the order of recording. Called
        by user threads.
        """
        return self.buffer.range(pathpoint, start, stop)

    def get_archive_columns(
        self, pathpoint: str, start: float | None, stop: float | None
    ) -> tuple[memoryview[int], memoryview[Any]]:
        """The same in two columns, without a Python object for each sample. Called by user
        threads.
        """
        return self.buffer.columns(pathpoint, start, stop)

    def get_archive_samples(
        self, pathpoint: str, start: float | None, stop: float | None
    ) -> tuple[Sequence[int], Sequence[ValueOrExcept]]:
        """The same with every value as it was recorded. Called by user threads."""
        return self.buffer.columns(pathpoint, start, stop, exact=True)

    def get_data_to_sync(self) -> BufferUpload | QuarantineUpload | None:
        """The next upload, or None: first what is to be tried again from the quarantine. Called by
        CommunicatorThread.
        """
        self.checkpoint()
        again = self.quarantine.next_upload()
        if again is not None:
            return again
        try:
            upload = self.buffer.next_upload(UPLOAD_BYTES)
        except OSError:  # what waits cannot be read now, as the next checkpoint says
            return None
        return None if upload is None else BufferUpload(self, *upload)

    def set_aside(self, token: int, content: list[dict[str, Any]], reason: str) -> None:
        """Move an upload into the quarantine. Called by CommunicatorThread.

        :param token: its token
        :param content: what it says
        :param reason: what the server said about it
        :raises OSError: the quarantine cannot be written to; the samples come again, in turn with
            others
        """
        try:
            self.quarantine.add(content, reason)
        except OSError:
            self.buffer.refuse(token, rejected=True)
            raise
        self.buffer.set_aside(token)
        for entry in content:
            self._report_set_aside(entry["path"], len(entry["values"]), reason)

    def _report_set_aside(self, path: str, count: int, reason: str) -> None:
        if self._is_news("set aside", path):
            logger.warning(
                "The server rejects %d samples of %s; such are kept in the quarantine: %s",
                count,
                path,
                reason,
            )

    def _is_news(self, what: str, path: str = "") -> bool:
        now = time.monotonic()
        if now - self._logged.get((what, path), -math.inf) < LOG_EVERY:
            return False
        self._logged[what, path] = now
        return True

    def _log(self, what: str, detail: str) -> None:
        if what == "failed":
            logger.error("Samples cannot be saved (%s); they wait in memory", detail)
        elif what == "recovered":
            logger.warning("Samples can be saved again")
        elif what == "dropping" and self._is_news(what):
            logger.error("There is no room: samples that the server lacks are given up")
        elif what == "damaged":
            logger.error("%s are damaged and were set aside", detail)
        elif what == "unreadable" and self._is_news(what, detail):
            logger.error("Samples cannot be read (%s)", detail)
        elif what == "lost":
            logger.error("%s samples that the server lacks were not found any more", detail)
        elif what == "clock":
            logger.warning(
                "The clock was set: what it stamped since the machine booted moves by %s ms", detail
            )
