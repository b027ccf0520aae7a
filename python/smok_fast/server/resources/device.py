"""What the server knows about a device and its slaves."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, select

from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint
from smok_fast.server.checks import ApiError
from smok_fast.server.store import insert_new
from smok_fast.server.tables import devices, slaves

__all__ = ["ENDPOINTS"]

_TEXTS = ("verbose_name", "timezone", "units", "language")


def info(call: Call) -> Any:
    """What the server knows about the device: names, culture, slave devices."""
    with call.store.transaction() as connection:
        known = _info(connection, call.device_id)
        attached = connection.execute(
            select(
                slaves.c.slave_id.label("device_id"),
                slaves.c.master_controller,
                slaves.c.responsible_service,
                slaves.c.configuration,
            )
            .where(slaves.c.device_id == call.device_id)
            .order_by(slaves.c.position)
        )
        return {
            "device_id": call.device_id,
            "verbose_name": known.get("verbose_name", call.device_id),
            "facets": known.get("facets", []),
            "culture_context": {
                "timezone": known.get("timezone", "UTC"),
                "units": known.get("units", "metric"),
                "language": known.get("language", "en"),
            },
            "slave_devices": [dict(row) for row in attached.mappings()],
        }


def describe(call: Call) -> None:
    """Set any of verbose_name, timezone, units, language, facets and slaves (replaces the list)."""
    body = checks.object_(call.body.decode())
    checks.only(body, (*_TEXTS, "facets", "slaves"), "a device")
    changes: dict[str, Any] = {
        name: checks.text(body[name], name) for name in _TEXTS if name in body
    }
    if "facets" in body:
        changes["facets"] = [
            checks.text(facet, f"facets[{position}]")
            for position, facet in enumerate(checks.array(body["facets"], "facets"))
        ]
    attached = None
    if "slaves" in body:
        attached = [
            _slave(call.device_id, slave, position)
            for position, slave in enumerate(checks.array(body["slaves"], "slaves"))
        ]
    with call.store.transaction() as connection:
        known = _info(connection, call.device_id)
        connection.execute(
            devices.update()
            .where(devices.c.device_id == call.device_id)
            .values(info={**known, **changes})
        )
        if attached is not None:
            _replace_slaves(connection, call.device_id, attached)


def all_devices(call: Call) -> Any:
    """IDs of all devices that have called or were described."""
    with call.store.transaction() as connection:
        return list(connection.scalars(select(devices.c.device_id).order_by(devices.c.device_id)))


def instrumentation(call: Call) -> Any:
    """State of a slave's link and its condition."""
    with call.store.transaction() as connection:
        row = connection.execute(
            select(slaves.c.linkstate, slaves.c.instrumentation).where(
                slaves.c.device_id == call.device_id,
                slaves.c.slave_id == call.parameters["slave_id"],
            )
        ).mappings()
        found = row.first()
    if found is None:
        raise ApiError(404, f"there is no slave {call.parameters['slave_id']!r}")
    return dict(found)


def set_instrumentation(call: Call) -> None:
    """Set the state of a slave's link, its condition, or both."""
    body = checks.object_(call.body.decode())
    changes = {
        name: checks.text(body[name], name)
        for name in ("linkstate", "instrumentation")
        if name in body
    }
    if not changes:
        raise ApiError(400, "neither linkstate nor instrumentation is given")
    if "linkstate" in changes:
        _check_linkstate(changes["linkstate"])
    with call.store.transaction() as connection:
        changed = connection.execute(
            slaves.update()
            .where(
                slaves.c.device_id == call.device_id,
                slaves.c.slave_id == call.parameters["slave_id"],
            )
            .values(**changes)
        )
        if not changed.rowcount:
            raise ApiError(404, f"there is no slave {call.parameters['slave_id']!r}")


def all_slaves(call: Call) -> Any:
    """Slave devices with the state that was reported for them."""
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(slaves).where(slaves.c.device_id == call.device_id).order_by(slaves.c.position)
        ).mappings()
        return [
            {
                "device_id": row["slave_id"],
                "master_controller": row["master_controller"],
                "responsible_service": row["responsible_service"],
                "configuration": row["configuration"],
                "linkstate": row["linkstate"],
                "instrumentation": row["instrumentation"],
            }
            for row in rows
        ]


def _info(connection: Connection, device_id: str) -> dict[str, Any]:
    found: dict[str, Any] | None = connection.scalar(
        select(devices.c.info).where(devices.c.device_id == device_id)
    )
    return found or {}


def _slave(master: str, what: object, position: int) -> dict[str, Any]:
    where = f"slaves[{position}]"
    body = checks.object_(what, where)
    optional = {
        "master_controller": master,
        "responsible_service": "rapid",
        "configuration": "",
    }
    return {
        "device_id": master,
        "slave_id": checks.key(checks.field(body, "device_id", where), f"{where}.device_id"),
        "position": position,
        **{
            name: checks.text(body.get(name, default), f"{where}.{name}")
            for name, default in optional.items()
        },
        "linkstate": "{}",
        "instrumentation": "",
    }


def _replace_slaves(connection: Connection, device_id: str, attached: list[dict[str, Any]]) -> None:
    ids = [slave["slave_id"] for slave in attached]
    if len(set(ids)) != len(ids):
        raise ApiError(400, "slaves: the same device_id twice")
    states = {
        row.slave_id: {"linkstate": row.linkstate, "instrumentation": row.instrumentation}
        for row in connection.execute(select(slaves).where(slaves.c.device_id == device_id))
    }
    connection.execute(slaves.delete().where(slaves.c.device_id == device_id))
    if attached:
        connection.execute(
            insert_new(connection, slaves),
            [{**slave, **states.get(slave["slave_id"], {})} for slave in attached],
        )


def _check_linkstate(linkstate: str) -> None:
    try:
        decoded = json.loads(linkstate)
    except (ValueError, RecursionError):
        raise ApiError(400, "linkstate must be a text that holds JSON") from None
    checks.object_(decoded, "linkstate")


ENDPOINTS = [
    Endpoint("GET", "/v1/device", info),
    Endpoint("GET", "/v1/device/instrumentation/{slave_id:path}", instrumentation),
    Endpoint("PATCH", "/v1/device/instrumentation/{slave_id:path}", set_instrumentation),
    Endpoint("GET", "/admin/devices", all_devices, about_device=False),
    Endpoint("PUT", "/admin/device", describe),
    Endpoint("GET", "/admin/slaves", all_slaves),
]
