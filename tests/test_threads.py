"""Which threads a device has, and which of them calls what a user has overridden."""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from gateway_support import DEVICE_ID, PATIENCE, QUICK
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.extras import (
    InMemoryArchivesDatabase,
    InMemoryBAOBDatabase,
    InMemoryEventDatabase,
    InMemoryMacroDatabase,
    InMemoryMetadataDatabase,
    InMemoryPredicateDatabase,
    InMemorySensorDatabase,
    InMemorySensorWriteDatabase,
)
from smok_fast.pathpoint import AdviseLevel, Pathpoint, PathpointValueType, Section
from smok_fast.predicate import BaseStatistic, Color
from smok_fast.sensor import SensorWriteEvent
from smok_fast.server import LocalServer
from smok_fast.testing import Admin, wait_until

MAIN = "MainThread"
COMMUNICATOR = "CommunicatorThread"
EXECUTOR = "OrderExecutorThread"
ARCHIVING = "ArchivingAndMacroThread"
LOGS = "LogPublisherThread"
POOL = "a thread of the program's own"

#: Names of the threads that have called something, by what they have called.
Calls = dict[str, set[str]]


@pytest.fixture
def calls() -> Calls:
    return defaultdict(set)


def noting(cls: type, calls: Calls) -> Any:
    """An instance of a class whose public methods note which thread calls them."""

    def wrap(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[f"{cls.__name__.removeprefix('InMemory')}.{name}"].add(
                threading.current_thread().name
            )
            return method(*args, **kwargs)

        return call

    methods = {
        name: wrap(name, getattr(cls, name))
        for name in dir(cls)
        if not name.startswith("_") and callable(getattr(cls, name))
    }
    return type(cls.__name__, (cls,), methods)()


class Noting(BaseStatistic):
    calls: Calls

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.note("__init__")
        super().__init__(*args, **kwargs)

    def note(self, what: str) -> None:
        self.calls[f"statistic.{what}"].add(threading.current_thread().name)

    def on_tick(self) -> None:
        self.note("on_tick")
        self.device.metadata.get("of the statistic")

    def on_offline(self) -> None:
        self.note("on_offline")

    def on_configuration_changed(self, new_config: dict[str, Any] | None) -> None:
        super().on_configuration_changed(new_config)
        self.note("on_configuration_changed")

    def on_group_changed(self, new_group: str) -> None:
        super().on_group_changed(new_group)
        self.note("on_group_changed")

    def on_verbose_name_changed(self, new_verbose_name: str) -> None:
        super().on_verbose_name_changed(new_verbose_name)
        self.note("on_verbose_name_changed")

    def on_silencing_changed(self, new_silencing: Any) -> None:
        super().on_silencing_changed(new_silencing)
        self.note("on_silencing_changed")


class Register(Pathpoint):
    def note(self, what: str) -> None:
        assert isinstance(self.device, Everything)
        self.device.note(f"pathpoint.{what}")

    def on_read(self, advise: AdviseLevel) -> int:
        self.note("on_read")
        return 1

    def on_write(self, value: PathpointValueType, advise: AdviseLevel) -> None:
        self.note("on_write")

    def on_new_storage_level(self, new_storage_level: StorageLevel) -> None:
        super().on_new_storage_level(new_storage_level)
        self.note("on_new_storage_level")


class Pooled(Register):
    """What it reads comes by a Future, which the test completes."""

    future: Future[Any]

    def on_read(self, advise: AdviseLevel) -> Any:
        self.future = Future()
        return self.future


class Everything(SMOKDevice):
    """A device that notes which thread calls what."""

    def __init__(self, certificate: Any, url: str, calls: Calls, **options: Any) -> None:
        self.calls = calls
        super().__init__(str(certificate.cert), str(certificate.key), url=url, **options)

    def note(self, what: str) -> None:
        self.calls[what].add(threading.current_thread().name)

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        self.note("provide_unknown_pathpoint")
        return Register(self, name, storage_level, lambda _: self.note("callable_on_change"))

    def execute_sysctl(self, op_type: str, op_args: str) -> bool:
        self.note("execute_sysctl")
        return super().execute_sysctl(op_type, op_args) or op_type == "mine"

    def on_successful_sync(self, *args: Any, **kwargs: Any) -> None:
        self.note("on_successful_sync")

    def on_failed_sync(self, *args: Any, **kwargs: Any) -> None:
        self.note("on_failed_sync")

    def on_baob_updated(self, baob_name: str) -> None:
        self.note("on_baob_updated")


@pytest.fixture
def make(
    smok_server: LocalServer, device_certificate: Callable[..., Any], calls: Calls
) -> Iterator[Callable[..., Everything]]:
    made: list[Everything] = []

    def make(cls: type[Everything] = Everything, **options: Any) -> Everything:
        options = {"evt_database": InMemoryEventDatabase(), **QUICK, **options}
        device = cls(device_certificate(DEVICE_ID), smok_server.url, calls, **options)
        made.append(device)
        return device

    yield make
    for device in made:
        device.close()


#: What is called by which thread, as the documentation says.
CALLED_BY = {
    "pathpoint.on_read": {EXECUTOR},
    "pathpoint.on_write": {EXECUTOR},
    "pathpoint.on_new_storage_level": {COMMUNICATOR},
    "callable_on_change": {EXECUTOR},  # where a read gives the value, and no Future
    "callable_on_change of a Future": {POOL},  # the thread that completes it
    "execute_sysctl": {EXECUTOR},
    "on_successful_sync": {COMMUNICATOR},
    "on_failed_sync": {COMMUNICATOR},
    "on_baob_updated": {COMMUNICATOR},
    "matcher": {COMMUNICATOR},
    "statistic.__init__": {COMMUNICATOR},
    "statistic.on_tick": {COMMUNICATOR},
    "statistic.on_configuration_changed": {COMMUNICATOR},
    "statistic.on_group_changed": {COMMUNICATOR},
    "statistic.on_silencing_changed": {COMMUNICATOR},
    "statistic.on_verbose_name_changed": {COMMUNICATOR},
    "statistic.on_offline": {COMMUNICATOR},
    "ArchivesDatabase.get_archiving_instructions": {MAIN},
    "ArchivesDatabase.on_archiving_data_sync": {COMMUNICATOR},
    "BAOBDatabase.check_consistency": {MAIN},
    "EventDatabase.checkpoint": {COMMUNICATOR},
    "EventDatabase.get_cache": {COMMUNICATOR},
    "EventDatabase.get_events_to_sync": {COMMUNICATOR},
    "EventDatabase.on_predicate_deleted": {COMMUNICATOR},
    "EventDatabase.set_cache": {COMMUNICATOR},
    "MacroDatabase.checkpoint": {ARCHIVING},
    "MacroDatabase.get_done_macros": {COMMUNICATOR},
    "MacroDatabase.get_macros": {ARCHIVING},
    "MacroDatabase.get_started_macros": {ARCHIVING},
    "MacroDatabase.notify_macro_executed": {EXECUTOR},
    "MacroDatabase.notify_macro_started": {EXECUTOR},
    "MacroDatabase.notify_macro_synced": {COMMUNICATOR},
    "MacroDatabase.set_macros": {COMMUNICATOR},
    # A statistic asks for what there is not on the server, and so not here any more
    "MetadataDatabase.delete_plain": {MAIN, COMMUNICATOR},
    "MetadataDatabase.get_plain": {MAIN},
    "MetadataDatabase.put_plain": {MAIN},
    "MetadataDatabase.update_plain": {MAIN},
    "PredicateDatabase.set_new_predicates": {COMMUNICATOR},
    "SensorDatabase.on_register": {MAIN},
    "SensorDatabase.on_sensors_sync": {COMMUNICATOR},
    "SensorWriteDatabase.add_sw": {MAIN},
    "SensorWriteDatabase.get_sw_sync": {COMMUNICATOR},
    "SensorWriteDatabase.on_sync_sw_failed": {COMMUNICATOR},
    "SensorWriteDatabase.on_synced_sw": {COMMUNICATOR},
}


def test_each_callback_is_called_by_the_thread_that_its_documentation_names(
    smok_server: LocalServer, make: Callable[..., Everything], calls: Calls
) -> None:
    admin = smok_server.admin
    device = make(
        evt_database=noting(InMemoryEventDatabase, calls),
        macro_database=noting(InMemoryMacroDatabase, calls),
        meta_database=noting(InMemoryMetadataDatabase, calls),
        sensor_database=noting(InMemorySensorDatabase, calls),
        baob_database=noting(InMemoryBAOBDatabase, calls),
        pred_database=noting(InMemoryPredicateDatabase, calls),
        arch_database=noting(InMemoryArchivesDatabase, calls),
        sensor_write_database=noting(InMemorySensorWriteDatabase, calls),
        predicates_interval=0.1,
        baobs_interval=0.1,
        archives_interval=0.1,
        macros_interval=0.1,
        delayed_boot=True,
    )
    predicate = {
        "predicate_id": "p1",
        "online": True,
        "statistic": "noting",
        "configuration": None,
        "verbose_name": "Boiler",
        "group": "A",
        "silencing": [],
    }
    minute = {"day": 1, "hour": 0, "minute": 0}
    changed = {
        **predicate,
        "configuration": {"limit": 5},
        "verbose_name": "Stove",
        "group": "B",
        "silencing": [{"start": minute, "stop": minute}],
    }
    admin.set_predicates(DEVICE_ID, [predicate])
    admin.set_archives(DEVICE_ID, [{"interval": 0.05, "pathpoints": ["W1"]}])
    admin.set_sensors(DEVICE_ID, [{"fqts": "boiler temp", "path": "W1", "type": "x"}])
    admin.set_pathpoints(DEVICE_ID, {"W5": StorageLevel.TREND})
    admin.set_macros(
        DEVICE_ID,
        [
            {
                "macro_id": "m",
                "commands": [{"path": "W3", "value": 1}],
                "occurrences": [int(time.time()) - 5],
            }
        ],
    )
    admin.queue_orders(
        DEVICE_ID,
        [
            {
                "orders": [
                    {"type": "write", "path": "W2", "value": 1},
                    {"type": "sysctl", "op_type": "mine", "op_args": ""},
                ],
                "disposition": 0,
            }
        ],
    )
    Noting.calls = calls

    def matches(name: str, configuration: Any) -> bool:
        device.note("matcher")
        return name == "noting"

    Register(device, "W5", StorageLevel.PERMANENT)
    device.register_statistic(Noting, matches)
    admin.fault("/v1/device/sensor/write_log", status=500)
    device.log_sensor_write(SensorWriteEvent(1, "anna", "a", "1", "a", "1", "why"))
    use_metadata(device, admin)
    device.continue_boot()
    complete_a_read(device)

    def wait_for(what: str) -> None:
        wait_until(lambda: calls[what], PATIENCE)

    wait_for("statistic.on_tick")
    admin.set_predicates(DEVICE_ID, [changed])
    wait_for("statistic.on_group_changed")
    admin.set_predicates(DEVICE_ID, [])
    wait_for("statistic.on_offline")
    wait_until(lambda: device.baobs_loaded, PATIENCE)
    admin.set_baob(DEVICE_ID, "new", b"1")
    wait_for("on_baob_updated")
    others = CALLED_BY.keys() - {"on_failed_sync"}
    wait_until(lambda: all(calls[what] for what in others), PATIENCE)
    smok_server.stop()
    wait_for("on_failed_sync")
    smok_server.start()
    wait_until(lambda: device.link_is_up, PATIENCE)
    device.close()
    assert {what: calls[what] for what in CALLED_BY} == CALLED_BY
    assert calls["provide_unknown_pathpoint"] <= {COMMUNICATOR, EXECUTOR}
    # The rest is for any thread to call: nobody else does
    assert set().union(*calls.values()) <= {MAIN, COMMUNICATOR, EXECUTOR, ARCHIVING, POOL}


def use_metadata(device: SMOKDevice, admin: Admin) -> None:
    """Do everything that the database of metadata is told about."""
    admin.set_metadata(DEVICE_ID, "theirs", "1")
    admin.fault("/v1/device/metadata/plain/lost", drop=True, times=None)
    device.metadata["mine"] = "1"
    del device.metadata["mine"]
    assert device.metadata["theirs"] == "1"
    assert device.metadata.get("lost") is None


def complete_a_read(device: Everything) -> None:
    """Have a thread of the program's own complete the Future of a read."""
    changed = "callable_on_change of a Future"
    pathpoint = Pooled(device, "W6", callable_on_change=lambda _: device.note(changed))
    section = pathpoint.read()
    device.execute(section)
    # When the executor is done with the next one, it waits for the Future of this one
    after = Register(device, "W7").read()
    device.execute(after)
    after.result(PATIENCE)
    thread = threading.Thread(target=pathpoint.future.set_result, args=(7,), name=POOL)
    thread.start()
    thread.join()
    section.result(PATIENCE)
    assert pathpoint.get()[1] == 7


def test_an_execution_loop_of_the_users_is_called_by_the_executor(
    smok_server: LocalServer, make: Callable[..., Everything], calls: Calls
) -> None:
    class Own(Everything):
        def execute_section(self, section: Section) -> None:
            self.note("execute_section")

        def sync_sections(self, termination_checker: Callable[[], bool]) -> None:
            self.note("sync_sections")

    device = make(Own)
    for disposition in (0, 1):
        section = Section.from_json(
            {"orders": [{"type": "wait", "time": 0}], "disposition": disposition}
        )
        device.execute(section)
        section.result(PATIENCE)
    assert calls["execute_section"] == calls["sync_sections"] == {EXECUTOR}


def test_a_device_has_four_threads_for_as_long_as_it_lives(
    smok_server: LocalServer, make: Callable[..., Everything], calls: Calls
) -> None:
    before = set(threading.enumerate())

    def of_the_device() -> list[tuple[str, bool]]:
        # Besides, each call to the server has a timer while it is under way; the server is here too
        return sorted(
            (thread.name, thread.daemon)
            for thread in threading.enumerate()
            if thread not in before
            and not isinstance(thread, threading.Timer)
            and thread.name not in ("smok-server", "AnyIO worker thread")
        )

    four = [(name, True) for name in sorted([ARCHIVING, COMMUNICATOR, LOGS, EXECUTOR])]
    device = make(archives_interval=0.1, delayed_boot=True)
    assert of_the_device() == []
    device.continue_boot()
    assert of_the_device() == four
    for number in range(20):
        device.execute(device.get_pathpoint(f"W{number}").read()).result(PATIENCE)
        device.open_event(number, None, Color.WHITE, False, "token", "group", "message")
    wait_until(lambda: len(smok_server.admin.events(DEVICE_ID)) == 20, PATIENCE)
    smok_server.kill()
    wait_until(lambda: calls["on_failed_sync"], PATIENCE)
    assert of_the_device() == four
    smok_server.start()
    wait_until(lambda: device.link_is_up, PATIENCE)
    assert of_the_device() == four
    device.close()
    assert of_the_device() == []
