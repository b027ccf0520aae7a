"""A program with a device, to be killed by test_order_crashes.py: notes each write, and what it has
to say about orders, in a file that survives it.

Arguments: certificate, key, CA, state file, URL, NGTT server or ``-``, file for the notes.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.pathpoint import AdviseLevel, Pathpoint

cert, key, ca, state, url, ngtt, path = sys.argv[1:]
notes = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        os.write(notes, f"says {record.getMessage()}\n".encode())


class Register(Pathpoint):
    def on_write(self, value: Any, advise: AdviseLevel) -> None:
        os.write(notes, f"writes {value}\n".encode())
        time.sleep(0.001)  # a bus takes its time


class Device(SMOKDevice):
    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        return Register(self, name, storage_level)


logging.getLogger().addHandler(Notes())
device = Device(
    cert, key, state, url=url, use_ngtt=ngtt != "-", ngtt=None if ngtt == "-" else ngtt,
    ca_certs=ca, orders_interval=0.05, dont_do_baobs=True, dont_do_macros=True,
    dont_do_predicates=True, delayed_boot=True,
)  # fmt: skip
with device:
    device.continue_boot()
    sys.stdin.read()  # until the test closes it
