"""In which time zone the device is: windows of silence are in its local time."""

from __future__ import annotations

from smok_fast.sync.base import SyncTask, UnusableAnswer

__all__ = ["TimeZoneTask"]


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
