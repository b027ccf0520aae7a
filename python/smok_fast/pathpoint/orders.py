"""Orders and sections: what a device is told to do.

A section is a list of orders and a real :class:`concurrent.futures.Future`, which completes when
all of its orders were executed. The orders are native objects; what the server sends becomes
sections without a detour over dicts, and its orders become objects when they are looked at.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures._base import PENDING
from typing import Any

from smok_fast._core import (
    DecodedOrders,
    MessageOrder,
    Order,
    ReadOrder,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
    decode_sections,
    longest_wait,
)
from smok_fast.minijson import dumps

__all__ = [
    "AdviseLevel",
    "Disposition",
    "MessageOrder",
    "Order",
    "ReadOrder",
    "Section",
    "SysctlOrder",
    "WaitOrder",
    "WriteOrder",
    "orders_from_list",
    "sections_from_body",
    "sections_from_list",
]

logger = logging.getLogger(__name__)


class AdviseLevel(enum.IntEnum):
    """How hard the device should try to carry out an order."""

    ADVISE = 0  #: best effort
    FORCE = 1  #: nearly guaranteed, if need be by blocking the pipeline


class Disposition(enum.IntEnum):
    """Whether a section may be executed together with its neighbours."""

    JOINABLE = 0  #: it may be joined with neighbouring joinable sections
    CANNOT_JOIN = 1  #: everything before it is finished first


_DISPOSITIONS = tuple(Disposition)

#: What a Future is made of. If this Python's is made of something else, its constructor is called.
_KNOWN_PARTS = {"_condition", "_state", "_result", "_exception", "_waiters", "_done_callbacks"}
_FUTURE_IS_KNOWN = vars(Future()).keys() == _KNOWN_PARTS


class _LazyCondition:
    """Makes a section's condition when it is first asked for, whoever asks.

    It takes five times as long to make as the rest of a section (measured), and most sections, of
    polls and of the server, are executed without anyone waiting for them.
    """

    def __get__(self, section: Section, _owner: object = None) -> threading.Condition:
        # setdefault is atomic: whoever comes second gets what the first one made.
        condition: threading.Condition = section.__dict__.setdefault(
            "_condition", threading.Condition()
        )
        return condition


class Section(Future[None]):
    """Orders that belong together, and the Future of their execution.

    The Future completes with None when all orders were executed, however each of them ended.

    A section can be cancelled until it begins to be executed, or to be a part of another section.

    Its methods may be called by any thread, but its orders are to be left alone once it was handed
    to ``SMOKDevice.execute``. Callbacks of ``add_done_callback`` are called by the thread that
    completes it: OrderExecutorThread, or that of the last Future; or by the one that cancels it.

    :param orders: the orders; none by default
    :param disposition: whether it may be joined with other sections
    :ivar disposition: as given
    """

    _condition = _LazyCondition()
    _begun = False
    _merged: deque[Section] | None = None

    def __init__(
        self,
        orders: Iterable[Order] | DecodedOrders | None = None,
        disposition: Disposition = Disposition.JOINABLE,
    ) -> None:
        if _FUTURE_IS_KNOWN:
            self._state = PENDING
            self._result = None
            self._exception = None
            self._waiters = []
            self._done_callbacks: list[Callable[[Future[None]], object]] = []
        else:
            super().__init__()
        #: A list, or what came from the server and nobody has looked at.
        self._orders: list[Order] | DecodedOrders
        if isinstance(orders, DecodedOrders):
            self._orders = orders
        else:
            self._orders = [] if orders is None else list(orders)
        self.disposition = disposition

    @property
    def orders(self) -> list[Order]:
        """The orders; what is changed in this list counts."""
        if isinstance(self._orders, DecodedOrders):
            return self._orders.objects()
        return self._orders

    @orders.setter
    def orders(self, orders: list[Order]) -> None:
        self._orders = orders

    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> Section:
        """Build it from what the server sends. Orders that make no sense are logged and left out.

        :param dct: ``{"orders": […], "disposition": 0 or 1}``
        :raises KeyError: there are no orders
        :raises ValueError: the orders are no list
        """
        section = {"orders": dct["orders"], "disposition": dct.get("disposition")}
        sections, problems = _decode(dumps([section]), minijson=True)
        if not sections:
            raise ValueError(problems[0])
        _log(problems)
        return sections[0]

    @property
    def future(self) -> Section:
        """The section itself, which is a Future."""
        return self

    def is_joinable(self) -> bool:
        """Whether it may be joined with neighbouring joinable sections."""
        return self.disposition == Disposition.JOINABLE

    def max_wait(self) -> float | None:
        """The longest of its waits in seconds, None if there is none."""
        return longest_wait(self._orders)

    def mark_as_being_executed(self) -> bool:
        """Begin to execute it; to be called by whoever executes it.

        From then on it cannot be cancelled. Calling it again does no harm.

        :return: whether to execute it: False if it was cancelled, or was done already
        """
        with self._condition:
            if not self._begun:
                self._begun = True
                if self.cancelled() or not self.done():
                    return super().set_running_or_notify_cancel()
            return self.running()

    def set_running_or_notify_cancel(self) -> bool:
        """The same as :meth:`mark_as_being_executed`, under the Future's name for it."""
        return self.mark_as_being_executed()

    def mark_as_done(self) -> None:
        """Complete it; to be called by whoever executed it. Calling it again does no harm."""
        with contextlib.suppress(InvalidStateError):
            self.set_result(None)

    def cancel(self) -> bool:
        """Keep it from being executed.

        :return: whether it will not be; False if it is executed already, or a part of another one
        """
        cancelled = super().cancel()
        if cancelled:
            self.mark_as_being_executed()  # which tells those who wait for several futures
        return cancelled

    def __bool__(self) -> bool:
        """Whether it has any orders."""
        return len(self._orders) > 0

    def __iadd__(self, other: Order | Section | Sequence[Order]) -> Section:
        """Add orders: one, several, or those of another section.

        The other section is then a part of this one. It can no longer be cancelled by itself, and
        completes when this one does, with a CancelledError if this one is cancelled. If it was
        cancelled before, is being executed or is done, nothing is added.

        :raises concurrent.futures.InvalidStateError: a section is added to one that is done
        """
        if isinstance(other, Order):
            self.orders.append(other)
        elif isinstance(other, Section):
            self._merge(other)
        elif isinstance(other, Sequence) and all(isinstance(order, Order) for order in other):
            self.orders.extend(other)
        else:
            return NotImplemented
        return self

    def _merge(self, other: Section) -> None:
        if self.done():
            raise InvalidStateError(f"{self!r} is done: nothing can be added to it")
        with other._condition:
            if other is self or other._begun or not other.mark_as_being_executed():
                return
        if self._merged is None:
            self._merged = deque()
        self._merged.append(other)
        if other._merged:
            self._merged.extend(other._merged)
            other._merged.clear()
        self.orders.extend(other.orders)
        self.add_done_callback(_complete_merged)

    def __repr__(self) -> str:
        return f"Section({self.orders!r}, Disposition.{Disposition(self.disposition).name})"


