"""A logger that works without a network, and uploads while it is told that there is one.

    python offline_logger.py certs/device.crt certs/device.key /sys/class/thermal/thermal_zone0/temp
    kill -USR1 …    # the cable is in: upload
    kill -USR2 …    # the cable is out
    kill …          # end

The file holds a number, which is recorded ten times a second. Nobody orders this device about: it
only uploads.
"""

import argparse
import logging
import signal
import time
from pathlib import Path

from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.pathpoint import Pathpoint

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}

#: Seconds between two measurements.
INTERVAL = 0.1


class Logger(SMOKDevice):
    """A device that records what it is given, and does nothing else."""

    def __init__(self, certificate, key):
        super().__init__(
            certificate,
            key,
            "logger-state",
            allow_sync=False,
            dont_obtain_orders=True,
            dont_do_archives=True,
            dont_do_macros=True,
            dont_do_predicates=True,
            upload_linger=1,
        )

    def on_successful_sync(self, *args, **kwargs):
        """Called by CommunicatorThread after each conversation."""
        logging.debug("The server has answered")


def measure(path):
    """The number in a file, or why there is none: a failure is recorded too, never made up for."""
    try:
        return float(path.read_text())
    except OSError:
        return OperationFailedError(OperationFailedReason.TIMEOUT)
    except ValueError:
        return OperationFailedError(OperationFailedReason.MALFORMED)


def main():
    """Run until told to end."""
    parser = argparse.ArgumentParser(description="Records the number in a file.")
    parser.add_argument("certificate", help="device certificate, PEM")
    parser.add_argument("key", help="its private key, PEM")
    parser.add_argument("path", help="file that holds a number", type=Path)
    arguments = parser.parse_args()
    # Signals are waited for instead of handled. Blocked before there are threads, which inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    logging.basicConfig(level=logging.INFO)
    with Logger(arguments.certificate, arguments.key) as device:
        pathpoint = Pathpoint(device, "d_measured")
        timestamp = 0
        logging.info("Recording %s", arguments.path)
        while True:
            signalled = signal.sigtimedwait(SIGNALS, INTERVAL)
            if signalled is None:
                # Milliseconds since the epoch, each above the one before: clocks may be set back
                timestamp = max(time.time_ns() // 1_000_000, timestamp + 1)
                pathpoint.set_new_value(timestamp, measure(arguments.path))
            elif signalled.si_signo in (signal.SIGUSR1, signal.SIGUSR2):
                device.allow_sync = signalled.si_signo == signal.SIGUSR1
                logging.info("Uploading: %s", device.allow_sync)
            else:
                break
        oldest = next(pathpoint.get_archive(None), None)
        logging.info("What is kept here goes back to %s", oldest)


if __name__ == "__main__":
    main()
