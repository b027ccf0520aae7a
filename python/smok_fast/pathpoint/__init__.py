"""Pathpoints: named, typed values that SMOK reads and writes, and the orders to do so."""

from __future__ import annotations

from smok_fast.pathpoint.orders import (
    AdviseLevel,
    MessageOrder,
    ReadOrder,
    Section,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
)
from smok_fast.pathpoint.typing import PathpointType, PathpointValueType, ValueOrExcept, to_type

__all__ = [
    "AdviseLevel",
    "MessageOrder",
    "PathpointType",
    "PathpointValueType",
    "ReadOrder",
    "Section",
    "SysctlOrder",
    "ValueOrExcept",
    "WaitOrder",
    "WriteOrder",
    "to_type",
]
