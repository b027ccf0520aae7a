"""The native core of smok_fast. Use the modules of smok_fast instead of this one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, final

from typing_extensions import Buffer as SupportsBuffer
from typing_extensions import disjoint_base

from smok_fast.exceptions import OperationFailedError
from smok_fast.extras import BasePathpointDatabase
from smok_fast.pathpoint import (
    Pathpoint,
    PathpointValueType,
    ReadGroup,
    ReadResult,
    Section,
    ValueOrExcept,
)
from smok_fast.pathpoint.orders import AdviseLevel
from smok_fast.threads.executor import Execution

__all__ = [
    "DecodingError",
    "EncodingError",
    "Expression",
    "MessageOrder",
    "MiniJSONError",
    "ModbusClient",
    "ModbusQuery",
    "ModbusRequest",
    "ModbusServer",
    "Order",
    "ReadOrder",
    "SysctlOrder",
    "WaitOrder",
    "WriteOrder",
    "decode_sections",
    "dumps",
    "loads",
    "modbus_plan",
]

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

# MiniJSON: see smok_fast.minijson

class MiniJSONError(ValueError):
    """Base class of what goes wrong with MiniJSON."""

class EncodingError(MiniJSONError):
    """The object has no MiniJSON form; the message says why."""

class DecodingError(MiniJSONError):
    """The bytes cannot be decoded; the message says why and where."""

def dumps(obj: object, /) -> bytes:
    """Encode an object as MiniJSON, each value in its shortest form.

    :param obj: see :mod:`smok_fast.minijson` for what can be encoded
    :raises EncodingError: something in it cannot: its type, a text with a lone surrogate, an
        integer of more than 255 bytes, or more than 128 containers inside each other, as in a list
        that contains itself
    """

def loads(data: bytes | bytearray | memoryview, /) -> Any:
    """Decode MiniJSON that is all of the data.

    :param data: bytes, or anything with a buffer of unsigned bytes
    :raises DecodingError: it is no MiniJSON, or nothing Python can hold: a list or an object as a
        key, or more than 1024 keys that are integers beyond 64 bits
    """

# Orders: see smok_fast.pathpoint.orders

class Order:
    """Base class of all orders."""

    def __new__(cls) -> Order: ...

@final
class ReadOrder(Order):
    """An order to read a pathpoint.

    :param pathpoint: its name
    :param advise: how hard to try: 3 times for ADVISE, 20 times for FORCE
    :raises ValueError: there is no such advise level
    """

    def __new__(cls, pathpoint: str, advise: AdviseLevel) -> ReadOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> ReadOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    def fail(self) -> bool:
        """Count a try that failed.

        :return: whether to try again
        """

    @property
    def pathpoint(self) -> str:
        """The name of the pathpoint to read."""

    @property
    def advise(self) -> AdviseLevel:
        """How hard to try."""

    @property
    def repeat_count(self) -> int:
        """How many tries are left."""

@final
class WriteOrder(Order):
    """An order to write a value to a pathpoint.

    :param pathpoint: its name
    :param value: what to write; kept as it is given, coerced when it is written
    :param advise: how hard to try: once for ADVISE, 10 times for FORCE
    :param stale_after: when it is too late for it, in seconds since the epoch; never by default
    :raises ValueError: there is no such advise level
    """

    def __new__(
        cls,
        pathpoint: str,
        value: float | str,
        advise: AdviseLevel,
        stale_after: float | None = None,
    ) -> WriteOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> WriteOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    def fail(self) -> bool:
        """Count a try that failed.

        :return: whether to try again
        """

    def is_valid(self) -> bool:
        """Whether it is not too late for it."""

    @property
    def pathpoint(self) -> str:
        """The name of the pathpoint to write to."""

    @property
    def value(self) -> int | float | str:
        """What to write."""

    @property
    def advise(self) -> AdviseLevel:
        """How hard to try."""

    @property
    def stale_after(self) -> float | None:
        """When it is too late for it, in seconds since the epoch; None for never."""

    @property
    def repeat_count(self) -> int:
        """How many tries are left."""

@final
class MessageOrder(Order):
    """An order to tell the server that a message arrived. It is tried 3 times.

    :param uuid: the message's identifier
    """

    def __new__(cls, uuid: str) -> MessageOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> MessageOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    def fail(self) -> bool:
        """Count a try that failed.

        :return: whether to try again
        """

    @property
    def uuid(self) -> str:
        """The message's identifier."""

    @property
    def times_retry(self) -> int:
        """How many tries are left."""

