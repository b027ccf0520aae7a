"""Which pathpoints there are: the device tells the server, and the server tells the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smok_fast.basics import StorageLevel
from smok_fast.sync.base import Rejections, SyncTask, logger, parse_each, send_in_parts, text

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.pathpoint import Pathpoint

__all__ = ["PathpointsTask"]

#: How many pathpoints are told in one call.
MAX_BATCH = 5_000


class PathpointsTask(SyncTask):
    """Tells the server about newly registered pathpoints, and takes over storage levels from its
    answer.

    :param device: the device
    """

    name = "pathpoints"

    def __init__(self, device: SMOKDevice) -> None:
        super().__init__(device)
        self._untold: dict[str, Pathpoint] = {}
        self._rejections: Rejections[str] = Rejections("pathpoint", self._clock)

    def registered(self, pathpoint: Pathpoint) -> None:
        """Note a pathpoint that the server has to be told about. May be called by any thread, which
        then wakes CommunicatorThread.
        """
        self._untold[pathpoint.name] = pathpoint

    def is_due(self, now: float) -> bool:
        """Whether there is something to tell, and the server did not refuse it a moment ago."""
        return super().is_due(now) and any(map(self._rejections.may_offer, list(self._untold)))

    def delay(self, now: float) -> float:
        """Until the server may be told, if there is something to tell."""
        offered = any(map(self._rejections.may_offer, list(self._untold)))
        return max(self._refused_until - now, 0.0) if offered else math.inf

    def exchange(self) -> bool:
        """Tell the server."""
        told = [
            pathpoint
            for name, pathpoint in list(self._untold.items())
            if self._rejections.may_offer(name)
        ]
        send_in_parts(
            told,
            self._tell,
            lambda pathpoint, error: self._rejections.add(pathpoint.name, error),
            size=MAX_BATCH,
        )
        return False

    def _tell(self, pathpoints: Sequence[Pathpoint]) -> None:
        body = [
            {"path": pathpoint.name, "storage_level": int(pathpoint.storage_level)}
            for pathpoint in pathpoints
        ]
        answer = self._call(self.device.api.put, "/v1/device/pathpoints", json=body)
        for pathpoint in pathpoints:
            self._untold.pop(pathpoint.name, None)
            self._rejections.discard(pathpoint.name)
        for name, level in parse_each(answer or [], _parse, "pathpoint"):
            if not name.startswith("r"):
                self._take_over(name, level)

    def _take_over(self, name: str, level: StorageLevel) -> None:
        try:
            pathpoint = self.device.get_pathpoint(name, level)
            if pathpoint.storage_level != level:
                pathpoint.on_new_storage_level(level)
        except KeyError:
            logger.debug("The server knows pathpoint %s, this device does not", name)
        except Exception:
            if self.device.closed:  # which is why
                return
            logger.exception("Pathpoint %s did not take over storage level %s", name, level)


def _parse(entry: Mapping[str, Any]) -> tuple[str, StorageLevel]:
    return text(entry, "path"), StorageLevel(entry.get("storage_level", StorageLevel.TREND))
