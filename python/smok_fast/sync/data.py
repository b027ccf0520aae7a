"""Samples from the buffer to the server.

A batch is acknowledged only by the server's 2xx. No link and 5xx: the same batch is sent again,
byte for byte. 4xx: the buffer tries smaller batches, until what the server objects to is alone.
Either way the pause grows from try to try, and nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smok_fast.client.api import Backoff
from smok_fast.exceptions import ResponseError
from smok_fast.extras import BufferUpload
from smok_fast.sync.base import SyncTask, logger

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.extras import BaseDataToSynchronize

__all__ = ["DataTask"]


class DataTask(SyncTask):
    """Uploads one batch of samples at a time.

    :param device: the device
    :param linger: seconds from the end of one round of uploads to the next, so that samples gather
    :param on_delivered: called after each batch that the server has taken
    """

    name = "data"

    def __init__(self, device: SMOKDevice, linger: float, on_delivered: Callable[[], None]) -> None:
        super().__init__(device, interval=linger)
        self._on_delivered = on_delivered
        self._backoff = Backoff(clock=self._clock)
        self._more = False

    def run(self) -> bool:
        """Upload one batch, and keep the pauses of :class:`Backoff` between refusals.

        :return: whether more wait
        :raises ResponseError: the server did not take it
        """
        self.answered = False
        try:
            self._more = self.exchange()
        except ResponseError as error:
            if not error.is_no_link():
                pause = self._backoff.failed()
                logger.warning(
                    "A batch of samples was refused (%s); kept, next try in %.0f s", error, pause
                )
            raise
        self._backoff.success()
        self._next_run = self._clock() + self.interval
        return self._more

    def is_due(self, now: float) -> bool:
        """Whether the linger has passed, or a backlog waits, and no pause after a refusal is on."""
        return self._backoff.ready(now) and (self._more or super().is_due(now))

    def delay(self, now: float) -> float:
        """Infinity: CommunicatorThread is woken by the buffer."""
        return math.inf

    def exchange(self) -> bool:
        """Upload one batch, if there is one."""
        batch = self.device.pp_database.get_data_to_sync()
        if batch is None:
            return False
        try:
            self._post(batch)
        except ResponseError as error:
            if error.is_clients_fault() and isinstance(batch, BufferUpload):
                batch.reject()
            else:
                batch.negative_acknowledge()
            raise
        batch.acknowledge()
        self._on_delivered()
        return True

    def _post(self, batch: BaseDataToSynchronize) -> None:
        path = "/v1/device/pathpoints"
        if isinstance(batch, BufferUpload):
            self._call(self.device.api.post, path, body=batch.body)
        elif data := batch.to_json():
            self._call(self.device.api.post, path, json=[_on_the_wire(entry) for entry in data])


def _on_the_wire(entry: dict[str, Any]) -> dict[str, Any]:
    """What a database of the user's says, in the form that the server takes: see
    BaseDataToSynchronize.to_json.
    """
    values = []
    for value in entry["values"]:
        if not isinstance(value, dict):
            values.append(value)
        elif "error_code" in value:
            values.append([False, value["timestamp"], value["error_code"]])
        else:
            values.append([value["timestamp"], value["value"]])
    return {"path": entry["path"], "values": values}
