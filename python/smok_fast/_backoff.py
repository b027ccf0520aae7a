"""Pauses between tries that keep failing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """How long to wait before the next try: after each failure about twice as long, at random.

    The pause is drawn from the upper half of an interval that doubles ("equal jitter"), so that
    devices that lost the same server at once do not come back at once. For use by one thread.

    :param first: length of the first interval, seconds
    :param longest: length of the longest interval, seconds
    :param clock: a monotonic clock, seconds
    :param uniform: gives random numbers from 0 to 1
    :ivar failing: whether the last try failed
    """

    def __init__(
        self,
        first: float = 1.0,
        longest: float = 60.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._longest = longest
        self._clock = clock
        self._uniform = uniform
        self._interval = first
        self._not_before = 0.0
        self.failing = False

    def failed(self) -> float:
        """Note a failure.

        :return: how long to wait from now, seconds
        """
        pause = self._interval * (1 + self._uniform()) / 2
        self._interval = min(self._interval * 2, self._longest)
        self._not_before = self._clock() + pause
        self.failing = True
        return pause

    def success(self) -> None:
        """Note a success: the next failure waits as the first one does."""
        self._interval = self._first
        self.failing = False

    def pause(self, now: float | None = None) -> float:
        """Seconds until the next try, 0 when there is nothing to wait for.

        :param now: what the clock says
        """
        if not self.failing:
            return 0.0
        return max(self._not_before - (self._clock() if now is None else now), 0.0)

    def ready(self, now: float | None = None) -> bool:
        """Whether the pause is over.

        :param now: what the clock says
        """
        return self.pause(now) == 0
