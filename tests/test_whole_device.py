"""Everything that a device does, while the server goes away and comes back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_support import (
    DEVICE_ID,
    PATIENCE,
    Recorder,
    check_server_holds_what_was_read,
    pending,
    settle,
)
from pathpoint_support import scripted
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.logging import SMOKLogHandler
from smok_fast.pathpoint import MessageOrder, Pathpoint, Section
from smok_fast.predicate import BaseStatistic, Color
from smok_fast.server import LocalServer
from smok_fast.sync.predicates import TicksTask
from smok_fast.testing import wait_until

COMMUNICATOR = "CommunicatorThread"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    with LocalServer(tmp_path / "server.sqlite") as server:
        yield server


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    logger = logging.getLogger(f"a program of {request.node.name}")
    logger.propagate = False
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


def test_nothing_is_lost_or_doubled_while_the_server_is_away(
    server: LocalServer, device_certificate: Callable[..., Any], log: logging.Logger
) -> None:
    admin = server.admin
    due = int(time.time()) + 3
    admin.set_device(DEVICE_ID, slaves=[{"device_id": "slave"}])
    admin.set_sensors(DEVICE_ID, [{"fqts": "boiler temp", "path": "W1", "type": "std.Number10"}])
    admin.set_archives(DEVICE_ID, [{"interval": 0.05, "pathpoints": ["W1"]}])
    admin.set_metadata(DEVICE_ID, "of the server", "1")
    admin.set_baob(DEVICE_ID, "of the server", b"1", version=1)
    admin.queue_orders(
        DEVICE_ID, [{"orders": [{"type": "message", "uuid": "known"}], "disposition": 0}]
    )
    admin.set_macros(
        DEVICE_ID,
        [{"macro_id": "m", "commands": [{"path": "W2", "value": 7}], "occurrences": [due]}],
    )
    with Recorder(
        device_certificate(DEVICE_ID), server.url, baobs_interval=0.5, cache_metadata_for=0
    ) as device:
        archived = scripted(device, "W1", 215, callable_on_change=device.note)
        written = scripted(device, "W2", callable_on_change=device.note)
        log.addHandler(SMOKLogHandler(device, "program"))
        log.warning("before")
        (slave,) = device.get_slaves()
        assert device.metadata["of the server"] == "1"
        lasting = device.open_event(1, None, Color.RED, False, "lasting", "A", "opened before")
        device.metadata["key"] = "before"
        device.get_baob("key").value = b"before"
        wait_until(lambda: admin.messages(DEVICE_ID)["known"] is not None, PATIENCE)
        wait_until(lambda: len(admin.events(DEVICE_ID)) == 1, PATIENCE)
        wait_until(lambda: admin.metadata(DEVICE_ID).get("key") == "before", PATIENCE)
        wait_until(lambda: admin.baobs(DEVICE_ID) == {"key": 0, "of the server": 1}, PATIENCE)
        wait_until(lambda: device.get_baob("of the server").version == 1, PATIENCE)
        wait_until(lambda: list(device.macros_database.get_macros()) or written.log, PATIENCE)

        server.kill()
        wait_until(lambda: device.link_is_up is False, PATIENCE)
        sensor = device.get_sensor({"temp", "boiler"})
        wait_until(lambda: sensor.get()[1] == 21.5, PATIENCE)
        for ask in (device.get_device_info, device.get_slaves):
            with pytest.raises(ResponseError) as no_link:
                ask()
            assert no_link.value.is_no_link()
        with pytest.raises(ResponseError):
            slave.linkstate = {"status": False}
        assert device.metadata["of the server"] == "1", "as it was"
        device.metadata["key"] = "away"
        device.metadata["other"] = "away"
        del device.metadata["other"]
        device.get_baob("key").value = b"away"
        device.close_event(lasting, 2)
        brief = device.open_event(3, None, Color.WHITE, False, "brief", "A", "came and went")
        device.close_event(brief, 4)
        device.open_event(5, 5, Color.YELLOW, True, "point", "A", "at once")
        sensor.log_write("anna", "it was cold", "22", timestamp=6)
        message = Section([MessageOrder("known")])
        device.execute(message)
        for number in range(3):
            log.error("away %d", number)
        wait_until(lambda: written.log == [("write", "W2", 7)], PATIENCE)
        wait_until(lambda: list(device.macros_database.get_done_macros()), PATIENCE)
        archived.reading = 216
        wait_until(lambda: sensor.get()[1] == 21.6, PATIENCE)
        assert not message.done()

        server.start()
        message.result(PATIENCE)
        archived.reading = 217
        wait_until(lambda: sensor.get()[1] == 21.7, PATIENCE)
        wait_until(lambda: len(admin.sensor_writes(DEVICE_ID)) == 1, PATIENCE)
        wait_until(lambda: admin.done_macros(DEVICE_ID) == [("m", due)], PATIENCE)
        wait_until(lambda: admin.metadata(DEVICE_ID).get("key") == "away", PATIENCE)
        wait_until(lambda: admin.baobs(DEVICE_ID)["key"] == 1, PATIENCE)
        slave.linkstate = {"status": True}
        log.warning("after")
        settle(device)
        check_server_holds_what_was_read(device, admin)
        log.handlers[0].close()

    assert admin.messages(DEVICE_ID)["known"] is not None
    assert admin.metadata(DEVICE_ID) == {"of the server": "1", "key": "away"}
    assert admin.baob(DEVICE_ID, "key") == b"away"
    assert admin.slaves(DEVICE_ID)[0]["linkstate"] == '{"status": true}'
    events = {
        event["token"]: (event["started_on"], event.get("ended_on"), event["message"])
        for event in admin.events(DEVICE_ID)
    }
    assert events == {
        "lasting": (1, 2, "opened before"),
        "brief": (3, 4, "came and went"),
        "point": (5, 5, "at once"),
    }
    assert len(admin.events(DEVICE_ID)) == 3
    (occurrence,) = admin.macros(DEVICE_ID)[0]["occurrences"]
    assert occurrence["reports"] == 1
    assert written.log == [("write", "W2", 7)]
    (write,) = admin.sensor_writes(DEVICE_ID)
    assert (write["who"], write["value"], write["fqts"]) == ("anna", "22", "boiler temp")
    messages = [record["message"] for record in admin.logs(DEVICE_ID)]
    assert messages == ["before", *(f"away {number}" for number in range(3)), "after"]
    assert all(record["in_order"] for record in admin.logs(DEVICE_ID))


class Switched(Recorder):
    """Tells when CommunicatorThread has noticed that synchronization was switched off."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.noticed = threading.Event()
        super().__init__(*args, **options)

    @property
    def allow_sync(self) -> bool:
        if not self._allow_sync and threading.current_thread().name == "CommunicatorThread":
            self.noticed.set()
        return self._allow_sync

    @allow_sync.setter
    def allow_sync(self, allow: bool) -> None:
        SMOKDevice.allow_sync.__set__(self, allow)


