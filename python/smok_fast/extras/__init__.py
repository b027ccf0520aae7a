"""Where a device keeps what it must not forget: one database per subject.

A device that is given the path of a state file uses the ``SQLite*`` ones, which keep everything
in that one file. The ``InMemory*`` ones forget everything when the program ends. The ``Pickling*``
ones are there for programs that come from the reference client; each keeps a file of its own.
Subclass a ``Base*Database`` to keep something elsewhere, and give the instance to
:class:`~smok_fast.client.SMOKDevice`. All of them are called by several threads.
"""

from smok_fast.extras.arch_database import BaseArchivesDatabase, InMemoryArchivesDatabase
from smok_fast.extras.baob_database import BAOBDigest, BaseBAOBDatabase, InMemoryBAOBDatabase
from smok_fast.extras.event_database import (
    BaseEventDatabase,
    BaseEventSynchronization,
    InMemoryEventDatabase,
    NullEventDatabase,
)
from smok_fast.extras.macros_database import BaseMacroDatabase, InMemoryMacroDatabase
from smok_fast.extras.metadata_database import BaseMetadataDatabase, InMemoryMetadataDatabase
from smok_fast.extras.pickling import (
    PicklingArchivesDatabase,
    PicklingBAOBDatabase,
    PicklingEventDatabase,
    PicklingMacroDatabase,
    PicklingMetadataDatabase,
    PicklingPathpointDatabase,
    PicklingPredicateDatabase,
    PicklingSensorDatabase,
    PicklingSensorWriteDatabase,
)
from smok_fast.extras.pp_buffered import BufferedPathpointDatabase
from smok_fast.extras.pp_database import BaseDataToSynchronize, BasePathpointDatabase
from smok_fast.extras.pp_memory import InMemoryPathpointDatabase
from smok_fast.extras.pp_native import (
    BufferReport,
    BufferStatistics,
    BufferUpload,
    NativePathpointDatabase,
)
from smok_fast.extras.pred_database import BasePredicateDatabase, InMemoryPredicateDatabase
from smok_fast.extras.quarantine import Quarantine, QuarantinedSample, QuarantineUpload
from smok_fast.extras.sensor_write_database import (
    BaseSensorWriteDatabase,
    BaseSensorWriteSynchronization,
    InMemorySensorWriteDatabase,
)
from smok_fast.extras.sensors_database import BaseSensorDatabase, InMemorySensorDatabase
from smok_fast.extras.sqlite import (
    SQLiteArchivesDatabase,
    SQLiteBAOBDatabase,
    SQLiteEventDatabase,
    SQLiteMacroDatabase,
    SQLiteMetadataDatabase,
    SQLitePredicateDatabase,
    SQLiteSensorDatabase,
    SQLiteSensorWriteDatabase,
)

__all__ = [
    "BAOBDigest",
    "BaseArchivesDatabase",
    "BaseBAOBDatabase",
    "BaseDataToSynchronize",
    "BaseEventDatabase",
    "BaseEventSynchronization",
    "BaseMacroDatabase",
    "BaseMetadataDatabase",
    "BasePathpointDatabase",
    "BasePredicateDatabase",
    "BaseSensorDatabase",
    "BaseSensorWriteDatabase",
    "BaseSensorWriteSynchronization",
    "BufferReport",
    "BufferStatistics",
    "BufferUpload",
    "BufferedPathpointDatabase",
    "InMemoryArchivesDatabase",
    "InMemoryBAOBDatabase",
    "InMemoryEventDatabase",
    "InMemoryMacroDatabase",
    "InMemoryMetadataDatabase",
    "InMemoryPathpointDatabase",
    "InMemoryPredicateDatabase",
    "InMemorySensorDatabase",
    "InMemorySensorWriteDatabase",
    "NativePathpointDatabase",
    "NullEventDatabase",
    "PicklingArchivesDatabase",
    "PicklingBAOBDatabase",
    "PicklingEventDatabase",
    "PicklingMacroDatabase",
    "PicklingMetadataDatabase",
    "PicklingPathpointDatabase",
    "PicklingPredicateDatabase",
    "PicklingSensorDatabase",
    "PicklingSensorWriteDatabase",
    "Quarantine",
    "QuarantineUpload",
    "QuarantinedSample",
    "SQLiteArchivesDatabase",
    "SQLiteBAOBDatabase",
    "SQLiteEventDatabase",
    "SQLiteMacroDatabase",
    "SQLiteMetadataDatabase",
    "SQLitePredicateDatabase",
    "SQLiteSensorDatabase",
    "SQLiteSensorWriteDatabase",
]