@final
class WaitOrder(Order):
    """An order to wait. Of several in one section the longest counts.

    :param period: how long, in seconds
    :raises ValueError: it is negative, not a number, or longer than a clock can count (292 years)
    """

    def __new__(cls, period: float) -> WaitOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> WaitOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    @property
    def period(self) -> float:
        """How long to wait, in seconds."""

@final
class SysctlOrder(Order):
    """An order that the device's program defines the meaning of.

    :param op_type: what to do
    :param op_args: what to do it with
    """

    def __new__(cls, op_type: str, op_args: str) -> SysctlOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> SysctlOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    @property
    def op_type(self) -> str:
        """What to do."""

    @property
    def op_args(self) -> str:
        """What to do it with."""

def decode_sections(body: bytes, minijson: bool) -> tuple[list[tuple[list[Order], int]], list[str]]:
    """Decode a list of sections.

    :param body: what the server sent
    :param minijson: whether it is MiniJSON, not JSON
    :return: for each section its orders and its disposition; and a line of text for each thing in
        the body that made no sense and was left out
    :raises DecodingError: the body is no list, or not in this format
    """

# MiniJSON: see smok_fast.minijson

class MiniJSONError(ValueError):
    """Base class of what goes wrong with MiniJSON."""

class EncodingError(MiniJSONError):
    """The object has no MiniJSON form; the message says why."""

class DecodingError(MiniJSONError):
    """The bytes cannot be decoded; the message says why and where."""

def dumps(obj: object, /) -> bytes:
    """Encode an object as MiniJSON, each value in its shortest form.

    :param obj: see :mod:`smok_fast.minijson` for what can be encoded
    :raises EncodingError: something in it cannot: its type, a text with a lone surrogate, an
        integer of more than 255 bytes, or more than 128 containers inside each other, as in a list
        that contains itself
    """

def loads(data: bytes | bytearray | memoryview, /) -> Any:
    """Decode MiniJSON that is all of the data.

    :param data: bytes, or anything with a buffer of unsigned bytes
    :raises DecodingError: it is no MiniJSON, or nothing Python can hold: a list or an object as a
        key, or more than 1024 keys that are integers beyond 64 bits
    """

# Orders: see smok_fast.pathpoint.orders

class Order:
    """Base class of all orders."""

    def __new__(cls) -> Order: ...

@final
class ReadOrder(Order):
    """An order to read a pathpoint.

    :param pathpoint: its name
    :param advise: how hard to try: 3 times for ADVISE, 20 times for FORCE
    :raises ValueError: there is no such advise level
    """

    def __new__(cls, pathpoint: str, advise: AdviseLevel) -> ReadOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> ReadOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    def fail(self) -> bool:
        """Count a try that failed.

        :return: whether to try again
        """

    @property
    def pathpoint(self) -> str:
        """The name of the pathpoint to read."""

    @property
    def advise(self) -> AdviseLevel:
        """How hard to try."""

    @property
    def repeat_count(self) -> int:
        """How many tries are left."""

