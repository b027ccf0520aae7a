"""Which pathpoints are archived how often."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from smok_fast.sync.base import SyncTask, parse_each

__all__ = ["ArchivesTask"]


class ArchivesTask(SyncTask):
    """Fetches the list of archived pathpoints, stores it, and hands it to
    ArchivingAndMacroThread.
    """

    name = "archives"
    interval = 600.0

    def exchange(self) -> bool:
        """Fetch once."""
        answer = self._call(self.device.api.get, "/v1/device/pathpoints/archived")
        instructions: dict[float, list[str]] = {}
        for interval, names in parse_each(answer, _parse, "archive entry"):
            instructions.setdefault(interval, []).extend(names)
        self.device.arch_database.on_archiving_data_sync(instructions)
        self.device.set_archives(instructions)
        return False


def _parse(entry: Mapping[str, Any]) -> tuple[float, list[str]]:
    interval, names = entry["interval"], entry["pathpoints"]
    if isinstance(interval, bool) or not isinstance(interval, int | float):
        raise TypeError("the interval is no number")
    if not 0 < interval <= sys.float_info.max:
        raise ValueError("the interval is not above zero, or too long")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise TypeError("pathpoints is no list of names")
    return interval, names
