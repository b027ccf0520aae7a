"""Orders from the server to the queue, and messages from the queue to the server.

Orders come in two ways. Fetched over HTTP they count as delivered: the server forgets them. Pushed
over NGTT they are confirmed once they were executed, and until then the server delivers them again:
over the next NGTT connection with the same transaction ID, or over HTTP if it is asked. So that
nothing is executed twice, the pushed orders that the server may not know to be executed are
remembered. What makes the same order is not the transaction ID alone, since servers use these
again. It is the same order if ID and contents are the same and

- it is still being executed, or
- it came over an earlier connection, and the server is not known to have received its confirmation
  (which it mostly is a moment later, see :class:`~smok_fast.ngtt.uplink.NGTTSocket`).

Over HTTP there is no ID. There a section is left out if it is what a pushed order of a broken
connection says, whose confirmation was certainly not sent. If the confirmation was sent, but maybe
not received, the section may be that order or a new one, and :mod:`smok_fast.sync.recovery` says
what is done.

If there is a state file, its journal has what must outlive the program, in a transaction for each
batch that comes in, one for each batch before it is executed, and one once nothing else is to be
executed:

- a fetched section from before it is handed to the executor until it was executed, with a mark once
  it is begun if it changes anything. The next program executes what is left, before anything new;
- a pushed order that changes anything from its beginning until the server is known to have received
  its confirmation. The next program waits for the server to deliver it again. So that it need not
  wait for the disk before it is executed, what is noted then survives the end of the program, but
  maybe not a power cut, until a second has passed.

What was begun and not ended in the program before is treated as :mod:`smok_fast.sync.recovery`
says. A disk that cannot be written holds up no order.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import math
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, TypeAlias

from smok_fast._urls import segment
from smok_fast.exceptions import ResponseError, UnavailableError
from smok_fast.ngtt.exceptions import ConnectionFailed
from smok_fast.pathpoint.orders import MessageOrder, Section, sections_from_body
from smok_fast.state.journal import EXECUTED, RECEIVED, STARTED, JournalledOrder, OrderJournal
from smok_fast.sync import recovery
from smok_fast.sync.base import SyncTask, UnusableAnswer, logger

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.ngtt.orders import Order

__all__ = ["MessagesTask", "OrderIntake", "OrdersTask"]

#: How many pushed orders may be unfinished, or remembered after that, and how many bytes of them.
MAX_PUSHED = 1000
MAX_PUSHED_BYTES = 4 << 20

#: For how many seconds an order that was pushed to the program before, and executed, is surely the
#: one that is pushed now; later it may be another one with the same ID and contents.
SURE_FOR = 3600.0

#: How many seconds after the end of a pushed order it is on the disk.
LINGER = 1.0

#: Where orders came from, in the journal; a pushed one has its transaction ID besides.
_FETCHED = "http"
_PUSHED = "ngtt:"


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
    :ivar sections: its sections, in the order of the key's digests
    :ivar size: length of its body in bytes
    :ivar order: it, as it came last; None if it came to the program before
    :ivar unfinished: how many of its sections are not executed yet
    :ivar row: what the journal knows it by, None if it does not
    :ivar was_executed: of one that came to the program before: whether it surely was executed
    """

    key: _Key
    sections: Sequence[Section]
    size: int
    order: Order | None
    unfinished: int
    row: int | None = None
    was_executed: bool = False

    def is_same(self, order: Order) -> bool:
        """Whether another one with the same key is this one, delivered again."""
        if self.unfinished or self.order is None:
            return True
        return self.order.sock is not order.sock and not self.order.is_settled

    def may_be_fetched(self) -> bool:
        """Whether the server may give it out over HTTP: its connection broke before the server was
        known to have received the confirmation.
        """
        return self.order is None or not (self.order.sock.connected or self.order.is_settled)

    def is_unconfirmed(self) -> bool:
        """Whether the server cannot know that it was executed."""
        return self.order is not None and not self.order.confirmed

    def is_settled(self) -> bool:
        """Whether the server is known to have received the confirmation."""
        return self.order is not None and self.order.is_settled


