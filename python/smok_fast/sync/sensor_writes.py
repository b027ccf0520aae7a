"""Sends the log of writes to sensors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from smok_fast.sync.base import Rejections, SyncTask, send_in_parts

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.sensor import SensorWriteEvent

__all__ = ["SensorWritesTask"]

#: How many writes go in one call.
BATCH = 500


class SensorWritesTask(SyncTask):
    """Sends sensor writes of ``device.sensor_write_database``. Run by CommunicatorThread."""

    name = "sensor writes"

    def __init__(
        self,
        device: SMOKDevice,
        *,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(device, interval=interval, clock=clock)
        self._rejections: Rejections[SensorWriteEvent] = Rejections("the sensor write", clock)

    def exchange(self) -> bool:
        """Send all writes that the server lacks, except those that it has just rejected."""
        sync = self.device.sensor_write_database.get_sw_sync()
        if not sync:
            return False
        events = list(sync.events)
        delivered: set[int] = set()
        self._rejections.keep_only(events)

        def send(part: Sequence[int]) -> None:
            body = [events[index].to_json() for index in part]
            self._call(self.device.api.put, "/v1/device/sensor/write_log", json=body)
            delivered.update(part)

        try:
            send_in_parts(
                [i for i, event in enumerate(events) if self._rejections.may_offer(event)],
                send,
                lambda index, error: self._rejections.add(events[index], error),
                size=BATCH,
            )
        finally:
            if len(delivered) == len(events):
                sync.ack()
            elif not delivered:
                sync.nack()
            else:
                for index, event in enumerate(events):
                    if index in delivered:
                        sync.swdb.on_synced_sw(event)
                    else:
                        sync.swdb.on_sync_sw_failed(event)
        return False
