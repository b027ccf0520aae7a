"""A week in the life of a device, on a clock that the test moves: nothing is missed, nothing is
done twice, nothing piles up.

The device's threads do not run. Its tasks are given the test's clocks, and are run minute by minute
when they say that they are due, as CommunicatorThread and ArchivingAndMacroThread do. The server is
the real one, and is away every now and then.
"""

from __future__ import annotations

import datetime
import gc
import itertools
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway_support import DEVICE_ID, held, pending
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.pathpoint import Pathpoint, Section, WriteOrder
from smok_fast.predicate import Color, DisabledTime, Event, ThresholdStatistic
from smok_fast.server import LocalServer
from smok_fast.sync.archives import ArchivesTask
from smok_fast.sync.base import SyncTask
from smok_fast.sync.data import DataTask
from smok_fast.sync.events import EventsTask
from smok_fast.sync.macros import MacroExecutionTask, MacroReportsTask, MacrosTask
from smok_fast.sync.metadata import MetadataTask
from smok_fast.sync.predicates import PredicatesTask, TicksTask
from smok_fast.sync.time_zone import TimeZoneTask

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: Monday, 2024-06-03, 00:00 in UTC: the week begins in the middle of a night in Warsaw.
BEGIN = int(datetime.datetime(2024, 6, 3, tzinfo=datetime.UTC).timestamp())

WARSAW, TOKYO = "Europe/Warsaw", "Asia/Tokyo"

#: When the server has the device in another time zone, in seconds from the beginning.
MOVES = 4 * DAY + 15 * HOUR

#: When the device's clock is set back by ten minutes, in seconds from the beginning.
SET_BACK = 3 * DAY + 7 * HOUR

#: From Friday evening to Monday morning nobody wants to be told.
WEEKEND = {
    "start": {"day": 5, "hour": 22, "minute": 0},
    "stop": {"day": 1, "hour": 6, "minute": 0},
}

#: When the server is away: for 40 minutes, twice a day.
AWAY = [
    range(day * DAY + start, day * DAY + start + 40 * MINUTE)
    for day in range(7)
    for start in (3 * HOUR + 50 * MINUTE, 17 * HOUR + 20 * MINUTE)
]

#: When it is too hot: for 50 minutes, four times a day.
HOT = [range(start, start + 50 * MINUTE) for start in range(4 * HOUR, 7 * DAY, 6 * HOUR)]

#: When macros are to be executed: every two hours, and a bit.
MACROS = [BEGIN + 90 * MINUTE + number * 121 * MINUTE for number in range(82)]

#: What is archived, by the day on which the server says so: intervals and names.
ARCHIVES: list[dict[int, list[str]]] = [
    {10: ["W1"]},
    {10: ["W1", "W2"]},
    {10: ["W2"]},
    {20: ["W2"], 10: ["W3"]},
    {},
    {5: ["W1"]},
    {5: ["W1"], 30: ["rW{W2}+{W3}"]},
]


class Clocks:
    """Seconds since the beginning, and what the clocks of the device show then."""

    def __init__(self) -> None:
        self.now = 0
        self.offset = 0

    def monotonic(self) -> float:
        return 5000.0 + self.now

    def wall(self) -> float:
        return float(BEGIN + self.now + self.offset)


class Gateway(SMOKDevice):
    """A device that executes sections at once, and reads the test's clock."""

    def __init__(self, *args: Any, clocks: Clocks, **options: Any) -> None:
        self.clocks = clocks
        self.written: list[tuple[int, Any]] = []
        self.opened: list[int] = []
        self.closed_at: list[int] = []
        super().__init__(*args, **options)

    def get_local_time(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.clocks.wall(), self.timezone)

    def execute(self, *secs: Section) -> Section | None:
        for section in secs:
            assert section.mark_as_being_executed()
            self.written += [
                (self.clocks.now, order.value)
                for order in section.orders
                if isinstance(order, WriteOrder)
            ]
            section.mark_as_done()
        return secs[-1] if secs else None


