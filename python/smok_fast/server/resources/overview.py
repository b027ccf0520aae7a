"""How much of everything the server holds for a device."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, func, select

from smok_fast.server.call import Call, Endpoint
from smok_fast.server.tables import conflicts, devices, events, logs, pathpoints, samples, write_log

__all__ = ["ENDPOINTS"]


def counts(call: Call) -> Any:
    """How many samples (failures among them), duplicates, conflicts, events and logs there are."""
    with call.store.transaction() as connection:
        by_path = connection.execute(
            select(
                pathpoints.c.path,
                func.count(samples.c.timestamp),
                func.count(samples.c.error_code),
            )
            .join(samples, pathpoints.c.id == samples.c.pathpoint_id)
            .where(pathpoints.c.device_id == call.device_id)
            .group_by(pathpoints.c.id, pathpoints.c.path)
            .order_by(pathpoints.c.id)
        ).all()
        return {
            "samples": sum(total for _, total, _ in by_path),
            "failures": sum(failed for _, _, failed in by_path),
            "duplicates": connection.scalar(
                select(devices.c.duplicates).where(devices.c.device_id == call.device_id)
            ),
            "conflicts": _count(connection, conflicts, call.device_id),
            "events": _count(connection, events, call.device_id),
            "sensor_writes": _count(connection, write_log, call.device_id),
            "logs": _count(connection, logs, call.device_id),
            "logs_out_of_order": connection.scalar(
                select(func.count()).where(
                    logs.c.device_id == call.device_id, logs.c.in_order.is_(False)
                )
            ),
            "pathpoints": {path: total for path, total, _ in by_path},
        }


def _count(connection: Connection, table: Table, device_id: str) -> int:
    return connection.scalar(select(func.count()).where(table.c.device_id == device_id)) or 0


ENDPOINTS = [Endpoint("GET", "/admin/counts", counts)]
