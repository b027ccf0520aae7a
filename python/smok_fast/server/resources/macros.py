"""Macros: writes at set times, and which of them the device has executed.

An occurrence may be reported more than once, as happens when an answer was lost; how often it was
is kept.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint
from smok_fast.server.checks import ApiError
from smok_fast.server.tables import macro_occurrences, macros

__all__ = ["ENDPOINTS"]

_WINDOW = re.compile(r"([0-9]{1,12})-([0-9]{1,12})")


def occurrences(call: Call) -> Any:
    """Macros that occur between two times (seconds, both included), and which are done."""
    window = _WINDOW.fullmatch(call.parameters["window"])
    if window is None:
        raise ApiError(400, "the window must be {start}-{stop}, integers, in seconds")
    start, stop = map(int, window.groups())
    if start > stop:
        raise ApiError(400, "the window ends before it starts")
    with call.store.transaction() as connection:
        found = _macros(
            connection, call.device_id, macro_occurrences.c.timestamp.between(start, stop)
        )
    for macro in found:
        for occurrence in macro["occurrences"]:
            del occurrence["reports"]
    return [macro for macro in found if macro["occurrences"]]


def report(call: Call) -> None:
    """Tell that an occurrence of a macro was executed."""
    macro_id = call.parameters["macro_id"]
    try:
        timestamp = float(call.parameters["timestamp"])
    except ValueError:
        timestamp = math.nan
    if not math.isfinite(timestamp):
        raise ApiError(400, "the timestamp must be a number of seconds")
    with call.store.transaction() as connection:
        known = connection.execute(
            macro_occurrences.update()
            .where(
                macro_occurrences.c.device_id == call.device_id,
                macro_occurrences.c.macro_id == macro_id,
                macro_occurrences.c.timestamp == timestamp,
            )
            .values(reports=macro_occurrences.c.reports + 1)
        )
        if not known.rowcount:
            raise ApiError(404, f"macro {macro_id!r} does not occur at {timestamp:g}")


def all_macros(call: Call) -> Any:
    """All macros, and how often each occurrence was reported as executed."""
    with call.store.transaction() as connection:
        return _macros(connection, call.device_id)


def set_macros(call: Call) -> None:
    """Set all macros, [{macro_id, commands: [{path, value}], occurrences: [timestamp]}].

    Occurrences that stay keep their reports.
    """
    defined = [
        _macro(macro, f"[{position}]")
        for position, macro in enumerate(checks.array(call.body.decode()))
    ]
    if len({macro_id for macro_id, _, _ in defined}) != len(defined):
        raise ApiError(400, "the same macro_id twice")
    with call.store.transaction() as connection:
        done = {
            (row.macro_id, row.timestamp): row.reports
            for row in connection.execute(
                select(macro_occurrences).where(macro_occurrences.c.device_id == call.device_id)
            )
        }
        for table in (macros, macro_occurrences):
            connection.execute(table.delete().where(table.c.device_id == call.device_id))
        for position, (macro_id, commands, timestamps) in enumerate(defined):
            key = {"device_id": call.device_id, "macro_id": macro_id}
            connection.execute(macros.insert().values(**key, position=position, commands=commands))
            rows = [
                {**key, "timestamp": timestamp, "reports": done.get((macro_id, timestamp), 0)}
                for timestamp in timestamps
            ]
            if rows:
                connection.execute(macro_occurrences.insert(), rows)


def _macros(
    connection: Connection, device_id: str, *conditions: ColumnElement[bool]
) -> list[dict[str, Any]]:
    times = defaultdict(list)
    for row in connection.execute(
        select(macro_occurrences)
        .where(macro_occurrences.c.device_id == device_id, *conditions)
        .order_by(macro_occurrences.c.timestamp)
    ):
        times[row.macro_id].append(
            {
                "timestamp": _whole(row.timestamp),
                "completed": row.reports > 0,
                "reports": row.reports,
            }
        )
    return [
        {"macro_id": row.macro_id, "commands": row.commands, "occurrences": times[row.macro_id]}
        for row in connection.execute(
            select(macros).where(macros.c.device_id == device_id).order_by(macros.c.position)
        )
    ]


def _whole(timestamp: float) -> int | float:
    return int(timestamp) if timestamp.is_integer() else timestamp


def _macro(what: object, where: str) -> tuple[str, list[dict[str, Any]], list[float]]:
    body = checks.object_(what, where)
    commands = checks.array(checks.field(body, "commands", where), f"{where}.commands")
    times = checks.array(checks.field(body, "occurrences", where), f"{where}.occurrences")
    return (
        checks.key(checks.field(body, "macro_id", where), f"{where}.macro_id"),
        [
            _command(command, f"{where}.commands[{position}]")
            for position, command in enumerate(commands)
        ],
        sorted(
            {
                float(checks.number(timestamp, f"{where}.occurrences[{position}]"))
                for position, timestamp in enumerate(times)
            }
        ),
    )


def _command(what: object, where: str) -> dict[str, Any]:
    body = checks.object_(what, where)
    return {
        "path": checks.path(checks.field(body, "path", where), f"{where}.path"),
        "value": checks.value(checks.field(body, "value", where), f"{where}.value"),
    }


ENDPOINTS = [
    Endpoint("GET", "/v1/device/macro/occurrences/{window}", occurrences),
    Endpoint("POST", "/v1/device/macros/{macro_id:path}/{timestamp}", report),
    Endpoint("GET", "/admin/macros", all_macros),
    Endpoint("PUT", "/admin/macros", set_macros),
]
