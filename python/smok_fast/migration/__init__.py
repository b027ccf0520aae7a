"""What a device of the reference has kept, taken over into the state of one of this package.

:mod:`~smok_fast.migration.pickles` reads a file, :mod:`~smok_fast.migration.contents` says what it
is, :mod:`~smok_fast.migration.files` finds them, and :mod:`~smok_fast.migration.target` writes the
state. The command is ``smok-fast migrate``, see docs/moving.md.
"""

from smok_fast.migration.contents import Content
from smok_fast.migration.files import OldFile, find_files, look_into
from smok_fast.migration.target import is_state, write_state

__all__ = ["Content", "OldFile", "find_files", "is_state", "look_into", "write_state"]
