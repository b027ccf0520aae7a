"""A device whose pathpoints live in memory: the smallest one that does everything.

    smok-fast cert new --device-id memory --out certs
    smok-fast server --port 8080
    SMOK_BASE_URL=http://127.0.0.1:8080 python memory_device.py certs/device.crt certs/device.key

Have the server archive a pathpoint or write to one, as README shows. Ctrl-C or SIGTERM ends it.
"""

import argparse
import logging
import signal
import sys

from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.pathpoint import Pathpoint, PathpointType, to_type


class MemoryPathpoint(Pathpoint):
    """A value that is what was written last."""

    def __init__(self, device, name, storage_level=StorageLevel.TREND):
        # What on_read needs must be there before the base class registers the pathpoint with the
        # device: it may be read from then on.
        self.memory = "" if PathpointType.get_type(name) is PathpointType.u else 0
        super().__init__(device, name, storage_level)

    def on_read(self, advise):
        """Called by OrderExecutorThread; what takes long should return a Future instead."""
        return self.memory

    def on_write(self, value, advise):
        """Called by OrderExecutorThread. A write that fails raises OperationFailedError."""
        try:
            self.memory = to_type(value, PathpointType.get_type(self.name))
        except ValueError as error:
            raise OperationFailedError(OperationFailedReason.TYPE) from error


class MemoryDevice(SMOKDevice):
    """A device that has every pathpoint that anybody asks for."""

    def provide_unknown_pathpoint(self, name, storage_level=StorageLevel.TREND):
        """The pathpoint, or KeyError for what cannot be one: that order is skipped and logged."""
        try:
            return MemoryPathpoint(self, name, storage_level)
        except ValueError as error:
            raise KeyError(str(error)) from error


def main():
    """Run until told to end."""
    parser = argparse.ArgumentParser(description="A device whose pathpoints live in memory.")
    parser.add_argument("certificate", help="device certificate, PEM")
    parser.add_argument("key", help="its private key, PEM")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())  # leaves the block below, and so closes it
    logging.basicConfig(level=logging.INFO)
    # The third argument names the device's state file. Leaving the block closes the device: what
    # waits is uploaded, and its threads end.
    with MemoryDevice(arguments.certificate, arguments.key, "memory-state") as device:
        print(f"device {device.device_id} talks to {device.url}", flush=True)
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
