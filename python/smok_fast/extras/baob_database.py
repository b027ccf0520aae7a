"""Binary objects and their versions."""

from __future__ import annotations

import abc
import dataclasses
import logging
import threading
from collections.abc import Iterator

__all__ = ["BAOBDigest", "BaseBAOBDatabase", "InMemoryBAOBDatabase"]

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class BAOBDigest:
    """Which version of a BAOB somebody has.

    :ivar key: its key
    :ivar version: its version
    """

    key: str
    version: int


class BaseBAOBDatabase(abc.ABC):
    """Keeps BAOBs. Called by user threads and by CommunicatorThread.

    Keys come from the server as well: treat them as text, never as names of files.
    """

    @abc.abstractmethod
    def get_baob_value(self, key: str) -> bytes:
        """The value of a BAOB.

        :raises KeyError: there is no such BAOB
        """

    @abc.abstractmethod
    def delete_baob(self, key: str) -> None:
        """Forget a BAOB.

        :raises KeyError: there is no such BAOB
        """

    @abc.abstractmethod
    def get_baob_version(self, key: str) -> int:
        """The version of a BAOB.

        :raises KeyError: there is no such BAOB
        """

    @abc.abstractmethod
    def get_all_keys(self) -> Iterator[str]:
        """Keys of all BAOBs kept."""

    @abc.abstractmethod
    def set_baob_value(self, key: str, data: bytes, version: int) -> None:
        """Keep this value of a BAOB, under this version. Value and version change together."""

    def check_consistency(self) -> None:
        """Delete, and log as an error, each BAOB that has a key but no version.

        Called by the constructor of SMOKDevice.
        """
        for key in list(self.get_all_keys()):
            if not self._has_version(key):
                logger.error("BAOB %r has no version, deleting it", key)
                self.delete_baob(key)

    def _has_version(self, key: str) -> bool:
        try:
            self.get_baob_version(key)
        except KeyError:
            return False
        return True


class InMemoryBAOBDatabase(BaseBAOBDatabase):
    """Keeps BAOBs until the program ends. Called by user threads and by CommunicatorThread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._baobs: dict[str, tuple[bytes, int]] = {}

    def get_baob_value(self, key: str) -> bytes:
        """The value of a BAOB.

        :raises KeyError: there is no such BAOB
        """
        with self._lock:
            return self._baobs[key][0]

    def delete_baob(self, key: str) -> None:
        """Forget a BAOB.

        :raises KeyError: there is no such BAOB
        """
        with self._lock:
            del self._baobs[key]

    def get_baob_version(self, key: str) -> int:
        """The version of a BAOB.

        :raises KeyError: there is no such BAOB
        """
        with self._lock:
            return self._baobs[key][1]

    def get_all_keys(self) -> Iterator[str]:
        """Keys of all BAOBs kept at the time of the call."""
        with self._lock:
            return iter(list(self._baobs))

    def set_baob_value(self, key: str, data: bytes, version: int) -> None:
        """Keep this value under this version."""
        with self._lock:
            self._baobs[key] = (bytes(data), version)
