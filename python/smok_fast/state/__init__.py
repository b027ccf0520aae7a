"""What a device must not forget, in one file; see docs/state.md.

The databases that keep it here are the ``SQLite*`` ones of :mod:`smok_fast.extras`.
"""

from smok_fast.state.file import Row, StateFile, Table
from smok_fast.state.journal import JournalledOrder, OrderJournal

__all__ = ["JournalledOrder", "OrderJournal", "Row", "StateFile", "Table"]