def test_synchronization_that_is_switched_off_for_a_while_keeps_everything(
    server: LocalServer, device_certificate: Callable[..., Any], log: logging.Logger
) -> None:
    admin = server.admin
    with Switched(device_certificate(DEVICE_ID), server.url, baobs_interval=0.5) as device:
        log.addHandler(SMOKLogHandler(device, "program"))
        device.wait_until_synced()
        device.allow_sync = False
        assert device.noticed.wait(PATIENCE)
        device.record("W1", 1, 2, 3)
        device.open_event(1, None, Color.RED, False, "token", "A", "message")
        device.metadata["key"] = "1"
        device.get_baob("key").value = b"1"
        log.warning("kept")
        with pytest.raises(RuntimeError, match="allow_sync"):
            device.get_device_info()
        assert admin.counts(DEVICE_ID).samples == 0
        assert (admin.events(DEVICE_ID), admin.metadata(DEVICE_ID)) == ([], {})
        assert (admin.baobs(DEVICE_ID), admin.logs(DEVICE_ID)) == ({}, [])
        device.allow_sync = True
        wait_until(lambda: pending(device) == 0, PATIENCE)
        wait_until(lambda: len(admin.events(DEVICE_ID)) == 1, PATIENCE)
        wait_until(lambda: admin.metadata(DEVICE_ID) == {"key": "1"}, PATIENCE)
        wait_until(lambda: admin.baobs(DEVICE_ID) == {"key": 0}, PATIENCE)
        wait_until(lambda: len(admin.logs(DEVICE_ID)) == 1, PATIENCE)
    assert [sample.value for sample in admin.values(DEVICE_ID, "W1")] == [1, 2, 3]


