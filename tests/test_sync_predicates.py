"""Predicates as the local server defines them, and what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conftest import ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.extras import InMemoryEventDatabase, InMemoryPredicateDatabase
from smok_fast.predicate import BaseStatistic, DisabledTime, Time
from smok_fast.predicate.undefined import UndefinedStatistic
from smok_fast.server import LocalServer
from smok_fast.sync.predicates import PredicatesTask, TicksTask
from smok_fast.testing import Admin

PATH = "/v1/device/predicates"


class Watching(BaseStatistic):
    """Notes what is called, and counts its ticks in its state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[object] = []

    def on_tick(self) -> None:
        self.calls.append("tick")
        self.state = (self.state or 0) + 1

    def on_configuration_changed(self, new_config: dict[str, Any] | None) -> None:
        super().on_configuration_changed(new_config)
        self.calls.append(("configuration", new_config))

    def on_silencing_changed(self, new_silencing: list[DisabledTime]) -> None:
        super().on_silencing_changed(new_silencing)
        self.calls.append(("silencing", new_silencing))

    def on_verbose_name_changed(self, new_verbose_name: str) -> None:
        super().on_verbose_name_changed(new_verbose_name)
        self.calls.append(("verbose_name", new_verbose_name))

    def on_group_changed(self, new_group: str) -> None:
        super().on_group_changed(new_group)
        self.calls.append(("group", new_group))

    def on_offline(self) -> None:
        self.calls.append("offline")


class Raising(BaseStatistic):
    """Raises wherever it can."""

    def on_tick(self) -> None:
        raise ZeroDivisionError("tick")

    def on_offline(self) -> None:
        raise ZeroDivisionError("offline")

    def on_group_changed(self, new_group: str) -> None:
        raise ZeroDivisionError("group")


def a_predicate(predicate_id: str = "p1", **changes: Any) -> dict[str, Any]:
    return {
        "predicate_id": predicate_id,
        "online": True,
        "statistic": "watching",
        "configuration": {"limit": 5},
        "verbose_name": "Boiler",
        "group": "A",
        "silencing": [],
        **changes,
    }


def watching(device: SMOKDevice, predicate_id: str = "p1") -> Watching:
    predicate = device.predicates[predicate_id]
    assert isinstance(predicate, Watching)
    return predicate


@pytest.fixture(autouse=True)
def _registered(device: SMOKDevice) -> None:
    device.register_statistic(Watching, lambda name, _: name == "watching")
    device.register_statistic(Raising, lambda name, _: name == "raising")


@pytest.fixture
def sync(device: SMOKDevice) -> PredicatesTask:
    return PredicatesTask(device)


@pytest.fixture
def ticks(device: SMOKDevice) -> TicksTask:
    return TicksTask(device)


def test_a_predicate_gets_an_instance_of_the_class_that_serves_it(
    device: SMOKDevice, sync: PredicatesTask, admin: Admin
) -> None:
    window = {
        "start": {"day": 1, "hour": 2, "minute": 3},
        "stop": {"day": 4, "hour": 5, "minute": 6},
    }
    admin.set_predicates("1", [a_predicate(silencing=[window])])
    sync.run()
    kwargs = watching(device).to_kwargs()
    assert kwargs == {
        "predicate_id": "p1",
        "statistic": "watching",
        "configuration": {"limit": 5},
        "verbose_name": "Boiler",
        "group": "A",
        "silencing": [DisabledTime(Time(1, 2, 3), Time(4, 5, 6))],
        "state": None,
    }
    assert device.pred_database.get_all_predicates() == [kwargs]


def test_an_instance_is_told_what_has_changed_and_nothing_else(
    device: SMOKDevice, sync: PredicatesTask, admin: Admin
) -> None:
    admin.set_predicates("1", [a_predicate()])
    sync.run()
    sync.run()
    first = watching(device)
    assert first.calls == []
    admin.set_predicates("1", [a_predicate(configuration={"limit": 6}, group="C")])
    sync.run()
    assert first.calls == [("configuration", {"limit": 6}), ("group", "C")]
    window = {
        "start": {"day": 1, "hour": 0, "minute": 0},
        "stop": {"day": 1, "hour": 0, "minute": 1},
    }
    changed = a_predicate(
        configuration={"limit": 6}, group="C", verbose_name="Stove", silencing=[window]
    )
    admin.set_predicates("1", [changed])
    sync.run()
    assert first.calls[2:] == [
        ("silencing", [DisabledTime(Time(1, 0, 0), Time(1, 0, 1))]),
        ("verbose_name", "Stove"),
    ]
    assert watching(device) is first
    assert device.pred_database.get_all_predicates() == [first.to_kwargs()]


