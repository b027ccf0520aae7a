"""Samples in the native buffer, in memory: the default when a device is given no path for its
state.
"""

from __future__ import annotations

from smok_fast._core import Buffer
from smok_fast.extras.pp_native import NativePathpointDatabase
from smok_fast.extras.quarantine import Quarantine

__all__ = ["InMemoryPathpointDatabase"]


class InMemoryPathpointDatabase(NativePathpointDatabase):
    """Keeps samples in memory until the server has them, and then as an archive, within a cap.

    Beyond the cap the oldest samples that the server has go first; one that it has not goes only
    when there are no others, and is counted. Everything is forgotten when the program ends.

    :param capacity: how many samples are kept at most
    :ivar buffer: the native buffer
    """

    def __init__(self, capacity: int = 1_000_000) -> None:
        if capacity < 1:
            raise ValueError("the capacity must be at least 1")
        super().__init__(Buffer(capacity), Quarantine(None))
