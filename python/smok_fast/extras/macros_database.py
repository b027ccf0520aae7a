"""Macros that wait for their time, and occurrences that the server has not been told about."""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smok_fast.macro import Macro

__all__ = ["BaseMacroDatabase", "InMemoryMacroDatabase"]


class BaseMacroDatabase(abc.ABC):
    """Keeps macros. An occurrence is known by its macro's ID and its timestamp in seconds."""

    @abc.abstractmethod
    def get_done_macros(self) -> Iterator[tuple[str, float]]:
        """Executed occurrences that the server was not told of yet, as (macro ID, timestamp).

        Called by CommunicatorThread.
        """

    @abc.abstractmethod
    def notify_macro_synced(self, macro_id: str, timestamp: float) -> None:
        """The server was told that an occurrence was executed. No-op if it is not known.

        Called by CommunicatorThread.
        """

    def notify_macro_started(self, macro_id: str, timestamp: float) -> None:
        """The writes of an occurrence are about to begin. If this is durable when it returns, a
        crash in the middle of them is noticed: see :meth:`get_started_macros`.

        Called by OrderExecutorThread. Does nothing by default.
        """

    def get_started_macros(self) -> Sequence[tuple[str, float]]:
        """Occurrences that were started, and neither executed nor synced, as (macro ID, timestamp):
        of a program that ended in the middle of them.

        Called by ArchivingAndMacroThread when it begins. There are none by default.
        """
        return ()

    @abc.abstractmethod
    def notify_macro_executed(self, macro_id: str, timestamp: float) -> None:
        """An occurrence was executed; from now on :meth:`get_done_macros` gives it.

        Called by the thread that completed the macro's section, mostly OrderExecutorThread; for one
        of :meth:`get_started_macros`, which is not executed again, by ArchivingAndMacroThread.
        """

    @abc.abstractmethod
    def set_macros(self, macros: list[Macro]) -> None:
        """The server sent macros; these replace the ones kept.

        Called by CommunicatorThread.

        :param macros: macros with the occurrences that are still to be executed
        """

    @abc.abstractmethod
    def get_macros(self) -> Sequence[Macro]:
        """Macros with occurrences still to be executed.

        Called by ArchivingAndMacroThread, which takes executed occurrences out of them, and by
        CommunicatorThread, which only looks at them.
        """

    def checkpoint(self) -> None:
        """Called by ArchivingAndMacroThread about every 60 seconds. Does nothing by default."""


class InMemoryMacroDatabase(BaseMacroDatabase):
    """Keeps macros until the program ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._macros: list[Macro] = []
        self._done: dict[tuple[str, float], None] = {}

    def get_done_macros(self) -> Iterator[tuple[str, float]]:
        """Occurrences to report, oldest execution first, as they were at the time of the call.
        Called by CommunicatorThread.
        """
        with self._lock:
            return iter(list(self._done))

    def notify_macro_synced(self, macro_id: str, timestamp: float) -> None:
        """Forget a reported occurrence. Called by CommunicatorThread."""
        with self._lock:
            self._done.pop((macro_id, timestamp), None)

    def notify_macro_executed(self, macro_id: str, timestamp: float) -> None:
        """Note an occurrence to report. Called by the thread that completed the macro's section,
        mostly OrderExecutorThread.
        """
        with self._lock:
            self._done[macro_id, timestamp] = None

    def set_macros(self, macros: list[Macro]) -> None:
        """Replace the macros. Called by CommunicatorThread."""
        with self._lock:
            self._macros = list(macros)

    def get_macros(self) -> list[Macro]:
        """Macros that have something left to execute. Called by ArchivingAndMacroThread, which
        takes executed occurrences out of them, and by CommunicatorThread, which only looks at them.
        """
        with self._lock:
            self._macros = [macro for macro in self._macros if macro]
            return list(self._macros)
