"""A statistic that is ready to use: a value beyond a limit for some time is an event.

Invariants:

- Whether the event is open is asked of the event database and kept nowhere else, so a program that
  is killed between two writes neither forgets an event nor opens it twice.
- Delays are counted in steps from one tick to the next, by the monotonic clock: a clock that is
  set, and time in which the program did not run, count for nothing. Only a step between two good
  readings counts for ``on_delay`` and ``off_delay``.
- A failed read is neither beyond the limit nor within it: it opens and closes nothing, but counts
  towards ``failure_after``.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from smok_fast.exceptions import OperationFailedError
from smok_fast.predicate.base import BaseStatistic
from smok_fast.predicate.event import Color, Event
from smok_fast.sensor import fqtsify

if TYPE_CHECKING:
    from smok_fast.pathpoint import Pathpoint, Section
    from smok_fast.sensor import Sensor

__all__ = ["ThresholdStatistic"]

logger = logging.getLogger(__name__)

#: What the metadata of an event says under this key: which of the predicate's two events it is.
KIND = "kind"
LIMIT = "limit"
FAILURE = "failure"


class ThresholdStatistic(BaseStatistic):
    """Opens an event while a value is beyond a limit. Register it for the statistics that it is to
    serve::

        device.register_statistic(ThresholdStatistic, lambda name, _: name == "threshold")

    The value is looked at in each tick, about every 60 seconds. The predicate's configuration is an
    object with these entries; of the first two exactly one is needed, of the next two at least one:

    ``sensor``
        tag name of the sensor to watch
    ``pathpoint``
        name of the pathpoint to watch
    ``high``
        a value above this is beyond the limit
    ``low``
        a value below this is beyond the limit
    ``hysteresis``
        by how much a value must be within the limits to end the event; 0 by default, and at most
        half of what lies between the limits
    ``on_delay``
        for how many seconds each value must have been beyond a limit before the event is opened; 0
        by default
    ``off_delay``
        for how many seconds each value must have been within the limits again before the event is
        closed; 0 by default
    ``min_duration``
        for how many seconds the event stays open at least; 0 by default
    ``color``
        ``white``, ``yellow`` (the default) or ``red``
    ``message``
        what the event says after the predicate's name; ``{value}`` and ``{limit}`` in it are
        replaced. By default something like ``92.5 is above 90``
    ``max_age``
        a value that was read longer than this many seconds ago counts as a failed read; 300 by
        default. A value of half that age is read anew, so the pathpoint need not be archived
    ``failure_after``
        after how many seconds of nothing but failed reads another event is opened, which the next
        good one closes; without it there is none
    ``failure_color``
        colour of that event; ``yellow`` by default

    A failed read changes nothing about the first event, and the time until the next good one counts
    for neither ``on_delay`` nor ``off_delay``. The time in which the program does not run counts
    for nothing; what was counted before is kept, as is the event. While the predicate is to keep
    silent no event is opened; it is opened afterwards if the value is still beyond the limit. Both
    events are closed when the predicate is switched off or deleted.

    A configuration that makes no sense is logged as an error, and nothing is watched until it is
    mended. An event that is open then stays, and ends by the new configuration.

    :param args: as for :class:`BaseStatistic`
    :param clock: gives seconds of a monotonic clock
    :param wall_clock: gives seconds since the epoch, which the age of a value is told by
    :param kwargs: as for :class:`BaseStatistic`
    """

    statistic_name = "threshold"

    def __init__(
        self,
        *args: Any,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._clock = clock
        self._wall_clock = wall_clock
        self._last_tick: float | None = None
        self._reading: Section | None = None
        self._missing: str | None = None
        self._rule = self._understand(self.configuration)

    def on_configuration_changed(self, new_config: dict[str, Any] | None) -> None:
        """Watch by another configuration from the next tick on."""
        super().on_configuration_changed(new_config)
        self._rule = self._understand(new_config)

    def on_tick(self) -> None:
        """Look at the value, open and close the events."""
        now = self._clock()
        step = 0.0 if self._last_tick is None else now - self._last_tick
        self._last_tick = now
        if self._rule is None:
            return
        timers = _Timers.from_json(self.state)
        value = self._value(self._rule)
        if value is None:
            self._count_failure(self._rule, timers, step)
        else:
            self._judge(self._rule, timers, step, value)
        self.state = dataclasses.asdict(timers)

    def on_offline(self) -> None:
        """Close the events: nobody watches what would end them."""
        for kind in (LIMIT, FAILURE):
            self._close(self._open_one(kind))
        self.state = None

    def _understand(self, configuration: object) -> _Rule | None:
        try:
            return _Rule.from_json(configuration)
        except (TypeError, ValueError) as error:
            logger.error(
                "Predicate %s (%s) watches nothing, its configuration makes no sense: %s",
                self.predicate_id,
                self.verbose_name,
                error,
            )
            return None

    def _judge(self, rule: _Rule, timers: _Timers, step: float, value: float) -> None:
        """Do what a good reading asks for."""
        self._close(self._open_one(FAILURE))
        counted = step if timers.failed_for is None else 0.0
        timers.failed_for = None
        event = self._open_one(LIMIT)
        timers.open_for = 0.0 if event is None else timers.open_for + step
        if rule.is_beyond(value, was_beyond=event is not None) == (event is not None):
            timers.turned_for = None
            return
        timers.turned_for = 0.0 if timers.turned_for is None else timers.turned_for + counted
        if event is None:
            if timers.turned_for >= rule.on_delay and self._open(
                rule.describe(value), rule.color, LIMIT
            ):
                timers.turned_for = None
        elif timers.turned_for >= rule.off_delay and timers.open_for >= rule.min_duration:
            self._close(event)
            timers.turned_for = None

    def _count_failure(self, rule: _Rule, timers: _Timers, step: float) -> None:
        """Do what a failed reading asks for."""
        timers.failed_for = 0.0 if timers.failed_for is None else timers.failed_for + step
        if self._open_one(LIMIT) is not None:
            timers.open_for += step
        if timers.failed_for >= rule.failure_after and self._open_one(FAILURE) is None:
            self._open(f"{rule.target} cannot be read", rule.failure_color, FAILURE)

    def _value(self, rule: _Rule) -> float | None:
        """The value, None if there is none that counts; has it read anew if it gets old."""
        watched = self._watched(rule)
        if watched is None:
            return None
        age, value = math.inf, None
        try:
            timestamp, value = watched.get()
            age = self._wall_clock() - timestamp / 1000
        except OperationFailedError:
            pass
        if age > rule.max_age / 2 and (self._reading is None or self._reading.done()):
            self._reading = self.device.execute(watched.read())
        if age > rule.max_age or not isinstance(value, int | float):
            return None
        return value

    def _watched(self, rule: _Rule) -> Sensor | Pathpoint | None:
        """What is watched; None, and once a line in the log, if the device does not have it."""
        try:
            if rule.is_pathpoint:
                return self.device.get_pathpoint(rule.target)
            # Not get_sensor: a tick must not wait for anything
            return self.device.sensor_database.get_sensor(fqtsify(rule.target))
        except KeyError:
            if self._missing != rule.target:
                self._missing = rule.target
                logger.error("Predicate %s: there is no %s", self.predicate_id, rule.target)
            return None

    def _open_one(self, kind: str) -> Event | None:
        """The predicate's open event of a kind."""
        for event in self.device.evt_database.get_open_events():
            told = event.metadata
            if told.get("predicate_id") == self.predicate_id and told.get(KIND) == kind:
                return event
        return None

    def _open(self, message: str, color: Color, kind: str) -> bool:
        """Open an event; False if the predicate is to keep silent."""
        return self.open_event(message, color, {KIND: kind}) is not None

    def _close(self, event: Event | None) -> None:
        if event is not None:
            self.close_event(event)


