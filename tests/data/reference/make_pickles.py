"""Makes the pickles beside it with the reference's own databases: run it, with the Python of an
environment that has ``smok`` 0.21 (``make bench`` makes one), in this folder. Its output is
committed, so that no test needs the reference.

The times are fixed, the provisional UUIDs of events are not.
"""

import datetime
import pickle
from collections import OrderedDict, deque
from pathlib import Path

from smok.exceptions import OperationFailedError, OperationFailedReason
from smok.extras.arch_database.pickling import PicklingArchivesDatabase
from smok.extras.baob_database.pickling import PicklingBAOBDatabase
from smok.extras.event_database.pickling import PicklingEventDatabase
from smok.extras.macros_database.pickling import PicklingMacroDatabase
from smok.extras.metadata_database.pickling import PicklingMetadataDatabase
from smok.extras.pp_database.pickling import PicklingPathpointDatabase
from smok.extras.pred_database.pickling import PicklingPredicateDatabase
from smok.extras.sensor_write_database.pickling import PicklingSensorWriteDatabase
from smok.extras.sensors_database.pickling import PicklingSensorDatabase
from smok.macro import Macro
from smok.predicate import BaseStatistic, Color, DisabledTime, Event, Time
from smok.predicate.undefined import UndefinedStatistic
from smok.sensor import Sensor, SensorWriteEvent

SECONDS = 1_767_323_045
MILLISECONDS = SECONDS * 1000


class Device:
    """What sensors and statistics need of one to be made."""

    def get_pathpoint(self, name):
        return name


class Watch(BaseStatistic):
    """A user's statistic."""

    def on_tick(self):
        pass


class Window:
    """A user's class in a state."""

    def __init__(self):
        self.values = [1, 2]


class SavedPathpoints(PicklingPathpointDatabase):
    """The reference's checkpoint fails with an AttributeError, since no ``__pathpoints`` is ever
    set; a device that wants its samples kept mends that like this.
    """

    def checkpoint(self):
        self._PicklingPathpointDatabase__pathpoints = self.pathpoints
        super().checkpoint()


device = Device()

# Events and states, in two files
events = PicklingEventDatabase("device", "alarms.dat")
known = Event(None, SECONDS, None, Color.YELLOW, False, "pump", "B", "Pump: hot", None, {})
closed = Event(
    None, SECONDS + 1, None, Color.RED, False, "pump", "B", "Pump: off", "jan", {"a": "ż"}
)
done = Event(None, SECONDS + 2, None, Color.WHITE, True, "door", "C", "Door", None, {})
for event in (known, closed, done):
    events.add_event(event)
events.events_to_sync[:] = [done]
events.get_events_to_sync().acknowledge("server-done")
known.uuid = "server-known"
events.events_to_sync[:] = [closed]
closed.ended_on = SECONDS + 60.75  # BaseStatistic.close_event takes time.time()
fresh = Event(None, SECONDS + 3, None, Color.RED, False, "pump", "B", "Pump: fresh", None, {})
events.add_event(fresh)
events.close_event(closed)  # which lists it twice
events.set_cache("p-plain", {"limit": 5, "since": MILLISECONDS / 1000, "seen": (1, 2)})
events.set_cache("p-event", {"event": fresh, "times": deque([1, 2], maxlen=5)})
events.set_cache("p-none", None)
events.set_cache("p-date", OrderedDict(at=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)))
events.sync_data()

others = Path("others")
others.mkdir(exist_ok=True)
user = PicklingEventDatabase(str(others / "own-class.pkl"), "unused")
user.set_cache("p-own", {"window": Window()})
user.set_cache("p-plain", 1)

predicates = PicklingPredicateDatabase("predicates.pkl")
silencing = [DisabledTime(Time(1, 2, 3), Time(5, 6, 7))]
predicates.set_new_predicates(
    [
        Watch(device, "p-plain", "Pump", silencing, {"limit": 5}, "watch", "C", 7).to_kwargs(),
        UndefinedStatistic(
            device=device, predicate_id="p-event", verbose_name="Boiler", silencing=[],
            configuration=None, statistic="undefined",
        ).to_kwargs(),
    ]
)  # fmt: skip

macros = PicklingMacroDatabase("macros.bin")
macros.set_macros(
    [
        Macro("m-later", {"W1r1": 1, "u2": "on"}, [4_000_000_000, 4_000_000_060]),
        Macro("m-done", {"W1r1": 0}, [SECONDS, 4_000_000_000]),
    ]
)
macros.get_macros()[1].occurrences_not_done.popleft()
macros.notify_macro_executed("m-done", SECONDS)

metadata = PicklingMetadataDatabase("metadata.pkl")
metadata.put_plain("serial", "1234", SECONDS + 0.5)
metadata.put_plain("name", "Kotłownia", SECONDS)

sensors = PicklingSensorDatabase("sensors.pkl")
sensors.on_sensors_sync(
    [Sensor(device, "boiler temp", "W1r1", "std.Number10"), Sensor(device, "mode", "W1~W2", "x")]
)

archives = PicklingArchivesDatabase("archives.pkl")
archives.on_archiving_data_sync({60: ["W1r1", "W2"], 300: ["f3"]})

writes = PicklingSensorWriteDatabase("writes.pkl")
for number in range(2):
    writes.add_sw(
        SensorWriteEvent(MILLISECONDS + number, "jan", "Mode", "Eco", "mode", number, "test")
    )

baobs = PicklingBAOBDatabase("baobs")
baobs.set_baob_value("firmware", bytes(range(256)), 3)
baobs.set_baob_value("notes 2", b"\x80\x04 begins like a pickle", 0)

samples = SavedPathpoints("samples.pkl")
for number in range(5):
    samples.on_new_data("W1r1", MILLISECONDS + number, number * 10)
samples.on_new_data("f3", MILLISECONDS, 0.5)
samples.on_new_data(
    "W2", MILLISECONDS, OperationFailedError(OperationFailedReason.TIMEOUT, MILLISECONDS)
)
samples.on_new_data("W9", MILLISECONDS, 9)
samples.confirm_synced_up_to("W9", MILLISECONDS)
samples.checkpoint()

# What Python 3.6 and 3.7 made of the same: protocols 3 and 4
content = (samples.pathpoints, samples.last_pathpoint_value)
(others / "samples-protocol-3.pkl").write_bytes(pickle.dumps(content, 3))
content = (events.events, events.events_to_sync)
(others / "alarms-protocol-4.dat").write_bytes(pickle.dumps(content, 4))
