"""ThresholdStatistic: when it opens and closes events, on clocks that the tests move."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from conftest import ManualClock
from pathpoint_support import SOON, TIMEOUT, Maker, scripted
from smok_fast.client import SMOKDevice
from smok_fast.extras import InMemoryEventDatabase
from smok_fast.pathpoint import Pathpoint
from smok_fast.predicate import Color, DisabledTime, Event, ThresholdStatistic, Time
from smok_fast.sensor import Sensor
from smok_fast.server import LocalServer
from smok_fast.sync.predicates import PredicatesTask, TicksTask
from smok_fast.testing import Admin, wait_until

#: Seconds since the epoch at which the tests begin.
START = 1_700_000_000.0

MINUTE = 60.0


class Plant:
    """A device with one pathpoint, a statistic that watches it, and a clock for all."""

    def __init__(self, device: SMOKDevice, configuration: Any, **fields: Any) -> None:
        self.device = device
        self.clock = ManualClock()
        self.wall = ManualClock(START)
        self.events = device.evt_database
        self.pathpoint = device.pathpoints.get("d1") or Pathpoint(device, "d1")
        self.fields = {
            "predicate_id": "p1",
            "verbose_name": "Boiler",
            "silencing": [],
            "configuration": configuration,
            "statistic": "threshold",
            "group": "A",
            **fields,
        }
        self.statistic = self.make(self.fields)

    def make(self, fields: dict[str, Any]) -> ThresholdStatistic:
        return ThresholdStatistic(self.device, clock=self.clock, wall_clock=self.wall, **fields)

    def restart(self) -> None:
        """A program that ends and starts again has what can be written as JSON, and no more."""
        fields = self.statistic.to_kwargs()
        fields["state"] = json.loads(json.dumps(fields["state"]))
        self.statistic = self.make(fields)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    def tick(self, reading: Any = None, after: float = MINUTE) -> list[str]:
        """Let time pass, read a value or a failure unless it is None, and tick; gives the messages
        of the events that are open then.
        """
        self.pass_time(after)
        if reading is not None:
            self.pathpoint.set_new_value(int(self.wall() * 1000), reading)
        self.statistic._call_method("on_tick")
        return self.messages()

    def open_events(self) -> list[Event]:
        return list(self.events.get_open_events())

    def messages(self) -> list[str]:
        return [event.message for event in self.open_events()]


@pytest.fixture
def make_plant(make_offline_device: Maker) -> Callable[..., Plant]:
    def make(**configuration: Any) -> Plant:
        device = make_offline_device(delayed_boot=True)
        return Plant(device, {"pathpoint": "d1", "high": 90, **configuration})

    return make


HOT = "Boiler: 95.0 is above 90"


def test_an_event_is_open_while_the_value_is_above_the_limit(
    make_plant: Callable[..., Plant],
) -> None:
    plant = make_plant()
    assert plant.tick(90.0) == []
    assert plant.tick(95.0) == [HOT]
    (event,) = plant.open_events()
    assert (event.color, event.group, event.token) == (Color.YELLOW, "A", "threshold")
    assert event.metadata == {"predicate_id": "p1", "kind": "limit"}
    assert plant.tick(99.0) == [HOT], "there is one event, not one for each tick"
    assert plant.tick(90.0) == []
    assert event.is_closed()
    assert plant.tick(95.0) == [HOT]
    assert len(list(plant.events.get_all_events())) == 2


def test_both_limits_count_and_the_way_back_is_longer_by_the_hysteresis(
    make_plant: Callable[..., Plant],
) -> None:
    plant = make_plant(low=10, hysteresis=5, color="RED", message="{value} is beyond {limit} °C")
    open_at = {
        value: plant.tick(value) for value in (88.0, 91.0, 86.0, 85.0, 14.0, 9.0, 14.5, 15.0)
    }
    above, below = "Boiler: 91.0 is beyond 90 °C", "Boiler: 9.0 is beyond 10 °C"
    assert open_at == {
        88.0: [],
        91.0: [above],
        86.0: [above],
        85.0: [],
        14.0: [],
        9.0: [below],
        14.5: [below],
        15.0: [],
    }
    assert {event.color for event in plant.events.get_all_events()} == {Color.RED}


def test_a_value_must_be_beyond_the_limit_for_the_on_delay(
    make_plant: Callable[..., Plant],
) -> None:
    plant = make_plant(on_delay=120)
    assert [plant.tick(value) for value in (95.0, 95.0, 80.0, 95.0, 95.0)] == [[]] * 5
    assert plant.tick(95.0, after=59.0) == []
    assert plant.tick(95.0, after=1.0) == [HOT]


def test_a_value_must_be_back_for_the_off_delay(make_plant: Callable[..., Plant]) -> None:
    plant = make_plant(off_delay=120)
    plant.tick(95.0)
    assert [plant.tick(value) for value in (80.0, 80.0, 95.0, 80.0, 80.0)] == [[HOT]] * 5
    assert plant.tick(80.0) == []


def test_an_event_lasts_for_the_shortest_duration(make_plant: Callable[..., Plant]) -> None:
    plant = make_plant(min_duration=180)
    plant.tick(95.0)
    assert [plant.tick(80.0), plant.tick(TIMEOUT), plant.tick(80.0)] == [[HOT], [HOT], []]


def test_a_failed_read_neither_opens_nor_closes_and_its_time_counts_for_no_delay(
    make_plant: Callable[..., Plant],
) -> None:
    plant = make_plant(on_delay=60, off_delay=60)
    assert plant.tick(95.0) == []
    assert plant.tick(TIMEOUT, after=3600.0) == []
    assert plant.tick(95.0, after=3600.0) == []
    assert plant.tick(95.0) == [HOT]
    assert plant.tick(80.0) == [HOT]
    assert plant.tick(TIMEOUT) == [HOT]
    assert plant.tick(80.0) == [HOT]
    assert plant.tick(80.0) == []


@pytest.mark.parametrize("kind", ["failed", "old", "never", "unknown", "text"])
def test_reads_that_fail_for_long_enough_are_an_event_of_their_own(
    kind: str, make_plant: Callable[..., Plant]
) -> None:
    name = {"never": "d2", "unknown": "d3", "text": "u1"}.get(kind, "d1")
    plant = make_plant(pathpoint=name, failure_after=120, failure_color="white", max_age=50)
    Pathpoint(plant.device, "d2")
    text = Pathpoint(plant.device, "u1")
    reading = TIMEOUT if kind == "failed" else None

    def tick() -> list[str]:
        if kind == "text":
            text.set_new_value(int(plant.wall() * 1000) + 60_000, "hot")
        return plant.tick(reading)

    plant.tick(80.0)
    if kind in ("failed", "old"):
        assert plant.tick(reading) == []  # the good one before was one
    assert tick() == []
    broken = f"Boiler: {name} cannot be read"
    assert [tick(), tick()] == [[broken], [broken]]
    (event,) = plant.open_events()
    assert (event.color, event.metadata["kind"]) == (Color.WHITE, "failure")
    if kind in ("failed", "old"):
        assert plant.tick(95.0) == [HOT]


def test_without_failure_after_failed_reads_are_no_event(make_plant: Callable[..., Plant]) -> None:
    plant = make_plant()
    assert [plant.tick(TIMEOUT, after=86_400.0) for _ in range(3)] == [[]] * 3


def test_what_the_device_does_not_have_is_told_once(
    make_plant: Callable[..., Plant], caplog: pytest.LogCaptureFixture
) -> None:
    plant = make_plant(pathpoint="d9")
    for _ in range(3):
        plant.tick()
    assert caplog.messages == ["Predicate p1: there is no d9"]


def test_a_sensor_is_watched_in_its_own_unit_and_without_waiting_for_the_server(
    make_plant: Callable[..., Plant],
) -> None:
    plant = make_plant()
    register = Pathpoint(plant.device, "W1")
    plant.device.sensor_database.on_sensors_sync(
        [Sensor(plant.device, "boiler temp", "W1", "std.Number10")]
    )
    plant.statistic.on_configuration_changed({"sensor": "temp boiler", "high": 90})
    register.set_new_value(int(START * 1000), 905)
    assert plant.tick() == ["Boiler: 90.5 is above 90"]


def test_a_value_that_gets_old_is_read_anew(make_offline_device: Maker) -> None:
    device = make_offline_device()  # whose executor runs
    plant = Plant(device, {"pathpoint": "w1", "high": 90, "max_age": 100})
    pathpoint = scripted(device, "w1", 95)
    statistic = ThresholdStatistic(device, clock=plant.clock, **plant.fields)  # the real time
    statistic.on_tick()
    assert plant.messages() == []
    wait_until(lambda: pathpoint.current_value == 95, SOON)
    statistic.on_tick()
    assert plant.messages() == ["Boiler: 95 is above 90"]
    statistic.on_tick()
    assert pathpoint.log == [("read", "w1")], "a fresh value is not read again"


def test_a_read_that_hangs_is_asked_for_once(make_plant: Callable[..., Plant]) -> None:
    plant = make_plant()
    for _ in range(3):
        plant.tick()
    assert plant.device.queue_length == 1


def test_delays_and_events_survive_a_restart(make_plant: Callable[..., Plant]) -> None:
    plant = make_plant(on_delay=120, min_duration=120, failure_after=60)
    plant.tick(95.0)
    plant.tick(95.0)
    plant.restart()
    assert plant.tick(95.0, after=86_400.0) == [], "the time without the program does not count"
    assert plant.tick(95.0) == [HOT]
    plant.tick(80.0)
    plant.restart()
    assert plant.tick(80.0) == [HOT]
    assert plant.tick(80.0) == []
    plant.tick(TIMEOUT)
    plant.restart()
    assert plant.tick(TIMEOUT) == []
    assert plant.tick(TIMEOUT) == ["Boiler: d1 cannot be read"]


def test_a_program_killed_before_its_state_was_saved_opens_nothing_twice(
    make_plant: Callable[..., Plant],
) -> None:
    plant = make_plant(failure_after=0)
    before = plant.statistic.to_kwargs()
    plant.tick(95.0)
    plant.tick(TIMEOUT)
    plant.events.set_cache("p1", before["state"])
    plant.statistic = plant.make(before)
    assert plant.tick(TIMEOUT) == [HOT, "Boiler: d1 cannot be read"]
    assert plant.tick(80.0) == []
    assert len(list(plant.events.get_all_events())) == 2


@pytest.mark.parametrize(
    "state",
    [None, 5, [], "x", {"turned_for": "x"}, {"open_for": -1, "more": 1}, {"failed_for": []}],
)
def test_a_state_that_somebody_else_left_is_as_good_as_none(
    state: Any, make_plant: Callable[..., Plant]
) -> None:
    plant = make_plant()
    plant.events.set_cache("p1", state)
    assert plant.tick(95.0) == [HOT]


def test_a_clock_that_is_set_changes_no_delay(make_plant: Callable[..., Plant]) -> None:
    plant = make_plant(on_delay=60)
    plant.tick(95.0)
    plant.wall.advance(30 * 86_400)
    assert plant.tick(95.0, after=59.0) == []
    assert plant.tick(95.0, after=1.0) == [HOT]


def test_silence_puts_an_event_off_and_ends_none(
    make_plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = make_plant()
    always = [DisabledTime(Time(1, 0, 0), Time(7, 23, 59))]
    monkeypatch.setattr(plant.statistic, "_is_silenced", lambda: plant.statistic.silencing)
    plant.statistic.on_silencing_changed(always)
    assert [plant.tick(95.0), plant.tick(95.0)] == [[], []]
    plant.statistic.on_silencing_changed([])
    assert plant.tick(95.0) == [HOT]
    plant.statistic.on_silencing_changed(always)
    assert plant.tick(95.0) == [HOT]
    assert plant.tick(80.0) == []


def test_events_are_closed_when_nobody_watches_any_more(
    make_plant: Callable[..., Plant],
) -> None:
    plant = make_plant(failure_after=0)
    other = Plant(plant.device, plant.fields["configuration"], predicate_id="p2")
    plant.tick(95.0)
    other.tick()
    plant.tick(TIMEOUT)
    assert len(plant.open_events()) == 3
    plant.statistic._call_method("on_offline")
    assert [event.metadata["predicate_id"] for event in plant.open_events()] == ["p2"]
    assert plant.events.get_cache("p1") is None


def test_an_open_event_stays_and_ends_by_the_new_configuration(
    make_plant: Callable[..., Plant],
) -> None:
    plant = make_plant()
    plant.tick(95.0)
    plant.statistic.on_configuration_changed({"pathpoint": "d1", "high": 50})
    assert plant.tick(80.0) == [HOT]
    plant.statistic.on_configuration_changed({"nonsense": True})
    assert plant.tick(40.0) == [HOT]
    plant.statistic.on_configuration_changed({"pathpoint": "d1", "low": 30})
    assert plant.tick(40.0) == []


BAD = [
    (None, "no object"),
    ([], "no object"),
    ({}, "a sensor or a pathpoint"),
    ({"high": 1}, "a sensor or a pathpoint"),
    ({"sensor": "a", "pathpoint": "d1", "high": 1}, "not both"),
    ({"pathpoint": "", "high": 1}, "pathpoint is ''"),
    ({"pathpoint": 5, "high": 1}, "pathpoint is 5"),
    ({"pathpoint": "d1"}, "high, low, or both"),
    ({"pathpoint": "d1", "high": "90"}, "high is '90'"),
    ({"pathpoint": "d1", "high": True}, "high is True"),
    ({"pathpoint": "d1", "high": float("nan")}, "high is out of range"),
    ({"pathpoint": "d1", "low": 10**400}, "low is out of range"),
    ({"pathpoint": "d1", "high": 1, "low": 1}, "high must be above low"),
    ({"pathpoint": "d1", "high": 9, "low": 1, "hysteresis": 4.5}, "twice the hysteresis"),
    ({"pathpoint": "d1", "high": 1, "on_delay": -1}, "on_delay is -1"),
    ({"pathpoint": "d1", "high": 1, "color": "green"}, "color is 'green'"),
    ({"pathpoint": "d1", "high": 1, "failure_color": 3}, "failure_color is 3"),
    ({"pathpoint": "d1", "high": 1, "message": 5}, "message is 5"),
    ({"pathpoint": "d1", "high": 1, "hight": 5}, "unknown entries: hight"),
]


@pytest.mark.parametrize(("configuration", "said"), BAD)
def test_a_configuration_that_makes_no_sense_is_an_error_in_the_log_and_watches_nothing(
    configuration: Any,
    said: str,
    make_offline_device: Maker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plant = Plant(make_offline_device(delayed_boot=True), configuration)
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("ERROR", None)
    assert "Predicate p1 (Boiler) watches nothing" in record.getMessage()
    assert said in record.getMessage()
    assert plant.tick(1e9) == []
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("color", "expected"), [("white", 0), ("Yellow", 1), ("RED", 2), (2, 2)])
def test_a_colour_has_a_name_or_a_number(
    color: Any, expected: int, make_plant: Callable[..., Plant]
) -> None:
    plant = make_plant(color=color)
    plant.tick(95.0)
    assert [int(event.color) for event in plant.open_events()] == [expected]


DOCUMENTED = re.findall(
    r"```json\n(.*?)```",
    (Path(__file__).parents[1] / "docs" / "statistics.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


@pytest.mark.parametrize("text", DOCUMENTED)
def test_what_the_guide_shows_is_a_configuration(
    text: str, make_offline_device: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(DOCUMENTED) == 2
    Plant(make_offline_device(delayed_boot=True), json.loads(text))
    assert caplog.messages == []


# --- Against the local server ---------------------------------------------------------------------


def predicate(predicate_id: str, configuration: Any, **changes: Any) -> dict[str, Any]:
    return {
        "predicate_id": predicate_id,
        "online": True,
        "statistic": "threshold",
        "configuration": configuration,
        "verbose_name": predicate_id,
        "group": "A",
        "silencing": [],
        **changes,
    }


def test_events_of_the_servers_predicates_reach_it_and_a_bad_one_stops_no_other(
    device: SMOKDevice, admin: Admin, smok_server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    device.register_statistic(ThresholdStatistic, lambda name, _: name == "threshold")
    hot = Pathpoint(device, "w1")
    now = itertools.count(int(START * 1000))
    hot.set_new_value(next(now), 95)
    good = {"pathpoint": "w1", "high": 90, "max_age": 1e12, "color": "red"}
    admin.set_predicates("1", [predicate("bad", {"hihg": 1}), predicate("good", good)])
    PredicatesTask(device).run()
    TicksTask(device).run()
    assert "unknown entries: hihg" in caplog.text or "needs a sensor" in caplog.text
    smok_server.stop()
    hot.set_new_value(next(now), 80)
    TicksTask(device).run()
    smok_server.start()
    device._events.run()
    (event,) = admin.events("1")
    assert (event["message"], event["color"]) == ("good: 95 is above 90", 2)
    assert event["ended_on"] is not None


def test_a_predicate_deleted_while_the_program_was_down_leaves_no_event_open(
    make_device: Callable[..., SMOKDevice], admin: Admin
) -> None:
    events = InMemoryEventDatabase()
    first = make_device(evt_database=events)
    good = {"pathpoint": "w1", "high": 90, "max_age": 1e12}
    admin.set_predicates("1", [predicate("p1", good)])
    first.register_statistic(ThresholdStatistic, lambda *_: True)
    Pathpoint(first, "w1").set_new_value(1, 95)
    PredicatesTask(first).run()
    TicksTask(first).run()
    assert len(list(events.get_open_events())) == 1
    second = make_device(evt_database=events, pred_database=first.pred_database)
    second.register_statistic(ThresholdStatistic, lambda *_: True)
    admin.set_predicates("1", [])
    PredicatesTask(second).run()
    assert list(events.get_open_events()) == []


# --- Against a model ------------------------------------------------------------------------------


class Model:
    """What should be open, told from everything that ever happened, each time anew.

    A tick is (time, value or None, number of the program's run).
    """

    def __init__(self, configuration: dict[str, Any]) -> None:
        self.configuration = configuration
        self.ticks: list[tuple[float, float | None, int]] = []
        self.open_since: int | None = None  # the tick that opened the event
        self.from_tick = 0  # where delays begin to be counted at the earliest
        self.failure_is_open = False

    def tick(self, time: float, value: float | None, run: int) -> None:
        self.ticks.append((time, value, run))
        last = len(self.ticks) - 1
        if value is None:
            begin = last
            while begin and self.ticks[begin - 1][1] is None:
                begin -= 1
            failed_for = self.running(begin, last)
            self.failure_is_open |= failed_for >= self.configuration["failure_after"]
            return
        self.failure_is_open = False
        if self.lasted(last, lambda v: self.beyond(v) != self.is_open) < self.delay:
            return
        if self.open_since is None:
            self.open_since = last
        elif self.running(self.open_since, last) >= self.configuration["min_duration"]:
            self.open_since = None
        else:
            return
        self.from_tick = last + 1

    @property
    def is_open(self) -> bool:
        return self.open_since is not None

    @property
    def delay(self) -> float:
        return float(self.configuration["off_delay" if self.is_open else "on_delay"])

    def beyond(self, value: float) -> bool:
        margin = self.configuration["hysteresis"] if self.is_open else 0
        high, low = self.configuration["high"], self.configuration["low"]
        return not low + margin <= value <= high - margin

    def lasted(self, last: int, holds: Callable[[float], bool]) -> float:
        """For how long all good readings up to the last tick had a property; below 0 if the last
        one has not.
        """
        seconds = -1.0
        for number in range(last, self.from_tick - 1, -1):
            time, value, run = self.ticks[number]
            if value is None:
                continue
            if not holds(value):
                break
            if seconds < 0:
                seconds = 0.0
            elif self.ticks[number + 1][1] is not None and self.ticks[number + 1][2] == run:
                seconds += self.ticks[number + 1][0] - time
        return seconds

    def running(self, first: int, last: int) -> float:
        """How long the program ran between two ticks."""
        return sum(
            later[0] - earlier[0]
            for earlier, later in itertools.pairwise(self.ticks[first : last + 1])
            if earlier[2] == later[2]
        )


amounts = st.sampled_from([0, 30, 60, 90, 150])


def test_whatever_happens_the_events_are_those_of_the_model(
    make_offline_device: Maker,
) -> None:
    device = make_offline_device(delayed_boot=True)
    numbers = itertools.count()

    class Machine(RuleBasedStateMachine):
        @initialize(
            hysteresis=st.sampled_from([0, 5, 20]),
            on_delay=amounts,
            off_delay=amounts,
            min_duration=amounts,
            failure_after=amounts,
        )
        def begin(self, **entries: float) -> None:
            self.run = 0
            configuration = {"high": 90, "low": 10, **entries}
            predicate_id = f"p{next(numbers)}"
            self.plant = Plant(
                device, {"pathpoint": "d1", **configuration}, predicate_id=predicate_id
            )
            # Values of one pathpoint must rise in time
            self.plant.wall.now = max(START, (self.plant.pathpoint.current_timestamp or 0) / 1000)
            self.model = Model(configuration)

        @rule(
            seconds=st.sampled_from([1.0, 30.0, 60.0, 200.0]),
            value=st.sampled_from([0.0, 12.0, 50.0, 50.0, 70.0, 85.0, 95.0, 95.0, *[TIMEOUT] * 3]),
        )
        def tick(self, seconds: float, value: Any) -> None:
            self.plant.tick(value, after=seconds)
            reading = None if value is TIMEOUT else value
            self.model.tick(self.plant.clock(), reading, self.run)

        @rule(seconds=st.sampled_from([0.0, 100.0, 86_400.0]))
        def restart(self, seconds: float) -> None:
            self.plant.pass_time(seconds)
            self.plant.restart()
            self.run += 1

        @invariant()
        def the_same_events_are_open(self) -> None:
            mine = self.plant.fields["predicate_id"]
            kinds = sorted(
                event.metadata["kind"]
                for event in self.plant.open_events()
                if event.metadata["predicate_id"] == mine
            )
            wanted = ["failure"] * self.model.failure_is_open + ["limit"] * self.model.is_open
            assert kinds == wanted

        def teardown(self) -> None:
            self.plant.statistic.on_offline()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=200,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