def test_predicates_forgotten_while_the_server_is_away_are_back_when_it_is(
    server: LocalServer, device_certificate: Callable[..., Any]
) -> None:
    admin = server.admin
    admin.set_predicates(
        DEVICE_ID,
        [
            {
                "predicate_id": "p1",
                "online": True,
                "statistic": "x",
                "configuration": {},
                "verbose_name": "Boiler",
                "group": "A",
                "silencing": [],
            }
        ],
    )
    with Recorder(device_certificate(DEVICE_ID), server.url) as device:
        wait_until(lambda: device.predicates, PATIENCE)
        device.evt_database.set_cache("p1", 5)
        server.kill()
        device.reset_predicates()
        assert device.predicates == {}
        wait_until(lambda: device.link_is_up is False, PATIENCE)
        server.start()
        wait_until(lambda: list(device.predicates) == ["p1"], PATIENCE)
        assert device.evt_database.get_cache("p1") == 5, "its state stays"
        event = device.open_event(1, 2, Color.RED, False, "token", "A", "message")
        wait_until(lambda: event.uuid is not None, PATIENCE)
        device.clear_closed_and_synced_events()
        assert list(device.get_all_events()) == []


class Watching(BaseStatistic):
    """Opens an event for each configuration that it sees, unless it is to keep silent."""

    def on_tick(self) -> None:
        state = self.state or {"ticks": 0, "opened": []}
        state["ticks"] += 1
        limit = (self.configuration or {})["limit"]
        if limit not in state["opened"] and self.open_event(f"limit {limit}", Color.RED):
            state["opened"].append(limit)
        self.state = state


def test_silence_and_changed_predicates_hold_while_the_server_comes_and_goes(
    server: LocalServer, device_certificate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TicksTask, "interval", 0.02)
    admin = server.admin
    all_week = {
        "start": {"day": 1, "hour": 0, "minute": 0},
        "stop": {"day": 7, "hour": 23, "minute": 59},
    }

    def configure(limit: int, *silencing: dict[str, Any]) -> None:
        predicate = {
            "predicate_id": "p1",
            "online": True,
            "statistic": "watching",
            "configuration": {"limit": limit},
            "verbose_name": "Boiler",
            "group": "A",
            "silencing": list(silencing),
        }
        admin.set_predicates(DEVICE_ID, [predicate])

    def messages() -> list[str]:
        return [event["message"] for event in admin.events(DEVICE_ID)]

    configure(1)
    with Recorder(
        device_certificate(DEVICE_ID), server.url, predicates_interval=0.05, delayed_boot=True
    ) as device:

        def tick_twice() -> None:
            before = device.predicates["p1"].state["ticks"]
            wait_until(lambda: device.predicates["p1"].state["ticks"] > before + 1, PATIENCE)

        device.register_statistic(Watching, lambda name, _: name == "watching")
        device.continue_boot()
        wait_until(lambda: messages() == ["Boiler: limit 1"], PATIENCE)
        configure(1, all_week)
        wait_until(lambda: device.predicates["p1"].silencing, PATIENCE)
        (silencing,) = device.predicates["p1"].silencing

        server.kill()
        wait_until(lambda: device.link_is_up is False, PATIENCE)
        tick_twice()
        assert device.predicates["p1"].silencing == [silencing]

        server.start()
        configure(2, all_week)
        wait_until(lambda: device.predicates["p1"].configuration == {"limit": 2}, PATIENCE)
        tick_twice()
        server.kill()
        wait_until(lambda: device.link_is_up is False, PATIENCE)
        tick_twice()
        assert [event.message for event in device.get_all_events()] == ["Boiler: limit 1"]

        server.start()
        configure(2)
        wait_until(lambda: messages() == ["Boiler: limit 1", "Boiler: limit 2"], PATIENCE)
        assert device.predicates["p1"].state["opened"] == [1, 2]
    assert messages() == ["Boiler: limit 1", "Boiler: limit 2"]


