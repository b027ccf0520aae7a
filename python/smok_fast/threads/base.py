"""A thread that can be asked to end, and that sleeps without polling."""

from __future__ import annotations

import threading

__all__ = ["TerminableThread"]


class TerminableThread(threading.Thread):
    """A daemon thread that ends when it is asked to. Define :meth:`run`, and sleep in :meth:`wait`.

    :param name: name of the thread
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._condition = threading.Condition()
        self._terminating = False
        self._woken = False

    @property
    def terminating(self) -> bool:
        """Whether the thread was asked to end. For any thread."""
        return self._terminating

    def terminate(self) -> None:
        """Ask the thread to end, and wake it. Does not wait for it. For any thread."""
        with self._condition:
            self._terminating = True
            self._condition.notify_all()

    def wake(self) -> None:
        """End the thread's current :meth:`wait`, or its next one. For any thread."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def wait(self, timeout: float | None) -> bool:
        """Sleep until somebody calls :meth:`wake` or :meth:`terminate`. For the thread itself.

        :param timeout: for how many seconds at most; None for no limit
        :returns: whether the thread is to end
        """
        with self._condition:
            self._condition.wait_for(lambda: self._woken or self._terminating, timeout)
            self._woken = False
            return self._terminating

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended. No-op if it was not started, or called by itself.

        :param timeout: for how many seconds at most; None for no limit
        """
        if self.ident is not None and self is not threading.current_thread():
            super().join(timeout)
