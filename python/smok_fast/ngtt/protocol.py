"""Frames of NGTT, and where its server is.

A frame is a header of three big-endian numbers, ``uint32`` length of the data, ``uint16``
transaction ID and ``uint16`` type, and then the data: MiniJSON, or nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, SupportsBytes
from urllib.parse import urlsplit

from smok_fast import minijson
from smok_fast._core import NGTTDecoder, encode_ngtt_frame
from smok_fast.ngtt.exceptions import InvalidFrame

__all__ = [
    "DEFAULT_PORT",
    "HISTORICAL_TYPES",
    "MAX_DATA",
    "SERVER_VARIABLE",
    "InvalidFrame",
    "NGTTFrame",
    "NGTTHeaderType",
    "env_to_hostname",
    "server_address",
]

#: The environment variable that says where the NGTT server is: ``host`` or ``host:port``.
SERVER_VARIABLE: Final = "SMOK_NGTT"

#: The port of SMOK's servers.
DEFAULT_PORT: Final = 2405

#: The longest data that a frame may carry unless something else is asked for, in bytes.
MAX_DATA: Final = 1 << 20

#: Types that were once used for logs, data and BAOBs, and that are ignored.
HISTORICAL_TYPES: Final = range(3, 9)

_HEADER: Final = 8


class NGTTHeaderType(enum.IntEnum):
    """What a frame is."""

    PING = 0  #: sent by the client, and by the server as the answer
    ORDER = 1  #: sent by the server: a list of sections
    ORDER_CONFIRM = 2  #: sent by the client: the order was executed
    ORDER_REJECT = 9  #: sent by the client: the order makes no sense
    FETCH_ORDERS = 10  #: sent by the client: it is ready for orders


class NGTTFrame:
    """A frame. May be used by any thread.

    :param tid: transaction ID, 0 to 65535
    :param packet_type: what it is; a number that is no :class:`NGTTHeaderType` is kept as it is
    :param data: what it carries, in MiniJSON: bytes, or anything that ``bytes()`` takes
    :ivar tid: as given
    :ivar packet_type: an :class:`NGTTHeaderType`, or a number of 16 bits that is none
    :ivar data: bytes
    """

    __slots__ = ("data", "packet_type", "tid")

    def __init__(
        self,
        tid: int,
        packet_type: NGTTHeaderType | int,
        data: bytes | bytearray | memoryview | SupportsBytes = b"",
    ) -> None:
        self.tid = tid
        self.packet_type = _TYPES.get(packet_type, packet_type)
        self.data = bytes(data)

    @property
    def real_data(self) -> Any:
        """What the data says.

        :raises DecodingError: it is no MiniJSON; a ``ValueError``
        """
        return minijson.loads(self.data)

    def __len__(self) -> int:
        """How many bytes the frame has."""
        return _HEADER + len(self.data)

    def __bytes__(self) -> bytes:
        """The bytes of the frame.

        :raises OverflowError: the transaction ID or the type does not fit 16 bits
        """
        return encode_ngtt_frame(self.tid, self.packet_type, self.data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NGTTFrame):
            return NotImplemented
        return (self.tid, self.packet_type, self.data) == (other.tid, other.packet_type, other.data)

    def __hash__(self) -> int:
        return hash((self.tid, self.packet_type, self.data))

    def __repr__(self) -> str:
        return f"NGTTFrame({self.tid}, {self.packet_type!r}, {self.data!r:.200})"

    @classmethod
    def from_bytes(cls, b: bytes | bytearray) -> NGTTFrame:
        """The frame that some bytes begin with. What follows it is not looked at.

        :param b: the bytes
        :raises InvalidFrame: they end within the frame, or its data is longer than
            :data:`MAX_DATA`
        """
        found = cls.from_buffer(b)
        if found is None:
            raise InvalidFrame(f"{len(b)} bytes are no whole frame")
        return found[1]

    @classmethod
    def from_buffer(cls, buffer: bytes | bytearray) -> tuple[int, NGTTFrame] | None:
        """The frame that a buffer begins with.

        :param buffer: what was received so far
        :return: how many bytes of the buffer it takes, and the frame; None if it is not complete
        :raises InvalidFrame: its data is longer than :data:`MAX_DATA`
        """
        decoder = NGTTDecoder(MAX_DATA)
        length = _HEADER + int.from_bytes(buffer[:4], "big")
        frames = decoder.feed(bytes(memoryview(buffer)[:length]))
        if decoder.error is not None:
            raise InvalidFrame(decoder.error)
        return (length, cls(*frames[0])) if frames else None


_TYPES: Final[Mapping[int, NGTTHeaderType]] = {int(known): known for known in NGTTHeaderType}


def env_to_hostname(env: int) -> str:
    """The host of the NGTT server of an environment.

    :param env: an :class:`~smok_fast.basics.Environment`
    """
    return {0: "api.smok.co", 1: "api.test.smok-serwis.pl"}.get(env, "rapid-rs")


def server_address(
    argument: str | None, environ: Mapping[str, str], default_host: str
) -> tuple[str, int]:
    """Where the NGTT server is: as the argument says, else ``SMOK_NGTT``, else the default.

    :param argument: what the user passed: ``host``, ``host:port`` or ``[IPv6 address]:port``
    :param environ: environment variables
    :param default_host: host, if neither says
    :return: host and port, :data:`DEFAULT_PORT` where none is given
    :raises ValueError: it is no such thing
    """
    given = argument or environ.get(SERVER_VARIABLE)
    if not given:
        return default_host, DEFAULT_PORT
    try:
        parts = urlsplit(f"//{given}")
        host, port = parts.hostname, parts.port  # .port raises ValueError by itself
    except ValueError as error:
        raise ValueError(f"NGTT server {given!r}: {error}") from error
    if not host or port == 0 or "@" in given or parts.netloc != given or host.startswith("."):
        raise ValueError(f"NGTT server {given!r}: it should look like host or host:port")
    return host, port or DEFAULT_PORT
