"""Which pathpoints there are: the device tells the server, and the server tells the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smok_fast.basics import StorageLevel
from smok_fast.sync.base import SyncTask, logger, parse_each, text

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.pathpoint import Pathpoint

__all__ = ["PathpointsTask"]


class PathpointsTask(SyncTask):
    """Tells the server about newly registered pathpoints, and takes over storage levels from its
    answer.

    :param device: the device
    """

    name = "pathpoints"

    def __init__(self, device: SMOKDevice) -> None:
        super().__init__(device)
        self._untold: dict[str, Pathpoint] = {}

    def registered(self, pathpoint: Pathpoint) -> None:
        """Note a pathpoint that the server has to be told about. May be called by any thread."""
        self._untold[pathpoint.name] = pathpoint
        self.request()

    def is_due(self, now: float) -> bool:
        """Whether there is something to tell, and the server did not refuse it a moment ago."""
        return bool(self._untold) and super().is_due(now)

    def exchange(self) -> bool:
        """Tell the server."""
        told = dict(self._untold)
        body = [
            {"path": pathpoint.name, "storage_level": int(pathpoint.storage_level)}
            for pathpoint in told.values()
        ]
        answer = self._call(self.device.api.put, "/v1/device/pathpoints", json=body)
        for name in told:
            self._untold.pop(name, None)
        for name, level in parse_each(answer or [], _parse, "pathpoint"):
            if not name.startswith("r"):
                self._take_over(name, level)
        return bool(self._untold)

    def _take_over(self, name: str, level: StorageLevel) -> None:
        try:
            pathpoint = self.device.get_pathpoint(name, level)
            if pathpoint.storage_level != level:
                pathpoint.on_new_storage_level(level)
        except KeyError:
            logger.debug("The server knows pathpoint %s, this device does not", name)
        except Exception:
            logger.exception("Pathpoint %s did not take over storage level %s", name, level)


def _parse(entry: Mapping[str, Any]) -> tuple[str, StorageLevel]:
    return text(entry, "path"), StorageLevel(entry.get("storage_level", StorageLevel.TREND))
