"""The native core of smok_fast. Use the modules of smok_fast instead of this one."""

from collections.abc import Iterable, Sequence
from typing import final

__all__ = [
    "ModbusClient",
    "ModbusQuery",
    "ModbusRequest",
    "ModbusServer",
    "modbus_plan",
]

# MODBUS: see smok_fast.modbus

@final
class ModbusRequest:
    """A request to one unit, within the limits of the MODBUS specification.

    :param unit: unit identifier, 0 to 255
    :param function: function code: 1 to 6, 15 or 16
    :param address: first address, 0 to 65535
    :param argument: how many to read (functions 1 to 4), the value (5, 6) or the values (15, 16) to
        write; coils are written by their truth, registers are 0 to 65535
    :raises ValueError: no such request exists
    """

    def __new__(
        cls, unit: int, function: int, address: int, argument: int | Iterable[int]
    ) -> ModbusRequest: ...
    @property
    def unit(self) -> int:
        """Unit identifier."""
    @property
    def function(self) -> int:
        """Function code."""
    @property
    def address(self) -> int:
        """First address."""
    @property
    def count(self) -> int:
        """How many elements it reads or writes."""
    @property
    def values(self) -> list[int]:
        """What it writes; bools for coils, nothing for reads."""

@final
class ModbusClient:
    """The client's side of a MODBUS TCP connection, without its socket. It belongs to one
    thread.
    """

    def __new__(cls) -> ModbusClient: ...
    def begin(self, request: ModbusRequest) -> bytes:
        """Open a request, giving up the one that is open.

        :return: the frame to send
        """
    def feed(self, data: bytes) -> list[int] | None:
        """Take the next bytes from the server.

        :return: None until the answer to the open request is complete; then what was read, bools
            from tables of bits, and nothing for a write
        :raises ExceptionResponseError: the server refused the request
        :raises BadResponseError: the answer does not fit the request
        :raises FrameError: this is not MODBUS TCP
        """
    def reset(self) -> None:
        """Begin a new connection."""
    @property
    def is_between_frames(self) -> bool:
        """Whether nothing is left over and nothing was wrong: if not, the connection is to be
        closed.
        """
    @property
    def stale(self) -> int:
        """Frames that were ignored: their transaction identifier is not that of the open
        request.
        """
    @property
    def other_unit(self) -> int:
        """Frames that were ignored: they are of another unit than the open request."""

@final
class ModbusServer:
    """The server's side of a MODBUS TCP connection, without its socket. It belongs to one
    thread.
    """

    def __new__(cls) -> ModbusServer: ...
    def feed(self, data: bytes) -> list[ModbusQuery]:
        """Take the next bytes from the client and return the requests that they complete."""
    @property
    def error(self) -> str | None:
        """What is wrong with the stream, if anything is: then nothing more comes out of it."""

@final
class ModbusQuery:
    """A request that a server received, and the way to answer it."""

    @property
    def unit(self) -> int:
        """Unit identifier."""
    @property
    def function(self) -> int:
        """Function code."""
    @property
    def request(self) -> ModbusRequest | None:
        """The request, None if it is to be refused."""
    @property
    def refusal(self) -> int | None:
        """The exception code with which it is to be refused, None if it is a request."""
    def answer(self, values: Iterable[int]) -> bytes:
        """The frame that answers the request.

        :param values: what it reads; of no meaning for a write
        :raises ValueError: it is to be refused, or the values are not those that it asks for
        """
    def refuse(self, code: int) -> bytes:
        """The frame that refuses the request.

        :param code: exception code
        """

def modbus_plan(
    items: Sequence[tuple[int, int, int, int]],
    max_gap: int,
    cuts: Sequence[tuple[int, int, int]],
) -> list[tuple[ModbusRequest, list[int]]]:
    """Plan the reading of registers in as few requests as possible.

    :param items: what to read: unit, function code, address, count
    :param max_gap: how many unwanted registers may be read in a row to save a request
    :param cuts: addresses which no request may read together with their predecessor: unit, function
        code, address
    :return: requests, each with the indices of its items in the order of their addresses
    :raises ValueError: no request can read an item
    """
