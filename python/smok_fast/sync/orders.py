"""Orders from the server to the queue, and messages from the queue to the server."""

from __future__ import annotations

import collections
import contextlib
import math
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING

from smok_fast._urls import segment
from smok_fast.exceptions import ResponseError, UnavailableError
from smok_fast.pathpoint.orders import MessageOrder, sections_from_body
from smok_fast.sync.base import SyncTask, UnusableAnswer, logger

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["MessagesTask", "OrdersTask"]


class OrdersTask(SyncTask):
    """Fetches orders and puts them into the order queue. Fetching acknowledges them."""

    name = "orders"
    interval = 60.0

    def exchange(self) -> bool:
        """Fetch once."""
        body, headers = self._call(self.device.api.post, "/v1/device/orders", direct_response=True)
        try:
            sections = sections_from_body(body, headers.get("Content-Type", ""))
        except ValueError as error:
            self.device.api.refuse_web_page(body, headers, error)
            raise UnusableAnswer(f"a list of sections ({error})", body) from error
        self.device.execute(*sections)
        return False


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