def test_a_predicate_taken_offline_gets_a_new_instance_with_its_old_state_when_it_is_back(
    device: SMOKDevice, sync: PredicatesTask, ticks: TicksTask, admin: Admin
) -> None:
    admin.set_predicates("1", [a_predicate()])
    sync.run()
    ticks.run()
    first = watching(device)
    admin.set_predicates("1", [a_predicate(online=False)])
    sync.run()
    assert first.calls == ["tick", "offline"]
    assert device.predicates == {}
    assert device.pred_database.get_all_predicates() == []
    admin.set_predicates("1", [a_predicate()])
    sync.run()
    ticks.run()
    assert watching(device) is not first
    assert watching(device).state == 2


def test_a_deleted_predicate_is_gone_with_its_state(
    device: SMOKDevice, sync: PredicatesTask, ticks: TicksTask, admin: Admin
) -> None:
    admin.set_predicates("1", [a_predicate(), a_predicate("p2")])
    sync.run()
    ticks.run()
    first = watching(device)
    admin.set_predicates("1", [a_predicate("p2")])
    sync.run()
    assert first.calls == ["tick", "offline"]
    assert list(device.predicates) == ["p2"]
    with pytest.raises(KeyError):
        device.evt_database.get_cache("p1")
    assert device.evt_database.get_cache("p2") == 1


def test_a_predicate_that_gets_another_statistic_gets_another_instance(
    device: SMOKDevice, sync: PredicatesTask, admin: Admin
) -> None:
    admin.set_predicates("1", [a_predicate()])
    sync.run()
    first = watching(device)
    admin.set_predicates("1", [a_predicate(statistic="raising")])
    sync.run()
    assert first.calls == ["offline"]
    assert isinstance(device.predicates["p1"], Raising)


def test_a_predicate_waits_for_its_class_and_keeps_up_meanwhile(
    device: SMOKDevice, sync: PredicatesTask, ticks: TicksTask, admin: Admin
) -> None:
    admin.set_predicates("1", [a_predicate(statistic="later")])
    sync.run()
    ticks.run()
    assert isinstance(device.predicates["p1"], UndefinedStatistic)
    admin.set_predicates("1", [a_predicate(statistic="later", group="Z")])
    sync.run()
    device.register_statistic(Watching, lambda name, _: name == "later")
    ticks.run()
    assert watching(device).group == "Z"
    assert watching(device).calls == ["tick"]


def test_predicates_work_offline_after_a_restart(
    make_device: Callable[..., SMOKDevice], admin: Admin, smok_server: LocalServer
) -> None:
    databases = {
        "evt_database": InMemoryEventDatabase(),
        "pred_database": InMemoryPredicateDatabase(),
    }
    first = make_device(**databases)
    first.register_statistic(Watching, lambda *_: True)
    admin.set_predicates("1", [a_predicate()])
    PredicatesTask(first).run()
    TicksTask(first).run()
    first.close()
    smok_server.stop()
    second = make_device(**databases)
    assert isinstance(second.predicates["p1"], UndefinedStatistic)
    second.register_statistic(Watching, lambda *_: True)
    with pytest.raises(ResponseError):
        PredicatesTask(second).run()
    TicksTask(second).run()
    assert watching(second).state == 2
    assert watching(second).configuration == {"limit": 5}


def test_ticks_need_no_link_and_come_once_a_minute(
    device: SMOKDevice, sync: PredicatesTask, admin: Admin, clock: ManualClock
) -> None:
    ticks = TicksTask(device, clock=clock)
    assert sync.needs_link and not ticks.needs_link
    admin.set_predicates("1", [a_predicate()])
    sync.run()
    ticks.run()
    assert ticks.delay(clock()) == 60
    assert watching(device).state == 1
    assert device.evt_database.get_cache("p1") == 1
    assert device.pred_database.get_all_predicates()[0]["state"] == 1