class Heat(ThresholdStatistic):
    """Notes when it opens and closes events."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        clocks = kwargs["device"].clocks
        super().__init__(*args, clock=clocks.monotonic, wall_clock=clocks.wall, **kwargs)

    def open_event(self, msg: str, color: Color, metadata: Any = None) -> Event | None:
        event = super().open_event(msg, color, metadata)
        if event is not None:
            self.device.opened.append(self.device.clocks.now)  # type: ignore[attr-defined]
        return event

    def close_event(self, event: Event) -> None:
        super().close_event(event)
        self.device.closed_at.append(self.device.clocks.now)  # type: ignore[attr-defined]


class Week:
    """The server, the device, and what happens to them minute by minute."""

    def __init__(self, server: LocalServer, device: Gateway) -> None:
        self.server = server
        self.device = device
        self.clocks = device.clocks
        monotonic, wall = {"clock": device.clocks.monotonic}, {"wall_clock": device.clocks.wall}
        self.tasks: list[SyncTask] = [
            EventsTask(device, **monotonic),
            DataTask(device, 0.0, lambda: None),
            TimeZoneTask(device, **monotonic),
            PredicatesTask(device, interval=900.0, **monotonic),
            TicksTask(device, **monotonic),
            ArchivesTask(device, **monotonic),
            MacrosTask(device, **monotonic, **wall),
            MacroReportsTask(device, **monotonic),
            MetadataTask(device, **monotonic),
            MacroExecutionTask(device, **monotonic, **wall),
        ]
        self.read: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.read_at: dict[str, list[int]] = defaultdict(list)
        self.hot = Pathpoint(device, "W9")

    def live(self, minutes: int) -> None:
        """Let time pass."""
        for _ in range(minutes):
            self.change_the_world()
            self.measure()
            self.talk()
            self.clocks.now += MINUTE

    def change_the_world(self) -> None:
        now, admin = self.clocks.now, self.server.admin
        if now % DAY == 0 and now < 7 * DAY:
            archives = ARCHIVES[now // DAY]
            admin.set_archives(
                DEVICE_ID,
                [
                    {"interval": minutes * MINUTE, "pathpoints": names}
                    for minutes, names in archives.items()
                ],
            )
        if now == MOVES:
            admin.set_device(DEVICE_ID, timezone=TOKYO)
        if now == SET_BACK:
            self.clocks.offset = -10 * MINUTE
        if any(now == away.start for away in AWAY):
            self.server.stop()
        if any(now == away.stop for away in AWAY):
            self.server.start()

    def measure(self) -> None:
        """Read what is archived, as often as the device has been told; and the heat."""
        now = self.clocks.now
        if now % HOUR == 0:
            self.device.metadata["hour"] = now // HOUR
        heat = 95 if is_hot(now) else 20
        if self.hot.current_value != heat:
            self.hot.set_new_value((BEGIN + now) * 1000, heat)
        due: dict[str, int] = {}
        for interval, names in self.device.arch_database.get_archiving_instructions().items():
            for name in names:
                for native in self.device.get_pathpoint(name).natives():
                    if now % interval == 0:
                        due[native.name] = now
        for name in due:
            self.device.get_pathpoint(name).set_new_value((BEGIN + now) * 1000, now % 1000)
            self.read[name].append(((BEGIN + now) * 1000, now % 1000))
            self.read_at[name].append(now)

    def talk(self) -> None:
        """What CommunicatorThread and ArchivingAndMacroThread do in a minute."""
        link_is_up = True
        for task in self.tasks:
            if (task.needs_link and not link_is_up) or not task.is_due(self.clocks.monotonic()):
                continue
            try:
                while task.run():
                    pass
            except ResponseError as error:
                assert error.is_no_link()
                assert is_away(self.clocks.now)
                link_is_up = False


def is_hot(now: int) -> bool:
    return any(now in hot for hot in HOT)


def is_away(now: int) -> bool:
    return any(now in away for away in AWAY)


def expected_events() -> list[tuple[int, int]]:
    """When events are to be open: told from the week as it is, minute by minute."""
    weekend = DisabledTime.from_json(WEEKEND)
    zone, opened, spans = ZoneInfo(WARSAW), None, []
    for now in range(0, 7 * DAY, MINUTE):
        # The device learns within the hour in which time zone it is, on the full hour here
        if now >= MOVES:
            zone = ZoneInfo(TOKYO)
        offset = -10 * MINUTE if now >= SET_BACK else 0
        local = datetime.datetime.fromtimestamp(BEGIN + now + offset, zone)
        if opened is None and is_hot(now) and not weekend.is_in_time(local):
            opened = now
        elif opened is not None and not is_hot(now):
            spans.append((opened, now))
            opened = None
    return spans


@pytest.fixture
def week(smok_server: LocalServer, make_device: Callable[..., SMOKDevice]) -> Week:
    class Known(Gateway):
        def provide_unknown_pathpoint(self, name: str, storage_level: Any = 1) -> Pathpoint:
            return Pathpoint(self, name, storage_level)

    admin = smok_server.admin
    admin.set_device(DEVICE_ID, timezone=WARSAW)
    admin.set_predicates(
        DEVICE_ID,
        [
            {
                "predicate_id": "heat",
                "online": True,
                "statistic": "heat",
                "configuration": {"pathpoint": "W9", "high": 90, "max_age": 1e9},
                "verbose_name": "Heat",
                "group": "A",
                "silencing": [WEEKEND],
            }
        ],
    )
    admin.set_macros(
        DEVICE_ID,
        [
            {
                "macro_id": f"m{number}",
                "commands": [{"path": "W8", "value": number}],
                "occurrences": [occurrence],
            }
            for number, occurrence in enumerate(MACROS)
        ],
    )
    device = make_device(Known, clocks=Clocks())
    assert isinstance(device, Gateway)
    device.register_statistic(Heat, lambda name, _: name == "heat")
    return Week(smok_server, device)


@pytest.mark.timeout(600)
def test_a_week_of_a_device(week: Week) -> None:
    device, admin = week.device, week.server.admin
    threads = threading.active_count()
    objects = []
    for _ in range(7):
        week.live(DAY // MINUTE)
        gc.collect()  # what is left then is what piles up
        objects.append(len(gc.get_objects()))
    week.live(1)  # the last of the last minute is told

    # Alarms
    spans = expected_events()
    assert list(itertools.zip_longest(device.opened, device.closed_at)) == spans
    assert 8 < len(spans) < len(HOT), "there were some, and there was silence"
    events = admin.events(DEVICE_ID)
    assert len(events) == len(spans)
    assert all(event["ended_on"] is not None for event in events)

    # Macros: each once, within the minute of its time on the device's clock
    due = {number: occurrence - BEGIN for number, occurrence in enumerate(MACROS)}
    due = {
        number: when if when < SET_BACK else when + 10 * MINUTE
        for number, when in due.items()
        if when < 7 * DAY - 10 * MINUTE
    }
    assert sorted(number for _, number in device.written) == sorted(due)
    for when, number in device.written:
        assert 0 <= when - due[number] <= MINUTE
    assert sorted(admin.done_macros(DEVICE_ID)) == sorted(
        (f"m{number}", MACROS[number]) for number in due
    )
    assert {
        occurrence["reports"]
        for macro in admin.macros(DEVICE_ID)
        for occurrence in macro["occurrences"]
    } <= {0, 1}

    # Archives: what was archived when, and that the server has all of it
    assert pending(device) == 0
    samples = held(admin)
    del samples["W9"]
    assert samples == week.read
    days = {
        name: sorted({day for day in range(7) if expected_on(name, day)})
        for name in ("W1", "W2", "W3")
    }
    assert days == {"W1": [0, 1, 5, 6], "W2": [1, 2, 3, 6], "W3": [3, 6]}
    for name, on in days.items():
        for day in range(7):
            within = [at for at in week.read_at[name] if day * DAY < at <= (day + 1) * DAY]
            interval = min(expected_on(name, day), default=0)
            # The list is fetched every ten minutes, on the full hour here
            wanted = DAY // MINUTE // interval if day in on else 0
            assert abs(len(within) - wanted) <= 1, (name, day)

    # Nothing is left over, and nothing has piled up
    assert admin.metadata(DEVICE_ID)["hour"] == str(7 * 24)
    assert device.timezone == ZoneInfo(TOKYO)
    assert list(device.evt_database.get_open_events()) == []
    assert threading.active_count() <= threads + 1
    assert max(objects[2:]) - objects[1] < 300


def expected_on(name: str, day: int) -> list[int]:
    """The intervals, in minutes, at which a pathpoint is archived on a day."""
    return [
        minutes
        for minutes, names in ARCHIVES[day].items()
        if any(name in listed for listed in names)
    ]
