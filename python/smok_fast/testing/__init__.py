"""Tests of programs that behave as SMOK devices, against a SMOK server of their own.

Once smok_fast is installed, pytest has the fixtures of :mod:`smok_fast.testing.plugin`:
``smok_server``, a server on a free port, ``smok_ngtt_server``, one that pushes orders too, and
``device_certificate``, which makes certificates for them. :class:`Admin` speaks to any such server.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smok_fast.testing.admin import Admin, Counts, NGTTState, Sample, wait_until

__all__ = ["Admin", "Counts", "NGTTState", "Sample", "wait_until"]


def __getattr__(name: str) -> Any:
    # pytest imports this package with the plugin, in every run: what it does not use must cost
    # nothing.
    if name in __all__:
        return getattr(importlib.import_module("smok_fast.testing.admin"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
