"""Macros: values to be written to pathpoints at times set beforehand."""

from __future__ import annotations

import collections
import json
import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from smok_fast.pathpoint import AdviseLevel, PathpointValueType, Section, WriteOrder

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["Macro"]

logger = logging.getLogger(__name__)


class Macro:
    """A macro. Two are equal if they have the same ID. Used by ArchivingAndMacroThread.

    True if it has something left to execute. An occurrence counts as executed, and is reported to
    the server, when its writes have ended, **however they went**: the server does not learn that
    some or all of them failed, or that a pathpoint is unknown. The log does.

    :param macro_id: its ID
    :param commands: name of a pathpoint → value to write there
    :param occurrences_not_done: when it is to be executed, in seconds since the epoch
    :ivar occurrences_not_done: when it is still to be executed, earliest first
    """

    __slots__ = ("commands", "macro_id", "occurrences_not_done")

    def __init__(
        self,
        macro_id: str,
        commands: Mapping[str, PathpointValueType],
        occurrences_not_done: Iterable[float],
    ) -> None:
        self.macro_id = macro_id
        self.commands = dict(commands)
        self.occurrences_not_done = collections.deque(sorted(occurrences_not_done))

    def __bool__(self) -> bool:
        return bool(self.occurrences_not_done)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Macro):
            return NotImplemented
        return self.macro_id == other.macro_id

    def __hash__(self) -> int:
        return hash(self.macro_id)

    def __repr__(self) -> str:
        return f"Macro({self.macro_id!r}, {self.commands}, {list(self.occurrences_not_done)})"

    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> Macro:
        """Build a macro from the server's answer; completed occurrences are left out.

        :raises KeyError: a field is missing
        :raises TypeError: a field has the wrong type
        """
        commands: dict[str, PathpointValueType] = {}
        for command in dct["commands"]:
            path, value = command["path"], command["value"]
            if not isinstance(path, str) or not isinstance(value, (int, float, str)):
                raise TypeError(f"malformed command: {command!r}")
            commands[path] = value
        occurrences = [
            _seconds(occurrence["timestamp"])
            for occurrence in dct["occurrences"]
            if not occurrence["completed"]
        ]
        if not isinstance(dct["macro_id"], str):
            raise TypeError(f"malformed macro ID: {dct['macro_id']!r}")
        return cls(dct["macro_id"], commands, occurrences)

    def should_execute(self, now: float | None = None) -> bool:
        """Whether its time has come.

        :param now: the time, in seconds since the epoch; the clock's by default
        """
        if not self.occurrences_not_done:
            return False
        return (time.time() if now is None else now) >= self.occurrences_not_done[0]

    def execute(self, device: SMOKDevice, now: float | None = None) -> None:
        """Execute every occurrence whose time has come, earliest first.

        Hands one section of writes to the device for each; ``device.macros_database`` is told
        about an occurrence when its section begins to be executed, and once it is done.

        :param device: the device
        :param now: the time, in seconds since the epoch; the clock's by default
        :raises RuntimeError: the device is closed; the occurrence is still to be executed
        """
        while self.should_execute(now):
            timestamp = self.occurrences_not_done.popleft()
            section = _Occurrence(device, self.macro_id, timestamp, self.commands)
            try:
                device.execute(section)
            except BaseException:
                self.occurrences_not_done.appendleft(timestamp)
                raise

    def leave_out(self, occurrences: Collection[float]) -> None:
        """Do not execute these occurrences.

        :param occurrences: their times, in seconds since the epoch
        """
        self.occurrences_not_done = collections.deque(
            timestamp for timestamp in self.occurrences_not_done if timestamp not in occurrences
        )

    def to_pickle(self) -> bytes:
        """The macro as bytes for :meth:`from_pickle`.

        The name is the reference client's. The bytes are JSON: reading them back runs no code.
        """
        return json.dumps(
            [self.macro_id, self.commands, list(self.occurrences_not_done)],
        ).encode()

    @classmethod
    def from_pickle(cls, y: bytes) -> Macro:
        """Build a macro from what :meth:`to_pickle` gave.

        :raises ValueError: these bytes are something else
        """
        try:
            macro_id, commands, occurrences = json.loads(y)
            return cls(macro_id, commands, occurrences)
        except TypeError as error:
            raise ValueError("these bytes are no macro") from error


class _Occurrence(Section):
    """The writes of one occurrence."""

    def __init__(
        self,
        device: SMOKDevice,
        macro_id: str,
        timestamp: float,
        commands: Mapping[str, PathpointValueType],
    ) -> None:
        super().__init__(
            WriteOrder(path, value, AdviseLevel.FORCE) for path, value in commands.items()
        )
        self._device = device
        self._database = device.macros_database
        self._key = macro_id, timestamp
        self._noted = False
        self.add_done_callback(self._report)

    def mark_as_being_executed(self) -> bool:
        """Begin to execute it, unless it was cancelled; first of all the database is told."""
        begun = super().mark_as_being_executed()
        if begun and not self._noted:
            self._noted = True
            try:
                self._database.notify_macro_started(*self._key)
            except Exception:  # of a user's database
                logger.exception("The macro database cannot note that %s of %s begins", *self._key)
            self._name_unknown()
        return begun

    def _name_unknown(self) -> None:
        if self._device.has_own_execution_loop:  # which may do without pathpoints
            return
        for order in self._writes():
            try:
                self._device.get_pathpoint(order.pathpoint)
            except KeyError:
                logger.error(
                    "Macro %s of %s: there is no pathpoint %s, which counts as written",
                    *self._key,
                    order.pathpoint,
                )
            except Exception:
                logger.debug("The executor will log it", exc_info=True)

    def _report(self, _: Future[None]) -> None:
        # One that the end of the device has cut short is left as started: nobody knows its outcome
        if not self.cancelled() and self.exception() is None:
            for order in self._writes():
                if order.repeat_count == 0:
                    logger.error(
                        "Macro %s of %s: writing %s has failed for good, it counts as written",
                        *self._key,
                        order.pathpoint,
                    )
            self._database.notify_macro_executed(*self._key)

    def _writes(self) -> list[WriteOrder]:
        return [order for order in self.orders if isinstance(order, WriteOrder)]


def _seconds(timestamp: object) -> float:
    """A time, as an integer if it is whole: that is how the server writes it."""
    if not isinstance(timestamp, (int, float)) or not math.isfinite(timestamp):
        raise TypeError(f"malformed timestamp: {timestamp!r}")
    return int(timestamp) if timestamp == int(timestamp) else timestamp
