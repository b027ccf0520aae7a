"""A device that watches over itself: one ready statistic, one of its own.

    python alarms.py certs/device.crt certs/device.key

What they watch over is configured on the server, as predicates (docs/statistics.md):

    ADMIN=http://127.0.0.1:8080/admin JSON='Content-Type: application/json'
    curl -X PUT -H "$JSON" "$ADMIN/predicates?device=boiler-1" -d '[
        {"predicate_id": "1", "statistic": "threshold", "verbose_name": "Boiler",
         "configuration": {"pathpoint": "d_temperature", "high": 90, "color": "red"}},
        {"predicate_id": "2", "statistic": "frozen", "verbose_name": "Thermometer",
         "configuration": {"pathpoint": "d_temperature", "ticks": 10}}]'
    curl "$ADMIN/events?device=boiler-1"
"""

import argparse
import logging
import math
import signal
import sys
import time

from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError
from smok_fast.pathpoint import Pathpoint
from smok_fast.predicate import BaseStatistic, Color, ThresholdStatistic


class Thermometer(Pathpoint):
    """Something to watch over: it swings between 70 and 100 °C in two minutes."""

    def on_read(self, advise):
        """The temperature, in °C."""
        return 85 + 15 * math.sin(time.time() / 120 * math.tau)


class Frozen(BaseStatistic):
    """A value that never changes is a broken sensor.

    Configuration: ``pathpoint``, and after how many ``ticks`` (of about a minute) of the same value
    an event is opened.
    """

    def on_tick(self):
        """Called by CommunicatorThread about once a minute, link or no link."""
        pathpoint = self.device.get_pathpoint(self.configuration["pathpoint"])
        self.device.execute(pathpoint.read())  # for the next tick: never wait in this thread
        try:
            _, value = pathpoint.get()
        except OperationFailedError:
            return  # not read: that is for others to watch over
        # The state is loaded before each call and saved after it: it survives a restart, if it is
        # what JSON can hold.
        state = self.state or {"value": None, "ticks": 0, "event": None}
        same = value == state["value"]
        state = {**state, "value": value, "ticks": state["ticks"] + 1 if same else 0}
        if not same and state["event"]:
            self.close_event(self.device.get_open_event(state["event"]))
            state["event"] = None
        elif state["ticks"] >= self.configuration["ticks"] and not state["event"]:
            event = self.open_event(f"has been {value} for long", Color.YELLOW)
            if event is not None:  # it is None while the predicate is to keep silent
                state["event"] = event.get_uuid()
        self.state = state


def main():
    """Run until told to end."""
    parser = argparse.ArgumentParser(description="A device that watches over itself.")
    parser.add_argument("certificate", help="device certificate, PEM")
    parser.add_argument("key", help="its private key, PEM")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())  # leaves the block below, and so closes it
    logging.basicConfig(level=logging.INFO)
    # The threads are started once everything is registered.
    files = arguments.certificate, arguments.key, "alarms-state"
    with SMOKDevice(*files, delayed_boot=True) as device:
        Thermometer(device, "d_temperature")
        device.register_statistic(ThresholdStatistic, lambda name, _: name == "threshold")
        device.register_statistic(Frozen, lambda name, _: name == "frozen")
        device.continue_boot()
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
