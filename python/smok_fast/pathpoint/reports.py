"""What goes wrong around pathpoints and in the user's code, told to the log once per episode.

A pathpoint that is read ten times a second and fails each time must not fill an SD card with
tracebacks: the first occurrence is logged in full, then the same is only counted, and logged again
with the count after an hour.

The functions are called by whichever thread found the problem, the native core included.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smok_fast.pathpoint.pathpoint import Pathpoint

logger = logging.getLogger("smok_fast.pathpoint")

#: Seconds for which a repetition is only counted.
QUIET_FOR = 3600.0

#: How many different problems are remembered; beyond it the oldest is forgotten.
MOST_REMEMBERED = 10_000


class Episodes:
    """Decides which of many equal problems is told.

    :param clock: monotonic seconds
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def repetitions(self, key: Hashable) -> int | None:
        """Note a problem.

        :return: how often it was left out since it was last told; None if it is to be left out now
        """
        now = self._clock()
        with self._lock:
            told, left_out = self._seen.pop(key, (None, 0))
            if told is not None and now - told < QUIET_FOR:
                self._seen[key] = told, left_out + 1
                return None
            if len(self._seen) >= MOST_REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = now, 0
            return left_out


_episodes = Episodes()


def detail_of_unknown(name: str, error: KeyError) -> str:
    """What the error of ``get_pathpoint`` says beside the name, such as what is wrong with the
    expression in it; to be appended to a message.

    :param name: the pathpoint that was asked for
    :param error: the error
    """
    said = str(error.args[0]) if error.args else name
    return "" if said == name else f": {said}"


def _report(key: Hashable, error: BaseException | None, message: str, *args: object) -> None:
    repetitions = _episodes.repetitions(key)
    if repetitions is None:
        return
    if repetitions:
        message += f" ({repetitions} more of these in the last hour)"
    logger.error(message, *args, exc_info=error)


def _place(error: BaseException) -> Hashable:
    """What makes two exceptions the same problem: their type and the line that raised them."""
    frames = traceback.extract_tb(error.__traceback__)
    last = (frames[-1].filename, frames[-1].lineno) if frames else None
    return type(error), last


def archived_unknown(name: str, error: KeyError) -> None:
    """A pathpoint that is to be archived is one that the device does not have."""
    _report(
        (name, "unknown"),
        None,
        "unknown pathpoint %s is to be archived, skipped%s",
        name,
        detail_of_unknown(name, error),
    )


def provider_raised(name: str, error: BaseException) -> None:
    """``provide_unknown_pathpoint`` raised something else than KeyError."""
    _report(
        (name, "provided", _place(error)),
        error,
        "no pathpoint %s: provide_unknown_pathpoint failed",
        name,
    )


def wrong_type(pathpoint: Pathpoint, value: object) -> None:
    """A read or the user gave something that a pathpoint of this type cannot hold."""
    _report(
        (pathpoint.name, "type", type(value)),
        None,
        "%s cannot hold %.200r, a %s: taken as a failure of reason TYPE",
        pathpoint.name,
        value,
        type(value).__name__,
    )


def read_raised(pathpoint: Pathpoint, error: BaseException) -> None:
    """``on_read``, ``can_read`` or a read's Future raised something else than
    OperationFailedError.
    """
    _report(
        (pathpoint.name, "read", _place(error)),
        error,
        "reading %s raised %r: taken as not read",
        pathpoint.name,
        error,
    )


def write_raised(pathpoint: Pathpoint, error: BaseException) -> None:
    """``on_write`` or its Future raised something else than OperationFailedError."""
    _report(
        (pathpoint.name, "write", _place(error)),
        error,
        "writing %s raised %r: not tried again",
        pathpoint.name,
        error,
    )


def change_callback_failed(pathpoint: Pathpoint, error: BaseException) -> None:
    """``callable_on_change`` raised."""
    _report(
        (pathpoint.name, "change", _place(error)),
        error,
        "callable_on_change of %s raised %r",
        pathpoint.name,
        error,
    )


def storage_level_raised(name: str, error: BaseException) -> None:
    """``on_new_storage_level`` raised, or what was to give the pathpoint did."""
    _report(
        (name, "storage level", _place(error)),
        error,
        "pathpoint %s did not take over its storage level: %r",
        name,
        error,
    )


def set_new_value_raised(pathpoint: Pathpoint, error: BaseException) -> None:
    """A ``set_new_value`` of the user's class did not take what was read."""
    _report(
        (pathpoint.name, "set_new_value", _place(error)),
        error,
        "set_new_value of %s raised %r: what was read is lost",
        pathpoint.name,
        error,
    )


def sync_callback_failed(callback: str, error: BaseException) -> None:
    """``on_successful_sync`` or ``on_failed_sync`` raised."""
    _report((callback, _place(error)), error, "%s raised %r", callback, error)


def statistic_raised(predicate_id: str, what: str, error: BaseException) -> None:
    """A method of a statistic raised."""
    _report(
        (predicate_id, what, _place(error)),
        error,
        "%s of predicate %s raised %r",
        what,
        predicate_id,
        error,
    )


def matcher_raised(class_name: str, statistic: str, error: BaseException) -> None:
    """What decides whether a class serves a statistic raised."""
    _report(
        (class_name, statistic, _place(error)),
        error,
        "the matcher of %s raised %r for statistic %r",
        class_name,
        error,
        statistic,
    )


def store_failed(pathpoint: Pathpoint, error: BaseException) -> None:
    """The user's pathpoint database did not take a sample."""
    _report(
        ("store", _place(error)),
        error,
        "the pathpoint database failed to store a sample of %s: %r",
        pathpoint.name,
        error,
    )
