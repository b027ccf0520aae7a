"""Orders from the server to the queue, and messages from the queue to the server.

Orders come in two ways. Fetched over HTTP they count as delivered: the server forgets them. Pushed
over NGTT they are confirmed once they were executed, and until then the server delivers them again:
over the next NGTT connection with the same transaction ID, or over HTTP if it is asked. So that
nothing is executed twice, the pushed orders that the server may not know to be executed are
remembered, while the program runs. What makes the same order is not the transaction ID alone, since
servers use these again. It is the same order if ID and contents are the same and

- it is still being executed, or
- it came over an earlier connection, and the server is not known to have received its confirmation
  (which it mostly is a moment later, see :class:`~smok_fast.ngtt.uplink.NGTTSocket`).

Over HTTP there is no ID. There a section is left out if it is what a pushed order of a broken
connection says, whose confirmation was certainly not sent.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import math
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, TypeAlias

from smok_fast._urls import segment
from smok_fast.exceptions import ResponseError, UnavailableError
from smok_fast.ngtt.exceptions import ConnectionFailed
from smok_fast.pathpoint.orders import MessageOrder, Section, sections_from_body
from smok_fast.sync.base import SyncTask, UnusableAnswer, logger

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.ngtt.orders import Order

__all__ = ["MessagesTask", "OrderIntake", "OrdersTask"]

#: How many pushed orders may be unfinished, or remembered after that, and how many bytes of them.
MAX_PUSHED = 1000
MAX_PUSHED_BYTES = 4 << 20


class OrdersTask(SyncTask):
    """Fetches orders, unless they are pushed. Fetching acknowledges them."""

    name = "orders"
    interval = 60.0

    def is_due(self, now: float) -> bool:
        """Whether to fetch: never as long as NGTT works."""
        return not self._are_pushed and super().is_due(now)

    def delay(self, now: float) -> float:
        """Until the next fetch; for ever as long as NGTT works."""
        return math.inf if self._are_pushed else super().delay(now)

    def exchange(self) -> bool:
        """Fetch once."""
        body, headers = self._call(self.device.api.post, "/v1/device/orders", direct_response=True)
        try:
            sections = sections_from_body(body, headers.get("Content-Type", ""))
        except ValueError as error:
            self.device.api.refuse_web_page(body, headers, error)
            raise UnusableAnswer(f"a list of sections ({error})", body) from error
        self.device.order_intake.fetched(sections)
        return False

    @property
    def _are_pushed(self) -> bool:
        uplink = self.device.uplink
        return uplink is not None and uplink.reachable is not False


#: What tells orders apart: transaction ID, and a digest of each section.
_Key: TypeAlias = tuple[int, tuple[bytes, ...]]


@dataclasses.dataclass(slots=True, eq=False)
class _Pushed:
    """An order that was pushed.

    :ivar key: what tells it from others
    :ivar order: it, as it came last
    :ivar unfinished: how many of its sections are not executed yet
    """

    key: _Key
    order: Order
    unfinished: int

    def is_same(self, order: Order) -> bool:
        """Whether another one with the same key is this one, delivered again."""
        if self.unfinished:
            return True
        return self.order.sock is not order.sock and not self.order.is_settled

    def is_certainly_unconfirmed(self) -> bool:
        """Whether the server has it again: its connection broke before it could be confirmed."""
        return not self.order.confirmed and not self.order.sock.connected


class OrderIntake:
    """The one way of the server's orders into the queue. See the module's comment.

    :param device: the device
    """

    def __init__(self, device: SMOKDevice) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._pushed: dict[_Key, _Pushed] = {}  # the oldest first; guarded by the lock

    def fetched(self, sections: Sequence[Section]) -> None:
        """Take what came over HTTP. Called by CommunicatorThread.

        :raises RuntimeError: the device is closed
        """
        self._enqueue(self._without_pushed(sections))

    def pushed(self, order: Order) -> None:
        """Take an order that came over NGTT, and have it answered. Called by the connection's
        thread.

        :raises ConnectionFailed: too many orders are unfinished; the server is to send it again
        """
        try:
            sections = sections_from_body(order.body, "application/minijson")
            if not sections and order.data:
                raise ValueError("no section of it makes sense")
        except ValueError as error:
            logger.error("Order %d from the server rejected: %s", order.tid, error)
            order.nack()
            return
        entry = self._remember(order, sections)
        if entry is None:
            return
        for section in sections:
            section.add_done_callback(functools.partial(self._ended, entry))
        try:
            self._enqueue(sections)
        except RuntimeError as error:
            self._forget(entry)
            logger.info("Order %d is left to the server: %s", order.tid, error)
        if not sections:
            order.acknowledge()

    def _enqueue(self, sections: Iterable[Section]) -> None:
        """Every order of the server passes here before it is executed."""
        self._device.execute(*sections)

    def _remember(self, order: Order, sections: Sequence[Section]) -> _Pushed | None:
        """Note an order that is to be executed; None if it was delivered before."""
        key = order.tid, tuple(map(_digest, sections))
        with self._lock:
            known = self._pushed.get(key)
            if known is None or not known.is_same(order):
                self._pushed.pop(key, None)
                self._make_room(len(order.body))
                self._pushed[key] = entry = _Pushed(key, order, len(sections))
                return entry
            known.order = order
            is_executed = not known.unfinished
        logger.info("Order %d was delivered again, and is not executed twice", order.tid)
        if is_executed:
            order.acknowledge()
        return None

    def _make_room(self, needed: int) -> None:
        """Let go of orders that are done with; of those that may come again only if need be, the
        oldest first.
        """
        entries = [*self._pushed.values()]
        count, size = 1 + len(entries), needed + sum(len(entry.order.body) for entry in entries)
        for entry in entries:
            is_over = count > MAX_PUSHED or size > MAX_PUSHED_BYTES
            if not entry.unfinished and (is_over or entry.order.is_settled):
                del self._pushed[entry.key]
                count, size = count - 1, size - len(entry.order.body)
        if count > MAX_PUSHED or size > MAX_PUSHED_BYTES:
            raise ConnectionFailed(False, "more orders are pushed than are executed")

    def _ended(self, entry: _Pushed, section: Future[None]) -> None:
        """A section of an order has ended. Called by whichever thread ended it."""
        if section.cancelled() or section.exception() is not None:
            self._forget(entry)
            return
        with self._lock:
            entry.unfinished -= 1
            is_done = not entry.unfinished and self._pushed.get(entry.key) is entry
            order = entry.order
        if is_done:
            order.acknowledge()

    def _forget(self, entry: _Pushed) -> None:
        with self._lock:
            if self._pushed.get(entry.key) is entry:
                del self._pushed[entry.key]

    def _without_pushed(self, sections: Sequence[Section]) -> Iterable[Section]:
        """What was fetched, without what had been pushed before."""
        with self._lock:
            returned = [e for e in self._pushed.values() if e.is_certainly_unconfirmed()]
        if not returned:
            return sections
        owners: dict[bytes, list[_Pushed]] = collections.defaultdict(list)
        for entry in returned:
            for digest in entry.key[1]:
                owners[digest].append(entry)
        new = []
        for section in sections:
            if pushed := owners[_digest(section)]:
                self._forget(pushed.pop(0))  # the server has forgotten it, too
                logger.info("%r was pushed before, and is not executed twice", section)
            else:
                new.append(section)
        return new


def _digest(section: Section) -> bytes:
    return hashlib.sha256(repr(section).encode()).digest()


class MessagesTask(SyncTask):
    """Tells the server to send messages that were ordered.

    :param device: the device
    """

    name = "messages"

    def __init__(self, device: SMOKDevice) -> None:
        super().__init__(device)
        self._waiting: collections.deque[tuple[MessageOrder, Future[None]]] = collections.deque()

    def post(self, order: MessageOrder) -> Future[None]:
        """Have a message posted. May be called by any thread, which then wakes CommunicatorThread.

        :return: a Future that ends when it was posted, or fails when it was given up
        """
        future: Future[None] = Future()
        self._waiting.append((order, future))
        return future

    def is_due(self, now: float) -> bool:
        """Whether a message waits and the server did not refuse the last one a moment ago."""
        return bool(self._waiting) and super().is_due(now)

    def delay(self, now: float) -> float:
        """Until the server may be asked, if a message waits."""
        return max(self._refused_until - now, 0.0) if self._waiting else math.inf

    def exchange(self) -> bool:
        """Post what waits. A message that the server refuses as often as its tries allow is
        given up.
        """
        while self._waiting:
            order, future = self._waiting[0]
            try:
                path = f"/v1/device/orders/message/{segment(order.uuid)}"
                self._call(self.device.api.post, path)
            except ResponseError as error:
                if error.is_no_link() or order.fail():
                    raise
                self._give_up(order, future, error)
            except ValueError as error:
                self._give_up(order, future, error)
            else:
                _end(future, None)
            self._waiting.popleft()
        return False

    def abandon(self) -> None:
        """Fail what still waits. Called by the thread that closes the device."""
        while self._waiting:
            _, future = self._waiting.popleft()
            _end(future, UnavailableError("the device was closed before the message was posted"))

    @staticmethod
    def _give_up(order: MessageOrder, future: Future[None], error: Exception) -> None:
        logger.error("Giving up on %r: %s", order, error)
        _end(future, error)


def _end(future: Future[None], error: Exception | None) -> None:
    with contextlib.suppress(InvalidStateError):
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
