"""Plain metadata: texts under keys, the newest write wins."""

from __future__ import annotations

import abc
import threading
import time
from collections.abc import Iterator

__all__ = ["BaseMetadataDatabase", "InMemoryMetadataDatabase"]


class BaseMetadataDatabase(abc.ABC):
    """Keeps metadata for times without a link. Called by whoever uses ``SMOKDevice.metadata``: user
    threads, and CommunicatorThread where a statistic does.
    """

    @abc.abstractmethod
    def put_plain(self, key: str, value: str, timestamp: float | None = None) -> None:
        """The device wrote a value.

        :param key: its key
        :param value: the value
        :param timestamp: when, in seconds since the epoch; now by default
        """

    @abc.abstractmethod
    def get_plain(self, key: str) -> str:
        """The value under a key.

        :raises KeyError: there is none
        """

    @abc.abstractmethod
    def update_plain(self, key: str, value: str, timestamp: float) -> None:
        """The server sent a value; it replaces an older one.

        :param key: its key
        :param value: the value
        :param timestamp: when it was written, in seconds since the epoch
        """

    @abc.abstractmethod
    def delete_plain(self, key: str) -> None:
        """Forget the value under a key. No-op if there is none."""

    @abc.abstractmethod
    def get_all_plain(self) -> Iterator[tuple[str, str, float]]:
        """Everything kept, as (key, value, timestamp of the write in seconds)."""


class InMemoryMetadataDatabase(BaseMetadataDatabase):
    """Keeps metadata until the program ends. Called by user threads and by statistics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plain: dict[str, tuple[str, float]] = {}

    def put_plain(self, key: str, value: str, timestamp: float | None = None) -> None:
        """Keep a value."""
        with self._lock:
            self._plain[key] = (value, time.time() if timestamp is None else timestamp)

    def get_plain(self, key: str) -> str:
        """The value under a key.

        :raises KeyError: there is none
        """
        with self._lock:
            return self._plain[key][0]

    def update_plain(self, key: str, value: str, timestamp: float) -> None:
        """Keep a value, unless a newer one is kept."""
        with self._lock:
            kept = self._plain.get(key)
            if kept is None or kept[1] < timestamp:
                self._plain[key] = (value, timestamp)

    def delete_plain(self, key: str) -> None:
        """Forget a value."""
        with self._lock:
            self._plain.pop(key, None)

    def get_all_plain(self) -> Iterator[tuple[str, str, float]]:
        """Everything kept at the time of the call."""
        with self._lock:
            rows = [(key, value, timestamp) for key, (value, timestamp) in self._plain.items()]
        return iter(rows)
