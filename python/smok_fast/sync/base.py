"""What all conversations with the server have in common.

Invariants:

* An error never makes data count as delivered. What the server rejected for its content is set
  apart, so that it does not hold up the rest, and offered again rarely.
* A call that the server refused (4xx) is not repeated before the next interval, and not within
  :data:`REFUSED_FOR` seconds, whoever asks.
* No answer is trusted: what is not understood is logged and left out, entry by entry.
"""

from __future__ import annotations

import abc
import logging
import math
import reprlib
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar

from smok_fast.exceptions import ResponseError
from smok_fast.minijson import EncodingError

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = [
    "REFUSED_FOR",
    "Rejections",
    "SyncTask",
    "UnusableAnswer",
    "parse_each",
    "rejects_content",
    "send_in_parts",
    "text",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
P = ParamSpec("P")

#: For how many seconds a task that the server refused is not run, even if asked for.
REFUSED_FOR = 60.0

#: After how many seconds something that the server rejected for its content is offered again.
REJECTED_FOR = 3600.0

#: How many rejected items one call of :func:`send_in_parts` looks for before it gives up.
MAX_REJECTED = 10


class UnusableAnswer(ValueError):
    """The server answered with something else than what was asked for.

    :param expected: what was asked for
    :param answer: what came
    """

    def __init__(self, expected: str, answer: object) -> None:
        super().__init__(f"expected {expected}, got {reprlib.repr(answer)}")


class SyncTask(abc.ABC):
    """One conversation with the server. Run by CommunicatorThread or ArchivingAndMacroThread.

    :param device: the device
    :param interval: seconds between runs, 0 for every cycle of the thread; the class's by default
    :param clock: gives seconds of a monotonic clock
    :cvar name: what the task is known by
    :cvar needs_link: False for a task that is run even if there is no link, or if
        ``device.allow_sync`` is False
    :ivar interval: seconds between runs
    :ivar synced_once: whether it has ever succeeded
    :ivar answered: whether the server answered a call of the last run
    """

    name: ClassVar[str]
    needs_link: ClassVar[bool] = True
    interval: float = 0.0

    def __init__(
        self,
        device: SMOKDevice,
        *,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device = device
        if interval is not None:
            self.interval = interval
        self.synced_once = False
        self.answered = False
        self._clock = clock
        self._next_run = -math.inf
        self._refused_until = -math.inf
        self._last_complaint = ""
        self._requested = threading.Event()

    @abc.abstractmethod
    def exchange(self) -> bool:
        """Hold the conversation once.

        :returns: whether something was exchanged and there may be more
        :raises ResponseError: the server refused, or did not answer
        :raises UnusableAnswer: the server's answer makes no sense
        """

    def is_due(self, now: float) -> bool:
        """Whether to run it.

        :param now: seconds of the monotonic clock
        """
        return now >= self._refused_until and (self._requested.is_set() or now >= self._next_run)

    def delay(self, now: float) -> float:
        """For how many seconds the thread may sleep as far as this task is concerned.

        Infinity for a task that is run in every cycle anyway.

        :param now: seconds of the monotonic clock
        """
        if self._requested.is_set():
            return max(0.0, self._refused_until - now)
        if self.interval == 0:
            return math.inf
        return max(0.0, max(self._next_run, self._refused_until) - now)

    def request(self) -> None:
        """Ask for a run in the next cycle. To be called by any thread, which then wakes the thread
        that runs the task.
        """
        self._requested.set()

    def run(self) -> bool:
        """Hold the conversation once. What the server refused is logged here.

        :returns: whether something was exchanged and there may be more
        :raises ResponseError: the server refused (then the task waits), or did not answer (then it
            stays due)
        """
        requested = self._requested.is_set()
        self._requested.clear()
        self.answered = False
        try:
            more = self.exchange()
        except UnusableAnswer as error:
            self.answered = False
            self._complain("The server's answer makes no sense:", error)
            self._postpone()
            return False
        except ResponseError as error:
            if error.is_clients_fault():
                self._complain("The server refused:", error)
                self._postpone()
            elif requested:
                self._requested.set()
            raise
        except Exception:  # of a user's database, say: it must not stop the other tasks
            if not self.device.closed:  # which would be why
                logger.exception("Synchronization of %s failed", self.name)
            self._postpone()
            return False
        self._next_run = self._clock() + self.interval
        self._last_complaint = ""
        self.synced_once = True
        return more

    def _call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call of ``device.api``, and note that it was answered."""
        answer = call(*args, **kwargs)
        self.answered = True
        return answer

    def _complain(self, what: str, error: Exception) -> None:
        complaint = f"{what} {self.name}: {error}"
        if complaint != self._last_complaint:
            logger.warning("%s", complaint)
            self._last_complaint = complaint

    def _postpone(self) -> None:
        self._refused_until = self._clock() + REFUSED_FOR
        self._next_run = self._clock() + max(self.interval, REFUSED_FOR)


class Rejections(Generic[K]):
    """Things that the server rejected for their content, and when to offer them again.

    For one thread.

    :param what: what the things are, for the log
    :param clock: gives seconds of a monotonic clock
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._retry_at: dict[K, float] = {}

    def add(self, key: K, reason: object) -> None:
        """Note that a thing was rejected; the first time it is logged.

        :param key: what the thing is known by
        :param reason: what the server said
        """
        if key not in self._retry_at:
            logger.warning(
                "The server rejects %s %s, it is kept and offered again every %g s: %s",
                self._what,
                reprlib.repr(key),
                REJECTED_FOR,
                reason,
            )
        self._retry_at[key] = self._clock() + REJECTED_FOR

    def may_offer(self, key: K) -> bool:
        """Whether a thing was not rejected, or may be offered again."""
        return self._clock() >= self._retry_at.get(key, -math.inf)

    def keep_only(self, keys: Collection[K]) -> None:
        """Forget about all things but these."""
        for key in self._retry_at.keys() - set(keys):
            self.discard(key)

    def discard(self, key: K) -> None:
        """Forget about a thing: the server has taken it."""
        self._retry_at.pop(key, None)


def rejects_content(error: Exception) -> bool:
    """Whether the fault is in what was sent, and not in who sent it, where, or how often.

    Only then a part of the same call may succeed.
    """
    if isinstance(error, ResponseError):
        return error.status_code in {400, 409, 413, 422}
    return isinstance(error, EncodingError)


def send_in_parts(
    items: Sequence[T],
    send: Callable[[Sequence[T]], None],
    on_rejected: Callable[[T, Exception], None],
    *,
    size: int,
) -> None:
    """Send items in parts; halve those whose content is rejected until the bad items are found.

    :param items: what to send
    :param send: sends some of the items
    :param on_rejected: called with an item that is rejected when it is sent alone
    :param size: how many items to send at once
    :raises ResponseError: the server did not answer, refused for another reason, or rejected
        :data:`MAX_REJECTED` items. The items not yet sent are left as they are
    """
    rejected = 0
    parts = [items[start : start + size] for start in range(0, len(items), size)][::-1]
    while parts:
        part = parts.pop()
        try:
            send(part)
        except (ResponseError, EncodingError) as error:
            if not rejects_content(error):
                raise
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
                continue
            on_rejected(part[0], error)
            rejected += 1
            if rejected == MAX_REJECTED:
                raise


def parse_each(answer: object, parse: Callable[[Mapping[str, Any]], T], what: str) -> list[T]:
    """Parse each entry of a list; log and leave out those that are malformed.

    :param answer: what the server answered
    :param parse: parses an entry; raises KeyError, TypeError or ValueError if it cannot
    :param what: what an entry is, for the log
    :raises UnusableAnswer: the answer is no list
    """
    if not isinstance(answer, list):
        raise UnusableAnswer("a list", answer)
    parsed = []
    for entry in answer:
        try:
            if not isinstance(entry, dict):
                raise TypeError("not an object")
            parsed.append(parse(entry))
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("Malformed %s skipped: %r in %s", what, error, reprlib.repr(entry))
    return parsed


def text(entry: Mapping[str, Any], key: str) -> str:
    """The text under a key.

    :raises KeyError: there is none
    :raises TypeError: it is no text
    """
    value = entry[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} must be a text")
    return value
