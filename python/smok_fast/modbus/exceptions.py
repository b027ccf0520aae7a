"""What goes wrong with MODBUS. Every error here is an OperationFailedError, so that ``on_read`` and
``on_write`` may let it through: the SMOK server is then told the right reason.
"""

from __future__ import annotations

from typing import ClassVar

from smok_fast.exceptions import OperationFailedError, OperationFailedReason

__all__ = [
    "BadResponseError",
    "ClientClosedError",
    "ConnectFailedError",
    "ConnectionLostError",
    "ExceptionResponseError",
    "FrameError",
    "ModbusError",
    "NoResponseError",
    "QueueFullError",
]


class ModbusError(OperationFailedError):
    """Base class of all MODBUS errors.

    :param message: what happened
    :ivar reason: what the SMOK server is told
    :ivar timestamp: when, in milliseconds since the epoch
    """

    failure: ClassVar[OperationFailedReason] = OperationFailedReason.TIMEOUT

    def __init__(self, message: str) -> None:
        super().__init__(self.failure)
        self.args = (message,)

    def __str__(self) -> str:
        return str(self.args[0])


class NoResponseError(ModbusError):
    """The unit did not answer in time. Reason: TIMEOUT."""


class ConnectFailedError(ModbusError):
    """There is no connection to the server. Reason: TIMEOUT."""


class ConnectionLostError(ModbusError):
    """The connection broke while an answer was awaited. Reason: TIMEOUT."""


class ClientClosedError(ModbusError):
    """The client was closed. Reason: TIMEOUT."""


class QueueFullError(ModbusError):
    """Requests come in faster than the bus carries them out. Reason: TIMEOUT."""


class FrameError(ModbusError):
    """What came from the server is not MODBUS TCP. Reason: MALFORMED."""

    failure = OperationFailedReason.MALFORMED


class BadResponseError(ModbusError):
    """A response does not fit its request: function, length or echo. Reason: MALFORMED."""

    failure = OperationFailedReason.MALFORMED


class ExceptionResponseError(ModbusError):
    """The server refused the request.

    The reasons follow section 7 of the MODBUS Application Protocol Specification V1.1b3. Refusals
    that concern the request itself are INVALID: 1 (illegal function), 2 (illegal data address), 3
    (illegal data value) and every code that the specification does not define. Those after which it
    suggests to try again, or which say that the unit could not be reached, are TIMEOUT: 4 (server
    device failure), 5 (acknowledge: still working on it), 6 (server device busy), 8 (memory parity
    error), 10 (gateway path unavailable) and 11 (gateway target device failed to respond).

    :param code: exception code
    :param meaning: its name in the specification
    :ivar code: exception code
    """

    TRANSIENT: ClassVar[frozenset[int]] = frozenset((4, 5, 6, 8, 10, 11))

    def __init__(self, code: int, meaning: str) -> None:
        super().__init__(f"exception {code} ({meaning})")
        self.args = (code, meaning)
        self.code = code
        if code not in self.TRANSIENT:
            self.reason = OperationFailedReason.INVALID

    def __str__(self) -> str:
        return f"exception {self.code} ({self.args[1]})"
