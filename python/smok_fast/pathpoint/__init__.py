"""Pathpoints, the values that they hold, and the orders about them."""

from smok_fast.pathpoint.orders import (
    AdviseLevel,
    MessageOrder,
    ReadOrder,
    Section,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
)
from smok_fast.pathpoint.pathpoint import Pathpoint, ReadGroup, ReadResult
from smok_fast.pathpoint.reparse import ReparsePathpoint
from smok_fast.pathpoint.typing import PathpointType, PathpointValueType, ValueOrExcept, to_type

__all__ = [
    "AdviseLevel",
    "MessageOrder",
    "Pathpoint",
    "PathpointType",
    "PathpointValueType",
    "ReadGroup",
    "ReadOrder",
    "ReadResult",
    "ReparsePathpoint",
    "Section",
    "SysctlOrder",
    "ValueOrExcept",
    "WaitOrder",
    "WriteOrder",
    "to_type",
]