@final
class WriteOrder(Order):
    """An order to write a value to a pathpoint.

    :param pathpoint: its name
    :param value: what to write; kept as it is given, coerced when it is written
    :param advise: how hard to try: once for ADVISE, 10 times for FORCE
    :param stale_after: when it is too late for it, in seconds since the epoch; never by default
    :raises ValueError: there is no such advise level
    """

    def __new__(
        cls,
        pathpoint: str,
        value: float | str,
        advise: AdviseLevel,
        stale_after: float | None = None,
    ) -> WriteOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> WriteOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    def fail(self) -> bool:
        """Count a try that failed.

        :return: whether to try again
        """

    def is_valid(self) -> bool:
        """Whether it is not too late for it."""

    @property
    def pathpoint(self) -> str:
        """The name of the pathpoint to write to."""

    @property
    def value(self) -> int | float | str:
        """What to write."""

    @property
    def advise(self) -> AdviseLevel:
        """How hard to try."""

    @property
    def stale_after(self) -> float | None:
        """When it is too late for it, in seconds since the epoch; None for never."""

    @property
    def repeat_count(self) -> int:
        """How many tries are left."""

@final
class MessageOrder(Order):
    """An order to tell the server that a message arrived. It is tried 3 times.

    :param uuid: the message's identifier
    """

    def __new__(cls, uuid: str) -> MessageOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> MessageOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    def fail(self) -> bool:
        """Count a try that failed.

        :return: whether to try again
        """

    @property
    def uuid(self) -> str:
        """The message's identifier."""

    @property
    def times_retry(self) -> int:
        """How many tries are left."""

@final
class WaitOrder(Order):
    """An order to wait. Of several in one section the longest counts.

    :param period: how long, in seconds
    :raises ValueError: it is negative, not a number, or longer than a clock can count (292 years)
    """

    def __new__(cls, period: float) -> WaitOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> WaitOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    @property
    def period(self) -> float:
        """How long to wait, in seconds."""

@final
class SysctlOrder(Order):
    """An order that the device's program defines the meaning of.

    :param op_type: what to do
    :param op_args: what to do it with
    """

    def __new__(cls, op_type: str, op_args: str) -> SysctlOrder: ...
    @classmethod
    def from_json(cls, dct: Mapping[str, Any]) -> SysctlOrder:
        """Build it from what the server sends.

        :raises KeyError: a field is missing
        :raises ValueError: a field makes no sense
        """

    @property
    def op_type(self) -> str:
        """What to do."""

    @property
    def op_args(self) -> str:
        """What to do it with."""

def decode_sections(body: bytes, minijson: bool) -> tuple[list[tuple[list[Order], int]], list[str]]:
    """Decode a list of sections.

    :param body: what the server sent
    :param minijson: whether it is MiniJSON, not JSON
    :return: for each section its orders and its disposition; and a line of text for each thing in
        the body that made no sense and was left out
    :raises DecodingError: the body is no list, or not in this format
    """

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

# Reparse expressions: see smok_fast.sensor.reparse

@final
class Expression:
    """A reparse expression, compiled.

    The language is that of Python's expressions over int, float and str, and so are the results:
    see :mod:`smok_fast.sensor.reparse`. Immutable; every method may be called by any thread.

    :param text: the expression, without the ``r`` and the type letter of a pathpoint's name
    :raises ReparseSyntaxError: the text is no expression of this language, is longer than 4096
        bytes or nested too deeply
    """

    def __new__(cls, text: str) -> Self: ...
    @property
    def text(self) -> str: ...
    @property
    def variables(self) -> tuple[str, ...]: ...
    def evaluate(self, values: Iterable[float | str], /) -> int | float | str | bool: ...
    def __call__(self, *values: float | str) -> int | float | str | bool: ...
    def evaluate_series(
        self,
        columns: Sequence[
            tuple[
                SupportsBuffer | Sequence[int],
                SupportsBuffer | Sequence[float | str | OperationFailedError],
            ]
        ],
    ) -> tuple[
        memoryview[int],
        memoryview[int]
        | memoryview[float]
        | list[int | float | str | bool | OperationFailedError],
    ]: ...
    def explain(self) -> str: ...
    def __reduce__(self) -> tuple[type[Self], tuple[str]]: ...
