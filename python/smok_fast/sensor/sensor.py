"""A sensor: a name, the pathpoints that it is made from, and how its value is made from theirs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.pathpoint import AdviseLevel, Pathpoint, PathpointValueType, Section
from smok_fast.pathpoint.series import merge_series
from smok_fast.sensor.types import SensorValueType, SVTOrExcept, get_type
from smok_fast.sensor.write_logs import SensorWriteEvent

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["Sensor", "fqtsify"]


def fqtsify(tag_name: str | Iterable[str]) -> str:
    """The canonical form of a tag name (FQTS): its words, sorted, joined by one space.

    :param tag_name: the words in any order, as a text with spaces or as a set
    """
    words = tag_name.split() if isinstance(tag_name, str) else tag_name
    return " ".join(sorted(words))


class Sensor:
    """A sensor. Two are equal if they have the same name: do not compare those of two devices.

    All methods are for user threads, and for statistics.

    :param device: the device
    :param fqts: tag name; its words may come in any order
    :param path: names of the pathpoints, joined by ``~``
    :param type_name: name of the type
    :raises ValueError: the name of the type is malformed
    :ivar type: how values are converted (:class:`~smok_fast.sensor.types.BasicType`)
    """

    __slots__ = ("_pathpoints", "device", "fqts", "path", "type", "type_name")

    def __init__(self, device: SMOKDevice, fqts: str, path: str, type_name: str) -> None:
        self.device = device
        self.fqts = fqtsify(fqts)
        self.path = path
        self.type_name = type_name
        self.type = get_type(type_name)
        self._pathpoints: list[Pathpoint] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sensor):
            return NotImplemented
        return self.fqts == other.fqts

    def __hash__(self) -> int:
        return hash(self.fqts)

    def __repr__(self) -> str:
        return f"Sensor({self.fqts!r}, {self.path!r}, {self.type_name!r})"

    @classmethod
    def from_json(cls, device: SMOKDevice, x: Mapping[str, Any]) -> Sensor:
        """Build a sensor from the server's answer.

        :raises KeyError: a field is missing
        :raises ValueError: the name of the type is malformed
        """
        return cls(device, x["fqts"], x["path"], x["type"])

    @property
    def slave_pathpoints(self) -> list[Pathpoint]:
        """The pathpoints that the sensor is made from.

        They are looked up once they are needed: the sensor may be known before they are.

        :raises KeyError: the device does not have one of them
        """
        if self._pathpoints is None:
            self._pathpoints = [self.device.get_pathpoint(name) for name in self.path.split("~")]
        return self._pathpoints

    def get(self) -> tuple[float, SensorValueType]:
        """The value, made from the last values of the pathpoints.

        :returns: timestamp of the newest of them in milliseconds, and the value
        :raises NotReadedError: a pathpoint was not read yet
        :raises OperationFailedError: the last read of a pathpoint failed, or gave a value that
            this sensor cannot be made from
        :raises KeyError: the device does not have one of the pathpoints
        """
        timestamps, values = zip(*(pp.get() for pp in self.slave_pathpoints), strict=True)
        timestamp = max(timestamps)
        value = self._convert(timestamp, values)
        if isinstance(value, OperationFailedError):
            raise value
        return timestamp, value

    def get_archive(
        self, starting_at: int, stopping_at: int | None = None
    ) -> Iterator[tuple[float, SVTOrExcept]]:
        """Values that the device keeps; the server is not asked.

        :param starting_at: first millisecond since the epoch
        :param stopping_at: last millisecond since the epoch, None for the newest value
        :returns: timestamp in milliseconds, and the value or the OperationFailedError
        :raises KeyError: the device does not have one of the pathpoints
        """
        archives = [pp.get_archive(starting_at, stopping_at) for pp in self.slave_pathpoints]
        return ((ts, self._convert(ts, values)) for ts, values in merge_series(*archives))

    def read(self, advise: AdviseLevel = AdviseLevel.ADVISE) -> Section:
        """A section that reads the pathpoints, for ``SMOKDevice.execute``.

        :param advise: how hard to try
        :raises KeyError: the device does not have one of the pathpoints
        """
        section = Section()
        for pathpoint in self.slave_pathpoints:
            section += pathpoint.read(advise)
        return section

    def write(self, value: SensorValueType, advise: AdviseLevel = AdviseLevel.ADVISE) -> Section:
        """A section that writes the pathpoints, for ``SMOKDevice.execute``.

        :param value: value to write
        :param advise: how hard to try
        :raises TypeError: the value is not of the sensor's type
        :raises KeyError: the device does not have one of the pathpoints
        """
        pathpoints = self.slave_pathpoints
        values = self.type.sensor_to_pathpoint(value, *(pp.name for pp in pathpoints))
        section = Section()
        for pathpoint, pathpoint_value in zip(pathpoints, values, strict=False):
            section += pathpoint.write(pathpoint_value, advise)
        return section

    def log_write(
        self,
        who: str,
        reason: str,
        value: str,
        hr_value: str | None = None,
        hr_sensor: str | None = None,
        timestamp: int | None = None,
    ) -> None:
        """Tell the server that somebody wrote this sensor. Nothing is written by this.

        :param who: who did it
        :param reason: why
        :param value: the value
        :param hr_value: the value for people, the same by default
        :param hr_sensor: the sensor's name for people, the FQTS by default
        :param timestamp: when, in milliseconds since the epoch; now by default
        :raises RuntimeError: the device is closed
        """
        value = str(value)
        self.device.log_sensor_write(
            SensorWriteEvent(
                timestamp=time.time_ns() // 1_000_000 if timestamp is None else timestamp,
                who=who,
                hr_sensor=self.fqts if hr_sensor is None else hr_sensor,
                hr_value=value if hr_value is None else hr_value,
                fqts=self.fqts,
                value=value,
                reason=reason,
            )
        )

    def _convert(
        self, timestamp: float, values: Iterable[PathpointValueType | OperationFailedError]
    ) -> SVTOrExcept:
        plain: list[PathpointValueType] = []
        for value in values:
            if isinstance(value, OperationFailedError):
                return value
            plain.append(value)
        try:
            return self.type.pathpoint_to_sensor(*plain)
        except TypeError:
            return OperationFailedError(OperationFailedReason.TYPE, timestamp)
