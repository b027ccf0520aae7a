"""Samples from the buffer to the server.

A batch is acknowledged only by the server's 2xx. No link, 5xx, and a 4xx that is not about the
content: the same batch is sent again, byte for byte. What the server rejects for its content is
sent again in smaller batches at once, until what it objects to is alone; that is set aside in the
quarantine. Either way nothing is lost.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smok_fast.exceptions import ResponseError
from smok_fast.extras import BufferUpload, QuarantineUpload
from smok_fast.sync.base import SyncTask, rejects_content

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.extras import BaseDataToSynchronize

__all__ = ["CheckpointTask", "DataTask"]


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
        self._unsent = False

    def run(self) -> bool:
        """Upload one batch. CommunicatorThread keeps the pauses after those that fail.

        :return: whether more wait
        :raises ResponseError: the server did not take it
        """
        self._requested.clear()
        self.answered = False
        self._unsent = True
        self._unsent = self.exchange()
        self._next_run = self._clock() + self.interval
        return self._unsent

    def is_due(self, now: float) -> bool:
        """Whether the linger has passed, or a backlog waits."""
        return self._unsent or super().is_due(now)

    def delay(self, now: float) -> float:
        """Nothing while a backlog waits; else infinity, since the buffer wakes
        CommunicatorThread.
        """
        return 0.0 if self._unsent else math.inf

    def flush(self, deadline: float) -> None:
        """Upload all that waits. Called by CommunicatorThread at its end.

        :param deadline: when to give up, on the monotonic clock
        :raises ResponseError: the server did not take it
        """
        while (left := deadline - time.monotonic()) > 0:
            if not self.exchange(within=left):
                return

    def exchange(self, within: float | None = None) -> bool:
        """Upload one batch, if there is one.

        :param within: how many seconds the call may take; None for the usual number
        """
        batch = self.device.pp_database.get_data_to_sync()
        if batch is None:
            return False
        try:
            self._post(batch, within)
        except ResponseError as error:
            return self._refused(batch, error)
        except BaseException:  # of a user's database: the batch must be answered all the same
            batch.negative_acknowledge()
            raise
        batch.acknowledge()
        self._last_complaint = ""
        self._on_delivered()
        return True

    def _refused(self, batch: BaseDataToSynchronize, error: ResponseError) -> bool:
        """Have the batch come again, in smaller ones if it is its content that is refused.

        :return: whether something else comes next
        :raises ResponseError: the same batch would come
        :raises OSError: what is rejected could not be set aside
        """
        if isinstance(batch, BufferUpload | QuarantineUpload) and rejects_content(error):
            self.answered = True
            batch.reject(str(error))
            return True
        batch.negative_acknowledge()
        if error.is_clients_fault():
            self._complain("The server refused:", error)
        raise error

    def _post(self, batch: BaseDataToSynchronize, within: float | None) -> None:
        path = "/v1/device/pathpoints"
        if isinstance(batch, BufferUpload):
            self._call(self.device.api.post, path, body=batch.body, deadline=within)
        elif data := batch.to_json():
            content = [_on_the_wire(entry) for entry in data]
            self._call(self.device.api.post, path, json=content, deadline=within)


class CheckpointTask(SyncTask):
    """Has the database of samples, and the state file, save what they have not saved yet."""

    name = "checkpoint"
    needs_link = False
    interval = 60.0

    def exchange(self) -> bool:
        """Save."""
        self.device.pp_database.checkpoint()
        if self.device.state_file is not None:
            self.device.state_file.checkpoint()
        return False


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
