"""BAOBs: binary objects that device and server both may change; the higher version is the newer.

What is deleted leaves its version behind, so that a device which still has it, or an older one, is
told to delete it, while one that has changed it since is asked for the change.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, select
from starlette.responses import Response

from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint
from smok_fast.server.checks import ApiError
from smok_fast.server.store import upsert
from smok_fast.server.tables import baobs

__all__ = ["ENDPOINTS", "VERSION_HEADER"]

VERSION_HEADER = "X-SMOK-BAOB-Version"


def compare(call: Call) -> Any:
    """Compare the versions that the device has with the server's."""
    held: dict[str, int] = {}
    for position, what in enumerate(checks.array(call.body.decode())):
        where = f"[{position}]"
        body = checks.object_(what, where)
        key = checks.key(checks.field(body, "key", where), f"{where}.key")
        held[key] = checks.integer(
            checks.field(body, "version", where), f"{where}.version", minimum=-1
        )
    with call.store.transaction() as connection:
        kept = {
            row.key: row
            for row in connection.execute(
                select(baobs.c.key, baobs.c.version, baobs.c.content.is_(None).label("deleted"))
                .where(baobs.c.device_id == call.device_id)
                .order_by(baobs.c.key)
            )
        }
    return {
        "should_delete": [
            key
            for key, version in held.items()
            if key in kept and kept[key].deleted and version <= kept[key].version
        ],
        "should_download": [
            key for key, row in kept.items() if not row.deleted and row.version > held.get(key, -1)
        ],
        "should_upload": [
            key
            for key, version in held.items()
            if version >= 0 and (key not in kept or version > kept[key].version)
        ],
    }


def download(call: Call) -> Response:
    """Content of a BAOB, its version in the header X-SMOK-BAOB-Version."""
    return _content(call, call.parameters["key"])


def upload(call: Call) -> None:
    """Take a newer version of a BAOB; an older one is refused, and so is another of the same."""
    key = checks.key(call.parameters["key"], "key")
    form = call.body.form()
    content = checks.field(form, "file", "form")
    try:
        data = json.loads(checks.field(form, "data", "form"))
    except (ValueError, RecursionError):
        raise ApiError(400, "data must be JSON") from None
    version = checks.integer(
        checks.field(checks.object_(data, "data"), "version", "data"), "data.version"
    )
    with call.store.transaction() as connection:
        known = _find(connection, call.device_id, key)
        if known is not None:
            if version == known.version and content == known.content:
                return
            if version <= known.version:
                raise ApiError(409, f"version {known.version} is here, and {version} is no newer")
        _set(connection, call.device_id, key, version, content)


def all_baobs(call: Call) -> Any:
    """Keys and versions of all BAOBs, and which of them are deleted."""
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(baobs.c.key, baobs.c.version, baobs.c.content.is_(None).label("deleted"))
            .where(baobs.c.device_id == call.device_id)
            .order_by(baobs.c.key)
        )
        return [
            {"key": row.key, "version": row.version, "deleted": bool(row.deleted)} for row in rows
        ]


def read(call: Call) -> Response:
    """Content of the BAOB ``key``."""
    return _content(call, call.required("key"))


def put(call: Call) -> Any:
    """Set the BAOB ``key`` to the body's bytes, at the next version or at ``version``."""
    return _change(call, call.body.content)


def delete(call: Call) -> Any:
    """Delete the BAOB ``key``; devices are told so."""
    return _change(call, None)


def _change(call: Call, content: bytes | None) -> Any:
    key = call.required("key")
    with call.store.transaction() as connection:
        known = _find(connection, call.device_id, key)
        if content is None and (known is None or known.content is None):
            raise ApiError(404, f"there is no BAOB {key!r}")
        following = 0 if known is None else known.version + (content is not None)
        version = call.number("version", following)
        _set(connection, call.device_id, key, version, content)
    return {"key": key, "version": version}


def _set(
    connection: Connection, device_id: str, key: str, version: int, content: bytes | None
) -> None:
    row = {"device_id": device_id, "key": key, "version": version, "content": content}
    upsert(connection, baobs, ("device_id", "key"), [row])


def _content(call: Call, key: str) -> Response:
    with call.store.transaction() as connection:
        found = _find(connection, call.device_id, key)
    if found is None or found.content is None:
        raise ApiError(404, f"there is no BAOB {key!r}")
    return Response(
        found.content,
        headers={VERSION_HEADER: str(found.version)},
        media_type="application/octet-stream",
    )


def _find(connection: Connection, device_id: str, key: str) -> Row[Any, Any] | None:
    return connection.execute(
        select(baobs.c.version, baobs.c.content).where(
            baobs.c.device_id == device_id, baobs.c.key == key
        )
    ).one_or_none()


ENDPOINTS = [
    Endpoint("POST", "/v1/device/baobs", compare),
    Endpoint("GET", "/v1/device/baobs/{key:path}", download),
    Endpoint("PUT", "/v1/device/baobs/{key:path}", upload),
    Endpoint("GET", "/admin/baobs", all_baobs),
    Endpoint("GET", "/admin/baob", read),
    Endpoint("PUT", "/admin/baob", put),
    Endpoint("DELETE", "/admin/baob", delete),
]
