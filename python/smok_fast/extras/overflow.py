"""What is dropped where more waits for the server than may be kept."""

from __future__ import annotations

import logging
import threading

__all__ = ["MOST_UNSENT", "Overflow"]

logger = logging.getLogger(__name__)

#: How many events, and how many sensor writes, wait for the server at most.
MOST_UNSENT = 10_000


class Overflow:
    """Counts what a database has dropped, and logs when that begins and when it is over.

    For any thread that holds no lock, since it logs.

    :param what: what is dropped, for the log
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._dropped_before = 0
        self._dropped = 0  # in this episode

    @property
    def dropped(self) -> int:
        """How many were dropped since the start."""
        with self._lock:
            return self._dropped_before + self._dropped

    def add(self, count: int) -> None:
        """Some were dropped, or none."""
        with self._lock:
            begins = count > 0 and self._dropped == 0
            self._dropped += count
        if begins:
            logger.warning(
                "Too many %s wait for the server: the oldest are dropped from now on", self._what
            )

    def end(self) -> None:
        """The server takes them again."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            self._dropped_before += dropped
        if dropped:
            logger.warning("%d %s were dropped while too many waited", dropped, self._what)
