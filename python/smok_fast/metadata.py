"""Plain metadata of the device: texts under keys, which server and device both may write.

What was written here counts until the server has it: a service thread sends it later on. Where
there is a state file that outlives the program: a write is there when the call returns, and until
the server has answered it, so that it is sent at least once. Otherwise the server's value counts,
as it was at most ``cache_metadata_for`` seconds ago. The database is what is left when there is no
link.
"""

from __future__ import annotations

import logging
import math
import reprlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar, overload

from smok_fast._urls import segment
from smok_fast.exceptions import ResponseError
from smok_fast.extras.metadata_database import BaseMetadataDatabase
from smok_fast.minijson import EncodingError
from smok_fast.sync.base import Rejections, rejects_content

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = [
    "BaseMetadataDatabase",
    "PlainDataUpdater",
    "PlainMetadata",
    "ResponseError",
    "StorageDict",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: A write on its way: key, value (None for a deletion), time in seconds since the epoch.
Update = tuple[str, str | None, float]


class PlainDataUpdater:
    """Writes that the server lacks: for each key the newest one. Those of the last run, too, if the
    device has a state file.

    :param device: the device
    """

    __slots__ = ("_lock", "_pending", "_rejections", "_state", "_table", "device")

    def __init__(self, device: SMOKDevice) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._state = device.state_file
        self._table = self._state.tables["metadata_writes"] if self._state is not None else None
        self._pending: dict[str, Update] = {}
        if self._table is not None:
            self._pending.update(self._table.restored(_restore))
        self._rejections: Rejections[Update] = Rejections("the metadata")

    def add_update(self, key: str, value: str | None, timestamp: float | None = None) -> None:
        """Note a write, and have it in the state file. Called by user threads.

        :param key: its key
        :param value: the value, None for a deletion
        :param timestamp: when, in seconds since the epoch; now by default
        """
        self.note(key, value, time.time() if timestamp is None else timestamp)
        self.save()

    def note(self, key: str, value: str | None, timestamp: float) -> None:
        """Note a write, which :meth:`save` has in the state file. Called by user threads."""
        update = (key, value, timestamp)
        with self._lock:
            self._pending[key] = update
            if self._table is not None:
                self._table.put(update)

    def save(self) -> None:
        """Have what was noted so far in the state file, if there is one. Called by user threads."""
        if self._state is not None:
            self._state.commit()

    def get_pending(self, key: str) -> Update | None:
        """The write under a key that the server lacks, if any."""
        with self._lock:
            return self._pending.get(key)

    def try_update(self, msg: Update | None = None) -> bool:
        """Send the writes that the server lacks. Called by CommunicatorThread.

        :param msg: send just this write, whether it was noted or not
        :returns: whether the server answered anything
        :raises ResponseError: the server refused, or did not answer
        """
        if msg is not None:
            self._send(msg)
            return True
        with self._lock:
            updates = list(self._pending.values())
        self._rejections.keep_only(updates)
        answered = False
        for update in filter(self._rejections.may_offer, updates):
            try:
                self._send(update)
            except (ResponseError, EncodingError) as error:
                if not rejects_content(error):
                    raise
                self._rejections.add(update, error)
            else:
                self._forget(update)
                answered = True
        return answered

    def _send(self, update: Update) -> None:
        key, value, timestamp = update
        path = f"/v1/device/metadata/plain/{segment(key)}"
        if value is not None:
            self.device.api.put(path, json={"value": value, "unless_timestamp_higher": timestamp})
            return
        try:
            self.device.api.delete(path)
        except ResponseError as error:
            if error.status_code != 404:  # it is not there: that is what we wanted
                raise

    def _forget(self, update: Update) -> None:
        """The server has a write. The disk knows before anything else is sent: a deletion that is
        sent once more, after somebody else's write, would undo that.
        """
        with self._lock:
            if self._pending.get(update[0]) is update:
                del self._pending[update[0]]
                if self._table is not None:
                    self._table.delete(update[0])
        self.save()


def _restore(key: str, value: str | None, timestamp: float) -> tuple[str, Update]:
    segment(key)
    if not (value is None or isinstance(value, str)):
        raise TypeError("no text")
    if not (isinstance(timestamp, int | float) and math.isfinite(timestamp)):
        raise TypeError("no timestamp")
    return key, (key, value, timestamp)


class StorageDict:
    """The device's metadata database as a mapping; the server has no part in it.

    :param device: the device
    """

    def __init__(self, device: SMOKDevice) -> None:
        self.db: BaseMetadataDatabase = device.meta_database

    def __getitem__(self, item: str) -> str:
        """The value under a key.

        :raises KeyError: there is none
        """
        return self.db.get_plain(item)

    def __setitem__(self, key: str, value: object) -> None:
        """Keep a value, as text."""
        self.db.put_plain(key, str(value))

    def __delitem__(self, key: str) -> None:
        """Forget a value. No-op if there is none."""
        self.db.delete_plain(key)


class PlainMetadata:
    """The device's metadata: get, set and delete items. For user threads.

    Reading may ask the server, and so take as long as a call to it does. Writing never does.

    :param device: the device
    :param clock: gives seconds of a monotonic clock
    """

    def __init__(self, device: SMOKDevice, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.device = device
        self.db: BaseMetadataDatabase = device.meta_database
        self.updater = PlainDataUpdater(device)
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[str, float]] = {}  # value, when it was downloaded or written

    def __getitem__(self, item: str) -> str:
        """The value under a key.

        :raises KeyError: there is none, or there is no link and the device does not have it
        :raises ValueError: the key cannot be a part of a URL
        :raises RuntimeError: the device is closed
        """
        self.device._check_open()
        update = self.updater.get_pending(item)
        if update is not None:
            if update[1] is None:
                raise KeyError(item)
            return update[1]
        cached = self._cache.get(item)
        if cached is not None and self._clock() - cached[1] <= self.device.cache_metadata_for:
            return cached[0]
        if not self.device.allow_sync:
            return self.db.get_plain(item)
        return self._download(item)

    def __setitem__(self, key: str, value: object) -> None:
        """Write a value, as text. The server is told within about a minute.

        :raises ValueError: the key cannot be a part of a URL
        :raises RuntimeError: the device is closed
        """
        self.device._check_open()
        segment(key)
        now, plain = time.time(), str(value)
        with self._lock:
            self.updater.note(key, plain, now)
            self._cache[key] = (plain, self._clock())
        self.db.put_plain(key, plain, now)
        self.updater.save()  # unless that was done together with the above

    def __delitem__(self, key: str) -> None:
        """Delete a value. The server is told within about a minute. No-op if there is none.

        :raises ValueError: the key cannot be a part of a URL
        :raises RuntimeError: the device is closed
        """
        self.device._check_open()
        segment(key)
        with self._lock:
            self.updater.note(key, None, time.time())
            self._cache.pop(key, None)
        self.db.delete_plain(key)
        self.updater.save()

    @overload
    def get(self, key: str) -> str | None: ...
    @overload
    def get(self, key: str, default: T) -> str | T: ...
    def get(self, key: str, default: T | None = None) -> str | T | None:
        """The value under a key, or the default if there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def try_update(self) -> bool:
        """Send the writes that the server lacks. Called by CommunicatorThread.

        No-op while ``device.allow_sync`` is False.

        :returns: whether the server answered anything
        :raises ResponseError: the server refused, or did not answer
        """
        return self.device.allow_sync and self.updater.try_update()

    def _download(self, key: str) -> str:
        known = self._cache.get(key)
        try:
            answer = self.device.api.get(f"/v1/device/metadata/plain/{segment(key)}")
        except ResponseError as error:
            if error.status_code == 404:
                self.db.delete_plain(key)
                raise KeyError(key) from error
            logger.debug("Metadata %r comes from the device: %s", key, error)
            return self.db.get_plain(key)
        value, timestamp = _parse(answer)
        if value is None:
            logger.warning("Malformed metadata %r: %s", key, reprlib.repr(answer))
            return self.db.get_plain(key)
        with self._lock:
            unchanged = self._cache.get(key) is known and self.updater.get_pending(key) is None
            if unchanged:  # else it was written while we were asking
                self._cache[key] = (value, self._clock())
        if unchanged:
            self.db.update_plain(key, value, timestamp)
        return value


def _parse(answer: object) -> tuple[str | None, float]:
    """The value and its timestamp; None for the value if the answer has none."""
    if not isinstance(answer, Mapping):
        return None, 0.0
    value, timestamp = answer.get("value"), answer.get("timestamp")
    if not isinstance(value, str) or not isinstance(timestamp, (int, float)):
        return None, 0.0
    return value, timestamp
