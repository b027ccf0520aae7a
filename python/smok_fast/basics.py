"""The nouns of a SMOK device: environments, storage levels, and what the server says about the
device.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

__all__ = ["DeviceInfo", "Environment", "SlaveDeviceInfo", "StorageLevel"]


class Environment(enum.IntEnum):
    """Which SMOK installation a device certificate is valid for."""

    PRODUCTION = 0  #: production
    STAGING = 1  #: testing
    LOCAL_DEVELOPMENT = 2  #: continuous integration and local development


class StorageLevel(enum.IntEnum):
    """How long the values of a pathpoint are kept."""

    PERMANENT = 0  #: all values, for good
    TREND = 1  #: values of the last two weeks

    def __or__(self, other: int) -> StorageLevel:
        """The combination of two levels, as the reference defines it: TREND if either is."""
        return StorageLevel(int(self) | int(other))


@dataclasses.dataclass(slots=True, eq=False)
class SlaveDeviceInfo:
    """A slave device attached to this one.

    :ivar device_id: its device ID
    :ivar master_controller: device ID of its master
    :ivar responsible_service: the service that runs it, mostly ``rapid``
    :ivar configuration: its configuration, in whatever format that service uses
    """

    device_id: str
    master_controller: str
    responsible_service: str
    configuration: str

    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> SlaveDeviceInfo:
        """Build it from the server's answer.

        :raises KeyError: a field is missing
        """
        return cls(
            dct["device_id"],
            dct["master_controller"],
            dct["responsible_service"],
            dct["configuration"],
        )

    def to_json(self) -> dict[str, str]:
        """The same as the server sends it."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(slots=True, eq=False)
class DeviceInfo:
    """What the server knows about this device.

    :ivar device_id: device ID
    :ivar facets: interfaces through which the device may be reached
    :ivar language: ISO 639-1 code
    :ivar timezone: name in the tz database
    :ivar units: ``metric`` or ``imperial``
    :ivar verbose_name: name for people
    :ivar slaves: the slave devices
    """

    device_id: str
    facets: set[str]
    language: str
    timezone: str
    units: str
    verbose_name: str
    slaves: list[SlaveDeviceInfo]

    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> DeviceInfo:
        """Build it from the answer of ``GET /v1/device``.

        :raises KeyError: a field is missing
        """
        culture = dct["culture_context"]
        return cls(
            device_id=dct["device_id"],
            facets=set(dct["facets"]),
            language=culture["language"],
            timezone=culture["timezone"],
            units=culture["units"],
            verbose_name=dct["verbose_name"],
            slaves=[SlaveDeviceInfo.from_json(slave) for slave in dct["slave_devices"]],
        )
