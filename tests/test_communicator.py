"""What the device makes of a server that is away, refuses, fails, or answers nonsense."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_support import DEVICE_ID, PATIENCE, OddServer, Recorder, held, http, pending
from smok_fast._backoff import Backoff
from smok_fast.basics import StorageLevel
from smok_fast.exceptions import NotReadedError, OperationFailedError, OperationFailedReason
from smok_fast.extras import (
    BaseDataToSynchronize,
    BasePathpointDatabase,
    InMemorySensorDatabase,
    NativePathpointDatabase,
)
from smok_fast.server import LocalServer
from smok_fast.testing import wait_until

COMMUNICATOR = "smok_fast.threads.communicator"

#: Every call that CommunicatorThread makes by itself.
CALLS = [
    ("POST", "/v1/device/orders"),
    ("PUT", "/v1/device/pathpoints"),
    ("POST", "/v1/device/pathpoints"),
    ("GET", "/v1/device/pathpoints/archived"),
    ("GET", "/v1/device/sensors"),
    ("GET", "/v1/device/predicates"),
    ("GET", "/v1/device/macro/occurrences/"),
    ("POST", "/v1/device/baobs"),
]
IDS = ["orders", "register", "upload", "archives", "sensors", "predicates", "macros", "baobs"]


@pytest.fixture
def recorder(device_certificate: Callable[..., Any]) -> Iterator[Callable[..., Recorder]]:
    """Makes running devices."""
    with contextlib.ExitStack() as stack:

        def make(url: str, cls: type[Recorder] = Recorder, **options: Any) -> Recorder:
            return stack.enter_context(cls(device_certificate(DEVICE_ID), url, **options))

        yield make


def said(caplog: pytest.LogCaptureFixture, start: str) -> int:
    """How often the communicator's log has a message that starts so."""
    return sum(
        record.name == COMMUNICATOR and record.getMessage().startswith(start)
        for record in caplog.records
    )


def quarantined(device: Recorder) -> int:
    """How many samples were set aside since the server rejects them."""
    assert isinstance(device.pp_database, NativePathpointDatabase)
    return len(device.pp_database.quarantine)


def read_order(path: str) -> dict[str, Any]:
    return {"type": "read", "path": path}


class Readable(Recorder):
    """Pathpoints that can be read: they count."""

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Any:
        pathpoint = super().provide_unknown_pathpoint(name, storage_level)
        pathpoint.on_read = lambda advise: len(self.readings[name])  # type: ignore[method-assign]
        return pathpoint


class Counting(Recorder):
    """Counts how often CommunicatorThread looks whether it may talk: once or twice for each task in
    each of its cycles.
    """

    looks = 0

    @property
    def allow_sync(self) -> bool:
        self.looks += 1
        return True


# --- No link --------------------------------------------------------------------------------------


