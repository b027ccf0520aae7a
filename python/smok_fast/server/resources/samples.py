"""What was read: stored once per pathpoint and timestamp, however often it is sent.

The first sample of a millisecond stays. The same again is counted as a duplicate, as happens when
an answer was lost; something else for the same millisecond is a conflict, kept with both contents:
a correct device never causes one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, true

from smok_fast.exceptions import OperationFailedReason
from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint, page
from smok_fast.server.checks import ApiError
from smok_fast.server.resources.pathpoints import known_ids
from smok_fast.server.store import insert_new
from smok_fast.server.tables import conflicts, devices, incoming, pathpoints, samples

__all__ = ["ENDPOINTS"]

_ERROR_CODES = frozenset(reason.value for reason in OperationFailedReason)

#: A sample as it is stored: timestamp, value as JSON text, error code; one of the two is None.
_Stored = tuple[int, str | None, str | None]


def upload(call: Call) -> None:
    """Take samples: [{path, values: [[timestamp, value] or [false, timestamp, error_code]]}]."""
    batch = [
        _pathpoint(what, f"[{position}]")
        for position, what in enumerate(checks.array(call.body.decode()))
    ]
    with call.store.transaction() as connection:
        ids = known_ids(connection, call.device_id, (path for path, _ in batch))
        rows = [
            {"pathpoint_id": ids[path], "timestamp": timestamp, "value": value, "error_code": code}
            for path, stored in batch
            for timestamp, value, code in stored
        ]
        for position, row in enumerate(rows):
            row["position"] = position
        if rows:
            _store(connection, call.device_id, rows)


def values(call: Call) -> Any:
    """Samples of the pathpoint ``path`` as they are uploaded, in order of time, paged."""
    limit = call.limit()
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(samples.c.timestamp, samples.c.value, samples.c.error_code)
            .join(pathpoints, pathpoints.c.id == samples.c.pathpoint_id)
            .where(
                pathpoints.c.device_id == call.device_id,
                pathpoints.c.path == call.required("path"),
                samples.c.timestamp > call.number("after", -1),
            )
            .order_by(samples.c.timestamp)
            .limit(limit)
        ).all()
    return page([_wire(*row) for row in rows], [row.timestamp for row in rows], limit)


def all_conflicts(call: Call) -> Any:
    """Samples that differ from what was stored for their timestamp, paged."""
    limit = call.limit()
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(conflicts)
            .where(
                conflicts.c.device_id == call.device_id, conflicts.c.id > call.number("after", 0)
            )
            .order_by(conflicts.c.id)
            .limit(limit)
        ).all()
    return page(
        [
            {
                "path": row.path,
                "timestamp": row.timestamp,
                "stored": row.stored,
                "received": row.received,
            }
            for row in rows
        ],
        [row.id for row in rows],
        limit,
    )


def _pathpoint(what: object, where: str) -> tuple[str, list[_Stored]]:
    pathpoint = checks.object_(what, where)
    path = checks.path(checks.field(pathpoint, "path", where), f"{where}.path")
    found = checks.array(checks.field(pathpoint, "values", where), f"{where}.values")
    return path, [_sample(sample, where, position) for position, sample in enumerate(found)]


def _sample(what: Any, pathpoint: str, position: int) -> _Stored:
    # Nearly all samples are a timestamp and a number, and nothing is wrong with them: these are
    # taken without a look at the rest, and without a text that says where they are.
    if type(what) is list and len(what) == 2:
        timestamp, value = what
        if type(timestamp) is int and 0 <= timestamp <= checks.INT64_MAX:
            if type(value) is int and -checks.INT64_MAX <= value <= checks.INT64_MAX:
                return timestamp, str(value), None
            if type(value) is float and math.isfinite(value):
                return timestamp, repr(value), None
    where = f"{pathpoint}.values[{position}]"
    sample = checks.array(what, where)
    if len(sample) == 2:
        timestamp = checks.integer(sample[0], f"{where}[0]")
        return timestamp, json.dumps(checks.value(sample[1], f"{where}[1]")), None
    if len(sample) != 3 or sample[0] is not False:
        raise ApiError(400, f"{where} must be [timestamp, value] or [false, timestamp, error_code]")
    timestamp = checks.integer(sample[1], f"{where}[1]")
    code = checks.text(sample[2], f"{where}[2]")
    if code not in _ERROR_CODES:
        raise ApiError(
            400, f"{where}[2]: {code!r:.40} is none of {', '.join(sorted(_ERROR_CODES))}"
        )
    return timestamp, None, code


def _store(connection: Connection, device_id: str, rows: list[dict[str, Any]]) -> None:
    """Store the rows that are new, count those that are not, and keep those that contradict.

    They come through a temporary table, so that what is there already is found by a join: to look
    up a large upload that arrives for the second time key by key takes many times as long.
    """
    incoming.create(connection)
    connection.execute(incoming.insert(), rows)
    names = [column.name for column in samples.columns]
    inserted = connection.execute(
        insert_new(connection, samples).from_select(
            names,
            # In the order of keys, so that two uploads that overlap never lock each other out.
            # SQLite cannot parse ON CONFLICT after a SELECT without WHERE.
            select(*(incoming.c[name] for name in names))
            .where(true())
            .order_by(incoming.c.pathpoint_id, incoming.c.timestamp, incoming.c.position),
        ),
        execution_options={"preserve_rowcount": True},
    ).rowcount
    differing = _differing(connection) if inserted < len(rows) else ()
    if differing:
        connection.execute(
            conflicts.insert(),
            [
                {
                    "device_id": device_id,
                    "path": row.path,
                    "timestamp": row.timestamp,
                    "stored": _wire(row.timestamp, row.stored_value, row.stored_code),
                    "received": _wire(row.timestamp, row.value, row.error_code),
                }
                for row in differing
            ],
        )
    duplicates = len(rows) - inserted - len(differing)
    if duplicates:
        connection.execute(
            devices.update()
            .where(devices.c.device_id == device_id)
            .values(duplicates=devices.c.duplicates + duplicates)
        )
    incoming.drop(connection)


def _differing(connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(
        select(
            pathpoints.c.path,
            incoming,
            samples.c.value.label("stored_value"),
            samples.c.error_code.label("stored_code"),
        )
        .join_from(
            incoming,
            samples,
            (samples.c.pathpoint_id == incoming.c.pathpoint_id)
            & (samples.c.timestamp == incoming.c.timestamp),
        )
        .join(pathpoints, pathpoints.c.id == incoming.c.pathpoint_id)
        .where(
            incoming.c.value.is_distinct_from(samples.c.value)
            | incoming.c.error_code.is_distinct_from(samples.c.error_code)
        )
        .order_by(incoming.c.position)
    ).all()


def _wire(timestamp: int, value: str | None, error_code: str | None) -> list[Any]:
    if value is None:
        return [False, timestamp, error_code]
    return [timestamp, json.loads(value)]


ENDPOINTS = [
    Endpoint("POST", "/v1/device/pathpoints", upload),
    Endpoint("GET", "/admin/values", values),
    Endpoint("GET", "/admin/conflicts", all_conflicts),
]
