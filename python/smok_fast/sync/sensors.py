"""Fetches the sensors that the server has defined on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smok_fast.sensor import Sensor
from smok_fast.sync.base import SyncTask, parse_each, text

__all__ = ["SensorsTask"]


class SensorsTask(SyncTask):
    """Replaces the sensors in ``device.sensor_database``. Run by CommunicatorThread."""

    name = "sensors"
    interval = 300.0

    def exchange(self) -> bool:
        """Fetch the sensors."""
        answer = self._call(self.device.api.get, "/v1/device/sensors")
        self.device.sensor_database.on_sensors_sync(parse_each(answer, self._parse, "sensor"))
        return False

    def _parse(self, entry: Mapping[str, Any]) -> Sensor:
        return Sensor(self.device, text(entry, "fqts"), text(entry, "path"), text(entry, "type"))
