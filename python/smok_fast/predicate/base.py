"""What a user's statistic is made from, and the windows of time in which it keeps silent."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import datetime
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smok_fast.exceptions import ResponseError
from smok_fast.predicate.event import Color, Event

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["BaseStatistic", "DisabledTime", "Time"]

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Time:
    """A minute of the week. It does not change, and may be used by any thread.

    :ivar day_of_week: ISO 8601 weekday: 1 is Monday, 7 is Sunday
    :ivar hour: hour on a 24-hour clock
    :ivar minute: minute
    :raises ValueError: there is no such minute in a week
    """

    day_of_week: int
    hour: int
    minute: int

    def __post_init__(self) -> None:
        if not (1 <= self.day_of_week <= 7 and 0 <= self.hour <= 23 and 0 <= self.minute <= 59):
            raise ValueError(f"no such minute in a week: {self.to_tuple()}")

    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> Time:
        """Build it from the server's answer.

        :raises KeyError: a field is missing
        :raises TypeError: a field is no number
        :raises ValueError: there is no such minute in a week
        """
        return cls(dct["day"], dct["hour"], dct["minute"])

    def to_tuple(self) -> tuple[int, int, int]:
        """Weekday, hour, minute: in the order of time within a week that starts on Monday."""
        return self.day_of_week, self.hour, self.minute


@dataclasses.dataclass(frozen=True, slots=True)
class DisabledTime:
    """A part of each week. If it stops before it starts, it goes over the week's end. It does not
    change, and may be used by any thread.

    :ivar start: its first minute
    :ivar stop: its last minute
    """

    start: Time
    stop: Time

    @classmethod
    def from_json(cls, x: Mapping[str, Any]) -> DisabledTime:
        """Build it from the server's answer; raises what :meth:`Time.from_json` does."""
        return cls(Time.from_json(x["start"]), Time.from_json(x["stop"]))

    def is_in_time(self, t: datetime.datetime) -> bool:
        """Whether a local time is within this part of the week, both ends included."""
        now = (t.isoweekday(), t.hour, t.minute)
        start, stop = self.start.to_tuple(), self.stop.to_tuple()
        if start <= stop:
            return start <= now <= stop
        return now >= start or now <= stop


class BaseStatistic(abc.ABC):
    """Base class of statistics: code that watches over one predicate. Subclass it, define
    :meth:`on_tick`, and register the class with ``SMOKDevice.register_statistic``.

    Instances are made, and all their methods are called, by CommunicatorThread. An exception from
    one is logged and stops neither the others nor the next tick.

    :param device: the device
    :param predicate_id: ID of the predicate
    :param verbose_name: name of the predicate, for people
    :param silencing: when it must not open events
    :param configuration: what the server has configured, in the statistic's own format
    :param statistic: name of the statistic
    :param group: notification group
    :param state: state to start with
    :param kwargs: anything else that :meth:`to_kwargs` is to give back
    :ivar state: anything, kept between calls and restarts: loaded before each call, saved after it
    :cvar statistic_name: name of this statistic
    """

    statistic_name: str | None = None

    def __init__(
        self,
        device: SMOKDevice,
        predicate_id: str,
        verbose_name: str,
        silencing: list[DisabledTime],
        configuration: dict[str, Any] | None,
        statistic: str | None = None,
        group: str = "B",
        state: Any = None,
        **kwargs: Any,
    ) -> None:
        self.device = device
        self.predicate_id = predicate_id
        self.verbose_name = verbose_name
        self.silencing = silencing
        self.configuration = configuration
        self.statistic = statistic
        self.group = group
        self.state = state
        self.kwargs = kwargs

    def to_kwargs(self) -> dict[str, Any]:
        """What the constructor needs, besides the device, to make this predicate again."""
        return {
            **self.kwargs,
            "predicate_id": self.predicate_id,
            "verbose_name": self.verbose_name,
            "silencing": self.silencing,
            "configuration": self.configuration,
            "statistic": self.statistic,
            "group": self.group,
            "state": self.state,
        }

    @abc.abstractmethod
    def on_tick(self) -> None:
        """Look at the device, open and close events. Called about every 60 seconds, and when a
        class was registered.
        """

    def _call_method(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of the statistic, with its state loaded before and saved after it."""
        database = self.device.evt_database
        with contextlib.suppress(KeyError):  # none saved yet, or a database that saves nothing
            self.state = database.get_cache(self.predicate_id)
        try:
            getattr(self, method)(*args, **kwargs)
        finally:
            database.set_cache(self.predicate_id, self.state)

    def open_event(
        self, msg: str, color: Color, metadata: Mapping[str, str] | None = None
    ) -> Event | None:
        """Open an event, unless the predicate is to keep silent now. The server is told soon.

        :param msg: what happened; the predicate's name is put before it
        :param color: how severe it is
        :param metadata: what to note in the event, besides the predicate's ID
        :returns: the event, or None if the predicate keeps silent
        :raises ValueError: there is no such colour
        """
        if self._is_silenced():
            return None
        message = f"{self.verbose_name}: {msg}" if msg else self.verbose_name
        event = Event(
            None,
            None,
            None,
            color,
            is_point=False,
            token=self.statistic or "",
            group=self.group,
            message=message,
            handled_by=None,
            metadata={**(metadata or {}), "predicate_id": self.predicate_id},
        )
        self.device.evt_database.add_event(event)
        self.device._upload_events()
        return event

    def close_event(self, event: Event) -> None:
        """Close an event, now unless its ``ended_on`` says when. The server is told soon.

        :param event: the event, as :meth:`open_event` or the device gave it
        """
        if not event.is_closed():
            event.ended_on = int(time.time())
        self.device.evt_database.close_event(event)
        self.device._upload_events()

    def on_group_changed(self, new_group: str) -> None:
        """The notification group has changed. If overridden, it must set :attr:`group`."""
        self.group = new_group

    def on_verbose_name_changed(self, new_verbose_name: str) -> None:
        """The name has changed. If overridden, it must set :attr:`verbose_name`."""
        self.verbose_name = new_verbose_name

    def on_configuration_changed(self, new_config: dict[str, Any] | None) -> None:
        """The configuration has changed. If overridden, it must set :attr:`configuration`."""
        self.configuration = new_config

    def on_silencing_changed(self, new_silencing: list[DisabledTime]) -> None:
        """The times of silence have changed. If overridden, it must set :attr:`silencing`."""
        self.silencing = new_silencing

    def on_offline(self) -> None:
        """The predicate was switched off or deleted; this instance will not be used again.

        If it is switched on again, a new instance is made.
        """

    def _is_silenced(self) -> bool:
        if not self.silencing:
            return False
        try:
            now = self.device.get_local_time()
        except (ResponseError, RuntimeError) as error:
            # An alarm too many is better than one that nobody gets
            logger.warning(
                "Local time is not known, predicate %s is not silenced: %s",
                self.predicate_id,
                error,
            )
            return False
        return any(window.is_in_time(now) for window in self.silencing)
