"""Which databases a device has, and who closes them.

What the user gives is the user's; what is made here is closed here. With a path everything that is
not given is kept on disk: low-rate state in the state file at that path, samples in the folder
``<path>.buffer`` beside it. Without one it is in memory. What waits for the server is bounded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from smok_fast.extras import (
    BaseArchivesDatabase,
    BaseBAOBDatabase,
    BaseEventDatabase,
    BaseMacroDatabase,
    BaseMetadataDatabase,
    BasePathpointDatabase,
    BasePredicateDatabase,
    BaseSensorDatabase,
    BaseSensorWriteDatabase,
    BufferedPathpointDatabase,
    InMemoryArchivesDatabase,
    InMemoryBAOBDatabase,
    InMemoryMacroDatabase,
    InMemoryMetadataDatabase,
    InMemoryPathpointDatabase,
    InMemoryPredicateDatabase,
    InMemorySensorDatabase,
    InMemorySensorWriteDatabase,
    NativePathpointDatabase,
    SQLiteArchivesDatabase,
    SQLiteBAOBDatabase,
    SQLiteEventDatabase,
    SQLiteMacroDatabase,
    SQLiteMetadataDatabase,
    SQLitePredicateDatabase,
    SQLiteSensorDatabase,
    SQLiteSensorWriteDatabase,
)
from smok_fast.extras.overflow import MOST_UNSENT
from smok_fast.state import StateFile

__all__ = ["Databases"]

logger = logging.getLogger(__name__)


class Databases:
    """The databases of a device.

    The parameters are those of :class:`~smok_fast.client.SMOKDevice`.

    :raises TypeError: there are neither events nor a path
    :raises StateInUseError: another process has the state file open
    :raises BufferInUseError: another process has the buffer of samples open
    :ivar state_file: the state file, None if there is none
    """

    def __init__(
        self,
        events: str | os.PathLike[str] | BaseEventDatabase,
        pathpoints: BasePathpointDatabase | None,
        macros: BaseMacroDatabase | None,
        metadata: BaseMetadataDatabase | None,
        sensors: BaseSensorDatabase | None,
        baobs: BaseBAOBDatabase | None,
        predicates: BasePredicateDatabase | None,
        archives: BaseArchivesDatabase | None,
        sensor_writes: BaseSensorWriteDatabase | None,
        *,
        state_classes: Iterable[type] = (),
    ) -> None:
        self.state_file: StateFile | None = None
        self.events: BaseEventDatabase
        if isinstance(events, BaseEventDatabase):
            self.events = events
        elif not isinstance(events, str | os.PathLike):
            raise TypeError(
                f"evt_database is the path of the state file or an event database, not {events!r}"
            )
        else:
            self.state_file = state = StateFile(events)
            classes = tuple(state_classes)
            self.events = SQLiteEventDatabase(state, most_unsent=MOST_UNSENT, classes=classes)
            macros = SQLiteMacroDatabase(state) if macros is None else macros
            metadata = SQLiteMetadataDatabase(state) if metadata is None else metadata
            sensors = SQLiteSensorDatabase(state) if sensors is None else sensors
            baobs = SQLiteBAOBDatabase(state) if baobs is None else baobs
            predicates = (
                SQLitePredicateDatabase(state, classes=classes)
                if predicates is None
                else predicates
            )
            archives = SQLiteArchivesDatabase(state) if archives is None else archives
            sensor_writes = (
                SQLiteSensorWriteDatabase(state, most_unsent=MOST_UNSENT)
                if sensor_writes is None
                else sensor_writes
            )
        self.macros = InMemoryMacroDatabase() if macros is None else macros
        self.metadata = InMemoryMetadataDatabase() if metadata is None else metadata
        self.sensors = InMemorySensorDatabase() if sensors is None else sensors
        self.baobs = InMemoryBAOBDatabase() if baobs is None else baobs
        self.predicates = InMemoryPredicateDatabase() if predicates is None else predicates
        self.archives = InMemoryArchivesDatabase() if archives is None else archives
        self.sensor_writes = (
            InMemorySensorWriteDatabase() if sensor_writes is None else sensor_writes
        )
        self._own_buffer: NativePathpointDatabase | None = None
        if pathpoints is None:
            pathpoints = self._own_buffer = self._make_buffer(events)
        self.pathpoints = pathpoints

    def _make_buffer(
        self, events: str | os.PathLike[str] | BaseEventDatabase
    ) -> NativePathpointDatabase:
        if isinstance(events, BaseEventDatabase):
            return InMemoryPathpointDatabase()
        try:
            return BufferedPathpointDatabase(f"{os.fspath(events)}.buffer")
        except BaseException:
            if self.state_file is not None:
                self.state_file.close()
            raise

    def close(self) -> None:
        """Save what is not saved, and close what was made here. What goes wrong is logged."""
        if self._own_buffer is not None:
            self._own_buffer.close()
        else:
            self._save_pathpoints()
        if self.state_file is not None:
            self.state_file.close()

    def _save_pathpoints(self) -> None:
        try:
            if isinstance(self.pathpoints, NativePathpointDatabase):
                self.pathpoints.flush()
            self.pathpoints.checkpoint()
        except Exception as error:  # of a user's database: the rest is to be closed all the same
            path = getattr(self.pathpoints, "path", None)
            logger.error("Samples could not be saved in %s: %s", path or self.pathpoints, error)
