"""Sensors that the server has defined on this device."""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.sensor import Sensor

__all__ = ["BaseSensorDatabase", "InMemorySensorDatabase"]


class BaseSensorDatabase(abc.ABC):
    """Keeps sensors, so that they work when the device starts offline.

    :ivar device: the device, None before :meth:`on_register`
    """

    device: SMOKDevice | None

    def __init__(self) -> None:
        self.device = None

    def on_register(self, device: SMOKDevice) -> None:
        """From now on it belongs to this device. Called by the constructor of SMOKDevice."""
        self.device = device

    @abc.abstractmethod
    def get_sensor(self, fqts: str) -> Sensor:
        """A sensor by its name.

        Called by user threads, and by statistics, so by CommunicatorThread too.

        :param fqts: its FQTS, in the canonical form
        :raises KeyError: there is no such sensor
        """

    @abc.abstractmethod
    def on_sensors_sync(self, sensors: list[Sensor]) -> None:
        """The server sent the sensors; these replace the ones kept.

        Called by CommunicatorThread.
        """

    @abc.abstractmethod
    def get_all_sensors(self) -> Iterator[Sensor]:
        """All sensors.

        Called by user threads, and by statistics, so by CommunicatorThread too.
        """


class InMemorySensorDatabase(BaseSensorDatabase):
    """Keeps sensors until the program ends."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._sensors: dict[str, Sensor] = {}

    def get_sensor(self, fqts: str) -> Sensor:
        """A sensor by its canonical FQTS. Called by user threads, and by statistics, so by
        CommunicatorThread too.

        :raises KeyError: there is no such sensor
        """
        with self._lock:
            return self._sensors[fqts]

    def on_sensors_sync(self, sensors: list[Sensor]) -> None:
        """Replace the sensors. Called by CommunicatorThread."""
        with self._lock:
            self._sensors = {sensor.fqts: sensor for sensor in sensors}

    def get_all_sensors(self) -> Iterator[Sensor]:
        """All sensors kept at the time of the call. Called by user threads, and by statistics, so
        by CommunicatorThread too.
        """
        with self._lock:
            return iter(list(self._sensors.values()))