@dataclasses.dataclass(slots=True)
class _Timers:
    """What is counted, in seconds: the statistic's state.

    :ivar turned_for: for how long values have asked for the event to be opened, or closed if it is
        open; None if the last one did not
    :ivar open_for: for how long the event has been open
    :ivar failed_for: for how long reads have failed; None if the last one did not
    """

    turned_for: float | None = None
    open_for: float = 0.0
    failed_for: float | None = None

    @classmethod
    def from_json(cls, state: object) -> _Timers:
        """What was counted before; what another version or somebody else left is not believed."""
        timers = cls()
        if isinstance(state, Mapping):
            for field in dataclasses.fields(cls):
                seconds = state.get(field.name)
                if isinstance(seconds, int | float) and seconds >= 0:
                    setattr(timers, field.name, seconds)
        return timers


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A configuration that was understood."""

    target: str
    is_pathpoint: bool
    high: float
    low: float
    hysteresis: float
    on_delay: float
    off_delay: float
    min_duration: float
    color: Color
    message: str | None
    max_age: float
    failure_after: float
    failure_color: Color

    @classmethod
    def from_json(cls, configuration: object) -> _Rule:
        """Understand a configuration.

        :raises TypeError: it makes no sense; says why
        :raises ValueError: likewise
        """
        if not isinstance(configuration, Mapping):
            raise TypeError(f"it is {configuration!r:.100}, and no object")
        entries = _Entries(configuration)
        sensor, pathpoint = entries.text("sensor"), entries.text("pathpoint")
        if (sensor is None) == (pathpoint is None):
            raise ValueError("it needs a sensor or a pathpoint, and not both")
        rule = cls(
            target=sensor or pathpoint or "",
            is_pathpoint=pathpoint is not None,
            high=entries.number("high", math.inf),
            low=entries.number("low", -math.inf),
            hysteresis=entries.amount("hysteresis", 0.0),
            on_delay=entries.amount("on_delay", 0.0),
            off_delay=entries.amount("off_delay", 0.0),
            min_duration=entries.amount("min_duration", 0.0),
            color=entries.color("color"),
            message=entries.text("message"),
            max_age=entries.amount("max_age", 300.0),
            failure_after=entries.amount("failure_after", math.inf),
            failure_color=entries.color("failure_color"),
        )
        entries.check_that_all_are_known()
        if rule.high == math.inf and rule.low == -math.inf:
            raise ValueError("it needs high, low, or both")
        if rule.high - rule.low < 2 * rule.hysteresis or rule.high <= rule.low:
            raise ValueError("high must be above low, by twice the hysteresis at least")
        return rule

    def is_beyond(self, value: float, *, was_beyond: bool) -> bool:
        """Whether a value is beyond a limit, or has not come far enough back from it."""
        margin = self.hysteresis if was_beyond else 0.0
        return value > self.high - margin or value < self.low + margin

    def describe(self, value: float) -> str:
        """What an event says about a value that is beyond a limit."""
        above = value > self.high
        limit = self.high if above else self.low
        if self.message is None:
            return f"{value} is {'above' if above else 'below'} {limit}"
        return self.message.replace("{value}", str(value)).replace("{limit}", str(limit))


class _Entries:
    """The entries of a configuration, each taken out as what it has to be.

    Each method raises TypeError or ValueError if an entry is something else, and says so.

    :param entries: the configuration
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._left = dict(entries)

    def text(self, key: str) -> str | None:
        """A text that is not empty; None if there is no such entry."""
        value = self._left.pop(key, None)
        if value is not None and not (isinstance(value, str) and value):
            raise TypeError(f"{key} is {value!r:.100}, and no text")
        return value

    def number(self, key: str, default: float) -> float:
        """A number."""
        value = self._left.pop(key, None)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{key} is {value!r:.100}, and no number")
        if not abs(value) <= sys.float_info.max:  # nor does NaN, or an integer of 400 digits
            raise ValueError(f"{key} is out of range")
        return value

    def amount(self, key: str, default: float) -> float:
        """A number that is not below 0."""
        value = self.number(key, default)
        if value < 0:
            raise ValueError(f"{key} is {value}, below 0")
        return value

    def color(self, key: str) -> Color:
        """A colour, by its name or its number."""
        value = self._left.pop(key, Color.YELLOW)
        if isinstance(value, str) and value.upper() in Color.__members__:
            return Color[value.upper()]
        if isinstance(value, int) and not isinstance(value, bool) and value in set(Color):
            return Color(value)
        raise ValueError(f"{key} is {value!r:.100}, and not white, yellow or red")

    def check_that_all_are_known(self) -> None:
        """See that nothing is left, so that a misspelt entry is noticed."""
        if self._left:
            raise ValueError(f"unknown entries: {', '.join(sorted(map(str, self._left)))[:200]}")