class OrderIntake:
    """The one way of the server's orders into the queue. See the module's comment.

    :param device: the device
    :param journal: what outlives the program, None if nothing does
    """

    def __init__(self, device: SMOKDevice, journal: OrderJournal | None = None) -> None:
        self._device = device
        self._journal = journal
        self._lock = threading.Lock()
        self._changed = False  # whether the journal has changes that are to be on the disk soon
        self._is_planned = False  # whether the executor settles in a while
        # These are guarded by the lock. The oldest come first.
        self._pushed: dict[_Key, _Pushed] = {}
        self._owners: dict[Section, _Pushed] = {}  # of sections that are not done
        self._rows: dict[Section, int] = {}  # fetched sections that are not done
        self._held: list[Section] | None = None  # what waits for restored sections to go first

    def fetched(self, sections: Sequence[Section]) -> None:
        """Take what came over HTTP. Called by CommunicatorThread.

        :raises RuntimeError: the device is closed
        """
        new = self._without_pushed(sections)
        self._write_down(new)
        self._enqueue(new)

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

    @property
    def journalled(self) -> int:
        """How many orders are in the journal."""
        return 0 if self._journal is None else len(self._journal)

    # For the executor

    def begin(self, sections: Iterable[Section]) -> None:
        """Have the journal say that sections are executed now. Called by OrderExecutorThread."""
        if self._journal is None:
            return
        with self._lock:
            known = [
                section
                for section in sections
                if (section in self._rows or section in self._owners)
                and recovery.is_to_be_marked(section)
            ]
            rows = [self._rows[section] for section in known if section in self._rows]
            for section in known:
                entry = self._owners.get(section)
                if entry is None or entry.order is None:
                    continue
                if entry.row is None:
                    source = f"{_PUSHED}{entry.order.tid}"
                    (entry.row,) = self._journal.add(source, [entry.order.body], STARTED)
                rows.append(entry.row)
            self._journal.mark(rows, STARTED)
            is_fetched = any(section in self._rows for section in known)
        if known:
            self._commit(at_once=is_fetched)

    def commit(self) -> None:
        """Have the journal on the disk if anything in it is to be there soon. Called by
        OrderExecutorThread when it has nothing else to do.
        """
        if self._changed:
            self._commit()

    def settle(self) -> None:
        """Let the journal forget what the server is known to know, and have all of it on the disk.
        Called by OrderExecutorThread a while after a pushed order has ended, and by the thread that
        closes the device.
        """
        self._is_planned = False
        is_open = False
        with self._lock:
            for entry in [*self._pushed.values()]:
                if entry.unfinished or entry.row is None or entry.order is None:
                    continue
                if entry.order.is_settled:
                    self._drop(entry)
                elif entry.order.sock.connected:
                    is_open = True
        self._commit()
        if is_open:
            self._settle_later()

    # For the start of the device

    def restore(self) -> bool:
        """Take up what the program before has left. Nothing is executed before :meth:`release` is
        called then. Called before any thread is started.

        :return: whether there is anything to be executed
        """
        restored: list[Section] = []
        for row in [] if self._journal is None else self._journal.unfinished():
            try:
                sections = sections_from_body(row.section, "application/minijson")
                if row.source == _FETCHED:
                    restored += self._restore_fetched(row, sections)
                else:
                    self._restore_pushed(row, sections)
            except ValueError as error:
                logger.error("An order of the last run makes no sense, dropped: %s", error)
                self._mark_done(row.id)
        if restored:
            logger.warning("%d sections of orders of the last run are executed now", len(restored))
            self._held = restored
        return bool(restored)

    def release(self) -> None:
        """Have executed what was restored, and then what has come meanwhile."""
        while True:
            with self._lock:
                sections, self._held = self._held, []
                if not sections:
                    self._held = None
                    return
            try:
                self._device.execute(*sections)
            except RuntimeError as error:
                logger.info("Orders are left to the next run: %s", error)

    def _restore_fetched(
        self, row: JournalledOrder, sections: Sequence[Section]
    ) -> Sequence[Section]:
        if len(sections) != 1:
            raise ValueError(f"{len(sections)} sections instead of one")
        if row.state == STARTED:
            recovery.drop_what_may_not_be_repeated(sections[0])
        self._watch(sections[0], row.id, row.state)
        return sections

    def _restore_pushed(self, row: JournalledOrder, sections: Sequence[Section]) -> None:
        key = int(row.source.removeprefix(_PUSHED)), tuple(map(_digest, sections))
        was_executed = row.state == EXECUTED and abs(time.time() - row.received_at) < SURE_FOR
        entry = _Pushed(key, sections, len(row.section), None, 0, row.id, was_executed)
        self._pushed[key] = entry

    # The way into the queue

    def _enqueue(self, sections: Iterable[Section]) -> None:
        """Every order of the server passes here before it is executed."""
        with self._lock:
            if self._held is not None:
                self._held += sections
                return
        self._device.execute(*sections)

    def _write_down(self, sections: Iterable[Section]) -> None:
        """Have fetched sections in the journal, and on the disk."""
        if self._journal is None:
            return
        written, bodies = [], []
        for section in sections:
            try:
                bodies.append(recovery.encode(section))
                written.append(section)
            except ValueError as error:
                logger.error("%r would not survive a crash: %s", section, error)
        for section, row in zip(written, self._journal.add(_FETCHED, bodies), strict=True):
            self._watch(section, row)
        if written:
            self._commit()

    def _watch(self, section: Section, row: int, state: str = RECEIVED) -> None:
        """Have a fetched section leave the journal once it was executed."""
        with self._lock:
            self._rows[section] = row
        section.add_done_callback(functools.partial(self._fetched_ended, row, state))

    def _fetched_ended(self, row: int, state: str, section: Future[None]) -> None:
        """A fetched section has ended. Called by whichever thread ended it."""
        with self._lock:
            self._rows.pop(section, None)  # type: ignore[call-overload]  # it is a Section
        if section.cancelled():
            self._mark([row], state)  # it was not begun after all
        elif section.exception() is None:
            self._mark_done(row)

    def _remember(self, order: Order, sections: Sequence[Section]) -> _Pushed | None:
        """Note an order that is to be executed; None if it was delivered before."""
        key = order.tid, tuple(map(_digest, sections))
        with self._lock:
            known = self._pushed.get(key)
            is_restored = known is not None and known.order is None
            is_repeated = known is not None and known.is_same(order)
            if known is not None and is_repeated and (known.was_executed or not is_restored):
                known.order = order
                entry, is_executed = None, not known.unfinished
            else:
                self._make_room(len(order.body), known)
                row = None
                if known is not None and is_restored:
                    row = known.row
                elif known is not None:
                    self._drop(known)
                entry = _Pushed(key, sections, len(order.body), order, len(sections), row)
                self._pushed.pop(key, None)  # so that it is the latest one
                self._pushed[key] = entry
                self._owners.update(dict.fromkeys(sections, entry))
        if entry is None:
            logger.info("Order %d was delivered again, and is not executed twice", order.tid)
            if is_executed:
                order.acknowledge()
        elif is_restored:
            for section in sections:
                recovery.drop_what_may_not_be_repeated(section)
        return entry

    def _make_room(self, needed: int, keep: _Pushed | None) -> None:
        """Let go of orders that are done with, but for one; of those that may come again only if
        need be, the oldest first.
        """
        entries = [*self._pushed.values()]
        count, size = 1 + len(entries), needed + sum(entry.size for entry in entries)
        for entry in entries:
            is_over = count > MAX_PUSHED or size > MAX_PUSHED_BYTES
            may_go = entry is not keep and not entry.unfinished
            if may_go and (is_over or entry.is_settled()):
                self._drop(entry)
                count, size = count - 1, size - entry.size
        if count > MAX_PUSHED or size > MAX_PUSHED_BYTES:
            raise ConnectionFailed(False, "more orders are pushed than are executed")

    def _ended(self, entry: _Pushed, section: Future[None]) -> None:
        """A section of an order has ended. Called by whichever thread ended it."""
        with self._lock:
            self._owners.pop(section, None)  # type: ignore[call-overload]  # it is a Section
        if section.cancelled() or section.exception() is not None:
            self._forget(entry)
            return
        with self._lock:
            entry.unfinished -= 1
            is_done = not entry.unfinished and self._pushed.get(entry.key) is entry
            order = entry.order
        if is_done and order is not None:
            if entry.row is not None and self._journal is not None:
                self._journal.mark([entry.row], EXECUTED)
                self._settle_later()
            order.acknowledge()

    def _forget(self, entry: _Pushed) -> None:
        with self._lock:
            if self._pushed.get(entry.key) is entry:
                del self._pushed[entry.key]

    def _drop(self, entry: _Pushed) -> None:
        """Forget an order, in the journal too. For who holds the lock."""
        del self._pushed[entry.key]
        if entry.row is not None and self._journal is not None:
            self._journal.mark_done(entry.row)

    def _without_pushed(self, sections: Sequence[Section]) -> Sequence[Section]:
        """What was fetched, without what had been pushed before."""
        with self._lock:
            returned = [e for e in self._pushed.values() if e.may_be_fetched()]
        if not returned:
            return sections
        owners: dict[bytes, list[tuple[_Pushed, Section]]] = collections.defaultdict(list)
        for entry in returned:
            for digest, pushed in zip(entry.key[1], entry.sections, strict=True):
                owners[digest].append((entry, pushed))
        new = []
        for section in sections:
            if not (candidates := owners[_digest(section)]):
                new.append(section)
                continue
            entry, pushed = candidates.pop(0)
            self._take_over(entry, pushed)
            if entry.is_unconfirmed():
                logger.info("%r was pushed before, and is not executed twice", section)
            else:
                recovery.drop_what_may_not_be_repeated(section)
                new.append(section)
        return new

    def _take_over(self, entry: _Pushed, section: Section) -> None:
        """Forget a pushed order that the server has forgotten, too, by giving it out over HTTP."""
        with self._lock:
            if self._pushed.get(entry.key) is entry:
                self._drop(entry)
            self._owners.pop(section, None)
        if entry.order is not None and not section.done():
            self._write_down([section])
            if section.running():
                self.begin([section])

    # The journal

    def _mark(self, rows: Iterable[int], state: str) -> None:
        if self._journal is not None:
            self._journal.mark(rows, state)
            self._note_change()

    def _mark_done(self, row: int) -> None:
        if self._journal is not None:
            self._journal.mark_done(row)
            self._note_change()

    def _note_change(self) -> None:
        self._changed = True
        executor = self._device.executor
        if executor is not None and executor is not threading.current_thread():
            executor.wake()

    def _settle_later(self) -> None:
        with self._lock:
            is_planned, self._is_planned = self._is_planned, True
        if self._device.executor is not None and not is_planned:
            self._device.executor.later(LINGER, self.settle)

    def _commit(self, *, at_once: bool = True) -> None:
        if self._journal is None:
            return
        if at_once:
            self._changed = False  # first, so that no change after it goes unnoticed
        self._journal.commit(at_once=at_once)


def _digest(section: Section) -> bytes:
    return hashlib.sha256(recovery.encode(section)).digest()


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
