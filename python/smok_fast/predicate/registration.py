"""Which class of statistics serves which predicate."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from smok_fast.pathpoint import reports
from smok_fast.predicate.base import BaseStatistic

__all__ = ["BaseStatistic", "CollectionOfStatistics", "StatisticRegistration"]


class StatisticRegistration:
    """The fact that a class serves certain predicates.

    :param matcher: called with a statistic's name and its configuration, tells whether the class
        serves it. Called by CommunicatorThread
    :param stat_class: the class
    :ivar cancelled: whether :meth:`cancel` was called
    """

    __slots__ = ("cancelled", "matcher", "stat_class")

    def __init__(
        self,
        matcher: Callable[[str, dict[str, Any]], bool],
        stat_class: type[BaseStatistic],
    ) -> None:
        self.matcher = matcher
        self.stat_class = stat_class
        self.cancelled = False

    def cancel(self) -> None:
        """Serve no more predicates; those that are served stay served. Called by user threads."""
        self.cancelled = True

    def matches(self, stat_name: str, configuration: dict[str, Any]) -> bool:
        """Whether the class serves this statistic with this configuration."""
        return not self.cancelled and bool(self.matcher(stat_name, configuration))


class CollectionOfStatistics:
    """The registrations of a device; of those that match, the first one counts.

    Registered by user threads, matched by CommunicatorThread.

    :ivar registrations: the registrations, oldest first; replaced and never changed in place
    """

    __slots__ = ("_lock", "registrations")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.registrations: tuple[StatisticRegistration, ...] = ()

    def add(self, reg: StatisticRegistration) -> None:
        """Add a registration."""
        with self._lock:
            self.registrations = (*self.registrations, reg)

    def clear(self) -> None:
        """Forget all registrations."""
        with self._lock:
            self.registrations = ()

    def clear_cancelled(self) -> None:
        """Forget registrations that were cancelled."""
        with self._lock:
            self.registrations = tuple(reg for reg in self.registrations if not reg.cancelled)

    def try_match(self, *args: Any) -> type[BaseStatistic] | None:
        """The class that serves a statistic.

        A matcher that raises is logged and does not match.

        :param args: the statistic's name and its configuration, or one predicate that has both
        :returns: the class, or None if nobody serves it
        """
        if len(args) == 1:
            (predicate,) = args
            args = (predicate.statistic, predicate.configuration)
        name, configuration = args
        self.clear_cancelled()
        for reg in self.registrations:
            try:
                if reg.matches(name, configuration):
                    return reg.stat_class
            except Exception as error:
                reports.matcher_raised(reg.stat_class.__name__, name, error)
        return None
