"""Log records on their way to the local server."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import random
import string
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from smok_fast import minijson
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.logging import SMOKLogHandler
from smok_fast.server import LocalServer
from smok_fast.testing import Admin, wait_until
from smok_fast.threads import log_publisher
from smok_fast.threads.log_publisher import LogPublisherThread

PATH = "/v1/device/device_logs"


@pytest.fixture(autouse=True)
def _without_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_publisher, "LINGER", 0.01)
    monkeypatch.setattr(log_publisher, "MIN_PAUSE", 0.01)
    monkeypatch.setattr(log_publisher, "MAX_PAUSE", 0.05)


@pytest.fixture
def publisher(device: SMOKDevice) -> LogPublisherThread:
    return device.log_publisher


@pytest.fixture
def log(device: SMOKDevice) -> Iterator[logging.Logger]:
    """A logger whose records, and nothing else's, go to the server."""
    logger = logging.getLogger("a program")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handler = SMOKLogHandler(device, "heating")
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def messages(admin: Admin) -> list[str]:
    return [record["message"] for record in admin.logs("1")]


def record_of(log: logging.Logger, message: str, *args: object, **more: Any) -> dict[str, Any]:
    """What a handler makes of a record."""
    handler = log.handlers[0]
    assert isinstance(handler, SMOKLogHandler)
    record = log.makeRecord(log.name, logging.ERROR, __file__, 1, message, args, None, **more)
    return handler.record_to_json(record)


def entry(publisher: LogPublisherThread, message: object) -> dict[str, Any]:
    return {"service": "s", "when": publisher.timestamp(0), "message": message, "level": 20}


def test_a_record_reaches_the_server(
    publisher: LogPublisherThread, log: logging.Logger, admin: Admin
) -> None:
    assert (publisher.name, publisher.daemon) == ("LogPublisherThread", True)
    publisher.start()
    log.warning("pressure is %d bar", 5)
    wait_until(lambda: messages(admin) == ["pressure is 5 bar"])
    (record,) = admin.logs("1")
    assert (record["service"], record["level"]) == ("heating", logging.WARNING)
    assert record["when"] > 1_600_000_000_000_000


def test_timestamps_rise_strictly_whatever_thread_logs_and_whatever_the_clock_does(
    device: SMOKDevice, log: logging.Logger, admin: Admin
) -> None:
    other = SMOKLogHandler(device, "heating")  # another handler of the same service
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()
        for _ in range(50):
            log.info("x")
            other.handle(log.makeRecord("o", 20, "", 1, "y", (), None))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stamps = [device.log_publisher.timestamp(created) for created in (5e9, 4e9, 0.0)]
    assert stamps == [5 * 10**15, 5 * 10**15 + 1, 5 * 10**15 + 2]
    device.log_publisher.start()
    wait_until(lambda: len(admin.logs("1")) == 400)
    records = admin.logs("1")
    assert len({record["when"] for record in records}) == 400


def test_records_of_a_handler_are_sent_in_order(
    publisher: LogPublisherThread, log: logging.Logger, admin: Admin
) -> None:
    for number in range(300):
        log.info("%d", number)
    publisher.start()
    wait_until(lambda: len(admin.logs("1")) == 300)
    assert messages(admin) == [str(number) for number in range(300)]
    assert admin.counts("1").logs_out_of_order == 0


def test_a_long_message_is_compressed_if_that_makes_it_shorter(
    publisher: LogPublisherThread, log: logging.Logger, admin: Admin
) -> None:
    dice = random.Random(1)
    long = "ż" * 5000
    noise = "".join(dice.choices(string.printable, k=1001))
    assert record_of(log, "x" * 1000)["message"] == "x" * 1000
    assert record_of(log, long)["message"]["encoding"] == "base64-gzip"
    assert record_of(log, noise)["message"] == noise
    publisher.start()
    log.error("%s", long)
    wait_until(lambda: messages(admin) == [long])


