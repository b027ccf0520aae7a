"""Pathpoints that are computed from others. (Their expressions are being written.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smok_fast.basics import StorageLevel
from smok_fast.pathpoint.pathpoint import Pathpoint

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["ReparsePathpoint"]


class ReparsePathpoint(Pathpoint):
    """A pathpoint computed from others."""

    def __init__(
        self,
        device: SMOKDevice,
        name: str,
        storage_level: StorageLevel = StorageLevel.TREND,
    ) -> None:
        raise ValueError("expressions are not supported yet")
