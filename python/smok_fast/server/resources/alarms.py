"""Predicates, which tell a device when to raise an alarm, and the events that devices send.

An event is known by its UUID. One that comes with a UUID, known or not, is stored under it, so that
sending an event again changes nothing. One that comes without gets a new one, or, if the header
``X-SMOK-Provisional-UUIDs`` tells the UUID that the device knows it by, one that follows from that:
a device that has lost the answer and sends the event again gets the same. An event that has ended
stays so, even when an older state of it arrives late.
"""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection, select

from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint, page
from smok_fast.server.checks import ApiError
from smok_fast.server.resources.pathpoints import definition, set_definition
from smok_fast.server.store import chunks, upsert
from smok_fast.server.tables import events

__all__ = ["ENDPOINTS"]

#: For each event of the body, in its order and separated by commas, the UUID that the device has
#: given it; empty for one that is to have none.
_PROVISIONAL_UUIDS = "X-SMOK-Provisional-UUIDs"
#: UUIDs that follow from provisional ones are of this name space, and of their device.
_NAMESPACE = uuid.UUID("6b0a2c4e-5f0d-4b59-9a3f-0c8e7d1f2a46")
_MAX_COLOR = 2
_POINT_EVENT = 1


def predicates(call: Call) -> Any:
    """The predicates that the device is to evaluate."""
    with call.store.transaction() as connection:
        return definition(connection, call.device_id, "predicates")


def set_predicates(call: Call) -> None:
    """Set the whole list of predicates; predicate_id and statistic are enough for one."""
    content = [
        _predicate(predicate, f"[{position}]")
        for position, predicate in enumerate(checks.array(call.body.decode()))
    ]
    with call.store.transaction() as connection:
        set_definition(connection, call.device_id, "predicates", content)


def send_events(call: Call) -> Any:
    """Take events; answers with their UUIDs in the same order."""
    sent = checks.array(call.body.decode())
    given = _given_uuids(call, len(sent))
    received = [
        _event(event, uuid_, f"[{position}]")
        for position, (event, uuid_) in enumerate(zip(sent, given, strict=True))
    ]
    with call.store.transaction() as connection:
        merged = _known(connection, call.device_id, [event["uuid"] for event in received])
        for event in received:
            merged[event["uuid"]] = {**merged.get(event["uuid"], {}), **event}
        upsert(
            connection,
            events,
            ("device_id", "uuid"),
            [
                {"device_id": call.device_id, "uuid": event_uuid, "event": event}
                for event_uuid, event in merged.items()
            ],
        )
    return [{"uuid": event["uuid"]} for event in received]


def all_events(call: Call) -> Any:
    """Events that the device has sent, oldest first, paged."""
    limit = call.limit()
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(events.c.id, events.c.event)
            .where(events.c.device_id == call.device_id, events.c.id > call.number("after", 0))
            .order_by(events.c.id)
            .limit(limit)
        ).all()
    return page([row.event for row in rows], [row.id for row in rows], limit)


def _known(connection: Connection, device_id: str, uuids: list[str]) -> dict[str, dict[str, Any]]:
    known = {}
    for chunk in chunks(uuids):
        for row in connection.execute(
            select(events.c.uuid, events.c.event)
            .where(events.c.device_id == device_id, events.c.uuid.in_(chunk))
            .with_for_update()
        ):
            known[row.uuid] = row.event
    return known


def _given_uuids(call: Call, count: int) -> list[str]:
    """A UUID for each of the events of a call, for those that bring none."""
    header = call.headers.get(_PROVISIONAL_UUIDS)
    if not header:
        return [str(uuid.uuid4()) for _ in range(count)]
    entries = [entry.strip() for entry in header.split(",")]
    if len(entries) != count:
        raise ApiError(400, f"{_PROVISIONAL_UUIDS} has {len(entries)} entries for {count} events")
    given = []
    for position, entry in enumerate(entries):
        if entry:
            provisional = _parsed_uuid(entry, f"{_PROVISIONAL_UUIDS}[{position}]")
            given.append(str(uuid.uuid5(_NAMESPACE, f"{call.device_id} {provisional}")))
        else:
            given.append(str(uuid.uuid4()))
    return given


def _event(what: object, given_uuid: str, where: str) -> dict[str, Any]:
    body = checks.object_(what, where)

    def field(name: str) -> Any:
        return checks.field(body, name, where)

    event = {
        "uuid": _uuid(checks.optional(body, "uuid", given_uuid), f"{where}.uuid"),
        "started_on": checks.number(field("started_on"), f"{where}.started_on"),
        "color": checks.integer(field("color"), f"{where}.color", 0, _MAX_COLOR),
        "alarm_type": checks.integer(field("alarm_type"), f"{where}.alarm_type", 0, _POINT_EVENT),
        "token": checks.text(field("token"), f"{where}.token"),
        "group": checks.text(field("group"), f"{where}.group"),
        "message": checks.text(field("message"), f"{where}.message"),
        "metadata": checks.plain(
            checks.object_(checks.optional(body, "metadata", {}), f"{where}.metadata"),
            f"{where}.metadata",
        ),
    }
    # These two are absent rather than null where there is nothing to tell, so that they never undo
    # what is stored.
    if body.get("handled_by") is not None:
        event["handled_by"] = checks.text(body["handled_by"], f"{where}.handled_by")
    if body.get("ended_on") is not None:
        event["ended_on"] = checks.number(body["ended_on"], f"{where}.ended_on")
    return event


def _uuid(what: object, where: str) -> str:
    text = checks.key(what, where)
    _parsed_uuid(text, where)
    return text


def _parsed_uuid(text: str, where: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ApiError(400, f"{where}: {text!r:.60} is no UUID") from None


def _predicate(what: object, where: str) -> dict[str, Any]:
    body = checks.object_(what, where)
    predicate_id = checks.key(checks.field(body, "predicate_id", where), f"{where}.predicate_id")
    silencing = checks.array(checks.optional(body, "silencing", []), f"{where}.silencing")
    return {
        "predicate_id": predicate_id,
        "online": checks.boolean(checks.optional(body, "online", True), f"{where}.online"),
        "statistic": checks.text(checks.field(body, "statistic", where), f"{where}.statistic"),
        "configuration": checks.plain(
            checks.optional(body, "configuration", {}), f"{where}.configuration"
        ),
        "verbose_name": checks.text(
            checks.optional(body, "verbose_name", predicate_id), f"{where}.verbose_name"
        ),
        "group": checks.text(checks.optional(body, "group", ""), f"{where}.group"),
        "silencing": [
            _silence(silence, f"{where}.silencing[{position}]")
            for position, silence in enumerate(silencing)
        ],
    }


def _silence(what: object, where: str) -> dict[str, Any]:
    body = checks.object_(what, where)
    return {
        end: _moment(checks.field(body, end, where), f"{where}.{end}") for end in ("start", "stop")
    }


def _moment(what: object, where: str) -> dict[str, int]:
    body = checks.object_(what, where)
    ranges = {"day": (1, 7), "hour": (0, 23), "minute": (0, 59)}
    return {
        unit: checks.integer(checks.field(body, unit, where), f"{where}.{unit}", first, last)
        for unit, (first, last) in ranges.items()
    }


ENDPOINTS = [
    Endpoint("GET", "/v1/device/predicates", predicates),
    Endpoint("POST", "/v1/device/alarms", send_events),
    Endpoint("GET", "/admin/predicates", predicates),
    Endpoint("PUT", "/admin/predicates", set_predicates),
    Endpoint("GET", "/admin/events", all_events),
]
