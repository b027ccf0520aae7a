"""What a device logs: its log records, and who wrote which sensor.

Within a service the ``when`` of log records rises strictly. A record that breaks this is kept and
counted; one that is there already, as happens when an answer was lost, is kept once, and so is a
sensor write.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import Any

from sqlalchemy import Connection, func, select

from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint, page
from smok_fast.server.checks import ApiError
from smok_fast.server.store import insert_new
from smok_fast.server.tables import logs, write_log

__all__ = ["ENDPOINTS"]

#: How much the compressed messages of one call may unpack to, in bytes.
_MAX_UNPACKED = 64 * 1024 * 1024


def send_logs(call: Call) -> None:
    """Take log records, [{service, when, message, level, …}]; ``when`` rises, in microseconds."""
    budget = _MAX_UNPACKED
    records = []
    for position, what in enumerate(checks.array(call.body.decode())):
        record, unpacked = _record(what, f"[{position}]", budget)
        budget -= unpacked
        records.append(record)
    with call.store.transaction() as connection:
        latest: dict[str, int] = {}
        rows = []
        for record in records:
            service, when = record["service"], record["when"]
            if service not in latest:
                latest[service] = _latest(connection, call.device_id, service)
            rows.append(_row(call.device_id, record, service=service, when=when))
            rows[-1]["in_order"] = when > latest[service]
            latest[service] = max(latest[service], when)
        if rows:
            connection.execute(insert_new(connection, logs), rows)


def all_logs(call: Call) -> Any:
    """Log records as they came, unpacked, paged; in_order tells whether ``when`` had risen."""
    limit = call.limit()
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(logs.c.id, logs.c.record, logs.c.in_order)
            .where(logs.c.device_id == call.device_id, logs.c.id > call.number("after", 0))
            .order_by(logs.c.id)
            .limit(limit)
        ).all()
    return page(
        [{**row.record, "in_order": row.in_order} for row in rows], [row.id for row in rows], limit
    )


def send_sensor_writes(call: Call) -> None:
    """Take sensor writes, [{timestamp, who, hr_sensor, hr_value, fqts, value, reason}]."""
    records = [
        _sensor_write(what, f"[{position}]")
        for position, what in enumerate(checks.array(call.body.decode()))
    ]
    if records:
        with call.store.transaction() as connection:
            connection.execute(
                insert_new(connection, write_log),
                [_row(call.device_id, record) for record in records],
            )


def all_sensor_writes(call: Call) -> Any:
    """Sensor writes in the order of arrival, paged."""
    limit = call.limit()
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(write_log.c.id, write_log.c.record)
            .where(
                write_log.c.device_id == call.device_id, write_log.c.id > call.number("after", 0)
            )
            .order_by(write_log.c.id)
            .limit(limit)
        ).all()
    return page([row.record for row in rows], [row.id for row in rows], limit)


def _latest(connection: Connection, device_id: str, service: str) -> int:
    latest: int | None = connection.scalar(
        select(func.max(logs.c.when)).where(
            logs.c.device_id == device_id, logs.c.service == service
        )
    )
    return -1 if latest is None else latest


def _row(device_id: str, record: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """The row of a record; its digest is what makes the same record arriving again no new row."""
    canonical = json.dumps(record, sort_keys=True).encode()
    return {
        "device_id": device_id,
        "record": record,
        "digest": hashlib.sha256(canonical).hexdigest(),
        **columns,
    }


def _record(what: object, where: str, budget: int) -> tuple[dict[str, Any], int]:
    """The record with its message unpacked, and to how many bytes that was."""
    body = checks.plain(checks.object_(what, where), where)
    message, unpacked = checks.field(body, "message", where), 0
    if isinstance(message, dict):
        message, unpacked = _unpack(message, f"{where}.message", budget)
    return {
        **body,
        "service": checks.key(checks.field(body, "service", where), f"{where}.service"),
        "when": checks.integer(checks.field(body, "when", where), f"{where}.when"),
        "level": checks.integer(checks.field(body, "level", where), f"{where}.level"),
        "message": checks.text(message, f"{where}.message"),
    }, unpacked


def _unpack(message: dict[str, Any], where: str, budget: int) -> tuple[str, int]:
    if message.get("encoding") != "base64-gzip":
        raise ApiError(400, f"{where}.encoding must be base64-gzip")
    packed = checks.text(checks.field(message, "content", where), f"{where}.content")
    gzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        content = gzip.decompress(base64.b64decode(packed, validate=True), budget + 1)
        if len(content) > budget:
            raise ApiError(413, f"the messages unpack to more than {_MAX_UNPACKED} bytes")
        if not gzip.eof:
            raise ApiError(400, f"{where}.content is cut short")
        return content.decode(), len(content)
    except (ValueError, zlib.error) as error:
        raise ApiError(400, f"{where}.content is no gzip of a text in base64: {error}") from None


def _sensor_write(what: object, where: str) -> dict[str, Any]:
    body = checks.object_(what, where)
    texts = {
        name: checks.text(checks.field(body, name, where), f"{where}.{name}")
        for name in ("who", "hr_sensor", "fqts", "reason")
    }
    values = {
        name: checks.value(checks.field(body, name, where), f"{where}.{name}")
        for name in ("value", "hr_value")
    }
    return {
        "timestamp": checks.integer(checks.field(body, "timestamp", where), f"{where}.timestamp"),
        **texts,
        **values,
    }


ENDPOINTS = [
    Endpoint("PUT", "/v1/device/device_logs", send_logs),
    Endpoint("PUT", "/v1/device/sensor/write_log", send_sensor_writes),
    Endpoint("GET", "/admin/logs", all_logs),
    Endpoint("GET", "/admin/write_log", all_sensor_writes),
]
