"""Orders on their way to devices.

An order is a row of the table, one section. It leaves the table when the device has it for good:
when it is fetched over HTTP, which acknowledges it, or when the device confirms over NGTT that it
was executed, or rejects it. While a device is connected over NGTT, its orders are pushed there, and
what is under way is not given out over HTTP as well. When the connection ends, what was not
confirmed is delivered again: over the next connection with the same transaction ID, or over HTTP.

A device has one connection; a new one takes the place of the old.
"""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select

from smok_fast import minijson
from smok_fast.ngtt.protocol import MAX_DATA
from smok_fast.server.store import Store
from smok_fast.server.tables import orders

__all__ = ["Delivery", "Outbox"]

logger = logging.getLogger("smok_fast.server")

#: How many orders may be under way to one device without being confirmed.
WINDOW = 100

#: Transaction IDs go from 1 up to this.
_LAST_TID = 0xFFFF


class Delivery:
    """What is under way over one NGTT connection.

    :param device_id: whose connection it is
    :param on_news: called by any thread when there may be orders to push
    :param on_end: called by any thread when another connection has taken its place
    """

    def __init__(
        self, device_id: str, on_news: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        self.device_id = device_id
        self.on_news = on_news
        self.on_end = on_end
        self.under_way: dict[int, int] = {}  # IDs of orders by transaction ID


class Outbox:
    """The orders of all devices, and how they get there. Any thread may call it.

    :param store: the database
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # Held over whole transactions: what is pushed must not be fetched at the same time.
        self._lock = threading.Lock()
        self._deliveries: dict[str, Delivery] = {}
        self._confirmed: collections.Counter[str] = collections.Counter()
        self._rejected: collections.Counter[str] = collections.Counter()

    def fetch(self, device_id: str) -> list[Any]:
        """Hand out sections over HTTP, in the order in which they were queued."""
        with self._lock, self._store.transaction() as connection:
            rows = connection.execute(
                orders.delete()
                .where(
                    orders.c.device_id == device_id,
                    orders.c.id.not_in(self._under_way(device_id)),
                )
                .returning(orders.c.id, orders.c.section)
            ).all()
        return [row.section for row in sorted(rows, key=lambda row: int(row.id))]

    def announce(self, device_id: str) -> None:
        """Tell that orders were queued."""
        with self._lock:
            delivery = self._deliveries.get(device_id)
        if delivery is not None:
            delivery.on_news()

    def state(self, device_id: str) -> dict[str, Any]:
        """How a device is doing over NGTT, for the admin API."""
        with self._lock:
            return {
                "connected": device_id in self._deliveries,
                "under_way": len(self._under_way(device_id)),
                "confirmed": self._confirmed[device_id],
                "rejected": self._rejected[device_id],
            }

    def connect(self, delivery: Delivery) -> None:
        """A device has connected."""
        with self._lock:
            earlier = self._deliveries.get(delivery.device_id)
            self._deliveries[delivery.device_id] = delivery
        if earlier is not None:
            earlier.on_end()

    def disconnect(self, delivery: Delivery) -> None:
        """A connection has ended."""
        with self._lock:
            if self._deliveries.get(delivery.device_id) is delivery:
                del self._deliveries[delivery.device_id]

    def start_over(self, delivery: Delivery) -> None:
        """The device asks for all orders, those that are under way too."""
        with self._lock:
            delivery.under_way.clear()

    def push(self, delivery: Delivery) -> list[tuple[int, bytes]]:
        """Orders to send now: the transaction ID and the MiniJSON of each. From then on they are
        under way.
        """
        batch = []
        with self._lock:
            if self._deliveries.get(delivery.device_id) is not delivery:
                return []
            with self._store.transaction() as connection:
                rows = connection.execute(
                    select(orders.c.id, orders.c.section)
                    .where(
                        orders.c.device_id == delivery.device_id,
                        orders.c.id.not_in(self._under_way(delivery.device_id)),
                    )
                    .order_by(orders.c.id)
                    .limit(WINDOW - len(delivery.under_way))
                ).all()
                for row in rows:
                    tid = 1 + row.id % _LAST_TID
                    body = _encoded(row.section)
                    if body is None:
                        connection.execute(orders.delete().where(orders.c.id == row.id))
                        self._rejected[delivery.device_id] += 1
                        logger.warning("An order of %s does not fit NGTT", delivery.device_id)
                    elif tid not in delivery.under_way:
                        delivery.under_way[tid] = row.id
                        batch.append((tid, body))
        return batch

    def answered(self, delivery: Delivery, tid: int, *, confirmed: bool) -> None:
        """The device has executed an order, or rejects it."""
        with self._lock:
            order_id = delivery.under_way.pop(tid, None)
            if order_id is None:
                return
            with self._store.transaction() as connection:
                connection.execute(orders.delete().where(orders.c.id == order_id))
            counts = self._confirmed if confirmed else self._rejected
            counts[delivery.device_id] += 1

    def _under_way(self, device_id: str) -> Sequence[int]:
        delivery = self._deliveries.get(device_id)
        return [] if delivery is None else [*delivery.under_way.values()]


def _encoded(section: Any) -> bytes | None:
    """An order's body, None if no frame can carry it."""
    try:
        body = minijson.dumps([section])
    except minijson.EncodingError:
        return None
    return body if len(body) <= MAX_DATA else None