class Level(Pathpoint):
    """Notes the storage levels that it is given, and which thread gives them."""

    def __init__(self, *args: Any) -> None:
        self.levels: list[tuple[StorageLevel, str]] = []
        super().__init__(*args)

    def on_new_storage_level(self, new_storage_level: StorageLevel) -> None:
        super().on_new_storage_level(new_storage_level)
        self.levels.append((new_storage_level, threading.current_thread().name))


def test_storage_levels_arrive_and_are_told_while_the_server_comes_and_goes(
    server: LocalServer, device_certificate: Callable[..., Any]
) -> None:
    admin = server.admin
    trend, permanent = StorageLevel.TREND, StorageLevel.PERMANENT
    with Recorder(device_certificate(DEVICE_ID), server.url, pathpoints_interval=0.05) as device:
        first = Level(device, "W1", trend)
        wait_until(lambda: admin.pathpoints(DEVICE_ID) == {"W1": trend}, PATIENCE)
        admin.set_pathpoints(DEVICE_ID, {"W1": permanent})
        wait_until(lambda: first.levels, PATIENCE)

        server.kill()
        wait_until(lambda: device.link_is_up is False, PATIENCE)
        second = Level(device, "W2", permanent)
        assert (first.storage_level, second.storage_level) == (permanent, permanent)

        server.start()
        admin.set_pathpoints(DEVICE_ID, {"W1": trend})
        wait_until(lambda: len(first.levels) == 2, PATIENCE)
        known = {"W1": trend, "W2": permanent}
        wait_until(lambda: admin.pathpoints(DEVICE_ID) == known, PATIENCE)
        admin.set_pathpoints(DEVICE_ID, {"W2": trend})
        wait_until(lambda: second.levels, PATIENCE)
    assert first.levels == [(permanent, COMMUNICATOR), (trend, COMMUNICATOR)]
    assert second.levels == [(trend, COMMUNICATOR)]


def test_what_is_told_about_slaves_is_told_again_when_the_server_is_back(
    server: LocalServer, device_certificate: Callable[..., Any]
) -> None:
    admin = server.admin
    admin.set_device(DEVICE_ID, slaves=[{"device_id": "slave"}])
    with Recorder(device_certificate(DEVICE_ID), server.url) as device:
        (slave,) = device.get_slaves()
        slave.linkstate = {"status": True}
        slave.instrumentation = "warm"

        server.kill()
        for attribute, value in (("linkstate", {"status": False}), ("instrumentation", "cold")):
            with pytest.raises(ResponseError) as no_link:
                setattr(slave, attribute, value)
            assert no_link.value.is_no_link()
        assert (slave.linkstate, slave.instrumentation) == ({"status": True}, "warm")

        server.start()
        (known,) = admin.slaves(DEVICE_ID)
        assert (known["linkstate"], known["instrumentation"]) == ('{"status": true}', "warm")
        slave.linkstate = {"status": False, "failed_devices": [3]}
        slave.instrumentation = "cold"
        (fresh,) = device.get_slaves()
        assert fresh.linkstate == {"status": False, "failed_devices": [3]}
        assert fresh.instrumentation == "cold"


