"""Macros by themselves: their parts, and executing them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathpoint_support import SOON, TIMEOUT, scripted
from smok_fast.client import SMOKDevice
from smok_fast.macro import Macro
from smok_fast.pathpoint import AdviseLevel, Section, WriteOrder
from smok_fast.testing import wait_until


class Recording(SMOKDevice):
    """Takes sections and leaves them to the test."""

    sections: list[Section]
    is_refusing = False

    def execute(self, *secs: Section) -> Section | None:
        if self.is_refusing:
            raise RuntimeError("closed")
        self.sections = [*getattr(self, "sections", []), *secs]
        return secs[-1]


@pytest.fixture
def device(make_device: Callable[..., SMOKDevice]) -> Recording:
    device = make_device(Recording)
    assert isinstance(device, Recording)
    return device


def test_a_macro_comes_from_json_without_what_is_completed() -> None:
    macro = Macro.from_json(
        {
            "macro_id": "m",
            "commands": [{"path": "W1", "value": 5}, {"path": "u2", "value": "on"}],
            "occurrences": [
                {"timestamp": 300, "completed": False},
                {"timestamp": 200.0, "completed": False},
                {"timestamp": 100, "completed": True},
                {"timestamp": 250.5, "completed": False},
            ],
        }
    )
    assert (macro.macro_id, macro.commands) == ("m", {"W1": 5, "u2": "on"})
    assert list(macro.occurrences_not_done) == [200, 250.5, 300]
    assert isinstance(macro.occurrences_not_done[0], int)
    assert macro and not Macro("m", {}, [])
    assert macro == Macro("m", {}, []) and hash(macro) == hash(Macro("m", {}, []))
    assert macro != Macro("n", {}, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"macro_id": 5},
        {"commands": [{"path": "W1"}]},
        {"commands": [{"path": "W1", "value": None}]},
        {"commands": [{"path": 1, "value": 1}]},
        {"commands": None},
        {"occurrences": [{"timestamp": "soon", "completed": False}]},
        {"occurrences": [{"timestamp": float("nan"), "completed": False}]},
        {"occurrences": [{"timestamp": 5}]},
        {"occurrences": 5},
    ],
)
def test_a_malformed_macro_is_refused_as_a_whole(changes: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Macro.from_json({"macro_id": "m", "commands": [], "occurrences": [], **changes})


@given(
    st.text(min_size=1),
    st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.floats(allow_nan=False))),
    st.lists(st.integers(0, 2**40)),
)
def test_a_macro_survives_its_bytes(
    macro_id: str, commands: dict[str, int | float | str], occurrences: list[int]
) -> None:
    macro = Macro(macro_id, commands, occurrences)
    again = Macro.from_pickle(macro.to_pickle())
    assert (again.macro_id, again.commands) == (macro_id, commands)
    assert list(again.occurrences_not_done) == sorted(occurrences)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'["m", 5, 5]', b"\x80\x04K\x01."])
def test_bytes_that_are_no_macro_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Macro.from_pickle(data)


def test_every_occurrence_whose_time_has_come_writes_its_values_once(device: Recording) -> None:
    macro = Macro("m", {"W1": 5, "W2": 6}, [200, 100, 300])
    assert not macro.should_execute(99)
    macro.execute(device, 99)
    assert not hasattr(device, "sections")
    assert macro.should_execute(200)
    macro.execute(device, 200)
    assert list(macro.occurrences_not_done) == [300]
    assert len(device.sections) == 2
    for section in device.sections:
        orders = [order for order in section.orders if isinstance(order, WriteOrder)]
        assert [(order.pathpoint, order.value, order.advise) for order in orders] == [
            ("W1", 5, AdviseLevel.FORCE),
            ("W2", 6, AdviseLevel.FORCE),
        ]


def test_an_occurrence_counts_as_executed_once_its_section_is_done(device: Recording) -> None:
    Macro("m", {"W1": 5}, [100, 200, 300]).execute(device, 1000)
    assert list(device.macros_database.get_done_macros()) == []
    device.sections[1].mark_as_done()
    assert list(device.macros_database.get_done_macros()) == [("m", 200)]
    device.sections[0].cancel()
    assert list(device.macros_database.get_done_macros()) == [("m", 200)]


def test_an_occurrence_that_the_device_does_not_take_is_still_to_be_executed(
    device: Recording,
) -> None:
    macro = Macro("m", {"W1": 5}, [100, 200])
    device.is_refusing = True
    with pytest.raises(RuntimeError):
        macro.execute(device, 1000)
    assert list(macro.occurrences_not_done) == [100, 200]


def test_a_macro_looks_at_the_clock_by_itself(device: Recording) -> None:
    long_ago_and_far_ahead = Macro("m", {"W1": 5}, [1, 2**40])
    long_ago_and_far_ahead.execute(device)
    assert len(device.sections) == 1
    assert not long_ago_and_far_ahead.should_execute()


def test_writes_that_fail_are_executed_and_the_log_names_macro_and_pathpoint(
    make_offline_device: Callable[..., SMOKDevice],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("smok_fast.threads.execution.FIRST_PAUSE", 0.0)
    device = make_offline_device()
    scripted(device, "W1").writing = TIMEOUT
    good = scripted(device, "W2")
    macro = Macro("m", {"W1": 5, "W2": 6, "W3": 7}, [100])
    macro.execute(device, 1000)
    done = device.macros_database.get_done_macros
    wait_until(lambda: list(done()) == [("m", 100)], SOON)
    assert good.log == [("write", "W2", 6)]
    said = [r.getMessage() for r in caplog.records if r.name == "smok_fast.macro"]
    assert said == [
        "Macro m of 100: there is no pathpoint W3, which counts as written",
        "Macro m of 100: writing W1 has failed for good, it counts as written",
    ]


def test_an_execution_loop_of_the_users_needs_no_pathpoints_for_macros(
    make_offline_device: Callable[..., SMOKDevice], caplog: pytest.LogCaptureFixture
) -> None:
    class Own(SMOKDevice):
        def execute_section(self, section: Section) -> None:
            pass

    device = make_offline_device(Own)
    Macro("m", {"W1": 5}, [100]).execute(device, 1000)
    wait_until(lambda: list(device.macros_database.get_done_macros()), SOON)
    assert [r for r in caplog.records if r.name == "smok_fast.macro"] == []
