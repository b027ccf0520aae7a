"""Pathpoints that are computed from others. (Their expressions are being written.)"""

from __future__ import annotations

from smok_fast.pathpoint.pathpoint import Pathpoint

__all__ = ["ReparsePathpoint"]


class ReparsePathpoint(Pathpoint):
    """A pathpoint computed from others."""

    def __init__(self, device, name, storage_level=1):
        raise ValueError("expressions are not supported yet")
