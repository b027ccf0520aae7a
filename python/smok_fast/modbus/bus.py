"""The thread that a client's requests go through, one after another.

Invariants: jobs of one kind run in the order in which they came, and a write that waits goes before
every read that waits; every Future that :meth:`Bus.submit` returns ends; no lock is held while a
job or a Future's callback runs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from smok_fast.modbus.exceptions import ClientClosedError, QueueFullError

__all__ = ["Bus"]

T = TypeVar("T")

#: Jobs that may wait. A bus that is this far behind will not catch up, and nobody waits for its
#: answers.
MOST_QUEUED = 1000


class Bus:
    """A queue of jobs and the daemon thread that runs them, started by the first one.

    :param name: name of the bus, part of the thread's name
    :param release: called by the thread when it ends
    """

    def __init__(self, name: str, release: Callable[[], None]) -> None:
        self._name = name
        self._release = release
        self._changed = threading.Condition()
        self._writes: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._reads: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], T], *, is_write: bool) -> Future[T]:
        """Queue a job. Any thread may call it.

        :param job: called by the bus thread
        :param is_write: whether it goes before the reads
        :return: ends with what the job returns or raises, with ClientClosedError when the bus is
            closed, or with QueueFullError when too many jobs wait. Its callbacks run in the bus
            thread.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                refusal: Exception = self._closed_error()
            elif len(self._writes) + len(self._reads) >= MOST_QUEUED:
                refusal = QueueFullError(f"{MOST_QUEUED} requests wait for {self._name} already")
            else:
                self._start()
                (self._writes if is_write else self._reads).append((future, job))
                self._changed.notify()
                return future
        future.set_exception(refusal)
        return future

    def run_writes(self) -> None:
        """Run the writes that wait. Called by a job that reads, between its requests."""
        while self._writes:
            with self._changed:
                if not self._writes:
                    return
                future, job = self._writes.popleft()
            _run(future, job)

    def is_current_thread(self) -> bool:
        """Whether the caller runs in the bus thread, which would wait for itself for ever."""
        return threading.current_thread() is self._thread

    def close(self, timeout: float) -> None:
        """Refuse further jobs, fail those that wait, and wait for the thread to end.

        May be called again.

        :param timeout: seconds to wait at most
        """
        with self._changed:
            self._closed = True
            waiting = [*self._writes, *self._reads]
            self._writes.clear()
            self._reads.clear()
            self._changed.notify()
        for future, _ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(self._closed_error())
        if self._thread is not None and not self.is_current_thread():
            self._thread.join(timeout)

    def _closed_error(self) -> ClientClosedError:
        return ClientClosedError(f"the client of {self._name} is closed")

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name=f"ModbusBusThread-{self._name}", daemon=True
            )
            self._thread.start()

    def _serve(self) -> None:
        while (entry := self._next()) is not None:
            _run(*entry)
            del entry
        self._release()

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            while not self._closed:
                if self._writes:
                    return self._writes.popleft()
                if self._reads:
                    return self._reads.popleft()
                self._changed.wait()
        return None


def _run(future: Future[T], job: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = job()
    except BaseException as error:
        # Whatever it is, it belongs to whoever waits for the job; the thread goes on.
        future.set_exception(error)
    else:
        future.set_result(result)