def _complete_merged(section: Future[None]) -> None:
    """Complete the sections that were merged into one in the way that it was completed itself."""
    merged = section._merged if isinstance(section, Section) else None
    while merged:
        other = merged.popleft()
        with contextlib.suppress(InvalidStateError):
            if section.cancelled():
                other.set_exception(CancelledError())
            elif error := section.exception():
                other.set_exception(error)
            else:
                other.set_result(None)


def orders_from_list(lst: Sequence[Mapping[str, Any]]) -> list[Order]:
    """Build orders from what the server sends. Those that make no sense are logged and left out.

    :param lst: the orders
    :raises ValueError: it is no list, or something in it cannot have come from the server
    """
    return Section.from_json({"orders": lst}).orders


def sections_from_list(lst: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Build sections from what the server sends. What makes no sense is logged and left out.

    :param lst: the sections
    :raises ValueError: it is no list, or something in it cannot have come from the server
    """
    sections, problems = _decode(dumps(lst), minijson=True)
    _log(problems)
    return sections


def sections_from_body(body: bytes, content_type: str) -> list[Section]:
    """Build sections from the body of a response or of an NGTT frame.

    What makes no sense is logged and left out.

    :param body: what was received; no bytes at all are no sections
    :param content_type: ``application/minijson``; anything else is taken for JSON
    :raises ValueError: the body is not what the content type says, or no list
    """
    if not body:
        return []
    media_type = content_type.partition(";")[0].strip().lower()
    sections, problems = _decode(body, minijson=media_type == "application/minijson")
    _log(problems)
    return sections


def _decode(body: bytes, *, minijson: bool) -> tuple[list[Section], list[str]]:
    parts, problems = decode_sections(body, minijson)
    return [Section(orders, _DISPOSITIONS[number]) for orders, number in parts], problems


def _log(problems: list[str]) -> None:
    for problem in problems:
        logger.error("Orders from the server: %s", problem)