class Listening(Recorder):
    """Notes which BAOBs came, with what, and which thread says so."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.updated: list[tuple[str, bytes, str]] = []
        super().__init__(*args, **options)

    def on_baob_updated(self, baob_name: str) -> None:
        value = self.get_baob(baob_name).value
        self.updated.append((baob_name, value, threading.current_thread().name))


def test_each_new_version_of_a_baob_is_told_once_while_the_server_comes_and_goes(
    server: LocalServer, device_certificate: Callable[..., Any]
) -> None:
    admin = server.admin
    admin.set_baob(DEVICE_ID, "theirs", b"1", version=1)
    with Listening(device_certificate(DEVICE_ID), server.url, baobs_interval=0.05) as device:
        wait_until(lambda: device.baobs_loaded, PATIENCE)
        admin.set_baob(DEVICE_ID, "theirs", b"2")
        wait_until(lambda: len(device.updated) == 1, PATIENCE)

        server.kill()
        wait_until(lambda: device.link_is_up is False, PATIENCE)
        device.get_baob("mine").value = b"away"
        assert device.get_baob("theirs").value == b"2"

        server.start()
        admin.set_baob(DEVICE_ID, "theirs", b"3")
        wait_until(lambda: len(device.updated) == 2, PATIENCE)
        wait_until(lambda: admin.baobs(DEVICE_ID) == {"theirs": 3, "mine": 0}, PATIENCE)
        admin.set_baob(DEVICE_ID, "mine", b"from the server")
        wait_until(lambda: len(device.updated) == 3, PATIENCE)
    assert device.updated == [
        ("theirs", b"2", COMMUNICATOR),
        ("theirs", b"3", COMMUNICATOR),
        ("mine", b"from the server", COMMUNICATOR),
    ]


def test_a_delayed_boot_goes_on_without_the_server_and_everything_arrives_when_it_is_back(
    server: LocalServer, device_certificate: Callable[..., Any], log: logging.Logger
) -> None:
    admin = server.admin
    admin.set_sensors(DEVICE_ID, [{"fqts": "boiler temp", "path": "W1", "type": "std.Number10"}])
    admin.queue_orders(DEVICE_ID, [{"orders": [{"type": "write", "path": "W2", "value": 7}]}])
    with Recorder(device_certificate(DEVICE_ID), server.url, delayed_boot=True) as device:
        log.addHandler(SMOKLogHandler(device, "program"))
        written = scripted(device, "W2")
        device.record("W1", 1, 2, 3)
        device.open_event(1, 2, Color.RED, False, "token", "A", "before the boot")
        device.metadata["key"] = "before"
        device.get_baob("key").value = b"before"
        log.warning("before")
        read = device.get_pathpoint("W2").read()
        device.execute(read)
        assert (device.link_is_up, device.boot_completed, written.log) == (None, False, [])
        assert (admin.devices(), admin.samples_count(DEVICE_ID)) == ([DEVICE_ID], 0)
        assert (admin.events(DEVICE_ID), admin.baobs(DEVICE_ID)) == ([], {})

        server.kill()
        device.continue_boot()
        with pytest.raises(RuntimeError, match="no delayed boot"):
            device.continue_boot()
        read.result(PATIENCE)
        wait_until(lambda: device.link_is_up is False, PATIENCE)
        device.record("W1", 4, start=4)

        server.start()
        device.wait_until_synced()
        assert device.get_sensor("boiler temp").get() == (4, 0.4)
        wait_until(lambda: written.log == [("read", "W2"), ("write", "W2", 7)], PATIENCE)
        wait_until(lambda: pending(device) == 0, PATIENCE)
        wait_until(lambda: len(admin.events(DEVICE_ID)) == 1, PATIENCE)
        wait_until(lambda: admin.metadata(DEVICE_ID) == {"key": "before"}, PATIENCE)
        wait_until(lambda: admin.baobs(DEVICE_ID) == {"key": 0}, PATIENCE)
        log.handlers[0].close()
    assert [sample.value for sample in admin.values(DEVICE_ID, "W1")] == [1, 2, 3, 4]
    assert [record["message"] for record in admin.logs(DEVICE_ID)] == ["before"]