def test_a_device_starts_without_a_server_and_delivers_everything_once_it_is_there(
    tmp_path: Path, recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    with LocalServer(tmp_path / "server.sqlite") as server:
        server.stop()
        device = recorder(server.url)
        device.record("W1", *range(100))
        wait_until(lambda: device.failed_syncs >= 2, PATIENCE)
        assert device.link_is_up is False
        assert pending(device) == 100
        assert (said(caplog, "No link"), said(caplog, "Link")) == (1, 0)
        server.start()
        wait_until(lambda: pending(device) == 0, PATIENCE)
        assert device.link_is_up is True
        assert held(server.admin) == {"W1": list(enumerate(range(100), 1))}
        assert (said(caplog, "No link"), said(caplog, "Link")) == (1, 1)


def test_each_outage_is_logged_once_when_it_begins_and_once_when_it_ends(
    smok_server: LocalServer, recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    device = recorder(smok_server.url)
    device.synced.wait(PATIENCE)
    for outage in (1, 2):
        smok_server.kill()
        before = device.failed_syncs
        wait_until(lambda before=before: device.failed_syncs > before, PATIENCE)
        assert (said(caplog, "No link"), said(caplog, "Link")) == (outage, outage - 1)
        smok_server.start()
        wait_until(lambda: device.link_is_up, PATIENCE)
        assert (said(caplog, "No link"), said(caplog, "Link")) == (outage, outage)


def test_however_much_is_asked_for_nothing_is_tried_before_the_pause_is_over(
    recorder: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OddServer(lambda method, path: b"") as server:
        monkeypatch.setattr(Backoff, "pause", lambda self, now: 3600.0 if self.failing else 0.0)
        device = recorder(server.url, Counting)
        assert device.failed.wait(PATIENCE)
        for number in range(200):
            device.record(f"W{number}", number)
            device.request_baob_sync()
        # Once the thread has looked twice whether it may talk, for each call, it has slept between.
        enough = device.looks + 2 * len(CALLS)
        device.request_baob_sync()
        wait_until(lambda: device.looks > enough, PATIENCE)
        device.close()
        assert sum(server.calls.values()) == device.failed_syncs == 1
        assert pending(device) == 200


def test_pauses_grow_and_are_random(
    recorder: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def failed(self: Backoff) -> float:
        pauses.append(original(self))
        return pauses[-1]

    original = Backoff.failed
    monkeypatch.setattr(Backoff, "failed", failed)
    monkeypatch.setattr(Backoff, "pause", lambda self, now: 0.0)
    with OddServer(lambda method, path: b"") as server:
        recorder(server.url)
        wait_until(lambda: len(pauses) >= 8, PATIENCE)
    for pause, longest in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60], strict=False):
        assert longest / 2 <= pause <= longest
    assert len({pause / 2**number for number, pause in enumerate(pauses[:6])}) == 6


def test_callbacks_that_raise_harm_nothing(
    tmp_path: Path, recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(Recorder):
        def on_successful_sync(self, *args: Any, **kwargs: Any) -> None:
            super().on_successful_sync()
            raise ValueError("of the user's success")

        def on_failed_sync(self, *args: Any, **kwargs: Any) -> None:
            super().on_failed_sync()
            raise ValueError("of the user's failure")

    with LocalServer(tmp_path / "server.sqlite") as server:
        server.stop()
        device = recorder(server.url, Raising)
        device.record("W1", 1, 2, 3)
        assert device.failed.wait(PATIENCE)
        server.start()
        wait_until(lambda: pending(device) == 0, PATIENCE)
        wait_until(lambda: device.successful_syncs > 1, PATIENCE)
        assert held(server.admin) == {"W1": [(1, 1), (2, 2), (3, 3)]}
    assert "of the user's failure" in caplog.text
    once = """on_successful_sync raised ValueError("of the user's success")"""
    assert caplog.messages.count(once) == 1, "it is logged once an hour, not at each conversation"


def test_nothing_is_said_to_the_server_while_synchronization_is_not_allowed(
    smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    calls = smok_server.admin.fault(delay=0.001, times=None)
    device = recorder(smok_server.url, allow_sync=False)
    device.record("W1", 1, 2, 3)
    device.request_baob_sync()
    assert smok_server.admin.fault_hits(calls) == 0
    device.allow_sync = True
    wait_until(lambda: pending(device) == 0, PATIENCE)
    device.allow_sync = False
    assert device.failed_syncs == 0
    device.record("W1", 4, start=4)
    device.close()
    assert pending(device) == 1
    assert held(smok_server.admin) == {"W1": [(1, 1), (2, 2), (3, 3)]}


# --- Refusals and failures ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(("method", "path"), CALLS, ids=IDS)
def test_a_refusal_or_failure_of_one_call_stops_no_other_and_loses_nothing(
    method: str,
    path: str,
    status: int,
    shared_server: LocalServer,
    device_certificate: Callable[..., Any],
) -> None:
    admin = shared_server.admin
    admin.remove_faults()
    device_id = f"{method} {path} {status}"
    fault = admin.fault(path, method=method, status=status, times=None)
    with Recorder(device_certificate(device_id), shared_server.url) as device:
        device.record("W1", 1, 2)
        wait_until(lambda: admin.fault_hits(fault) > 0, PATIENCE)
        if method == "POST" and path == "/v1/device/pathpoints":
            device._sensors.interval = 0  # what else it does, it does now
            wait_until(lambda: device._sensors.synced_once, PATIENCE)
            # What is rejected goes into the quarantine, and what is not delivered waits.
            wait_until(lambda: pending(device) + quarantined(device) == 2, PATIENCE)
        else:
            device.record("W1", 3, start=3)
            wait_until(lambda: pending(device) == 0, PATIENCE)
            assert [sample.value for sample in admin.values(device_id, "W1")] == [1, 2, 3]
        assert device.failed_syncs == 0
        assert device.link_is_up
        assert admin.fault_hits(fault) <= 6  # 2 samples: halved once, and tried again
        admin.remove_faults()


@pytest.fixture(scope="module")
def shared_server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


def test_a_server_that_fails_is_not_hammered(
    smok_server: LocalServer, recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    fault = smok_server.admin.fault(status=500, times=None)
    device = recorder(smok_server.url, Counting, upload_linger=0)
    device.record("W1", 1)
    uploads = smok_server.admin.fault("/v1/device/pathpoints", status=500, times=None)
    wait_until(lambda: smok_server.admin.fault_hits(fault) >= 3 * len(CALLS), PATIENCE)
    # Three tries of each call, with pauses of at least 0.5, 1, 2 s: one more of some, at most, has
    # slipped in. The thread itself looks at its dozen tasks a few times for each.
    assert smok_server.admin.fault_hits(fault) <= 5 * len(CALLS)
    assert device.looks < 4000
    smok_server.admin.remove_faults(fault)
    smok_server.admin.remove_faults(uploads)
    wait_until(lambda: pending(device) == 0, PATIENCE)
    failures = [r.getMessage() for r in caplog.records if "The server fails at" in r.getMessage()]
    assert len(failures) == len(set(failures)) > 3


def test_a_sample_that_the_server_rejects_is_set_aside_and_the_rest_arrives(
    smok_server: LocalServer, recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    device = recorder(smok_server.url, delayed_boot=True)
    expected = {f"W{number}": list(enumerate(range(10), 1)) for number in range(20)}
    for name in ["W0", "W1", "W2"]:
        device.record(name, *range(10))
    device.record("ubad", "fine", "\0", "does not wait")
    for name in list(expected)[3:]:
        device.record(name, *range(10))
    device.continue_boot()
    expected["ubad"] = [(1, "fine"), (3, "does not wait")]
    wait_until(lambda: held(smok_server.admin) == expected, PATIENCE)
    wait_until(lambda: pending(device) == 0, PATIENCE)
    database = device.pp_database
    assert isinstance(database, NativePathpointDatabase)
    (sample,) = database.quarantine.samples()
    assert (sample.path, sample.timestamp, sample.value) == ("ubad", 2, "\0")
    assert "NUL" in sample.reason
    complaints = [r for r in caplog.records if "rejects 1 samples of ubad" in r.getMessage()]
    assert len(complaints) == 1


def test_a_pathpoint_that_the_server_rejects_keeps_no_other_from_being_registered(
    smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    device = recorder(smok_server.url, delayed_boot=True)
    for name in ["W1", "W\0", "W2", "W3"]:
        device.get_pathpoint(name)
    device.continue_boot()
    wait_until(lambda: smok_server.admin.pathpoints(DEVICE_ID).keys() == {"W1", "W2", "W3"}, 10)
    device.get_pathpoint("W4")
    wait_until(lambda: "W4" in smok_server.admin.pathpoints(DEVICE_ID), 10)


# --- Nonsense -------------------------------------------------------------------------------------

NONSENSE = {
    "garbage": (b"\x80\x00\xff{", "application/json"),
    "garbage MiniJSON": (b"\x07\xff", "application/minijson"),
    "a number": (b"7", "application/json"),
    "an object": (b'{"status": "hello"}', "application/json"),
    "a text": (b'"orders"', "application/json"),
    "null": (b"null", "application/json"),
    "wrong entries": (b'[1, null, "x", [], {}, {"path": 7, "interval": []}]', "application/json"),
    "nothing": (b"", "application/json"),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_as_an_answer_to_each_call_loses_nothing(
    what: str,
    smok_server: LocalServer,
    recorder: Callable[..., Recorder],
    caplog: pytest.LogCaptureFixture,
) -> None:
    body, content_type = NONSENSE[what]
    admin = smok_server.admin
    faults = [
        admin.fault(path, method=method, body=body, content_type=content_type, handled=True)
        for method, path in CALLS
    ]
    device = recorder(smok_server.url)
    device.record("W1", 1, 2)
    wait_until(lambda: all(admin.fault_hits(fault) for fault in faults), PATIENCE)
    device.record("W1", 3, start=3)
    wait_until(lambda: pending(device) == 0, PATIENCE)
    assert held(admin) == {"W1": [(1, 1), (2, 2), (3, 3)]}
    assert admin.conflicts(DEVICE_ID) == []
    assert device.failed_syncs == 0
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(("method", "path"), CALLS, ids=IDS)
def test_a_web_page_as_an_answer_counts_as_no_answer(
    method: str, path: str, smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    admin = smok_server.admin
    page = b"<html><body>Log in</body></html>"
    admin.fault(path, method=method, body=page, content_type="text/html", handled=True)
    device = recorder(smok_server.url)
    device.record("W1", 1)
    assert device.failed.wait(PATIENCE)
    wait_until(lambda: device.link_is_up and pending(device) == 0, PATIENCE)
    assert held(admin) == {"W1": [(1, 1)]}


def test_a_network_that_answers_with_its_login_page_is_one_warning(
    recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    page = http("200 OK", b"<html><body>Log in</body></html>", "text/html; charset=utf-8")
    with OddServer(lambda method, path: page) as server:
        device = recorder(server.url)
        wait_until(lambda: device.failed_syncs >= 2, PATIENCE)
        device.close()
    (told,) = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert told.startswith(f"No link to {server.url}")
    assert "a web page instead" in told
    assert device.successful_syncs == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 503])
def test_no_refusal_of_an_upload_loses_or_doubles_a_sample(
    status: int, smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    smok_server.admin.fault("/v1/device/pathpoints", method="POST", status=status, times=2)
    device = recorder(smok_server.url)
    device.record("W1", 1, 2, 3, 4)
    wait_until(lambda: pending(device) == 0, PATIENCE)
    assert held(smok_server.admin) == {"W1": [(1, 1), (2, 2), (3, 3), (4, 4)]}
    assert smok_server.admin.counts(DEVICE_ID).duplicates == 0


@pytest.mark.parametrize("path", sorted({path for _, path in CALLS}))
def test_a_truncated_answer_is_no_answer(path: str, recorder: Callable[..., Recorder]) -> None:
    def answer(method: str, called: str) -> bytes:
        if called.startswith(path):
            return http("200 OK", b"[" + b" " * 50)[:-20]
        return http("200 OK", b"[]")

    with OddServer(answer) as server:
        device = recorder(server.url)
        device.record("W1", 1)
        assert device.failed.wait(PATIENCE)
        if path == "/v1/device/pathpoints":
            assert pending(device) == 1


def test_good_orders_next_to_garbage_are_executed(
    smok_server: LocalServer, recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    smok_server.admin.queue_orders(
        DEVICE_ID,
        [
            {"orders": [{"type": "dance", "path": "W9"}, read_order("W1")], "disposition": 0},
            7,
            {"orders": "none"},
            None,
            {"orders": [None, 1, {}, {"type": "read"}, {"type": 4}, read_order("W2")]},
            {"disposition": 1},
            {"orders": [{"type": "write", "path": "W3"}, read_order("W3")], "disposition": 77},
            {"orders": [read_order("W4")], "disposition": 1},
        ],
    )
    device = recorder(smok_server.url, Readable)
    wait_until(lambda: {"W1", "W2", "W4"} <= device.readings.keys(), PATIENCE)
    assert "dance" in caplog.text
    assert "Traceback" not in caplog.text


# --- When it talks --------------------------------------------------------------------------------


def test_orders_are_polled_at_their_interval(
    smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    polls = smok_server.admin.fault("/v1/device/orders", delay=0.001, times=None)
    recorder(smok_server.url, orders_interval=0.05)
    wait_until(lambda: smok_server.admin.fault_hits(polls) >= 10, PATIENCE)


def test_orders_are_polled_after_an_upload(
    smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    polls = smok_server.admin.fault("/v1/device/orders", delay=0.001, times=None)
    device = recorder(smok_server.url, Readable, orders_interval=3600)
    device.wait_until_synced()
    assert smok_server.admin.fault_hits(polls) == 1
    smok_server.admin.queue_orders(DEVICE_ID, [{"orders": [read_order("W2")]}])
    device.record("W1", 1)
    wait_until(lambda: "W2" in device.readings, PATIENCE)
    wait_until(lambda: pending(device) == 0, PATIENCE)
    assert 2 <= smok_server.admin.fault_hits(polls) <= 3


def test_samples_that_nobody_uploads_do_not_keep_the_thread_awake(
    smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    polls = smok_server.admin.fault("/v1/device/orders", delay=0.001, times=None)
    device = recorder(
        smok_server.url,
        Counting,
        dont_do_pathpoints=True,
        sensor_database=InMemorySensorDatabase(),
        upload_linger=0,
        orders_interval=0.2,
    )
    device.record("W1", 1)
    start = device.looks
    wait_until(lambda: smok_server.admin.fault_hits(polls) >= 8, PATIENCE)
    assert device.looks - start < 8 * 100


def test_messages_are_confirmed_and_one_that_is_refused_is_given_up(
    smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    orders = [{"type": "message", "uuid": uuid} for uuid in ("one", "two")]
    smok_server.admin.queue_orders(DEVICE_ID, [{"orders": orders, "disposition": 0}])
    recorder(smok_server.url)
    wait_until(lambda: all(smok_server.admin.messages(DEVICE_ID).values()), PATIENCE)
    assert smok_server.admin.messages(DEVICE_ID).keys() == {"one", "two"}


# --- A database of the user's ---------------------------------------------------------------------


class Batch(BaseDataToSynchronize):
    def __init__(self, database: ListDatabase, content: list[dict[str, Any]]) -> None:
        self.database = database
        self.content = content

    def acknowledge(self) -> None:
        self.database.answers.append(True)

    def negative_acknowledge(self) -> None:
        self.database.answers.append(False)
        self.database.batches.appendleft(self.content)

    def to_json(self) -> list[dict[str, Any]]:
        if self.database.raises:
            raise self.database.raises.pop()
        return self.content


class ListDatabase(BasePathpointDatabase):
    """Hands out batches that the test has put there, and one of each new sample."""

    def __init__(self, *batches: list[dict[str, Any]]) -> None:
        self.batches = deque(batches)
        self.answers: list[bool] = []
        self.raises: list[Exception] = []
        self.checkpoints = 0

    def checkpoint(self) -> None:
        self.checkpoints += 1

    def on_new_data(self, pathpoint: str, timestamp: float, value_or_exception: Any) -> None:
        sample: dict[str, Any] = {"timestamp": int(timestamp)}
        if isinstance(value_or_exception, OperationFailedError):
            sample["error_code"] = value_or_exception.reason.value
        else:
            sample["value"] = value_or_exception
        self.batches.append([{"path": pathpoint, "values": [sample]}])

    def get_current_value(self, pathpoint: str) -> Any:
        raise NotReadedError

    def get_archive_data(self, pathpoint: str, start: Any, stop: Any) -> Iterator[Any]:
        return iter(())

    def get_data_to_sync(self) -> Batch | None:
        return Batch(self, self.batches.popleft()) if self.batches else None


BATCHES = (
    [{"path": "W1", "values": [{"timestamp": 1, "value": 10}, [2, 20]]}],
    [{"path": "W1", "values": [{"timestamp": 3, "error_code": "timeout"}, [False, 4, "invalid"]]}],
)
DELIVERED = [(1, 10), (2, 20), (3, "timeout"), (4, "invalid")]


def test_a_database_of_the_users_uploads_samples_in_both_forms(
    smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    database = ListDatabase(*BATCHES)
    device = recorder(smok_server.url, pp_database=database)
    wait_until(lambda: held(smok_server.admin) == {"W1": DELIVERED}, PATIENCE)
    device.record("f2", 1.5, OperationFailedError(OperationFailedReason.MALFORMED, 2))
    expected = {"W1": DELIVERED, "f2": [(1, 1.5), (2, "malformed")]}
    wait_until(lambda: held(smok_server.admin) == expected, PATIENCE)
    wait_until(lambda: len(database.answers) == 4, PATIENCE)
    assert all(database.answers)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_refused_batch_of_a_database_of_the_users_comes_again(
    status: int, smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    smok_server.admin.fault("/v1/device/pathpoints", method="POST", status=status)
    database = ListDatabase(*BATCHES)
    recorder(smok_server.url, pp_database=database)
    wait_until(lambda: held(smok_server.admin) == {"W1": DELIVERED}, PATIENCE)
    wait_until(lambda: database.answers == [False, True, True], PATIENCE)


def test_a_batch_whose_content_raises_is_answered_and_comes_again(
    smok_server: LocalServer, recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    database = ListDatabase(*BATCHES)
    database.raises = [ValueError("of the user's database")]
    recorder(smok_server.url, pp_database=database)
    wait_until(lambda: held(smok_server.admin) == {"W1": DELIVERED}, PATIENCE)
    wait_until(lambda: database.answers == [False, True, True], PATIENCE)
    assert "of the user's database" in caplog.text


def test_a_database_of_the_users_is_told_to_save_even_without_a_link(
    recorder: Callable[..., Recorder],
) -> None:
    database = ListDatabase()
    recorder("http://127.0.0.1:9", pp_database=database)
    wait_until(lambda: database.checkpoints > 0, PATIENCE)


# --- The end --------------------------------------------------------------------------------------


def test_samples_that_wait_are_uploaded_when_the_device_is_closed(
    smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    device = recorder(smok_server.url, upload_linger=3600)
    device.wait_until_synced()
    device.record("W1", *range(50))
    device.close()
    assert held(smok_server.admin) == {"W1": list(enumerate(range(50), 1))}
    assert pending(device) == 0


def test_samples_that_a_read_gives_while_the_device_is_closed_are_uploaded(
    smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    reading = threading.Event()

    class Slow(Recorder):
        def provide_unknown_pathpoint(self, name: str, storage_level: Any = None) -> Any:
            pathpoint = super().provide_unknown_pathpoint(name)

            def on_read(advise: Any) -> int:
                reading.set()
                wait_until(lambda: self.closed, PATIENCE)
                return 77

            pathpoint.on_read = on_read  # type: ignore[method-assign]
            return pathpoint

    device = recorder(smok_server.url, Slow, upload_linger=3600)
    device.wait_until_synced()
    device.execute(device.get_pathpoint("W1").read())
    assert reading.wait(PATIENCE)
    device.close()
    assert [value for _, value in held(smok_server.admin)["W1"]] == [77]


def test_a_device_that_is_closed_without_a_link_tries_nothing_more(
    recorder: Callable[..., Recorder],
) -> None:
    with OddServer(lambda method, path: b"") as server:
        device = recorder(server.url)
        assert device.failed.wait(PATIENCE)
        device.record("W1", 1)
        device.allow_sync = False
        calls = sum(server.calls.values())
        device.close()
        assert sum(server.calls.values()) == calls
        assert pending(device) == 1
