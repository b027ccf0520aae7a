"""Every exception that smok_fast raises on purpose; all derive from :class:`SMOKClientError`."""

from __future__ import annotations

import enum
import time

__all__ = [
    "InstanceNotReady",
    "InvalidCredentials",
    "NotReadedError",
    "OperationFailedError",
    "OperationFailedReason",
    "ReparseError",
    "ReparseSyntaxError",
    "ResponseError",
    "SMOKClientError",
    "StateInUseError",
    "UnavailableError",
]

#: The status that stands for "the server gave no answer at all".
NO_LINK = 599


class SMOKClientError(Exception):
    """Base class of all exceptions raised by the client."""


class InvalidCredentials(SMOKClientError):
    """The device certificate or its private key cannot be used; the message says which file and
    why.
    """


class InstanceNotReady(SMOKClientError):
    """The object must be attached to a device first (see ``SMOKDevice.register_pathpoint``)."""


class UnavailableError(SMOKClientError):
    """The device was started in a mode that does not offer what was asked for."""


class StateInUseError(SMOKClientError):
    """The state file belongs to a device that runs: of this program, or of another one."""


class ResponseError(SMOKClientError):
    """The server refused a call, or did not answer it.

    :param status_code: HTTP status of the answer, 599 when there was none
    :param status: what the server said about it
    """

    def __init__(self, status_code: int | None = NO_LINK, status: str = "") -> None:
        super().__init__(status_code, status)
        self.status_code = NO_LINK if status_code is None else status_code
        self.status = status

    def is_no_link(self) -> bool:
        """Whether no answer came at all: the link is down, or the server is."""
        return self.status_code == NO_LINK

    def is_clients_fault(self) -> bool:
        """Whether the server blames the request (4xx): sending the same again will not help."""
        return self.status_code // 100 == 4

    def __str__(self) -> str:
        return f'ResponseError({self.status_code}, "{self.status}")'


class OperationFailedReason(enum.Enum):
    """Why a read or a write of a pathpoint failed; the values are what the server is told."""

    MALFORMED = "malformed"  #: the device answered with a malformed protocol frame
    TIMEOUT = "timeout"  #: the device did not answer in time
    INVALID = "invalid"  #: the device answered that there is no such pathpoint
    TYPE = "type"  #: the value does not have the pathpoint's type


class OperationFailedError(SMOKClientError):
    """A read or a write of a pathpoint failed. Raise it from ``on_read``/``on_write`` or from their
    Futures.

    :param reason: why
    :param timestamp: when, in milliseconds since the epoch; now by default
    :ivar reason: why, None only for :class:`NotReadedError`
    :ivar timestamp: when, in milliseconds since the epoch
    """

    def __init__(
        self,
        reason: OperationFailedReason | None = OperationFailedReason.TIMEOUT,
        timestamp: float | None = None,
    ) -> None:
        super().__init__(reason, timestamp)
        self.reason = reason
        self.timestamp = time.time_ns() // 1_000_000 if timestamp is None else timestamp

    def __str__(self) -> str:
        return "not read yet" if self.reason is None else self.reason.value


class NotReadedError(OperationFailedError):
    """The pathpoint has not been read yet. Not to be raised from ``on_read``.

    A pathpoint has a value once it is archived, ordered to be read, read with
    ``device.execute(pathpoint.read())``, or given one with ``set_new_value``. One whose class does
    not override ``on_read``, or whose ``on_read`` returns None, reads nothing, and has none for
    ever: without a return statement a function returns None.

    :param timestamp: when this was found, in milliseconds since the epoch; now by default
    """

    def __init__(self, timestamp: float | None = None) -> None:
        super().__init__(None, timestamp)


class ReparseError(OperationFailedError):
    """A reparse expression has no value for what its pathpoints hold.

    :param message: what is wrong, in CPython's words where CPython fails as well
    :param reason: ``TYPE`` for a value of the wrong type, ``INVALID`` for a division by zero, a
        domain error or an integer that is too large
    :param timestamp: when, in milliseconds since the epoch; now by default
    :ivar message: what is wrong
    """

    def __init__(
        self,
        message: str,
        reason: OperationFailedReason = OperationFailedReason.INVALID,
        timestamp: float | None = None,
    ) -> None:
        super().__init__(reason, timestamp)
        self.args = (message, reason, self.timestamp)
        self.message = message

    def __str__(self) -> str:
        return self.message


class ReparseSyntaxError(SMOKClientError, ValueError):
    """A text is no reparse expression.

    :param message: what is wrong
    :param text: the text
    :param position: how many of its characters come before what is wrong
    :param caret: two lines to print: the text, or the part of it that matters, and below it a
        caret at the position
    :ivar message: what is wrong
    :ivar text: the text
    :ivar position: how many of its characters come before what is wrong
    :ivar caret: two lines to print
    """

    def __init__(self, message: str, text: str = "", position: int = 0, caret: str = "") -> None:
        super().__init__(message, text, position, caret)
        self.message = message
        self.text = text
        self.position = position
        self.caret = caret

    def __str__(self) -> str:
        return f"{self.message} (column {self.position + 1})"


class BufferInUseError(SMOKClientError):
    """Another process, or another device of this one, has the buffer of samples open."""
