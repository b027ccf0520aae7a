"""Waiting for a socket and for other threads at once."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading

__all__ = ["LONGEST_WAIT", "Waiter"]

#: The longest wait, in seconds; a wait for longer just ends early.
LONGEST_WAIT = 60.0


class Waiter:
    """Lets one thread wait for a socket until any other thread wakes it, without polling."""

    def __init__(self) -> None:
        self._woken, self._waking = socket.socketpair()
        self._woken.setblocking(False)
        self._waking.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        # Guards the pair against being closed while a thread writes to it.
        self._lock = threading.Lock()
        self._closed = False

    def wait(self, timeout: float, watched: socket.socket | None = None, events: int = 0) -> bool:
        """Wait for a socket, or until :meth:`wake`. For one thread.

        :param timeout: for how many seconds at most, if not for :data:`LONGEST_WAIT`
        :param watched: the socket, if any
        :param events: what to wait for, as ``select.poll`` says it
        :return: whether the socket is ready, or is broken
        """
        milliseconds = math.ceil(max(min(timeout, LONGEST_WAIT), 0.0) * 1000)
        if watched is not None:
            self._poll.register(watched, events)
        try:
            ready = [descriptor for descriptor, _ in self._poll.poll(milliseconds)]
        finally:
            if watched is not None:
                self._poll.unregister(watched)
        if self._woken.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
        return watched is not None and watched.fileno() in ready

    def wake(self) -> None:
        """End the current wait, or the next one. For any thread; no-op once closed."""
        with self._lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):  # it is woken already
                    self._waking.send(b"\0")

    def close(self) -> None:
        """Close what it holds; nobody may wait any more. May be called many times."""
        with self._lock:
            self._closed = True
            self._woken.close()
            self._waking.close()
