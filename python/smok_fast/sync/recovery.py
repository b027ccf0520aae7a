"""What becomes of an order about which a crash has left unknown whether it was executed, or a
broken connection whether the server knows.

What may be done twice is done again: reads, waits, messages (the server knows them by their UUIDs)
and FORCE writes, which set a value and are promised to be made. What may not is given up: ADVISE
writes, which are best effort, and sysctls, since a reboot or an update may have been the crash. All
that changes something is reported, whichever way it goes.
"""

from __future__ import annotations

import logging
from typing import Any

from smok_fast.minijson import dumps
from smok_fast.pathpoint.orders import (
    AdviseLevel,
    MessageOrder,
    Order,
    ReadOrder,
    Section,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
)

__all__ = ["drop_what_may_not_be_repeated", "encode", "is_to_be_marked"]

logger = logging.getLogger(__name__)


def is_to_be_marked(section: Section) -> bool:
    """Whether the journal has to say when the execution begins: whether any of it is to be reported
    if it may be done twice.
    """
    return any(isinstance(order, WriteOrder | SysctlOrder) for order in section.orders)


def drop_what_may_not_be_repeated(section: Section) -> None:
    """Leave the orders in a section that may be executed twice, and report what changes something.

    :param section: it was begun before, and may have been finished
    """
    kept = []
    for order in section.orders:
        if isinstance(order, WriteOrder) and order.advise == AdviseLevel.FORCE:
            logger.warning("%r may have been executed before, done again", order)
        elif isinstance(order, WriteOrder | SysctlOrder):
            logger.warning("%r may have been executed before, not done again", order)
            continue
        kept.append(order)
    section.orders[:] = kept


def encode(section: Section) -> bytes:
    """A section as the server would send it over NGTT.

    :raises EncodingError: a value of a write has no form in MiniJSON
    """
    orders = [_to_json(order) for order in section.orders]
    return dumps([{"orders": orders, "disposition": int(section.disposition)}])


def _to_json(order: Order) -> dict[str, Any]:
    if isinstance(order, ReadOrder):
        return {"type": "read", "path": order.pathpoint, "advise": int(order.advise)}
    if isinstance(order, WriteOrder):
        written: dict[str, Any] = {
            "type": "write",
            "path": order.pathpoint,
            "value": order.value,
            "advise": int(order.advise),
        }
        if order.stale_after is not None:
            written["stale_after"] = order.stale_after
        return written
    if isinstance(order, MessageOrder):
        return {"type": "message", "uuid": order.uuid}
    if isinstance(order, WaitOrder):
        return {"type": "wait", "time": order.period}
    if isinstance(order, SysctlOrder):
        return {"type": "sysctl", "op_type": order.op_type, "op_args": order.op_args}
    raise TypeError(f"the server sends no {order!r}")
