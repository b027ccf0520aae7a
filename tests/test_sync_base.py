"""When tasks run, what becomes of errors, and how bad data is kept from holding up the good."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ManualClock
from smok_fast._urls import segment
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.minijson import EncodingError
from smok_fast.sync.base import (
    MAX_REJECTED,
    REFUSED_FOR,
    REJECTED_FOR,
    Rejections,
    SyncTask,
    UnusableAnswer,
    parse_each,
    send_in_parts,
)


class Scripted(SyncTask):
    """Does what the test tells it to."""

    name = "scripted"
    interval = 300.0
    outcome: Exception | bool = False
    during: Callable[[], None] | None = None

    def exchange(self) -> bool:
        if self.during is not None:
            self.during()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self._call(bool, self.outcome)


@pytest.fixture
def task(device: SMOKDevice, clock: ManualClock) -> Scripted:
    return Scripted(device, clock=clock)


def test_a_task_runs_at_once_and_then_after_each_interval(
    task: Scripted, clock: ManualClock
) -> None:
    assert task.is_due(clock()) and task.delay(clock()) == 0
    assert not task.synced_once
    assert task.run() is False
    assert task.synced_once and task.answered
    assert not task.is_due(clock()) and task.delay(clock()) == 300
    clock.advance(299)
    assert not task.is_due(clock()) and task.delay(clock()) == 1
    clock.advance(1)
    assert task.is_due(clock()) and task.delay(clock()) == 0


def test_a_task_without_an_interval_runs_in_every_cycle_and_keeps_nobody_awake(
    device: SMOKDevice, clock: ManualClock
) -> None:
    task = Scripted(device, interval=0, clock=clock)
    task.run()
    assert task.is_due(clock())
    assert task.delay(clock()) == math.inf
    task.request()
    assert task.delay(clock()) == 0


def test_a_request_is_served_once_even_if_it_comes_during_a_run(
    task: Scripted, clock: ManualClock
) -> None:
    task.run()
    task.request()
    assert task.is_due(clock()) and task.delay(clock()) == 0
    task.during = task.request
    task.run()
    assert task.is_due(clock()), "what was asked for during the run may have come too late for it"
    task.during = None
    task.run()
    assert not task.is_due(clock())


@pytest.mark.parametrize("status", [599, 500, 503])
def test_what_the_server_did_not_answer_is_due_until_it_does(
    task: Scripted, clock: ManualClock, status: int
) -> None:
    task.run()
    task.request()
    task.outcome = ResponseError(status, "")
    with pytest.raises(ResponseError):
        task.run()
    assert not task.answered
    assert task.is_due(clock()), "the request is not lost"
    task.outcome = True
    assert task.run() is True
    assert not task.is_due(clock())


def test_what_the_server_refuses_waits_for_the_next_interval(
    task: Scripted, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    task.outcome = ResponseError(403, "not you")
    for _ in range(2):
        with pytest.raises(ResponseError):
            task.run()
    assert caplog.text.count("not you") == 1
    task.request()
    assert not task.is_due(clock()), "not even if asked for"
    assert task.delay(clock()) == REFUSED_FOR
    clock.advance(REFUSED_FOR)
    assert task.is_due(clock())
    task.outcome = False
    task.run()
    task.outcome = ResponseError(403, "not you")
    with pytest.raises(ResponseError):
        task.run()
    assert caplog.text.count("not you") == 2
    clock.advance(299)
    assert not task.is_due(clock())
    clock.advance(1)
    assert task.is_due(clock())


def test_an_answer_that_makes_no_sense_waits_for_the_next_interval(
    task: Scripted, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    task.outcome = UnusableAnswer("a list", {"a": 1})
    assert task.run() is False
    assert not task.synced_once and not task.answered
    assert task.delay(clock()) == 300
    assert "expected a list, got {'a': 1}" in caplog.text


def test_an_exception_of_somebody_elses_code_is_logged_and_waits(
    task: Scripted, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    task.outcome = ZeroDivisionError()
    assert task.run() is False
    assert not task.is_due(clock())
    assert "ZeroDivisionError" in caplog.text


def test_entries_that_are_malformed_are_logged_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = [{"a": "1"}, {"a": "x"}, {}, 5, {"a": []}, {"a": "2"}]
    assert parse_each(answer, lambda entry: int(entry["a"]), "number") == [1, 2]
    assert len(caplog.records) == 4
    with pytest.raises(UnusableAnswer):
        parse_each({"a": 1}, lambda entry: entry, "number")


@given(
    st.lists(st.booleans(), max_size=60),
    st.integers(1, 70),
)
def test_good_items_are_sent_once_and_bad_ones_are_found(good: list[bool], size: int) -> None:
    sent: list[int] = []
    rejected: list[int] = []
    calls = 0

    def send(part: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        assert 0 < len(part) <= size
        if not all(good[index] for index in part):
            raise ResponseError(400, "bad")
        sent.extend(part)

    bad = [index for index, is_good in enumerate(good) if not is_good]
    try:
        send_in_parts(range(len(good)), send, lambda index, _: rejected.append(index), size=size)
    except ResponseError:
        assert len(rejected) == MAX_REJECTED
        assert rejected == bad[:MAX_REJECTED]
    else:
        assert rejected == bad and len(bad) < MAX_REJECTED
        assert sent == [index for index, is_good in enumerate(good) if is_good]
    assert sent == sorted(sent) and set(sent).isdisjoint(bad)
    assert calls <= 2 * len(good)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 599])
def test_an_error_that_is_not_about_the_content_is_the_callers(status: int) -> None:
    calls: list[object] = []

    def send(part: Sequence[int]) -> None:
        calls.append(part)
        raise ResponseError(status, "")

    with pytest.raises(ResponseError):
        send_in_parts([1, 2, 3], send, lambda *_: pytest.fail("not rejected"), size=2)
    assert calls == [[1, 2]]


def test_an_item_that_cannot_be_encoded_is_a_rejected_one() -> None:
    sent: list[int] = []
    rejected: list[int] = []

    def send(part: Sequence[int]) -> None:
        if 2 in part:
            raise EncodingError
        sent.extend(part)

    send_in_parts([1, 2, 3], send, lambda item, _: rejected.append(item), size=10)
    assert (sent, rejected) == ([1, 3], [2])


def test_what_was_rejected_is_logged_once_and_offered_again_rarely(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    rejections: Rejections[str] = Rejections("the thing", clock)
    assert rejections.may_offer("a")
    for _ in range(3):
        rejections.add("a", "no such thing")
    rejections.add("b", "no such thing")
    assert len(caplog.records) == 2
    assert not rejections.may_offer("a")
    clock.advance(REJECTED_FOR)
    assert rejections.may_offer("a")
    rejections.add("a", "still not")
    rejections.add("b", "still not")
    assert not rejections.may_offer("a")
    assert len(caplog.records) == 2
    rejections.keep_only(["b"])
    assert rejections.may_offer("a")
    assert not rejections.may_offer("b")
    rejections.discard("b")
    assert rejections.may_offer("b")


@pytest.mark.parametrize(
    ("name", "encoded"),
    [("a b", "a%20b"), ("../x", "..%2Fx"), ("ż+%", "%C5%BC%2B%25"), ("-._~", "-._~")],
)
def test_a_name_is_one_segment_of_a_path(name: str, encoded: str) -> None:
    assert segment(name) == encoded
