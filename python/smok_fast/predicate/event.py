"""Events: what went wrong on the device, since when, and until when."""

from __future__ import annotations

import enum
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

__all__ = ["Color", "Event"]


class Color(enum.IntEnum):
    """How severe an event is."""

    WHITE = 0  #: least severe
    YELLOW = 1  #: of medium severity
    RED = 2  #: most severe


class Event:
    """An event. Two are equal if they have the same UUID, provisional or not.

    Its methods may be called by any thread. What you change in it nobody notices, unless it is
    handed to ``close_event``. CommunicatorThread sets ``uuid`` once the server has the event.

    :param uuid_: UUID given by the server, None if it does not know the event yet
    :param started_on: when it started, in seconds since the epoch; now by default
    :param ended_on: when it ended, in seconds since the epoch, None if it has not
    :param color: how severe it is
    :param is_point: whether this is a point event, one without duration that is born closed
    :param token: what kind of event this is
    :param group: notification group
    :param message: what happened, for people
    :param handled_by: user who handles it, if any
    :param metadata: anything else, text under text
    :raises ValueError: there is no such colour
    :ivar uuid: UUID given by the server, None before
    :ivar provisional_uuid: UUID given by the device; None if the server's was known from the start
    """

    __slots__ = (
        "color",
        "ended_on",
        "group",
        "handled_by",
        "is_point",
        "message",
        "metadata",
        "provisional_uuid",
        "started_on",
        "token",
        "uuid",
    )

    def __init__(
        self,
        uuid_: str | None,
        started_on: int | None,
        ended_on: int | None,
        color: Color,
        is_point: bool,
        token: str,
        group: str,
        message: str,
        handled_by: str | None,
        metadata: dict[str, str] | None,
    ) -> None:
        self.uuid = uuid_
        self.provisional_uuid = uuid.uuid4().hex if uuid_ is None else None
        self.started_on = int(time.time()) if started_on is None else started_on
        self.ended_on = ended_on
        self.color = Color(color)
        self.is_point = is_point
        self.token = token
        self.group = group
        self.message = message
        self.handled_by = handled_by
        self.metadata = {} if metadata is None else metadata

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        if self.uuid is not None and other.uuid is not None:
            return self.uuid == other.uuid
        return self.provisional_uuid is not None and self.provisional_uuid == other.provisional_uuid

    def __hash__(self) -> int:
        # Not the UUID: it changes once the server has the event, and a hash must not
        return hash((self.started_on, self.token))

    def __repr__(self) -> str:
        return (
            f"Event({self.get_uuid()}, {self.color!r}, {self.message!r}, "
            f"started_on={self.started_on}, ended_on={self.ended_on})"
        )

    def get_uuid(self) -> str:
        """The UUID given by the server, or the provisional one before that."""
        return str(self.provisional_uuid) if self.uuid is None else self.uuid

    def uuid_matches(self, uuid_: str) -> bool:
        """Whether this is the event's UUID, be it the server's or the provisional one."""
        return uuid_ in (self.uuid, self.provisional_uuid)

    def is_closed(self) -> bool:
        """Whether the event has ended; a point event always has."""
        return self.is_point or self.ended_on is not None

    def to_json(self) -> dict[str, Any]:
        """The event as the server wants it."""
        dct: dict[str, Any] = {
            "started_on": self.started_on,
            "color": int(self.color),
            "alarm_type": 1 if self.is_point else 0,
            "token": self.token,
            "group": self.group,
            "message": self.message,
            "metadata": self.metadata,
        }
        optional = {"uuid": self.uuid, "handled_by": self.handled_by, "ended_on": self.ended_on}
        dct.update((key, value) for key, value in optional.items() if value is not None)
        return dct

    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> Event:
        """Build an event from what :meth:`to_json` gave.

        :raises KeyError: a field is missing
        :raises ValueError: there is no such colour
        """
        return cls(
            dct.get("uuid"),
            dct["started_on"],
            dct.get("ended_on"),
            Color(dct["color"]),
            dct["alarm_type"] == 1,
            dct["token"],
            dct["group"],
            dct["message"],
            dct.get("handled_by"),
            dct["metadata"],
        )

    def to_pickle(self) -> bytes:
        """The event as bytes for :meth:`from_pickle`, its provisional UUID included.

        The name is the reference client's. The bytes are JSON: reading them back runs no code.
        """
        return json.dumps({**self.to_json(), "provisional_uuid": self.provisional_uuid}).encode()

    @classmethod
    def from_pickle(cls, y: bytes) -> Event:
        """Build an event from what :meth:`to_pickle` gave.

        :raises ValueError: these bytes are something else
        """
        try:
            dct = json.loads(y)
            event = cls.from_json(dct)
            event.provisional_uuid = dct["provisional_uuid"]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("these bytes are no event") from error
        return event
