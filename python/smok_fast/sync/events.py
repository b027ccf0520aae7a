"""Sends events.

An event is sent again until the server has answered with its UUID; from then on its changes carry
that UUID. If an answer gets lost the server has the event already, and the event is sent without a
UUID once more: by the header :data:`PROVISIONAL_UUIDS` the server can tell that it is the same one,
since the provisional UUID of an event never changes, nor with a restart. A server that does not
know the header stores it twice: there, delivery is at least once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from smok_fast.minijson import EncodingError
from smok_fast.sync.base import Rejections, SyncTask, UnusableAnswer, send_in_parts

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.predicate import Event

__all__ = ["EventsTask"]

#: How many events go in one call.
BATCH = 100

#: The header that tells, for each event of the body in its order and separated by commas, the UUID
#: that the device has given it, empty if the server's is in the body. 100 of them are 3.3 KB.
PROVISIONAL_UUIDS = "X-SMOK-Provisional-UUIDs"


class EventsTask(SyncTask):
    """Sends events of ``device.evt_database``. Run by CommunicatorThread."""

    name = "events"

    def __init__(
        self,
        device: SMOKDevice,
        *,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(device, interval=interval, clock=clock)
        self._rejections: Rejections[Event] = Rejections("the event", clock)

    def exchange(self) -> bool:
        """Send all events that the server lacks, except those that it has just rejected."""
        sync = self.device.evt_database.get_events_to_sync()
        if sync is None:
            return False
        events = list(sync.get_events())
        uuids: list[str | None] = [None] * len(events)
        self._rejections.keep_only(events)

        def send(part: Sequence[int]) -> None:
            for index, uuid in zip(part, self._send([events[i] for i in part]), strict=True):
                uuids[index] = uuid

        try:
            send_in_parts(
                [i for i, event in enumerate(events) if self._rejections.may_offer(event)],
                send,
                lambda index, error: self._rejections.add(events[index], error),
                size=BATCH,
            )
        finally:
            known = [uuid for uuid in uuids if uuid is not None]
            if len(known) == len(events):
                sync.acknowledge(*known)
            elif known:
                sync.acknowledge_some(uuids)
            else:
                sync.negative_acknowledge()
        return False

    def _send(self, events: Sequence[Event]) -> list[str | None]:
        """Send events; gives their UUIDs, None for each that the server has given none."""
        answer = self._call(
            self.device.api.post,
            "/v1/device/alarms",
            json=[_content(event) for event in events],
            headers={PROVISIONAL_UUIDS: ",".join(map(_provisional_uuid, events))},
        )
        if not isinstance(answer, list):
            raise UnusableAnswer("a list of UUIDs", answer)
        uuids: list[str | None] = []
        for index, event in enumerate(events):
            uuid = _uuid(answer[index]) if index < len(answer) else None
            if uuid is None:
                uuid = event.uuid  # an answer about an event that it knows may do without
            if uuid is None:
                self._rejections.add(event, "it has answered without a UUID")
            else:
                self._rejections.discard(event)
            uuids.append(uuid)
        return uuids


def _content(event: Event) -> dict[str, Any]:
    """An event as the server wants it; one that cannot be sent must not hold up the others.

    :raises EncodingError: somebody has put something into it that does not belong there
    """
    try:
        return event.to_json()
    except Exception as error:
        raise EncodingError(repr(error)) from error


def _provisional_uuid(event: Event) -> str:
    """An event's entry in the header. The attribute is anybody's: what is no UUID stays out."""
    if event.uuid is not None:
        return ""
    try:
        return UUID(str(event.provisional_uuid)).hex
    except ValueError:
        return ""


def _uuid(entry: object) -> str | None:
    uuid = entry.get("uuid") if isinstance(entry, dict) else None
    return uuid if isinstance(uuid, str) and uuid else None
