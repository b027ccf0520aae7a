"""Pathpoints that the server knows, which of them are archived, and the sensors that show them.

A storage level set by an administrator wins over what the device registers; it learns of it from
the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, bindparam, select

from smok_fast.basics import StorageLevel
from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint
from smok_fast.server.store import chunks, insert_new, upsert
from smok_fast.server.tables import definitions, pathpoints

__all__ = ["ENDPOINTS", "definition", "known_ids", "set_definition"]


def register(call: Call) -> Any:
    """Register pathpoints; answers with every pathpoint that the server knows."""
    levels = _levels(call.body.decode())
    with call.store.transaction() as connection:
        known_ids(connection, call.device_id, levels)
        if levels:
            connection.execute(
                pathpoints.update()
                .where(
                    pathpoints.c.device_id == call.device_id,
                    pathpoints.c.path == bindparam("registered_path"),
                    pathpoints.c.set_by_admin.is_(False),
                )
                .values(storage_level=bindparam("registered_level")),
                [
                    {"registered_path": path, "registered_level": level}
                    for path, level in levels.items()
                ],
            )
        return _all(connection, call.device_id)


def set_levels(call: Call) -> None:
    """Set pathpoints and their storage levels, which win over what the device registers."""
    levels = _levels(call.body.decode())
    with call.store.transaction() as connection:
        upsert(
            connection,
            pathpoints,
            ("device_id", "path"),
            [
                {
                    "device_id": call.device_id,
                    "path": path,
                    "storage_level": level,
                    "set_by_admin": True,
                }
                for path, level in levels.items()
            ],
        )


def all_pathpoints(call: Call) -> Any:
    """Every pathpoint that the server knows, with its storage level."""
    with call.store.transaction() as connection:
        return _all(connection, call.device_id)


def archives(call: Call) -> Any:
    """Which pathpoints are archived, and how often (seconds)."""
    with call.store.transaction() as connection:
        return definition(connection, call.device_id, "archives")


def set_archives(call: Call) -> None:
    """Set the whole list of archives, [{interval, pathpoints}]; their pathpoints become known."""
    content = [
        _archive(archive, f"[{position}]")
        for position, archive in enumerate(checks.array(call.body.decode()))
    ]
    paths = [path for archive in content for path in archive["pathpoints"]]
    with call.store.transaction() as connection:
        known_ids(connection, call.device_id, paths)
        set_definition(connection, call.device_id, "archives", content)


def sensors(call: Call) -> Any:
    """The sensors and the pathpoints that each shows."""
    with call.store.transaction() as connection:
        return definition(connection, call.device_id, "sensors")


def set_sensors(call: Call) -> None:
    """Set the whole list of sensors, [{fqts, path, type}]."""
    content = [
        _sensor(sensor, f"[{position}]")
        for position, sensor in enumerate(checks.array(call.body.decode()))
    ]
    with call.store.transaction() as connection:
        set_definition(connection, call.device_id, "sensors", content)


def definition(connection: Connection, device_id: str, kind: str) -> list[Any]:
    """A list that is read as a whole, empty where it was never set."""
    found: list[Any] | None = connection.scalar(
        select(definitions.c.content).where(
            definitions.c.device_id == device_id, definitions.c.kind == kind
        )
    )
    return found or []


def set_definition(connection: Connection, device_id: str, kind: str, content: list[Any]) -> None:
    """Set a list that is read as a whole."""
    row = {"device_id": device_id, "kind": kind, "content": content}
    upsert(connection, definitions, ("device_id", "kind"), [row])


def known_ids(connection: Connection, device_id: str, paths: Iterable[str]) -> dict[str, int]:
    """The row IDs of these pathpoints; those that were not known become so, as TREND."""
    wanted = list(dict.fromkeys(paths))
    ids = _ids(connection, device_id, wanted)
    missing = [path for path in wanted if path not in ids]
    if missing:
        connection.execute(
            insert_new(connection, pathpoints),
            [
                {
                    "device_id": device_id,
                    "path": path,
                    "storage_level": int(StorageLevel.TREND),
                    "set_by_admin": False,
                }
                for path in missing
            ],
        )
        ids |= _ids(connection, device_id, missing)
    return ids


def _ids(connection: Connection, device_id: str, paths: list[str]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for chunk in chunks(paths):
        rows = connection.execute(
            select(pathpoints.c.path, pathpoints.c.id).where(
                pathpoints.c.device_id == device_id, pathpoints.c.path.in_(chunk)
            )
        )
        ids.update((row.path, row.id) for row in rows)
    return ids


def _all(connection: Connection, device_id: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        select(pathpoints.c.path, pathpoints.c.storage_level)
        .where(pathpoints.c.device_id == device_id)
        .order_by(pathpoints.c.id)
    ).mappings()
    return [dict(row) for row in rows]


def _levels(body: object) -> dict[str, int]:
    levels = {}
    for position, what in enumerate(checks.array(body)):
        where = f"[{position}]"
        pathpoint = checks.object_(what, where)
        path = checks.path(checks.field(pathpoint, "path", where), f"{where}.path")
        levels[path] = checks.integer(
            checks.field(pathpoint, "storage_level", where),
            f"{where}.storage_level",
            min(StorageLevel),
            max(StorageLevel),
        )
    return levels


def _archive(what: object, where: str) -> dict[str, Any]:
    archive = checks.object_(what, where)
    interval = checks.number(checks.field(archive, "interval", where), f"{where}.interval", 0.001)
    paths = checks.array(checks.field(archive, "pathpoints", where), f"{where}.pathpoints")
    return {
        "interval": interval,
        "pathpoints": [
            checks.path(path, f"{where}.pathpoints[{position}]")
            for position, path in enumerate(paths)
        ],
    }


def _sensor(what: object, where: str) -> dict[str, Any]:
    sensor = checks.object_(what, where)
    words = checks.key(checks.field(sensor, "fqts", where), f"{where}.fqts").split()
    return {
        # A fully qualified tag set is its words, sorted, joined by one space.
        "fqts": " ".join(sorted(words)),
        "path": checks.path(checks.field(sensor, "path", where), f"{where}.path"),
        "type": checks.text(checks.field(sensor, "type", where), f"{where}.type"),
    }


ENDPOINTS = [
    Endpoint("PUT", "/v1/device/pathpoints", register),
    Endpoint("GET", "/v1/device/pathpoints/archived", archives),
    Endpoint("GET", "/v1/device/sensors", sensors),
    Endpoint("GET", "/admin/pathpoints", all_pathpoints),
    Endpoint("PUT", "/admin/pathpoints", set_levels),
    Endpoint("GET", "/admin/archives", archives),
    Endpoint("PUT", "/admin/archives", set_archives),
    Endpoint("GET", "/admin/sensors", sensors),
    Endpoint("PUT", "/admin/sensors", set_sensors),
]