def test_an_exception_comes_with_its_text_and_its_frames_but_without_variables(
    publisher: LogPublisherThread, log: logging.Logger, admin: Admin
) -> None:
    def inner(password: str) -> None:
        raise ZeroDivisionError(len(password))

    publisher.start()
    try:
        inner("".join(["sword", "fish"]))
    except ZeroDivisionError:
        log.exception("no luck")
    wait_until(lambda: admin.logs("1"))
    (record,) = admin.logs("1")
    assert record["message"] == "no luck"
    assert record["exception_text"].startswith("Traceback (most recent call last)")
    assert record["exception_text"].endswith("ZeroDivisionError: 9\n")
    details = gzip.decompress(base64.b64decode(record["exception_traceback"])).decode()
    traceback = json.loads(details)
    assert "swordfish" not in details
    assert traceback["formatted_traceback"] == record["exception_text"]
    innermost, caller, *outer = traceback["frames"]
    assert (innermost["name"], innermost["locals"], innermost["globals"]) == ("inner", {}, {})
    assert caller["name"].startswith("test_an_exception")
    assert innermost["filename"] == __file__
    assert caller["line_no"] > innermost["line_no"]
    assert outer, "frames go on to the thread's outermost"


def test_an_exception_that_was_never_raised_has_a_text_only(log: logging.Logger) -> None:
    record = record_of(log, "x")
    assert "exception_text" not in record
    error = KeyError("k")
    made = log.makeRecord("n", 40, "", 1, "x", (), (KeyError, error, None))
    handler = log.handlers[0]
    assert isinstance(handler, SMOKLogHandler)
    assert handler.record_to_json(made)["exception_text"] == "KeyError: 'k'\n"


def test_a_record_that_cannot_be_formatted_is_sent_as_it_is(log: logging.Logger) -> None:
    class Unprintable:
        def __repr__(self) -> str:
            raise ZeroDivisionError

        __str__ = __repr__

    assert record_of(log, "%d", "x")["message"] == "%d ('x',)"
    assert "unprintable record of a program" in record_of(log, "%s", Unprintable())["message"]
    assert record_of(log, "%s", "\udc80ż")["message"] == "\\udc80ż"
    cut = record_of(log, "a" * 300_000)["message"]
    text = gzip.decompress(base64.b64decode(cut["content"])).decode()
    assert text == "a" * 100_000 + "… (300000 characters in all)"


def test_the_queue_is_bounded_and_says_how_many_records_it_lost(
    publisher: LogPublisherThread,
    log: logging.Logger,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_publisher, "MAX_QUEUED", 10)
    for number in range(13):
        log.info("%d", number)
    publisher.start()
    wait_until(lambda: len(admin.logs("1")) == 11)
    *kept, told = admin.logs("1")
    assert [record["message"] for record in kept] == [str(number) for number in range(3, 13)]
    assert told["message"].startswith("3 log records were dropped")
    assert (told["service"], told["level"]) == ("smok_fast", logging.WARNING)
    log.info("after")
    wait_until(lambda: messages(admin)[-1] == "after")
    assert len(admin.logs("1")) == 12


def test_pruning_empties_the_queue_and_says_so(
    publisher: LogPublisherThread, log: logging.Logger, admin: Admin
) -> None:
    handler = log.handlers[0]
    assert isinstance(handler, SMOKLogHandler)
    log.info("gone")
    log.info("gone")
    handler.prune_the_queue()
    log.info("kept")
    publisher.start()
    wait_until(lambda: len(admin.logs("1")) == 2)
    assert messages(admin)[0] == "kept"
    assert messages(admin)[1].startswith("2 log records were dropped")


