"""Sensors: pathpoints as people see them, with a name, a unit and a scale."""

from smok_fast.sensor.sensor import Sensor, fqtsify
from smok_fast.sensor.types import SensorValueType
from smok_fast.sensor.write_logs import SensorWriteEvent

__all__ = ["Sensor", "SensorValueType", "SensorWriteEvent", "fqtsify"]
