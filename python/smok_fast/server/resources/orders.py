"""Orders: queued by an administrator, pushed over NGTT or fetched; see
:mod:`smok_fast.server.outbox`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select

from smok_fast.server import checks
from smok_fast.server.call import Call, Endpoint, page
from smok_fast.server.checks import ApiError
from smok_fast.server.store import insert_new
from smok_fast.server.tables import messages, orders

__all__ = ["ENDPOINTS"]


def fetch(call: Call) -> Any:
    """Sections to execute, in the order in which they were queued; they are handed out once."""
    return call.context.outbox.fetch(call.device_id)


def confirm_message(call: Call) -> None:
    """Tell that the message of a message order was delivered."""
    uuid = call.parameters["uuid"]
    with call.store.transaction() as connection:
        known = connection.execute(
            messages.update()
            .where(messages.c.device_id == call.device_id, messages.c.uuid == uuid)
            .values(confirmed_on=time.time())
        )
        if not known.rowcount:
            raise ApiError(404, f"there is no message {uuid!r}")


def queue(call: Call) -> Any:
    """Queue a list of sections; these are not looked into, so that tests can send anything."""
    sections = checks.array(checks.plain(call.body.decode(), "body"))
    with call.store.transaction() as connection:
        if sections:
            connection.execute(
                orders.insert(),
                [{"device_id": call.device_id, "section": section} for section in sections],
            )
        uuids = [{"device_id": call.device_id, "uuid": uuid} for uuid in _message_uuids(sections)]
        if uuids:
            connection.execute(insert_new(connection, messages), uuids)
    call.context.outbox.announce(call.device_id)
    return {"queued": len(sections)}


def pending(call: Call) -> Any:
    """Sections that the device has neither fetched nor confirmed yet, paged."""
    limit = call.limit()
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(orders.c.id, orders.c.section)
            .where(orders.c.device_id == call.device_id, orders.c.id > call.number("after", 0))
            .order_by(orders.c.id)
            .limit(limit)
        ).all()
    return page([row.section for row in rows], [row.id for row in rows], limit)


def ngtt_state(call: Call) -> Any:
    """The device over NGTT: connected or not, orders under way, confirmed, and rejected so far."""
    return call.context.outbox.state(call.device_id)


def all_messages(call: Call) -> Any:
    """Messages of queued message orders, and when the device confirmed each (seconds, or null)."""
    with call.store.transaction() as connection:
        rows = connection.execute(
            select(messages.c.uuid, messages.c.confirmed_on)
            .where(messages.c.device_id == call.device_id)
            .order_by(messages.c.uuid)
        ).mappings()
        return [dict(row) for row in rows]


def _message_uuids(sections: list[Any]) -> Iterator[str]:
    for section in sections:
        found = section.get("orders") if isinstance(section, dict) else None
        for order in found if isinstance(found, list) else ():
            if isinstance(order, dict) and order.get("type") == "message" and "uuid" in order:
                yield checks.key(order["uuid"], "uuid of a message order")


ENDPOINTS = [
    Endpoint("POST", "/v1/device/orders", fetch),
    Endpoint("POST", "/v1/device/orders/message/{uuid:path}", confirm_message),
    Endpoint("POST", "/admin/orders", queue),
    Endpoint("GET", "/admin/orders", pending),
    Endpoint("GET", "/admin/ngtt", ngtt_state),
    Endpoint("GET", "/admin/messages", all_messages),
]
