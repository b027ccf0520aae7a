"""What the databases of ``smok_fast.extras`` do, wherever they keep it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ManualClock
from smok_fast.extras import (
    BAOBDigest,
    BaseEventSynchronization,
    InMemoryBAOBDatabase,
    InMemoryEventDatabase,
    NullEventDatabase,
)
from smok_fast.macro import Macro
from smok_fast.predicate import Event
from state_support import Place, a_write, an_event


@pytest.fixture(params=["InMemory", "SQLite", "Pickling"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    place.restart()


def test_archives_are_those_of_the_last_sync_and_nobody_changes_them_from_outside(
    place: Place,
) -> None:
    database = place.make("Archives")
    assert database.get_archiving_instructions() == {}
    database.on_archiving_data_sync({60: ["W1"]})
    names = ["W2", "W3"]
    database.on_archiving_data_sync({0.1: names})
    names.append("W4")
    database.get_archiving_instructions()[0.1].append("W5")
    assert database.get_archiving_instructions() == {0.1: ["W2", "W3"]}


def test_a_baob_has_the_value_and_the_version_that_were_set_last(place: Place) -> None:
    database = place.make("BAOB")
    database.set_baob_value("../a b", b"old", 0)
    database.set_baob_value("../a b", bytearray(b"new"), 7)
    assert list(database.get_all_keys()) == ["../a b"]
    assert database.get_baob_value("../a b") == b"new"
    assert database.get_baob_version("../a b") == 7
    database.delete_baob("../a b")
    assert list(database.get_all_keys()) == []
    for ask in (database.get_baob_value, database.get_baob_version, database.delete_baob):
        with pytest.raises(KeyError):
            ask("../a b")
    assert BAOBDigest("k", 3) == BAOBDigest(key="k", version=3)


def test_a_baob_without_a_version_is_deleted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Damaged(InMemoryBAOBDatabase):
        def get_baob_version(self, key: str) -> int:
            if key == "damaged":
                raise KeyError(key)
            return super().get_baob_version(key)

    database = Damaged()
    database.set_baob_value("sound", b"1", 0)
    database.set_baob_value("damaged", b"2", 0)
    database.check_consistency()
    assert list(database.get_all_keys()) == ["sound"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_metadata_keeps_the_newest_write_and_takes_the_servers_only_if_it_is_newer(
    place: Place,
) -> None:
    database = place.make("Metadata")
    database.put_plain("key", "mine", 100.0)
    database.update_plain("key", "older", 99.0)
    assert database.get_plain("key") == "mine"
    database.update_plain("key", "newer", 101.0)
    database.update_plain("new", "value", 1.0)
    assert list(database.get_all_plain()) == [("key", "newer", 101.0), ("new", "value", 1.0)]
    database.put_plain("key", "mine", 50.0)
    assert database.get_plain("key") == "mine"
    database.delete_plain("key")
    database.delete_plain("key")
    with pytest.raises(KeyError):
        database.get_plain("key")


def test_predicates_are_replaced_one_by_one_or_all_together(place: Place) -> None:
    database = place.make("Predicate")
    database.set_new_predicates([{"predicate_id": "a", "x": 1}, {"predicate_id": "b", "x": 1}])
    database.update_predicate({"predicate_id": "a", "x": 2})
    assert database.get_all_predicates() == [
        {"predicate_id": "a", "x": 2},
        {"predicate_id": "b", "x": 1},
    ]
    database.set_new_predicates([{"predicate_id": "c"}])
    assert database.get_all_predicates() == [{"predicate_id": "c"}]


def test_an_executed_occurrence_is_reported_until_it_is_synced_even_if_its_macro_is_gone(
    place: Place,
) -> None:
    database = place.make("Macro")
    macro = Macro("m", {"W1": 1}, [10, 20])
    database.set_macros([macro, Macro("empty", {}, [])])
    assert database.get_macros() == [macro]
    macro.leave_out({10, 20})
    assert database.get_macros() == []
    database.set_macros([])
    database.notify_macro_executed("m", 10)
    database.notify_macro_executed("m", 20)
    assert list(database.get_done_macros()) == [("m", 10), ("m", 20)]
    database.notify_macro_synced("m", 10)
    database.notify_macro_synced("m", 10)
    assert list(database.get_done_macros()) == [("m", 20)]


def test_a_sensor_write_is_offered_until_it_is_synced(place: Place) -> None:
    database = place.make("SensorWrite")
    assert not database.get_sw_sync()
    database.add_sw(a_write("1"))
    database.add_sw(a_write("1"))  # the same write twice is two writes
    sync = database.get_sw_sync()
    database.add_sw(a_write("2"))
    sync.nack()
    assert len(database.get_sw_sync().events) == 3
    sync.ack()
    assert database.get_sw_sync().events == [a_write("2")]


def test_an_event_is_offered_once_for_each_change_and_keeps_the_servers_uuid(place: Place) -> None:
    database = place.make("Event")
    event = an_event()
    database.add_event(event)
    sync = database.get_events_to_sync()
    assert sync is not None and sync.get_events() == [event]
    sync.acknowledge("uuid-1")
    assert event.uuid == "uuid-1"
    assert database.get_events_to_sync() is None

    event.ended_on = 200
    database.close_event(event)
    sync = database.get_events_to_sync()
    assert sync is not None
    assert [sent.to_json()["uuid"] for sent in sync.get_events()] == ["uuid-1"]
    sync.acknowledge("uuid-1")
    assert database.get_events_to_sync() is None
    assert list(database.get_all_events()) == [event]
    assert list(database.get_open_events()) == []


def test_an_event_that_is_closed_while_it_is_being_sent_is_offered_again(place: Place) -> None:
    database = place.make("Event")
    event = an_event()
    database.add_event(event)
    under_way = database.get_events_to_sync()
    assert under_way is not None
    event.ended_on = 200
    database.close_event(event)
    under_way.acknowledge("uuid-1")
    again = database.get_events_to_sync()
    assert again is not None and again.get_events() == [event]


def test_events_that_the_server_did_not_take_are_offered_again(place: Place) -> None:
    database = place.make("Event")
    first, second = an_event(), an_event()
    database.add_event(first)
    database.add_event(second)
    sync = database.get_events_to_sync()
    assert sync is not None
    sync.negative_acknowledge()
    sync.acknowledge_some([None, "uuid-2"])
    rest = database.get_events_to_sync()
    assert rest is not None and rest.get_events() == [first]
    assert (first.uuid, second.uuid) == (None, "uuid-2")


def test_a_synchronization_of_the_users_own_learns_the_uuids_of_what_was_taken() -> None:
    events = [an_event(), an_event()]
    calls: list[object] = []

    class Own(BaseEventSynchronization):
        def get_events(self) -> list[Event]:
            return events

        def acknowledge(self, *uuids: str) -> None:
            calls.append(uuids)

        def negative_acknowledge(self) -> None:
            calls.append("negative")

    Own().acknowledge_some(["uuid-1", None])
    assert [event.uuid for event in events] == ["uuid-1", None]
    assert calls == ["negative"]


def test_closed_events_are_forgotten_after_their_time_but_not_before_the_server_has_them(
    place: Place, clock: ManualClock
) -> None:
    database = place.make("Event", keep_for=100, clock=clock)
    clock.now = 1000
    events = [an_event(10, 950), an_event(10, 850), an_event(850, is_point=True), an_event(10)]
    for event in events:
        database.add_event(event)
    database.checkpoint()
    assert list(database.get_all_events()) == events
    sync = database.get_events_to_sync()
    assert sync is not None
    sync.acknowledge(*"1234")
    database.checkpoint()
    assert list(database.get_all_events()) == [events[0], events[3]]
    database.clear_closed_and_synced_events()
    assert list(database.get_all_events()) == [events[3]]


def test_the_state_of_a_predicate_is_kept_until_it_is_deleted(place: Place) -> None:
    database = place.make("Event")
    with pytest.raises(KeyError):
        database.get_cache("p")
    database.set_cache("p", {"since": 5})
    assert database.get_cache("p") == {"since": 5}
    database.on_predicate_deleted("p")
    database.on_predicate_deleted("p")
    with pytest.raises(KeyError):
        database.get_cache("p")


def test_the_null_database_keeps_nothing() -> None:
    database = NullEventDatabase()
    event = an_event()
    database.add_event(event)
    database.close_event(event)
    database.set_cache("p", 1)
    database.on_predicate_deleted("p")
    database.clear_closed_and_synced_events()
    database.checkpoint()
    assert list(database.get_all_events()) == list(database.get_open_events()) == []
    assert database.get_events_to_sync() is None
    with pytest.raises(KeyError):
        database.get_cache("p")


@given(st.lists(st.sampled_from(["open", "close", "send", "take all", "take odd", "refuse"])))
def test_whatever_happens_in_between_the_server_ends_up_with_each_events_last_state(
    steps: list[str],
) -> None:
    database = InMemoryEventDatabase()
    opened: list[Event] = []
    server: dict[str, object] = {}
    uuids = (f"uuid-{number}" for number in itertools.count())
    sync: BaseEventSynchronization | None = None
    sent: list[dict[str, object]] = []

    def take(indices: range) -> None:
        assert sync is not None
        answer: list[str | None] = [None] * len(sent)
        for index in indices:
            uuid = str(sent[index].get("uuid") or next(uuids))
            server[uuid] = sent[index].get("ended_on")
            answer[index] = uuid
        if all(uuid is not None for uuid in answer):
            sync.acknowledge(*[str(uuid) for uuid in answer])
        else:
            sync.acknowledge_some(answer)

    for step in [*steps, "send", "take all", "send", "take all"]:
        if step == "open":
            opened.append(an_event(len(opened)))
            database.add_event(opened[-1])
        elif step == "close":
            for event in [event for event in opened if not event.is_closed()][:1]:
                event.ended_on = 1000
                database.close_event(event)
        elif step == "send":
            sync = database.get_events_to_sync()
            sent = [event.to_json() for event in sync.get_events()] if sync else []
        elif sync is not None:
            if step == "refuse":
                sync.negative_acknowledge()
            else:
                take(range(0, len(sent), 1 if step == "take all" else 2))
            sync = None

    assert database.get_events_to_sync() is None
    assert server == {event.get_uuid(): event.ended_on for event in opened}
