"""Binary objects (BAOBs) that device and server both may write; the higher version wins."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from smok_fast._urls import segment
from smok_fast.exceptions import UnavailableError

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.extras import BaseBAOBDatabase

__all__ = ["BAOB", "UnavailableError", "replace_unless_changed", "value_and_version"]

#: Held while a version is looked at and the next one is written, so that no write gets lost between
#: a user and the server. Reentrant: a database of the user's own may well write a BAOB.
_writing = threading.RLock()


class BAOB:
    """A Binary All-sized OBject: bytes under a key. For user threads.

    It need not exist: assign a value to create it.

    :param device: the device
    :param key: its key
    """

    __slots__ = ("device", "key")

    def __init__(self, device: SMOKDevice, key: str) -> None:
        self.device = device
        self.key = key

    @property
    def version(self) -> int:
        """Its version, -1 if there is no such BAOB.

        :raises RuntimeError: the device is closed
        """
        self.device._check_open()
        return _version(self.device.baob_database, self.key)

    @property
    def value(self) -> bytes:
        """Its value. Assign to write it: the server is told about it soon.

        :raises KeyError: there is no such BAOB
        :raises TypeError: assigned something else than bytes
        :raises UnavailableError: assigned on a device that was started without BAOBs
        :raises ValueError: assigned under a key that cannot be a part of a URL
        :raises RuntimeError: the device is closed
        """
        self.device._check_open()
        return self.device.baob_database.get_baob_value(self.key)

    @value.setter
    def value(self, new_data: bytes) -> None:
        self.device._check_baobs()
        segment(self.key)
        if not isinstance(new_data, bytes | bytearray | memoryview):
            raise TypeError(f"the value of a BAOB is bytes, not {type(new_data).__name__}")
        database = self.device.baob_database
        with _writing:
            database.set_baob_value(self.key, new_data, _version(database, self.key) + 1)
        self.device.request_baob_sync()


def replace_unless_changed(
    database: BaseBAOBDatabase, key: str, seen: int, data: bytes | None, version: int
) -> bool:
    """Take over what the server has, unless the device wrote the BAOB since it was compared.

    Called by CommunicatorThread.

    :param database: where the BAOB is
    :param key: its key
    :param seen: the version that the device had when it was compared, -1 for none
    :param data: the server's value, None to delete it
    :param version: the server's version
    :returns: whether it was taken over
    """
    with _writing:
        current = _version(database, key)
        if current == seen:
            if data is not None:
                database.set_baob_value(key, data, version)
            elif seen != -1:
                database.delete_baob(key)
            return True
        if -1 < current <= version:  # the device's write came last: it is to win
            database.set_baob_value(key, database.get_baob_value(key), version + 1)
        return False


def value_and_version(database: BaseBAOBDatabase, key: str) -> tuple[bytes, int]:
    """A value and the version that goes with it, both of one write. Called by CommunicatorThread.

    :raises KeyError: there is no such BAOB
    """
    with _writing:
        return database.get_baob_value(key), database.get_baob_version(key)


def _version(database: BaseBAOBDatabase, key: str) -> int:
    try:
        return database.get_baob_version(key)
    except KeyError:
        return -1
