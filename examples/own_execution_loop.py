"""A device with an execution loop of its own.

Its bus is a radio that carries whole telegrams, so orders are not executed one by one: each
section becomes one telegram, several telegrams are on the air at a time, and a section that cannot
be joined waits for all that went before it.

    python own_execution_loop.py certs/device.crt certs/device.key
"""

import argparse
import logging
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.pathpoint import (
    MessageOrder,
    Pathpoint,
    ReadOrder,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
)


class Radio:
    """The bus: carries telegrams of reads and writes. Yours would talk to hardware."""

    def __init__(self):
        self.lock = threading.Lock()
        self.registers = {"W1": 20, "W2": 40}

    def exchange(self, reads, writes):
        """Send one telegram; returns what was read, without what is not there."""
        time.sleep(0.01)  # the way there and back
        with self.lock:
            self.registers.update(writes)
            return {name: self.registers[name] for name in reads if name in self.registers}


class RadioDevice(SMOKDevice):
    """Executes sections by telegrams."""

    def __init__(self, certificate, key):
        self.radio = Radio()
        self.pool = ThreadPoolExecutor(4, thread_name_prefix="telegram")
        self.on_the_air = set()
        super().__init__(certificate, key, "radio-state")

    def provide_unknown_pathpoint(self, name, storage_level=StorageLevel.TREND):
        """Pathpoints just hold values here: nobody calls their on_read and on_write."""
        return Pathpoint(self, name, storage_level)

    def execute_section(self, section):
        """Called by OrderExecutorThread. Once this returns the section counts as done: who waits
        for it has to look at the pathpoints a moment later. To have it done only when the telegram
        is back, wait for that here.
        """
        self.on_the_air = {telegram for telegram in self.on_the_air if not telegram.done()}
        self.on_the_air.add(self.pool.submit(self.carry_out, section))

    def sync_sections(self, termination_checker):
        """Called by OrderExecutorThread: wait for all telegrams, unless the device is closing."""
        while self.on_the_air and not termination_checker():
            self.on_the_air = wait(self.on_the_air, timeout=0.5).not_done

    def carry_out(self, section):
        """Called by a thread of the pool. What it raises nobody would see, so it is logged."""
        try:
            self.send_telegram(section)
        except Exception:
            logging.exception("%r was not executed", section)

    def send_telegram(self, section):
        """Do all that a section asks for."""
        reads = [order.pathpoint for order in section.orders if isinstance(order, ReadOrder)]
        writes = {}
        for order in section.orders:
            match order:
                case WriteOrder() if order.is_valid():  # else it came too late
                    writes[order.pathpoint] = order.value
                case WaitOrder():
                    time.sleep(order.period)
                case MessageOrder():
                    self.post_message(order)
                case SysctlOrder():
                    self.execute_sysctl(order.op_type, order.op_args)
        answer = self.radio.exchange(reads, writes)
        now = time.time_ns() // 1_000_000
        for name in reads:
            pathpoint = self.get_pathpoint(name)
            if name in answer:
                pathpoint.set_new_value(now, answer[name])
            else:
                pathpoint.set_new_value(OperationFailedError(OperationFailedReason.INVALID, now))

    def close(self):
        """End the device, then the pool."""
        super().close()
        self.pool.shutdown()


def main():
    """Run until told to end."""
    parser = argparse.ArgumentParser(description="A device with an execution loop of its own.")
    parser.add_argument("certificate", help="device certificate, PEM")
    parser.add_argument("key", help="its private key, PEM")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())  # leaves the block below, and so closes it
    logging.basicConfig(level=logging.INFO)
    with RadioDevice(arguments.certificate, arguments.key):
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