def test_no_exception_of_a_statistic_reaches_the_others(
    device: SMOKDevice,
    sync: PredicatesTask,
    ticks: TicksTask,
    admin: Admin,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unmakeable(Watching):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ZeroDivisionError("made")

    class Secretive(Watching):
        def to_kwargs(self) -> dict[str, Any]:
            raise ZeroDivisionError("kwargs")

    device.register_statistic(Unmakeable, lambda name, _: name == "unmakeable")
    device.register_statistic(Secretive, lambda name, _: name == "secretive")
    bad = [a_predicate(name, statistic=name) for name in ("raising", "unmakeable", "secretive")]
    admin.set_predicates("1", [*bad, a_predicate()])
    sync.run()
    ticks.run()
    assert watching(device).calls == ["tick"]
    assert isinstance(device.predicates["unmakeable"], UndefinedStatistic)
    admin.set_predicates("1", [{**bad[0], "group": "C"}, a_predicate(group="C")])
    sync.run()
    assert ("group", "C") in watching(device).calls
    admin.set_predicates("1", [a_predicate(group="C")])
    sync.run()
    assert list(device.predicates) == ["p1"]
    for what in ("made", "kwargs", "tick", "group", "offline"):
        assert f"ZeroDivisionError: {what}" in caplog.text


def test_nothing_is_deleted_because_of_an_answer_that_was_not_understood(
    device: SMOKDevice, sync: PredicatesTask, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    admin.set_predicates("1", [a_predicate(), a_predicate("p2")])
    sync.run()
    for answer in ("{}", "null", "[5]", '[{"predicate_id": "p1"}]', '[{"online": 1}]'):
        admin.fault(PATH, body=answer)
        sync.run()
    assert list(device.predicates) == ["p1", "p2"]
    assert watching(device).calls == []
    assert len(caplog.records) >= 4


def test_a_malformed_window_of_silence_does_not_cost_the_predicate(
    device: SMOKDevice, sync: PredicatesTask, admin: Admin
) -> None:
    good = (
        '{"start": {"day": 1, "hour": 0, "minute": 0}, "stop": {"day": 1, "hour": 1, "minute": 0}}'
    )
    bad = (
        '{"start": {"day": 9, "hour": 0, "minute": 0}, "stop": {"day": 1, "hour": 1, "minute": 0}}'
    )
    admin.fault(
        PATH,
        body='[{"predicate_id": "p1", "online": true, "statistic": "watching",'
        '"configuration": null, "verbose_name": "x", "group": "B",'
        f'"silencing": [{bad}, {good}, 5]}}]',
    )
    sync.run()
    assert watching(device).silencing == [DisabledTime(Time(1, 0, 0), Time(1, 1, 0))]


def test_what_a_statistic_keeps_raising_is_logged_once_an_hour(
    device: SMOKDevice,
    sync: PredicatesTask,
    ticks: TicksTask,
    admin: Admin,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unmakeable(Watching):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ZeroDivisionError("made")

    device.register_statistic(Unmakeable, lambda name, _: name == "unmakeable")
    device.register_statistic(Watching, lambda _, configuration: configuration["missing"])
    statistics = {"p1": "raising", "p2": "unmakeable", "p3": "unmatched"}
    admin.set_predicates(
        "1", [a_predicate(key, statistic=name) for key, name in statistics.items()]
    )
    sync.run()
    for _ in range(3):
        ticks.run()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert "the matcher of Watching raised KeyError('missing') for statistic 'unmatched'" in told
    assert "__init__ of predicate p2 raised ZeroDivisionError('made')" in told
    assert "on_tick of predicate p1 raised ZeroDivisionError('tick')" in told
    clock.advance(3600)
    ticks.run()
    assert any("2 more of these" in record.getMessage() for record in caplog.records[3:])


def test_what_a_statistic_raises_because_the_device_was_closed_is_no_news(
    device: SMOKDevice, sync: PredicatesTask, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Watching):
        def on_tick(self) -> None:
            self.device.close()
            self.device.get_pathpoint("W1")

    device.register_statistic(Late, lambda name, _: name == "late")
    admin.set_predicates("1", [a_predicate(statistic="late")])
    sync.run()
    TicksTask(device).run()
    assert device.closed
    assert caplog.messages == []
