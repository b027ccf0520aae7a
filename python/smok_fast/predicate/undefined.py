"""What stands for a predicate while no statistic is registered for it."""

from __future__ import annotations

from smok_fast.predicate.base import BaseStatistic

__all__ = ["UndefinedStatistic"]


class UndefinedStatistic(BaseStatistic):
    """Holds a predicate's place, and its configuration and state, and does nothing.

    Before each tick CommunicatorThread looks whether a class was registered in the meantime, and
    puts an instance of it in this one's place.
    """

    def on_tick(self) -> None:
        """Do nothing."""
