"""Plain metadata: texts by key. A write tells how old it is, and a newer value stays."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, select

from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint
from smok_fast.server.checks import ApiError
from smok_fast.server.store import upsert
from smok_fast.server.tables import plain_metadata

__all__ = ["ENDPOINTS"]


def get(call: Call) -> Any:
    """A value and when it was set (seconds)."""
    with call.store.transaction() as connection:
        found = connection.execute(
            select(plain_metadata.c.value, plain_metadata.c.timestamp).where(
                plain_metadata.c.device_id == call.device_id,
                plain_metadata.c.key == call.parameters["key"],
            )
        ).mappings()
        row = found.one_or_none()
    if row is None:
        raise ApiError(404, f"there is no metadata {call.parameters['key']!r}")
    return dict(row)


def put(call: Call) -> None:
    """Set a value, unless the stored one is newer than unless_timestamp_higher (seconds)."""
    body = checks.object_(call.body.decode())
    timestamp = float(
        checks.number(
            checks.optional(body, "unless_timestamp_higher", time.time()),
            "unless_timestamp_higher",
        )
    )
    key = checks.key(call.parameters["key"], "key")
    value = checks.text(checks.field(body, "value"), "value")
    with call.store.transaction() as connection:
        newer = connection.scalar(
            select(plain_metadata.c.timestamp)
            .where(
                plain_metadata.c.device_id == call.device_id,
                plain_metadata.c.key == key,
                plain_metadata.c.timestamp > timestamp,
            )
            .with_for_update()
        )
        if newer is None:
            _set(connection, call.device_id, key, value, timestamp)


def delete(call: Call) -> None:
    """Delete a value; there need not be one."""
    _delete(call, call.parameters["key"])


def all_metadata(call: Call) -> Any:
    """All values, with the time at which each was set (seconds)."""
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(plain_metadata.c.key, plain_metadata.c.value, plain_metadata.c.timestamp)
            .where(plain_metadata.c.device_id == call.device_id)
            .order_by(plain_metadata.c.key)
        ).mappings()
        return [dict(row) for row in rows]


def set_metadata(call: Call) -> None:
    """Set {key, value, timestamp}, whatever is stored; without a timestamp (seconds) it is now."""
    body = checks.object_(call.body.decode())
    key = checks.key(checks.field(body, "key"), "key")
    value = checks.text(checks.field(body, "value"), "value")
    timestamp = checks.number(checks.optional(body, "timestamp", time.time()), "timestamp")
    with call.store.transaction() as connection:
        _set(connection, call.device_id, key, value, float(timestamp))


def delete_metadata(call: Call) -> None:
    """Delete the value ``key``; there need not be one."""
    _delete(call, call.required("key"))


def _set(connection: Connection, device_id: str, key: str, value: str, timestamp: float) -> None:
    row = {"device_id": device_id, "key": key, "value": value, "timestamp": timestamp}
    upsert(connection, plain_metadata, ("device_id", "key"), [row])


def _delete(call: Call, key: str) -> None:
    with call.store.transaction() as connection:
        connection.execute(
            plain_metadata.delete().where(
                plain_metadata.c.device_id == call.device_id, plain_metadata.c.key == key
            )
        )


ENDPOINTS = [
    Endpoint("GET", "/v1/device/metadata/plain/{key:path}", get),
    Endpoint("PUT", "/v1/device/metadata/plain/{key:path}", put),
    Endpoint("DELETE", "/v1/device/metadata/plain/{key:path}", delete),
    Endpoint("GET", "/admin/metadata", all_metadata),
    Endpoint("PUT", "/admin/metadata", set_metadata),
    Endpoint("DELETE", "/admin/metadata", delete_metadata),
]
