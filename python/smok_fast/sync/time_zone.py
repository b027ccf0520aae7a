"""In which time zone the device is: windows of silence are in its local time.

What the server said last is in the state file, so that a device that starts without a link knows.
"""

from __future__ import annotations

import zoneinfo
from typing import TYPE_CHECKING

from smok_fast.sync.base import SyncTask, UnusableAnswer

if TYPE_CHECKING:
    from smok_fast.state import StateFile

__all__ = ["TimeZoneTask", "keep_time_zone", "kept_time_zone"]

#: Where the time zone is in the table ``device`` of the state file.
_ROW = "time_zone"


def keep_time_zone(state: StateFile, name: str) -> None:
    """Have the name of the time zone in the state file. May be called by any thread."""
    state.tables["device"].put((_ROW, name))
    state.commit()


def kept_time_zone(state: StateFile) -> zoneinfo.ZoneInfo | None:
    """The time zone from the state file, None if it has none. A name that is none is logged."""
    known = dict(state.tables["device"].restored(_restore))
    return known.get(_ROW)


def _restore(name: str, value: str) -> tuple[str, zoneinfo.ZoneInfo | None]:
    return name, zoneinfo.ZoneInfo(value) if name == _ROW else None


class TimeZoneTask(SyncTask):
    """Asks the server about the device, whose time zone may change. Run by CommunicatorThread."""

    name = "time zone"
    interval = 3600.0

    def exchange(self) -> bool:
        """Ask once."""
        answer = self._call(self.device.api.get, "/v1/device")
        try:
            self.device.take_over_info(answer)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UnusableAnswer(f"a description of the device ({error!r})", answer) from error
        return False
