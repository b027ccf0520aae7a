"""Keeps BAOBs of the device and of the server alike: of two versions the higher one wins.

All keys are compared in one call. If the server rejects it for its content, they are compared in
smaller parts, until the keys that it objects to are alone; those are set apart. The server takes
what a part lacks for missing here: what it says of a key in another part is left out.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from smok_fast._urls import segment
from smok_fast.baob import replace_unless_changed, value_and_version
from smok_fast.exceptions import ResponseError
from smok_fast.minijson import EncodingError
from smok_fast.sync.base import (
    Rejections,
    SyncTask,
    UnusableAnswer,
    rejects_content,
    send_in_parts,
)

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["BAOBsTask"]

logger = logging.getLogger(__name__)

#: What the server says of keys.
VERDICTS = ("should_delete", "should_download", "should_upload")


class BAOBsTask(SyncTask):
    """Compares versions, then deletes, downloads and uploads as the server says.

    Sets ``device.baobs_loaded`` once it has succeeded, and calls ``device.on_baob_updated`` for
    each BAOB that it downloads after that. Run by CommunicatorThread.
    """

    name = "baobs"
    interval = 3600.0

    def __init__(
        self,
        device: SMOKDevice,
        *,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(device, interval=interval, clock=clock)
        self._rejections: Rejections[str] = Rejections("the key of BAOB", clock)

    def exchange(self) -> bool:
        """Compare and transfer. A BAOB that the server refuses does not stop the others."""
        versions = self._versions()
        to_delete, to_download, to_upload = self._compare(versions)
        for key in to_delete:
            self._replace(key, versions, None, -1)
        for key in to_download:
            self._unless_refused(lambda key: self._download(key, versions), key)
        for key in to_upload:
            self._unless_refused(self._upload, key)
        self.device.baobs_loaded = True
        return False

    def _compare(self, versions: Mapping[str, int]) -> list[list[str]]:
        """Compare all keys but those that the server has just rejected.

        :return: the keys for each of :data:`VERDICTS`
        """
        self._rejections.keep_only(versions)
        keys = [key for key in versions if self._rejections.may_offer(key)]
        # Keys that came in the answers for several parts are there once
        verdicts: list[dict[str, None]] = [{} for _ in VERDICTS]
        compared = False

        def compare(part: Sequence[str]) -> None:
            nonlocal compared
            answer = self._call(
                self.device.api.post,
                "/v1/device/baobs",
                json=[{"key": key, "version": versions[key]} for key in part],
            )
            compared = True
            asked = set(part)
            for verdict, field in zip(verdicts, VERDICTS, strict=True):
                verdict.update(
                    (key, None)
                    for key in _keys(answer, field)
                    if key in asked or key not in versions
                )
            for key in part:
                self._rejections.discard(key)

        try:
            send_in_parts(keys, compare, self._rejections.add, size=max(len(keys), 1))
        except (ResponseError, EncodingError) as error:
            if rejects_content(error):
                self.request()  # go on without those that were found, when that is allowed
            raise
        if not compared:  # there are none, or none that may be told
            compare([])
        return [list(verdict) for verdict in verdicts]

    def _versions(self) -> dict[str, int]:
        database = self.device.baob_database
        versions = {}
        for key in list(database.get_all_keys()):
            try:
                versions[key] = database.get_baob_version(key)
            except KeyError:
                logger.debug("BAOB %r was deleted in the meantime", key)
        return versions

    def _download(self, key: str, versions: Mapping[str, int]) -> None:
        data, headers = self._call(
            self.device.api.get, f"/v1/device/baobs/{segment(key)}", direct_response=True
        )
        try:
            version = int(headers["X-SMOK-BAOB-Version"])
        except (KeyError, ValueError) as error:
            logger.warning("BAOB %r came without a version, skipped: %r", key, error)
            return
        if not self._replace(key, versions, data, version) or not self.synced_once:
            return
        try:
            self.device.on_baob_updated(key)
        except Exception:
            logger.exception("on_baob_updated(%r) failed", key)

    def _replace(
        self, key: str, versions: Mapping[str, int], data: bytes | None, version: int
    ) -> bool:
        database = self.device.baob_database
        replaced = replace_unless_changed(database, key, versions.get(key, -1), data, version)
        if not replaced:
            self.request()  # compare again: it was written here meanwhile
        return replaced

    def _upload(self, key: str) -> None:
        try:
            value, version = value_and_version(self.device.baob_database, key)
        except KeyError:
            logger.warning("The server asks for BAOB %r, which the device does not have", key)
            return
        files = {"file": value, "data": json.dumps({"version": version}).encode()}
        self._call(self.device.api.put, f"/v1/device/baobs/{segment(key)}", files=files)

    def _unless_refused(self, transfer: Callable[[str], None], key: str) -> None:
        try:
            transfer(key)
        except ResponseError as error:
            if not error.is_clients_fault():
                raise
            logger.warning("The server refused to transfer BAOB %r: %s", key, error)


def _keys(answer: object, field: str) -> list[str]:
    keys = answer.get(field) if isinstance(answer, dict) else None
    if not isinstance(keys, list):
        raise UnusableAnswer(f"an object with a list {field}", answer)
    usable = []
    for key in keys:
        try:
            if not isinstance(key, str):
                raise TypeError("not a text")
            segment(key)
        except (TypeError, ValueError) as error:
            logger.warning("Unusable key in %s skipped: %s", field, error)
        else:
            usable.append(key)
    return usable
