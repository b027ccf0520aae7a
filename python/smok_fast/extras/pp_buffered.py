"""Samples in the native buffer, on disk: what was recorded is there after a power cut."""

from __future__ import annotations

import logging
import os
import weakref
from pathlib import Path

from smok_fast._core import Buffer
from smok_fast.exceptions import BufferInUseError
from smok_fast.extras.pp_native import BufferReport, NativePathpointDatabase
from smok_fast.extras.quarantine import Quarantine

__all__ = ["BufferedPathpointDatabase"]

logger = logging.getLogger(__name__)

#: The file of a buffer's folder that holds what the server has rejected.
QUARANTINE = "quarantine.sqlite"

TWO_WEEKS = 14 * 24 * 3600.0


class BufferedPathpointDatabase(NativePathpointDatabase):
    """Keeps samples in a folder, until the server has them and then as an archive.

    It always opens: a torn end is cut off, damaged bytes are set aside, a folder that cannot be
    written is tried again later while samples wait in memory. ``report`` says what was found.

    Samples of level TREND are kept for two weeks once the server has them, those of level PERMANENT
    for good, both within ``max_bytes``. Above that, and while the disk is short of space, the
    oldest samples that the server has go first. One that it has not goes last, is counted in
    ``statistics().dropped``, and logged.

    :param path: the folder; it is made if it is not there. A relative one begins at the present
        working folder
    :param durability: how many seconds of recording a power cut may cost; 0 makes each recorded
        sample durable before the call returns, None keeps everything in memory only
    :param max_bytes: how many bytes the folder may have
    :param reserve_bytes: how many bytes of the disk are left to others
    :param trend_for: how many seconds samples of level TREND are kept once the server has them
    :param memory_bytes: how many bytes of compressed samples wait in memory while the disk does not
        work
    :param segment_bytes: about how long a file becomes, 256 KiB to 4 MiB
    :param upload_order: ``"fresh_first"``: pathpoints without a backlog stay current while a
        backlog is uploaded; ``"oldest_first"``: everything in the order of recording. Samples of
        one pathpoint are in order in either case.
    :raises BufferInUseError: another process has it open
    :raises ValueError: an argument makes no sense
    :ivar path: the folder
    :ivar report: what was found when it was opened
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        durability: float | None = 1.0,
        max_bytes: int = 1 << 30,
        reserve_bytes: int = 64 << 20,
        trend_for: float = TWO_WEEKS,
        memory_bytes: int = 32 << 20,
        segment_bytes: int = 1 << 20,
        upload_order: str = "fresh_first",
    ) -> None:
        if upload_order not in ("fresh_first", "oldest_first"):
            raise ValueError(f"upload_order is fresh_first or oldest_first, not {upload_order!r}")
        if durability is not None and not durability >= 0:
            raise ValueError("durability is a number of seconds from 0, or None")
        if not 256 << 10 <= segment_bytes <= 4 << 20:
            raise ValueError("segment_bytes is between 256 KiB and 4 MiB")
        if max_bytes < 8 * segment_bytes:
            raise ValueError("max_bytes must be at least 8 times segment_bytes")
        self.path: Path = Path(path).absolute()
        if durability is None:
            buffer = Buffer()
        else:
            try:
                buffer = Buffer.open(
                    self.path,
                    durability=durability,
                    segment_bytes=segment_bytes,
                    max_bytes=max_bytes,
                    reserve_bytes=reserve_bytes,
                    trend_for=trend_for,
                    memory_bytes=memory_bytes,
                    oldest_first=upload_order == "oldest_first",
                )
            except BlockingIOError:
                raise BufferInUseError(
                    f"the buffer {self.path} is in use by another process or device"
                ) from None
        quarantine = Quarantine(None if durability is None else self.path / QUARANTINE)
        super().__init__(buffer, quarantine)
        self.report = BufferReport(**buffer.report())
        self._report()
        # Who ends the program without close() still keeps what was recorded.
        self._finalizer = weakref.finalize(self, _save, buffer, self.path)

    def checkpoint(self) -> None:
        """Log what has happened, and look whether samples of the quarantine are to be tried again.
        Called by CommunicatorThread.
        """
        super().checkpoint()
        self.quarantine.refresh()

    def close(self) -> None:
        """Make durable what is not, and let go of the folder. What is recorded later is lost. No-op
        if called more than once; what goes wrong is logged. May be called by any thread.
        """
        self._finalizer.detach()
        super().close()

    def _report(self) -> None:
        report = self.report
        for problem in report.problems:
            logger.error("Buffer %s: %s; what cannot be saved waits in memory", self.path, problem)
        if report.is_damaged:
            logger.error(
                "Buffer %s: beside %d samples in %d files %d bytes are damaged, %d samples have "
                "lost their name, %d bytes of what the server has make no sense",
                self.path,
                report.samples,
                report.segments,
                report.quarantined_bytes,
                report.nameless_samples,
                report.cursor_damaged_bytes,
            )


def _save(buffer: Buffer, path: Path) -> None:
    try:
        buffer.close()
    except OSError as error:
        logger.error("Samples could not be saved in %s: %s", path, error)
