"""SMOKDevice: what its constructor takes, its threads, its end, and what it asks the server."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import tempfile
import threading
import time
import zoneinfo
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from gateway_support import DEVICE_ID, PATIENCE, OddServer, Recorder, http
from smok_fast.basics import Environment, SlaveDeviceInfo, StorageLevel
from smok_fast.client import SlaveDevice, SMOKDevice
from smok_fast.exceptions import InvalidCredentials, ResponseError, UnavailableError
from smok_fast.extras import (
    BufferedPathpointDatabase,
    InMemoryArchivesDatabase,
    InMemoryBAOBDatabase,
    InMemoryEventDatabase,
    InMemoryMacroDatabase,
    InMemoryMetadataDatabase,
    InMemoryPathpointDatabase,
    InMemoryPredicateDatabase,
    InMemorySensorDatabase,
    InMemorySensorWriteDatabase,
)
from smok_fast.pathpoint import (
    AdviseLevel,
    MessageOrder,
    Pathpoint,
    ReadOrder,
    Section,
    WaitOrder,
)
from smok_fast.predicate import BaseStatistic, Color, Event
from smok_fast.predicate.undefined import UndefinedStatistic
from smok_fast.sensor import Sensor, SensorWriteEvent
from smok_fast.server import LocalServer
from smok_fast.testing import wait_until

COMMUNICATOR = "CommunicatorThread"
EXECUTOR = "OrderExecutorThread"
ARCHIVING = "ArchivingAndMacroThread"
LOGS = "LogPublisherThread"

#: How long close() may take, by its own word.
CLOSE_WITHIN = 10


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings from outside, and a folder for temporary files of its own; returns that."""
    monkeypatch.delenv("SMOK_BASE_URL", raising=False)
    monkeypatch.delenv("SMOK_CA_CERTS", raising=False)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def start(
    device_certificate: Callable[..., Any], tmp_path: Path
) -> Iterator[Callable[..., SMOKDevice]]:
    """Makes devices, whose server cannot be reached unless a test says otherwise."""
    number = itertools.count()
    with contextlib.ExitStack() as stack:

        def make(cls: type[SMOKDevice] = SMOKDevice, **options: Any) -> SMOKDevice:
            certificate = device_certificate(DEVICE_ID)
            state = tmp_path / f"state-{next(number)}"
            options = {"evt_database": state, "url": "http://127.0.0.1:9", **options}
            device = cls(str(certificate.cert), str(certificate.key), **options)
            return stack.enter_context(device)

        yield make


