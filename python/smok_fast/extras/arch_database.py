"""Which pathpoints are archived, and how often."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

__all__ = ["BaseArchivesDatabase", "InMemoryArchivesDatabase"]


class BaseArchivesDatabase(abc.ABC):
    """Keeps the archiving instructions, so that archiving works when the device starts offline."""

    @abc.abstractmethod
    def get_archiving_instructions(self) -> Mapping[float, Sequence[str]]:
        """The instructions kept: interval in seconds → names of the pathpoints. Empty if none.

        Called when the device starts, by the thread that starts it.
        """

    @abc.abstractmethod
    def on_archiving_data_sync(self, new_data: Mapping[float, Sequence[str]]) -> None:
        """The server sent the instructions; these replace the ones kept.

        Called by CommunicatorThread.

        :param new_data: interval in seconds → names of the pathpoints
        """


class InMemoryArchivesDatabase(BaseArchivesDatabase):
    """Keeps the instructions until the program ends."""

    def __init__(self) -> None:
        self._instructions: dict[float, list[str]] = {}

    def get_archiving_instructions(self) -> dict[float, list[str]]:
        """The instructions kept, as a copy. Called when the device starts, by the thread that
        starts it.
        """
        return {interval: list(paths) for interval, paths in self._instructions.items()}

    def on_archiving_data_sync(self, new_data: Mapping[float, Sequence[str]]) -> None:
        """Replace the instructions. Called by CommunicatorThread."""
        self._instructions = {interval: list(paths) for interval, paths in new_data.items()}
