"""What was read: stored once per pathpoint and timestamp, however often it is sent.

The first sample of a millisecond stays. The same again is counted as a duplicate, as happens when an answer was lost;
something else for the same millisecond is a conflict, kept with both contents: a correct device never causes one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, select, tuple_

from smok_fast.exceptions import OperationFailedReason
from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint, page
from smok_fast.server.checks import Refused
from smok_fast.server.resources.pathpoints import chunks, known_ids
from smok_fast.server.store import insert_new
from smok_fast.server.tables import conflicts, devices, pathpoints, samples

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
        if not rows:
            return
        # In key order, so that two uploads that overlap never lock each other out.
        rows.sort(key=lambda row: (row["pathpoint_id"], row["timestamp"]))
        inserted = connection.execute(
            insert_new(connection, samples), rows, execution_options={"preserve_rowcount": True}
        ).rowcount
        if inserted == len(rows):
            return
        differing = list(_differing(connection, rows))
        if differing:
            names = {row_id: path for path, row_id in ids.items()}
            connection.execute(
                conflicts.insert(),
                [
                    {
                        "device_id": call.device_id,
                        "path": names[row["pathpoint_id"]],
                        "timestamp": row["timestamp"],
                        "stored": stored,
                        "received": _wire(row["timestamp"], row["value"], row["error_code"]),
                    }
                    for row, stored in differing
                ],
            )
        connection.execute(
            devices.update()
            .where(devices.c.device_id == call.device_id)
            .values(duplicates=devices.c.duplicates + len(rows) - inserted - len(differing))
        )


def values(call: Call) -> Any:
    """Samples of the pathpoint ``path`` as they are uploaded, in order of time, paged by timestamp."""
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
    # Most are a timestamp and a number that nothing is wrong with: those need no text of where they are.
    if type(what) is list and len(what) == 2:
        timestamp, value = what
        if type(timestamp) is int and 0 <= timestamp <= checks.INT64_MAX and type(value) is float:
            return timestamp, json.dumps(value), None
    where = f"{pathpoint}.values[{position}]"
    sample = checks.array(what, where)
    if len(sample) == 2:
        timestamp = checks.integer(sample[0], f"{where}[0]")
        return timestamp, json.dumps(checks.value(sample[1], f"{where}[1]")), None
    if len(sample) != 3 or sample[0] is not False:
        raise Refused(
            400, f"{where} must be [timestamp, value] or [false, timestamp, error_code]"
        )
    timestamp = checks.integer(sample[1], f"{where}[1]")
    code = checks.text(sample[2], f"{where}[2]")
    if code not in _ERROR_CODES:
        raise Refused(
            400, f"{where}[2]: {code!r:.40} is none of {', '.join(sorted(_ERROR_CODES))}"
        )
    return timestamp, None, code


def _differing(
    connection: Connection, rows: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """The rows that differ from what is stored under their key, each with what is stored."""
    for chunk in chunks(rows):
        key = tuple_(samples.c.pathpoint_id, samples.c.timestamp)
        keys = [(row["pathpoint_id"], row["timestamp"]) for row in chunk]
        stored = {
            (row.pathpoint_id, row.timestamp): (row.value, row.error_code)
            for row in connection.execute(select(samples).where(key.in_(keys)))
        }
        for row, found in _matched(chunk, stored):
            yield row, _wire(row["timestamp"], *found)


def _matched(
    rows: Iterable[dict[str, Any]], stored: dict[tuple[int, int], tuple[Any, Any]]
) -> Iterator[tuple[dict[str, Any], tuple[Any, Any]]]:
    for row in rows:
        found = stored[row["pathpoint_id"], row["timestamp"]]
        if found != (row["value"], row["error_code"]):
            yield row, found


def _wire(timestamp: int, value: str | None, error_code: str | None) -> list[Any]:
    if value is None:
        return [False, timestamp, error_code]
    return [timestamp, json.loads(value)]


ENDPOINTS = [
    Endpoint("POST", "/v1/device/pathpoints", upload),
    Endpoint("GET", "/admin/values", values),
    Endpoint("GET", "/admin/conflicts", all_conflicts),
]