def test_publishing_makes_no_records_to_publish(
    device: SMOKDevice, log: logging.Logger, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    handler = SMOKLogHandler(device, "library")
    # Not the root logger: the server is in this process, and it logs the calls that it gets
    talkative = [logging.getLogger("urllib3"), logging.getLogger("smok_fast.threads")]
    for logger in talkative:
        logger.addHandler(handler)
    try:
        failed = admin.fault(PATH, status=503, times=2)
        device.log_publisher.start()
        log.info("mine")
        wait_until(lambda: "mine" in messages(admin))
        device.log_publisher.terminate()
        device.log_publisher.join(30)
    finally:
        for logger in talkative:
            logger.removeHandler(handler)
    assert admin.fault_hits(failed) == 2
    by_publisher = [r.getMessage() for r in caplog.records if r.threadName == "LogPublisherThread"]
    assert any("device_logs" in message for message in by_publisher), "there was some to leave out"
    telling = {message for message in by_publisher if "device_logs" in message or "wait" in message}
    assert not telling & set(messages(admin))


def test_a_call_carries_at_most_a_megabyte(
    device: SMOKDevice, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    put = device.api.put

    def measured(path: str, **options: Any) -> Any:
        sizes.append(len(minijson.dumps(options["json"])))
        return put(path, **options)

    monkeypatch.setattr(device.api, "put", measured)
    for _ in range(30):
        device.log_publisher.put(entry(device.log_publisher, "x" * 100_000))
    device.log_publisher.start()
    wait_until(lambda: len(admin.logs("1")) == 30)
    assert len(sizes) == 3
    assert max(sizes) <= 1024 * 1024
    assert min(sizes) > 900_000


def test_records_wait_while_there_is_no_link_and_come_in_order_afterwards(
    publisher: LogPublisherThread,
    log: logging.Logger,
    admin: Admin,
    smok_server: LocalServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    smok_server.stop()
    publisher.start()
    for number in range(5):
        log.info("%d", number)
    wait_until(lambda: "cannot be published" in caplog.text)
    log.info("5")
    smok_server.start()
    wait_until(lambda: len(admin.logs("1")) == 6)
    assert messages(admin) == [str(number) for number in range(6)]
    assert caplog.text.count("cannot be published") == 1


def test_records_that_wait_are_sent_when_the_link_is_back_however_long_the_pause(
    publisher: LogPublisherThread,
    log: logging.Logger,
    admin: Admin,
    smok_server: LocalServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_publisher, "MIN_PAUSE", 3600.0)
    monkeypatch.setattr(log_publisher, "MAX_PAUSE", 3600.0)
    smok_server.stop()
    publisher.start()
    log.info("0")
    wait_until(lambda: "cannot be published" in caplog.text)
    smok_server.start()
    publisher.link_is_back()
    wait_until(lambda: messages(admin) == ["0"])


def test_records_logged_during_a_call_that_fails_come_after_those_that_it_carried(
    device: SMOKDevice, log: logging.Logger, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: Callable[..., Any] = device.api.put
    failed: list[str] = []

    def fail_once(path: str, **options: Any) -> Any:
        if not failed:
            failed.append(path)
            device.log_publisher.put(entry(device.log_publisher, "third"))
            raise ResponseError(599, "cut")
        return put(path, **options)

    monkeypatch.setattr(device.api, "put", fail_once)
    log.info("first")
    log.info("second")
    device.log_publisher.start()
    wait_until(lambda: len(admin.logs("1")) == 3)
    assert messages(admin) == ["first", "second", "third"]


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 401}, {"status": 429}, {"drop": True}]
)
def test_no_error_of_the_server_loses_a_record(
    publisher: LogPublisherThread, log: logging.Logger, admin: Admin, fault: dict[str, Any]
) -> None:
    lost = admin.fault(PATH, times=3, **fault)
    publisher.start()
    log.info("a")
    log.info("b")
    wait_until(lambda: messages(admin) == ["a", "b"])
    assert admin.fault_hits(lost) == 3


def test_a_record_whose_answer_was_lost_is_on_the_server_once(
    publisher: LogPublisherThread, log: logging.Logger, admin: Admin
) -> None:
    admin.fault(PATH, drop=True, handled=True, times=2)
    publisher.start()
    log.info("a")
    log.info("b")
    publisher.flush(30)
    wait_until(lambda: messages(admin) == ["a", "b"])


def test_records_that_the_server_rejects_are_dropped_and_the_others_arrive(
    publisher: LogPublisherThread, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(9):
        publisher.put(entry(publisher, 5 if number in {2, 7} else str(number)))
    publisher.put({"unsendable": object()})
    publisher.start()
    wait_until(lambda: messages(admin) == ["0", "1", "3", "4", "5", "6", "8"])
    dropped = [record for record in caplog.records if "dropped" in record.getMessage()]
    assert len(dropped) == 3


def test_records_wait_while_synchronization_is_not_allowed(
    device: SMOKDevice, log: logging.Logger, admin: Admin
) -> None:
    device.allow_sync = False
    asked = admin.fault(PATH, status=500, times=None)
    device.log_publisher.start()
    log.info("held")
    device.log_publisher.flush(30)  # which is not going to happen, so it returns
    assert admin.fault_hits(asked) == 0
    admin.remove_faults()
    device.allow_sync = True
    device.log_publisher.wake()
    wait_until(lambda: messages(admin) == ["held"])


def test_logging_does_not_wait_for_a_call_that_hangs(
    publisher: LogPublisherThread,
    device: SMOKDevice,
    log: logging.Logger,
    admin: Admin,
) -> None:
    hanging = admin.fault(PATH, delay=600)
    publisher.start()
    log.info("first")
    wait_until(lambda: admin.fault_hits(hanging) == 1)
    log.info("second")
    device.api.close()
    publisher.terminate()
    publisher.join(30)
    assert not publisher.is_alive()


def test_the_last_records_are_sent_when_the_thread_is_asked_to_end(
    publisher: LogPublisherThread,
    log: logging.Logger,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_publisher, "LINGER", 600.0)
    publisher.start()
    log.info("last words")
    publisher.terminate()
    publisher.join(30)
    assert messages(admin) == ["last words"]
    log.info("too late")
    publisher.terminate()
    publisher.join(30)


def test_the_thread_ends_at_once_without_a_link_and_says_what_is_lost(
    device: SMOKDevice,
    publisher: LogPublisherThread,
    log: logging.Logger,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_publisher, "MIN_PAUSE", 600.0)
    monkeypatch.setattr(log_publisher, "MAX_PAUSE", 600.0)
    calls: list[str] = []

    def no_link(path: str, **_: Any) -> Any:
        calls.append(path)
        raise ResponseError(599, "no link")

    monkeypatch.setattr(device.api, "put", no_link)
    publisher.start()
    log.info("lost")
    log.info("lost")
    wait_until(lambda: "cannot be published" in caplog.text)
    publisher.terminate()
    publisher.join(30)
    assert not publisher.is_alive()
    assert calls == [PATH]
    assert "2 log records were not published" in caplog.text


def test_a_handler_waits_for_its_last_records_when_it_is_closed(
    publisher: LogPublisherThread,
    log: logging.Logger,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_publisher, "LINGER", 600.0)
    log.handlers[0].close()  # not started yet: nothing to wait for
    publisher.start()
    log.info("last words")
    log.handlers[0].close()
    assert messages(admin) == ["last words"]


def test_an_error_in_a_handler_is_the_standard_librarys_to_report(
    device: SMOKDevice, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[logging.LogRecord] = []
    monkeypatch.setattr(log.handlers[0], "handleError", reported.append)
    monkeypatch.setattr(device.log_publisher, "put", lambda _: 1 / 0)
    log.info("x")
    assert [record.getMessage() for record in reported] == ["x"]


def test_nothing_that_a_call_raises_ends_the_thread(
    device: SMOKDevice,
    log: logging.Logger,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put: Callable[..., Any] = device.api.put
    errors: list[Exception] = [ZeroDivisionError(), RuntimeError("closed")]

    def failing(path: str, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return put(path, **options)

    monkeypatch.setattr(device.api, "put", failing)
    device.log_publisher.start()
    log.info("x")
    wait_until(lambda: messages(admin) == ["x"])
    assert "ZeroDivisionError" in caplog.text
