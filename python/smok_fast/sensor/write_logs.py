"""What is told to the server about a write to a sensor."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["SensorWriteEvent"]


@dataclasses.dataclass(frozen=True, slots=True)
class SensorWriteEvent:
    """The fact that somebody wrote a sensor.

    :ivar timestamp: when, in milliseconds since the epoch
    :ivar who: who did it
    :ivar hr_sensor: the sensor's name, for people
    :ivar hr_value: the value, for people
    :ivar fqts: the sensor's FQTS
    :ivar value: the value
    :ivar reason: why
    """

    timestamp: int
    who: str
    hr_sensor: str
    hr_value: str
    fqts: str
    value: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The write as the server wants it."""
        return dataclasses.asdict(self)
