"""How a device is doing, in figures: what :meth:`~smok_fast.client.SMOKDevice.statistics` gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from smok_fast.extras import BufferStatistics
from smok_fast.threads.counters import LATENCY_BOUNDS, LatencyHistogram

__all__ = ["LATENCY_BOUNDS", "DeviceStatistics", "LatencyHistogram"]


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceStatistics:
    """Figures of a device, from its start where they are counts.

    :ivar queue_length: how many sections wait to be executed, polls included
    :ivar executing: how many sections were begun and are not done
    :ivar retried: how many tries of orders were repetitions
    :ivar failed: how many reads and writes failed for good: the tries were used up, a poll failed,
        or user code raised something that is no OperationFailedError
    :ivar latencies: how long each bus takes, by the ``name`` of its read group or, without one, of
        the pathpoint. What ``on_read`` and ``on_write`` give within 0.1 ms was at hand, and is not
        counted. 256 buses have a histogram of their own, further ones share ``others``
    :ivar link_is_up: whether the server answered over HTTP the last time; None if it was not asked
    :ivar last_http_contact: when it did, in seconds since the epoch; None if it never did
    :ivar ngtt_is_up: whether NGTT works; None without NGTT, or if it is not known yet
    :ivar last_ngtt_contact: when the server was heard over NGTT last; likewise
    :ivar journalled_orders: how many orders the state file holds that are not done or not confirmed
    :ivar state_file_fails: whether the state file could not be written the last time
    :ivar dropped_log_records: how many records could not be published and were dropped
    :ivar buffer: figures of the samples' buffer; None if samples are kept in a database of yours
    """

    queue_length: int
    executing: int
    retried: int
    failed: int
    latencies: Mapping[str, LatencyHistogram]
    link_is_up: bool | None
    last_http_contact: float | None
    ngtt_is_up: bool | None
    last_ngtt_contact: float | None
    journalled_orders: int
    state_file_fails: bool
    dropped_log_records: int
    buffer: BufferStatistics | None
