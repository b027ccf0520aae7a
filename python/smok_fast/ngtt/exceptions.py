"""What goes wrong with NGTT."""

from __future__ import annotations

from smok_fast.exceptions import SMOKClientError

__all__ = [
    "ConnectionFailed",
    "DataStreamSyncFailed",
    "InvalidFrame",
    "NGTTError",
    "SMOKClientError",
]


class NGTTError(SMOKClientError):
    """Base class of all NGTT errors."""


class ConnectionFailed(NGTTError):
    """There is no connection to the server, or it broke.

    :param is_due_to_no_internet: whether the server could not even be reached
    :param args: what happened
    :ivar is_due_to_no_internet: as given
    """

    def __init__(self, is_due_to_no_internet: bool = False, *args: object) -> None:
        super().__init__(*args)
        self.is_due_to_no_internet = is_due_to_no_internet


class DataStreamSyncFailed(NGTTError):
    """The server declined data. Nothing raises it: data has not gone over NGTT since ``smok``
    0.18.
    """


class InvalidFrame(NGTTError):
    """Bytes are no NGTT frame."""
