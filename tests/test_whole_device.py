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
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.logging import SMOKLogHandler
from smok_fast.pathpoint import MessageOrder, Section
from smok_fast.predicate import Color
from smok_fast.server import LocalServer
from smok_fast.testing import wait_until


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