def ask_in_a_thread(ask: Callable[[], Any]) -> Future[Any]:
    """Ask for what may block, in a thread that holds up nobody."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def threads() -> set[str]:
    """The names of the device threads that run."""
    names = {thread.name for thread in threading.enumerate()}
    return names & {COMMUNICATOR, EXECUTOR, ARCHIVING, LOGS}


# --- The constructor ------------------------------------------------------------------------------

ALL = {
    "dont_obtain_orders": True,
    "dont_sync_sensor_writes": True,
    "dont_do_macros": True,
    "dont_do_predicates": True,
    "dont_do_pathpoints": True,
    "dont_do_baobs": True,
    "dont_do_archives": True,
}


@pytest.mark.parametrize(
    ("options", "running"),
    [
        ({}, {COMMUNICATOR, EXECUTOR, ARCHIVING, LOGS}),
        ({"dont_do_macros": True}, {COMMUNICATOR, EXECUTOR, ARCHIVING, LOGS}),
        ({"dont_do_archives": True}, {COMMUNICATOR, EXECUTOR, ARCHIVING, LOGS}),
        ({"dont_do_macros": True, "dont_do_archives": True}, {COMMUNICATOR, EXECUTOR, LOGS}),
        (
            {"dont_do_predicates": True, "dont_sync_sensor_writes": True},
            {COMMUNICATOR, EXECUTOR, ARCHIVING, LOGS},
        ),
        ({**ALL, "dont_obtain_orders": False}, {COMMUNICATOR, EXECUTOR, LOGS}),
        ({**ALL, "dont_do_pathpoints": False}, {COMMUNICATOR, EXECUTOR, LOGS}),
        ({**ALL, "dont_do_archives": False}, {COMMUNICATOR, EXECUTOR, ARCHIVING, LOGS}),
        (ALL, {LOGS}),
    ],
)
def test_the_switches_decide_which_threads_there_are(
    options: dict[str, bool], running: set[str], start: Callable[..., SMOKDevice]
) -> None:
    device = start(**options, sensor_database=InMemorySensorDatabase())
    assert threads() == running
    assert (device.getter is not None) == (COMMUNICATOR in running)
    assert (device.executor is not None) == (EXECUTOR in running)
    assert (device.arch_and_macros is not None) == (ARCHIVING in running)
    device.close()
    assert threads() == set()


@pytest.mark.parametrize(
    ("switch", "calls"),
    [
        ("dont_obtain_orders", {"/v1/device/orders", "/v1/device/baobs"}),
        ("dont_do_macros", {"/v1/device/macro/occurrences/"}),
        ("dont_do_predicates", {"/v1/device/predicates"}),
        ("dont_do_pathpoints", {"/v1/device/sensors", "/v1/device/pathpoints"}),
        ("dont_do_baobs", {"/v1/device/baobs"}),
        ("dont_do_archives", {"/v1/device/pathpoints/archived"}),
    ],
)
def test_what_is_switched_off_is_not_talked_about(
    switch: str, calls: set[str], start: Callable[..., SMOKDevice]
) -> None:
    every = {
        "/v1/device/orders",
        "/v1/device/baobs",
        "/v1/device/macro/occurrences/",
        "/v1/device/predicates",
        "/v1/device/sensors",
        "/v1/device/pathpoints",
        "/v1/device/pathpoints/archived",
    }

    def answer(method: str, path: str) -> bytes:
        empty = b"{}" if path.endswith("baobs") else b"[]"
        return http("200 OK", empty)

    def called() -> set[str]:
        starts = {
            path if "occurrences" not in path else path.rpartition("/")[0] + "/"
            for path in server.calls
        }
        return starts & every

    with OddServer(answer) as server:
        options = {switch: True, "sensor_database": InMemorySensorDatabase()}
        device = start(url=server.url, upload_linger=0.05, **options)
        pathpoint = Pathpoint(device, "W1")
        pathpoint.set_new_value(1, 1)
        wait_until(lambda: called() == every - calls, PATIENCE)
        device.close()
        assert called() == every - calls


def test_every_database_of_the_reference_is_taken_in_its_place(
    device_certificate: Callable[..., Any],
) -> None:
    certificate = device_certificate(DEVICE_ID)
    databases = [
        InMemoryEventDatabase(),
        InMemoryPathpointDatabase(),
        InMemoryMacroDatabase(),
        InMemoryMetadataDatabase(),
        InMemorySensorDatabase(),
        InMemoryBAOBDatabase(),
        InMemoryPredicateDatabase(),
        InMemoryArchivesDatabase(),
        InMemorySensorWriteDatabase(),
    ]
    with SMOKDevice(
        str(certificate.cert), str(certificate.key), *databases, url="http://127.0.0.1:9"
    ) as device:
        assert [
            device.evt_database,
            device.pp_database,
            device.macros_database,
            device.meta_database,
            device.sensor_database,
            device.baob_database,
            device.pred_database,
            device.arch_database,
            device.sensor_write_database,
        ] == databases


@pytest.mark.parametrize("with_state_file", [True, False])
def test_a_database_that_is_empty_is_taken_even_if_that_makes_it_false(
    with_state_file: bool, start: Callable[..., SMOKDevice]
) -> None:
    class Sized(InMemoryMetadataDatabase):
        def __len__(self) -> int:
            return len(list(self.get_all_plain()))

    mine = Sized()
    options = {} if with_state_file else {"evt_database": InMemoryEventDatabase()}
    assert start(meta_database=mine, **options).meta_database is mine


def test_the_third_argument_may_be_a_path(start: Callable[..., SMOKDevice], tmp_path: Path) -> None:
    events = []
    for place in (tmp_path / "state", str(tmp_path / "state")):
        device = start(evt_database=place)
        events.append(device.open_event(1, None, 1, False, "token", "group", "message"))
        assert list(device.get_all_open_events()) == events
        device.close()


@pytest.mark.parametrize("when", ["now", "1700000000", True, [1], datetime.datetime.now])
def test_a_time_of_an_event_that_is_no_number_is_refused(
    when: Any, start: Callable[..., SMOKDevice]
) -> None:
    device = start()
    rest = (1, False, "token", "group", "message")
    with pytest.raises(TypeError, match="started_on is in seconds"):
        device.open_event(when, None, *rest)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ended_on is in seconds"):
        device.open_event(1, when, *rest)  # type: ignore[arg-type]
    event = device.open_event(1, None, *rest)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timestamp is in seconds"):
        device.close_event(event, when)
    assert list(device.get_all_open_events()) == [event]
    device.close_event(event, 2)
    assert [event.ended_on for event in device.get_all_events()] == [2]


@pytest.mark.parametrize("place", [None, 5])
def test_a_third_argument_that_is_no_place_is_refused(
    place: Any, start: Callable[..., SMOKDevice], environment: Path
) -> None:
    with pytest.raises(TypeError, match="evt_database is the path of the state file"):
        start(evt_database=place)
    assert threads() == set()
    assert list(environment.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (
            lambda device: device.execute(Section(), ReadOrder("W1", AdviseLevel.ADVISE)),
            "ReadOrder",
        ),
        (lambda device: device.execute(None), "None"),
        (lambda device: device.register_statistic(5, lambda *_: True), "5"),
        (lambda device: device.register_statistic(int, lambda *_: True), "int"),
        (lambda device: device.log_sensor_write("anna"), "anna"),
    ],
)
def test_an_argument_of_another_type_is_refused_by_name_and_has_no_effect(
    call: Callable[[SMOKDevice], Any], named: str, start: Callable[..., SMOKDevice]
) -> None:
    device = start(delayed_boot=True)
    with pytest.raises(TypeError, match=named):
        call(device)
    assert device.queue_length == 0
    assert device.statistic_registration.registrations == ()
    assert not device.sensor_write_database.get_sw_sync()


@pytest.mark.parametrize(
    "options",
    [
        {"dont_do_pathpoints": True},
        {"dont_obtain_orders": True, "dont_do_baobs": False},
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    options: dict[str, bool], start: Callable[..., SMOKDevice]
) -> None:
    with pytest.raises(ValueError, match=r"sensor_database|BAOBs"):
        start(**options)
    assert threads() == set()


def test_no_orders_imply_no_baobs(start: Callable[..., SMOKDevice]) -> None:
    assert start(dont_obtain_orders=True).dont_do_baobs is True
    device = start()
    assert device.dont_do_baobs is False
    with pytest.raises(UnavailableError):
        start(dont_do_baobs=True).get_baob("key")


def test_startup_delay_is_deprecated_and_works(start: Callable[..., SMOKDevice]) -> None:
    with pytest.warns(DeprecationWarning, match="delayed_boot"):
        device = start(startup_delay=0.01)
    assert device.boot_completed


def test_a_delayed_boot_starts_the_threads_when_it_is_continued_and_once(
    start: Callable[..., SMOKDevice],
) -> None:
    device = start(delayed_boot=True)
    assert not device.boot_completed
    assert threads() == set()
    device.continue_boot()
    assert device.boot_completed
    assert threads() == {COMMUNICATOR, EXECUTOR, ARCHIVING, LOGS}
    with pytest.raises(RuntimeError, match="no delayed boot"):
        device.continue_boot()


def test_a_boot_that_was_not_delayed_cannot_be_continued(start: Callable[..., SMOKDevice]) -> None:
    with pytest.raises(RuntimeError, match="no delayed boot"):
        start().continue_boot()


def test_a_device_that_was_never_booted_can_be_closed(start: Callable[..., SMOKDevice]) -> None:
    device = start(delayed_boot=True)
    device.close()
    with pytest.raises(RuntimeError, match="closed"):
        device.continue_boot()
    assert threads() == set()


def test_the_url_is_that_of_the_argument_then_the_environment_then_the_certificate(
    device_certificate: Callable[..., Any],
    start: Callable[..., SMOKDevice],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    urls = {
        Environment.LOCAL_DEVELOPMENT: "http://http-api",
        Environment.STAGING: "https://api.test.smok-serwis.pl",
        Environment.PRODUCTION: "https://api.smok.co",
    }
    for environment, url in urls.items():
        made = device_certificate("x", environment)
        with SMOKDevice(
            str(made.cert), str(made.key), tmp_path / "state", delayed_boot=True
        ) as device:
            assert (device.url, device.environment, device.device_id) == (url, environment, "x")
    monkeypatch.setenv("SMOK_BASE_URL", "http://127.0.0.1:10/")
    assert start(url=None, delayed_boot=True).url == "http://127.0.0.1:10"
    assert start(url="http://127.0.0.1:11", delayed_boot=True).url == "http://127.0.0.1:11"
    with pytest.raises(ValueError, match="ftp://"):
        start(url="ftp://127.0.0.1")


def test_what_the_user_s_databases_raise_leaves_nothing_behind(
    device_certificate: Callable[..., Any], environment: Path, tmp_path: Path
) -> None:
    made = device_certificate(DEVICE_ID)

    class Broken(InMemoryArchivesDatabase):
        def get_archiving_instructions(self) -> Any:
            raise OSError("of the user's database")

    class Inconsistent(InMemoryBAOBDatabase):
        def check_consistency(self) -> None:
            raise OSError("of the user's database")

    class Forgetful(InMemoryPredicateDatabase):
        def get_all_predicates(self) -> Any:
            raise OSError("of the user's database")

    for options in (
        {"arch_database": Broken()},
        {"baob_database": Inconsistent()},
        {"pred_database": Forgetful()},
    ):
        with pytest.raises(OSError, match="of the user's database") as error:
            SMOKDevice(made.cert.read_bytes(), made.key.read_bytes(), tmp_path / "state", **options)
        assert list(environment.iterdir()) == []
        assert threads() == set()
        del error


# --- Credentials ----------------------------------------------------------------------------------


def test_bad_credentials_are_named_and_leave_nothing_behind(
    device_certificate: Callable[..., Any], tmp_path: Path, environment: Path
) -> None:
    good, other = device_certificate(DEVICE_ID), device_certificate("other")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n")
    missing = tmp_path / "missing.pem"
    cases: list[tuple[Any, Any, list[str]]] = [
        (missing, good.key, ["certificate", str(missing), "No such file"]),
        (good.cert, missing, ["private key", str(missing), "No such file"]),
        (garbage, good.key, [str(garbage), "no valid certificate"]),
        (good.cert, garbage, [str(garbage), "holds a certificate, not a private key"]),
        (good.key, good.cert, [str(good.key), str(good.cert), "swapped"]),
        (good.cert, other.key, [str(other.key), "does not belong", str(good.cert)]),
        (good.ca_cert, good.ca_key, [str(good.ca_cert), "device ID", "missing"]),
        (good.cert.read_bytes(), b"", ["given private key", "empty"]),
        (None, good.key, ["certificate", "needed, not None"]),
        (good.cert, 5, ["private key", "needed, not 5"]),
    ]
    for cert, key, words in cases:
        with pytest.raises(InvalidCredentials) as refusal:
            SMOKDevice(cert, key, tmp_path / "state", url="http://127.0.0.1:9")
        for word in words:
            assert word in str(refusal.value)
        assert list(environment.iterdir()) == []
        assert threads() == set()


def test_temporary_files_go_with_the_device(
    device_certificate: Callable[..., Any], environment: Path, tmp_path: Path
) -> None:
    made = device_certificate(DEVICE_ID)
    with (
        made.cert.open("rb") as cert,
        made.key.open("rb") as key,
        SMOKDevice(cert, key, tmp_path / "state", url="http://127.0.0.1:9") as device,
    ):
        assert {path.stat().st_mode & 0o777 for path in environment.iterdir()} == {0o600}
        assert sorted(map(str, environment.iterdir())) == sorted(device.cert)
    assert list(environment.iterdir()) == []


# --- The end --------------------------------------------------------------------------------------


def close_in_time(device: SMOKDevice) -> None:
    started = time.monotonic()
    device.close()
    assert time.monotonic() - started < CLOSE_WITHIN


def test_close_tells_how_many_samples_the_server_does_not_have(
    start: Callable[..., SMOKDevice], caplog: pytest.LogCaptureFixture
) -> None:
    device = start(allow_sync=False)
    pathpoint = Pathpoint(device, "W1")
    for timestamp in (1, 2, 3):
        pathpoint.set_new_value(timestamp, 5)
    device.close()
    database = device.pp_database
    assert isinstance(database, BufferedPathpointDatabase)
    told = "Closed with 3 samples that the server does not have; they are kept in "
    assert f"{told}{database.path}" in caplog.messages


def test_close_says_nothing_when_the_server_has_everything(
    smok_server: LocalServer, start: Callable[..., SMOKDevice], caplog: pytest.LogCaptureFixture
) -> None:
    device = start(url=smok_server.url)
    Pathpoint(device, "W1").set_new_value(1, 5)
    device.close()
    assert smok_server.admin.samples_count(DEVICE_ID) == 1
    assert caplog.messages == []


def test_close_may_be_called_many_times(start: Callable[..., SMOKDevice]) -> None:
    device = start()
    for _ in range(3):
        device.close()
        assert device.closed
    with device:
        pass
    assert threads() == set()


def test_a_device_is_a_context_manager(start: Callable[..., SMOKDevice]) -> None:
    with start() as device:
        assert not device.closed
    assert device.closed
    assert threads() == set()


@pytest.mark.parametrize("of", ["executor", "communicator", "another thread"])
def test_close_may_be_called_by_any_thread(of: str, start: Callable[..., SMOKDevice]) -> None:
    closed = threading.Event()

    class Suicidal(SMOKDevice):
        def end(self) -> None:
            self.close()
            closed.set()

        def on_failed_sync(self, *args: Any, **kwargs: Any) -> None:
            if of == "communicator":
                self.end()

        def execute_sysctl(self, op_type: str, op_args: str) -> bool:
            self.end()
            return True

    device = start(Suicidal)
    if of == "executor":
        device.execute(
            Section.from_json({"orders": [{"type": "sysctl", "op_type": "x", "op_args": ""}]})
        )
    elif of == "another thread":
        threading.Thread(target=device.end).start()  # type: ignore[attr-defined]
    assert closed.wait(PATIENCE)
    wait_until(lambda: threads() == set(), PATIENCE)


def test_a_device_that_closes_itself_after_a_sync_uploads_what_waits(
    smok_server: LocalServer, device_certificate: Callable[..., Any]
) -> None:
    closed = threading.Event()

    class Suicidal(Recorder):
        def on_successful_sync(self, *args: Any, **kwargs: Any) -> None:
            if not self.closed:
                self.record("W1", 1, 2, 3)
                self.close()
                closed.set()

    with Suicidal(device_certificate(DEVICE_ID), smok_server.url, upload_linger=3600):
        assert closed.wait(PATIENCE)
    assert smok_server.admin.samples_count(DEVICE_ID) == 3


def test_close_is_in_time_while_the_server_hangs(start: Callable[..., SMOKDevice]) -> None:
    with OddServer(lambda method, path: None) as server:
        device = start(url=server.url)
        Pathpoint(device, "W1").set_new_value(1, 1)
        assert server.called.wait(PATIENCE)
        close_in_time(device)
        wait_until(lambda: threads() == set(), PATIENCE)


def test_close_is_in_time_while_user_code_hangs_everywhere(
    smok_server: LocalServer, start: Callable[..., SMOKDevice]
) -> None:
    release = threading.Event()
    hanging = threading.Semaphore(0)

    class Hanging(SMOKDevice):
        def provide_unknown_pathpoint(
            self, name: str, storage_level: StorageLevel = StorageLevel.TREND
        ) -> Pathpoint:
            return HangingPathpoint(self, name, storage_level)

        def on_successful_sync(self, *args: Any, **kwargs: Any) -> None:
            hanging.release()
            release.wait()

    class HangingPathpoint(Pathpoint):
        def on_read(self, advise: Any) -> int:
            hanging.release()
            release.wait()
            return 1

    device = start(Hanging, url=smok_server.url)
    section = device.get_pathpoint("W1").read()
    waiting = device.get_pathpoint("W2").read()
    device.execute(section)
    device.execute(waiting)
    for _ in range(2):
        assert hanging.acquire(timeout=PATIENCE)
    try:
        close_in_time(device)
        assert waiting.done()
        with pytest.raises(UnavailableError):
            section.result(0)
    finally:
        release.set()
    wait_until(lambda: threads() == set(), PATIENCE)


#: How each public method of a device is called by a user.
USES: dict[str, Callable[[SMOKDevice], Any]] = {
    "_execute_message_order": lambda device: device._execute_message_order(MessageOrder("uuid")),
    "clear_closed_and_synced_events": lambda device: device.clear_closed_and_synced_events(),
    "close_event": lambda device: device.close_event(an_event()),
    "continue_boot": lambda device: device.continue_boot(),
    "execute": lambda device: device.execute(Section([WaitOrder(0)])),
    "get_all_baobs": lambda device: device.get_all_baobs(),
    "get_all_events": lambda device: device.get_all_events(),
    "get_all_open_events": lambda device: device.get_all_open_events(),
    "get_all_sensors": lambda device: device.get_all_sensors(),
    "get_baob": lambda device: device.get_baob("key"),
    "get_device_info": lambda device: device.get_device_info(),
    "get_local_time": lambda device: device.get_local_time(),
    "get_open_event": lambda device: device.get_open_event("uuid"),
    "get_pathpoint": lambda device: device.get_pathpoint("W1"),
    "get_sensor": lambda device: device.get_sensor("a b"),
    "get_slaves": lambda device: device.get_slaves(),
    "log_sensor_write": lambda device: device.log_sensor_write(
        SensorWriteEvent(1, "who", "a", "1", "a", "1", "why")
    ),
    "open_event": lambda device: device.open_event(
        1, None, Color.RED, False, "token", "group", "message"
    ),
    "post_message": lambda device: device.post_message(MessageOrder("uuid")),
    "register_pathpoint": lambda device: device.register_pathpoint(Pathpoint("W2")),
    "register_statistic": lambda device: device.register_statistic(
        UndefinedStatistic, lambda *_: False
    ),
    "request_baob_sync": lambda device: device.request_baob_sync(),
    "reset_predicates": lambda device: device.reset_predicates(),
    "set_archives": lambda device: device.set_archives({}),
    "timezone": lambda device: device.timezone,
}

#: What never raises because of a mode or the end: it tells about the device, ends it, waits for it,
#: or is there to be overridden.
OTHERS = {
    "allow_sync",
    "cert_chain",
    "close",
    "closed",
    "execute_section",
    "execute_sysctl",
    "has_own_execution_loop",
    "link_is_up",
    "note_conversation",
    "on_baob_updated",
    "on_failed_sync",
    "on_successful_sync",
    "provide_unknown_pathpoint",
    "queue_length",
    "statistics",
    "sync_sections",
    "take_over_info",
    "wait_until_synced",
}


def an_event() -> Event:
    return Event(None, None, None, Color.RED, False, "token", "group", "message", None, None)


def test_every_public_method_is_known_to_these_tests() -> None:
    public = {name for name in vars(SMOKDevice) if not name.startswith("_")}
    assert public | {"_execute_message_order"} == USES.keys() | OTHERS


@pytest.mark.parametrize("name", USES)
def test_a_method_of_a_closed_device_raises(name: str, start: Callable[..., SMOKDevice]) -> None:
    device = start(delayed_boot=True)
    device._timezone = zoneinfo.ZoneInfo("Europe/Warsaw")  # as if the server had told it
    device.close()
    with pytest.raises(RuntimeError, match="closed"):
        USES[name](device)


def test_what_belongs_to_a_closed_device_raises(start: Callable[..., SMOKDevice]) -> None:
    device = start(delayed_boot=True)
    baob, slave = (
        device.get_baob("key"),
        SlaveDevice(device, SlaveDeviceInfo("slave", "1", "rapid", "")),
    )
    baob.value = b"1"
    device.metadata["key"] = "1"
    device.close()
    calls: list[Callable[[], Any]] = [
        lambda: baob.value,
        lambda: baob.version,
        lambda: setattr(baob, "value", b"2"),
        lambda: device.metadata["key"],
        lambda: device.metadata.get("key", "default"),
        lambda: device.metadata.__setitem__("key", "2"),
        lambda: device.metadata.__delitem__("key"),
        lambda: slave.linkstate,
        lambda: setattr(slave, "instrumentation", "warm"),
        lambda: Pathpoint(device, "W3"),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="closed"):
            call()


PREDICATES = {
    "clear_closed_and_synced_events",
    "close_event",
    "get_all_events",
    "get_all_open_events",
    "get_open_event",
    "open_event",
    "register_statistic",
    "reset_predicates",
}
BAOBS = {"get_all_baobs", "get_baob", "request_baob_sync"}

#: What each mode makes unavailable.
UNAVAILABLE = {
    "allow_sync": set(),
    "dont_obtain_orders": BAOBS,
    "dont_sync_sensor_writes": set(),
    "dont_do_macros": set(),
    "dont_do_predicates": PREDICATES,
    "dont_do_pathpoints": set(),
    "dont_do_baobs": BAOBS,
    "dont_do_archives": {"set_archives"},
    "all": PREDICATES | BAOBS | {"set_archives", "execute", "post_message"},
}


@pytest.mark.parametrize(("mode", "unavailable"), UNAVAILABLE.items())
def test_what_a_mode_does_not_offer_is_unavailable_and_the_rest_is_there(
    mode: str, unavailable: set[str], smok_server: LocalServer, start: Callable[..., SMOKDevice]
) -> None:
    class Device(SMOKDevice):
        def provide_unknown_pathpoint(
            self, name: str, storage_level: StorageLevel = StorageLevel.TREND
        ) -> Pathpoint:
            return Pathpoint(self, name, storage_level)

    options = ALL if mode == "all" else {mode: mode != "allow_sync"}
    device = start(
        Device,
        url=smok_server.url,
        sensor_database=InMemorySensorDatabase(),
        delayed_boot=True,
        **options,
    )
    device._ready.set()  # so that nobody waits for threads that do not run
    found = set()
    for name, use in USES.items():
        try:
            use(device)
        except UnavailableError:
            found.add(name)
        except (KeyError, ResponseError):  # there is no such thing
            pass
        except RuntimeError as error:
            assert "allow_sync is False" in str(error)
            assert mode == "allow_sync"
    assert found == unavailable


# --- What it asks the server ----------------------------------------------------------------------


def test_what_the_server_knows_about_the_device(
    smok_server: LocalServer, start: Callable[..., SMOKDevice]
) -> None:
    smok_server.admin.set_device(
        DEVICE_ID,
        verbose_name="Boiler room",
        timezone="Asia/Tokyo",
        facets=["smok"],
        slaves=[{"device_id": "slave-1", "configuration": "x"}],
    )
    device = start(url=smok_server.url)
    info = device.get_device_info()
    assert (info.device_id, info.verbose_name, info.timezone) == (
        DEVICE_ID,
        "Boiler room",
        "Asia/Tokyo",
    )
    assert device.timezone == zoneinfo.ZoneInfo("Asia/Tokyo")
    assert device.get_local_time().utcoffset() == datetime.timedelta(hours=9)
    assert [slave.device_id for slave in device.get_slaves()] == ["slave-1"]


@pytest.mark.parametrize("body", ["[]", "7", "{}", '{"device_id": 1}'])
def test_nonsense_about_the_device_is_a_response_error(
    body: str, smok_server: LocalServer, start: Callable[..., SMOKDevice]
) -> None:
    device = start(url=smok_server.url, delayed_boot=True)
    smok_server.admin.fault("/v1/device", method="GET", body=body, times=None)
    for ask in (device.get_device_info, device.get_slaves, device.get_local_time):
        with pytest.raises(ResponseError):
            ask()


def test_the_server_is_not_asked_while_synchronization_is_not_allowed(
    smok_server: LocalServer, start: Callable[..., SMOKDevice]
) -> None:
    device = start(url=smok_server.url, allow_sync=False)
    with pytest.raises(RuntimeError, match="allow_sync"):
        device.get_device_info()


def test_a_sensor_is_waited_for_until_the_sensors_were_fetched(
    smok_server: LocalServer, start: Callable[..., SMOKDevice]
) -> None:
    smok_server.admin.set_sensors(DEVICE_ID, [{"fqts": "boiler temp", "path": "W1", "type": "x"}])
    device = start(url=smok_server.url, allow_sync=False)
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(device.get_sensor({"temp", "boiler"})))
    waiter.start()
    assert not found
    device.allow_sync = True
    waiter.join(PATIENCE)
    assert [sensor.fqts for sensor in found] == ["boiler temp"]
    with pytest.raises(KeyError):
        device.get_sensor("no such")


def test_sensors_of_the_last_run_are_there_at_once_without_a_link(
    smok_server: LocalServer, start: Callable[..., SMOKDevice], tmp_path: Path
) -> None:
    admin = smok_server.admin
    admin.set_sensors(DEVICE_ID, [{"fqts": "boiler temp", "path": "W1", "type": "x"}])
    device = start(url=smok_server.url, evt_database=tmp_path / "state")
    assert device.get_sensor("temp boiler").path == "W1"
    device.close()
    admin.set_sensors(DEVICE_ID, [{"fqts": "pump", "path": "W2", "type": "x"}])
    smok_server.stop()

    device = start(url=smok_server.url, evt_database=tmp_path / "state")
    asked = ask_in_a_thread(lambda: device.get_sensor({"temp", "boiler"}))
    assert asked.result(PATIENCE).path == "W1"
    assert asked.result().device is device
    asked_for_all = ask_in_a_thread(lambda: list(device.get_all_sensors()))
    assert [sensor.fqts for sensor in asked_for_all.result(PATIENCE)] == ["boiler temp"]
    new = ask_in_a_thread(lambda: device.get_sensor("pump"))
    wait_until(lambda: device.link_is_up is False, PATIENCE)
    assert not new.done()

    smok_server.start()
    assert new.result(PATIENCE).path == "W2"
    assert [sensor.fqts for sensor in device.get_all_sensors()] == ["pump"]
    with pytest.raises(KeyError):
        device.get_sensor("boiler temp")


@pytest.mark.parametrize("late", ["/v1/device/sensors", "/v1/device/predicates"])
def test_synced_means_sensors_and_predicates(late: str, start: Callable[..., SMOKDevice]) -> None:
    released = threading.Event()
    order: list[str] = []

    def answer(method: str, path: str) -> bytes:
        if path == late:
            released.wait(PATIENCE)
            order.append("fetched")
        return http("200 OK", b"{}" if path.endswith("baobs") else b"[]")

    with OddServer(answer) as server:
        device = start(url=server.url)
        wait_until(lambda: server.calls[late], PATIENCE)
        waiter = threading.Thread(
            target=lambda: (device.wait_until_synced(), order.append("synced"))
        )
        waiter.start()
        released.set()
        waiter.join(PATIENCE)
        assert order[:2] == ["fetched", "synced"]


@pytest.mark.parametrize(
    "switched_off", [{"dont_sync_sensor_writes": True}, {"dont_do_pathpoints": True}, {}]
)
def test_sensor_writes_are_sent_unless_that_is_switched_off(
    switched_off: dict[str, bool], smok_server: LocalServer, start: Callable[..., SMOKDevice]
) -> None:
    admin = smok_server.admin
    device = start(url=smok_server.url, sensor_database=InMemorySensorDatabase(), **switched_off)
    device.log_sensor_write(SensorWriteEvent(1, "anna", "Pump", "on", "pump", "1", "cold"))
    # Logged after it, and sent after it where both are sent
    device.metadata["after"] = "1"
    wait_until(lambda: admin.metadata(DEVICE_ID) == {"after": "1"}, PATIENCE)
    assert len(admin.sensor_writes(DEVICE_ID)) == (0 if switched_off else 1)


def test_a_statistic_that_asks_for_a_sensor_does_not_wait_for_its_own_thread(
    start: Callable[..., SMOKDevice],
) -> None:
    found: list[list[str]] = []
    ticked = threading.Event()

    class Asking(BaseStatistic):
        def on_tick(self) -> None:
            found.append([sensor.fqts for sensor in self.device.get_all_sensors()])
            with pytest.raises(KeyError):
                self.device.get_sensor("no such")
            ticked.set()

    predicates = InMemoryPredicateDatabase()
    predicates.set_new_predicates(
        [
            {
                "predicate_id": "p1",
                "verbose_name": "Boiler",
                "silencing": [],
                "configuration": None,
                "statistic": "asking",
                "group": "A",
                "state": None,
            }
        ]
    )
    device = start(pred_database=predicates, delayed_boot=True)  # whose server is not there
    device.sensor_database.on_sensors_sync([Sensor(device, "boiler temp", "W1", "x")])
    device.register_statistic(Asking, lambda *_: True)
    device.continue_boot()
    assert ticked.wait(PATIENCE)
    assert found[0] == ["boiler temp"]


def test_a_class_that_is_registered_late_takes_over_its_predicates_soon(
    smok_server: LocalServer, start: Callable[..., SMOKDevice]
) -> None:
    ticked: dict[str, threading.Event] = {"early": threading.Event(), "late": threading.Event()}

    class Ticking(BaseStatistic):
        def on_tick(self) -> None:
            ticked[self.statistic].set()

    names = {"p1": "early", "p2": "late"}
    smok_server.admin.set_predicates(
        DEVICE_ID,
        [{"predicate_id": key, "statistic": name} for key, name in names.items()],
    )
    device = start(url=smok_server.url, delayed_boot=True)
    device.register_statistic(Ticking, lambda name, _: name == "early")
    device.continue_boot()
    assert ticked["early"].wait(PATIENCE)  # the next usual tick is a minute away
    assert isinstance(device.predicates["p2"], UndefinedStatistic)
    fetches = smok_server.admin.fault("/v1/device/predicates", delay=0.001, times=None)
    device.register_statistic(Ticking, lambda name, _: name == "late")
    assert ticked["late"].wait(PATIENCE)
    assert isinstance(device.predicates["p2"], Ticking)
    assert smok_server.admin.fault_hits(fetches) == 0


def test_who_waits_for_sensors_is_released_by_close(start: Callable[..., SMOKDevice]) -> None:
    device = start()
    outcomes: list[str] = []
    begun = threading.Barrier(3)

    def ask() -> None:
        begun.wait()
        try:
            device.get_sensor("boiler temp")
        except RuntimeError as error:
            outcomes.append(str(error))

    def wait() -> None:
        begun.wait()
        device.wait_until_synced()
        outcomes.append("synced or closed")

    waiters = [threading.Thread(target=target) for target in (ask, wait)]
    for waiter in waiters:
        waiter.start()
    begun.wait()
    device.close()
    for waiter in waiters:
        waiter.join(PATIENCE)
    assert sorted(outcomes) == ["synced or closed", "the device is closed"]
