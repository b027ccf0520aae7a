"""Which pathpoints there are: the device tells the server, and the server tells the device.

The server tells only in answer to being told. Where there is nothing new to tell, one pathpoint
that it has taken before is told again: that is sure to change nothing, which nobody has promised
about an empty list.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smok_fast.basics import StorageLevel
from smok_fast.pathpoint import reports
from smok_fast.sync.base import Rejections, SyncTask, logger, parse_each, send_in_parts, text

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.pathpoint import Pathpoint

__all__ = ["PathpointsTask"]

#: How many pathpoints are told in one call.
MAX_BATCH = 5_000


class PathpointsTask(SyncTask):
    """Tells the server about newly registered pathpoints, at once, and takes over storage levels
    from its answer; asks for them every now and then, too.
    """

    name = "pathpoints"
    interval = 600.0

    def __init__(
        self,
        device: SMOKDevice,
        *,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(device, interval=interval, clock=clock)
        self._untold: dict[str, Pathpoint] = {}
        self._told: Pathpoint | None = None
        self._rejections: Rejections[str] = Rejections("pathpoint", self._clock)

    def registered(self, pathpoint: Pathpoint) -> None:
        """Note a pathpoint that the server has to be told about. May be called by any thread, which
        then wakes CommunicatorThread.
        """
        self._untold[pathpoint.name] = pathpoint

    def is_due(self, now: float) -> bool:
        """Whether there is something to tell or it is time to ask, and the server did not refuse it
        a moment ago.
        """
        if self._offered():
            return now >= self._refused_until
        return self._told is not None and super().is_due(now)

    def delay(self, now: float) -> float:
        """Until the server may be told, if there is something to tell, or is to be asked."""
        if self._offered():
            return max(self._refused_until - now, 0.0)
        return math.inf if self._told is None else super().delay(now)

    def exchange(self) -> bool:
        """Tell the server, and have it tell."""
        if offered := self._offered():
            send_in_parts(
                offered,
                self._tell,
                lambda pathpoint, error: self._rejections.add(pathpoint.name, error),
                size=MAX_BATCH,
            )
        elif self._told is not None:
            self._tell([self._told])
        return False

    def _offered(self) -> list[Pathpoint]:
        return [
            pathpoint
            for name, pathpoint in list(self._untold.items())
            if self._rejections.may_offer(name)
        ]

    def _tell(self, pathpoints: Sequence[Pathpoint]) -> None:
        body = [
            {"path": pathpoint.name, "storage_level": int(pathpoint.storage_level)}
            for pathpoint in pathpoints
        ]
        answer = self._call(self.device.api.put, "/v1/device/pathpoints", json=body)
        for pathpoint in pathpoints:
            self._untold.pop(pathpoint.name, None)
            self._rejections.discard(pathpoint.name)
        self._told = pathpoints[-1]
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
        except Exception as error:
            if not self.device.closed:  # which would be why
                reports.storage_level_raised(name, error)


def _parse(entry: Mapping[str, Any]) -> tuple[str, StorageLevel]:
    return text(entry, "path"), StorageLevel(entry.get("storage_level", StorageLevel.TREND))
