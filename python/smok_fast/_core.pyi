"""The native core of smok_fast. Use the modules of smok_fast instead of this one."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Self, final, overload

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
from smok_fast.threads.execution import Execution

__all__ = [
    "ArchiveSchedule",
    "Buffer",
    "BufferVerification",
    "Computation",
    "DecodedOrders",
    "DecodingError",
    "EncodingError",
    "Expression",
    "MessageOrder",
    "MiniJSONError",
    "ModbusBlock",
    "ModbusClient",
    "ModbusPlanner",
    "ModbusQuery",
    "ModbusRequest",
    "ModbusServer",
    "NGTTDecoder",
    "Order",
    "OrderQueue",
    "OrderRunner",
    "PathpointCore",
    "ReadOrder",
    "RegisterName",
    "SampleIterator",
    "SampleSweep",
    "SysctlOrder",
    "WaitOrder",
    "WriteOrder",
    "change_anything",
    "decode_sections",
    "dumps",
    "encode_ngtt_frame",
    "encode_section",
    "loads",
    "longest_wait",
    "record_result",
    "record_results",
]

# Buffer, queue, schedule

@final
class Buffer:
    """Samples from their recording until the server has them. Every method may be called by any
    thread.

    :param capacity: how many samples are kept at most; with 0, only the latest value of each
        pathpoint is
    """

    def __new__(cls, capacity: int = ...) -> Buffer: ...
    @staticmethod
    def open(
        folder: str | os.PathLike[str],
        *,
        durability: float,
        segment_bytes: int,
        max_bytes: int,
        reserve_bytes: int,
        trend_for: float,
        memory_bytes: int,
        oldest_first: bool,
    ) -> Buffer:
        """Open the buffer in a folder, or make one.

        :param folder: path of the folder
        :param durability: seconds of recording that a power cut may cost; with 0, each call commits
        :param segment_bytes: about how long a segment becomes
        :param max_bytes: how long all segments may be together
        :param reserve_bytes: how many bytes of the disk are left to others
        :param trend_for: for how many seconds samples of level TREND are kept once the server has
            them
        :param memory_bytes: how many bytes wait in memory while the disk does not work
        :param oldest_first: whether the oldest samples are uploaded before fresh ones
        :raises BlockingIOError: another process has it open
        """
    @staticmethod
    def look_at(folder: str | os.PathLike[str]) -> Buffer:
        """Look at the buffer in a folder, which somebody else may be writing to; nothing is
        changed.

        :raises OSError: the folder cannot be read
        """
    def record(self, name: str, timestamp: float, reading: ValueOrExcept) -> bool:
        """Record a sample of a pathpoint.

        :param name: the pathpoint's name
        :param timestamp: milliseconds since the epoch
        :param reading: a value, or an OperationFailedError
        :return: False if the timestamp is not above that of the latest sample: then nothing was
            recorded
        :raises ValueError: the name declares no type, or the value is none that the pathpoint can
            hold
        """
    def latest(self, name: str) -> tuple[int, ValueOrExcept] | None:
        """The latest sample of a pathpoint; None before the first."""
    def counts(self, name: str) -> tuple[int, int]:
        """How many samples of a pathpoint are known to have been recorded, and how many of them are
        done with.
        """
    def names(self) -> list[str]:
        """Names of all pathpoints that have samples."""
    def range(
        self, name: str, start: float | None = None, stop: float | None = None
    ) -> SampleIterator:
        """The samples of a pathpoint with start <= timestamp <= stop, in the order of recording."""
    @overload
    def columns(
        self,
        name: str,
        start: float | None = None,
        stop: float | None = None,
        *,
        exact: Literal[False] = False,
    ) -> tuple[memoryview[int], memoryview[Any]]: ...
    @overload
    def columns(
        self,
        name: str,
        start: float | None = None,
        stop: float | None = None,
        *,
        exact: Literal[True],
    ) -> tuple[memoryview[int], Sequence[Any]]:
        """The same as two columns: timestamps as 64-bit integers, and values as doubles, or as
        integers if all values are; a failed read is NaN.

        :param exact: rather give a list of values and OperationFailedErrors than a number that
            stands for something else
        :raises TypeError: the pathpoint holds texts, and the columns are not to be exact
        """
    def sweep(
        self,
        names: list[str] | None = None,
        start: float | None = None,
        stop: float | None = None,
    ) -> SampleSweep:
        """The samples of many pathpoints with start <= timestamp <= stop, in the order of
        recording: everything is read once.

        :param names: names of pathpoints, None for all
        :param start: milliseconds since the epoch, None for the oldest
        :param stop: milliseconds since the epoch, None for the newest
        """
    def survey(self) -> list[tuple[str, int, int, int, int]]:
        """What is kept of each pathpoint, in no order.

        :return: name, samples kept, samples that the server lacks, timestamps of the first one and
            of the last one in milliseconds since the epoch
        """
    def next_upload(self, max_bytes: int) -> tuple[bytes, int, int, bool] | None:
        """The next upload; the same one again while it is neither acknowledged nor rejected.

        :param max_bytes: about how long the body may be; one sample is sent in any case
        :return: MiniJSON body, token, number of samples, and whether it is to be set aside if the
            server rejects it; None if there is nothing to upload
        :raises OSError: what waits cannot be read now
        :raises ValueError: a text is longer than MiniJSON can say
        """
    def acknowledge(self, token: int) -> bool:
        """Note that the server has the samples of an upload; durable when it returns.

        :return: False if that upload is not the one that is out
        """
    def set_aside(self, token: int) -> bool:
        """Note that the samples of an upload are kept elsewhere since the server rejects them;
        durable when it returns.

        :return: False if that upload is not the one that is out
        """
    def refuse(self, token: int, rejected: bool = False) -> bool:
        """Note that the server does not have the samples of an upload.

        :param rejected: whether it refused the content, so that smaller uploads are to be tried;
            otherwise the same one is tried again
        :return: False if that upload is not the one that is out
        """
    def wait(self, timeout: float, for_data: bool = True) -> bool:
        """Wait without the GIL until wake() or, with for_data, until there is something to upload.

        :param timeout: seconds to wait at most
        :param for_data: whether data ends the wait
        :return: whether there is something to upload
        """
    def wake(self) -> None:
        """End the present wait(), or else the next one."""
    def flush(self) -> None:
        """Return once everything that was recorded before is durable.

        :raises OSError: it is not; it stays in memory, and is tried again later
        """
    def close(self) -> None:
        """Make durable what is not, end the buffer's thread, and give the folder back.

        :raises OSError: something could not be made durable
        """
    def take_events(self) -> list[tuple[str, str]]:
        """What happened that people should be told about, since the last call.

        :return: (what, detail): ``failed`` and why, ``recovered``, ``dropping``, ``damaged`` and
            where, ``unreadable`` and why, ``lost`` and how many samples, ``clock`` and by how many
            milliseconds stamps move
        """
    def report(self) -> dict[str, Any]:
        """What was found when it was opened; see smok_fast.extras.BufferReport."""
    def statistics(self) -> dict[str, Any]:
        """The figures of the buffer; see smok_fast.extras.BufferStatistics."""

@final
class SampleIterator:
    """Samples of one pathpoint, fetched from the buffer in pieces."""

    def __iter__(self) -> SampleIterator: ...
    def __next__(self) -> tuple[int, ValueOrExcept]: ...

@final
class SampleSweep:
    """Samples of many pathpoints in the order of recording, fetched from the buffer in pieces."""

    def __iter__(self) -> SampleSweep: ...
    def __next__(self) -> list[tuple[str, list[tuple[int, ValueOrExcept]]]]:
        """The next samples, maybe none: for each pathpoint that has some its name, timestamps and
        readings.
        """
    def progress(self) -> tuple[int, int]:
        """Bytes of segments that have been read, roughly, and of all that are to be."""
    @property
    def corrupt(self) -> int:
        """How many frames made no sense in spite of their check sums, so that samples were left
        out.
        """

@final
class BufferVerification:
    """Checks the files of a buffer one after the other. The buffer may be in use; nothing is
    changed.

    :param folder: path of the buffer's folder
    :raises OSError: the folder cannot be read
    """

    def __new__(cls, folder: str | os.PathLike[str]) -> BufferVerification: ...
    def __iter__(self) -> BufferVerification: ...
    def __next__(self) -> dict[str, Any]:
        """What was found in the next file; see smok_fast.cli.buffer_verify.FileCheck."""
    def bytes_left(self) -> int:
        """How long all files are together that are still to be read."""

@final
class OrderQueue:
    """What waits for the order executor. Every method may be called by any thread."""

    def __new__(cls) -> OrderQueue: ...
    def put(self, item: Section, joinable: bool, poll: bool = False) -> None:
        """Put a section at the end of the queue.

        :param item: the section
        :param joinable: whether it may be taken together with joinable neighbours
        :param poll: whether it is a poll, to be taken only when nothing else waits
        :raises RuntimeError: the queue is closed
        """
    def take(self, timeout: float | None = None) -> list[Section]:
        """Take the next sections, waiting for them without the GIL.

        :param timeout: seconds to wait at most, None for ever
        :return: the sections; none when the time ran out, after interrupt(), or when the queue is
            closed and empty
        """
    def take_polls(self, timeout: float | None = None) -> list[Section]:
        """Take the next polls, waiting for them without the GIL, while orders stay where they are.

        :param timeout: seconds to wait at most, None for ever
        :return: as with take()
        """
    def interrupt(self) -> None:
        """End the present take() or take_polls(), or else the next one."""
    def close(self) -> None:
        """Refuse further sections and wake everyone who waits."""
    def __len__(self) -> int: ...

@final
class ArchiveSchedule:
    """Which pathpoints are to be read when. Every method may be called by any thread."""

    def __new__(cls) -> ArchiveSchedule: ...
    def replace(self, entries: list[tuple[PathpointCore, float]]) -> None:
        """Replace the whole list; what stays with the same interval keeps its rhythm.

        :param entries: pathpoints with their intervals in seconds
        :raises InstanceNotReady: a pathpoint is attached to no device
        """
    def due(self) -> list[str]:
        """The names of the pathpoints that are due now. Each is due again only when its read has
        ended.
        """
    def wait(self, timeout: float) -> None:
        """Wait without the GIL until something is due, the list changes, or close().

        :param timeout: seconds to wait at most
        """
    def close(self) -> None:
        """End the present wait and every later one."""
    @property
    def overruns(self) -> int:
        """How many polls were left out because the one before had not ended."""
    def __len__(self) -> int: ...

# Pathpoints and their execution

@disjoint_base
class PathpointCore:
    """The native part of a pathpoint. Every method may be called by any thread."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def _identify(self, name: str) -> None:
        """Set the name, once.

        :raises ValueError: the name declares no type
        """
    def _attach(
        self,
        buffer: Buffer,
        store: BasePathpointDatabase | None,
        can_read: bool,
        set_new_value: bool,
    ) -> None:
        """Attach the pathpoint to a device's buffer, once.

        :param buffer: the device's buffer
        :param store: a database that gets the samples instead, or None
        :param can_read: whether the class replaces can_read
        :param set_new_value: whether the class replaces set_new_value
        :raises RuntimeError: it is attached already
        """
    def _compute_by(self, computation: Computation) -> None:
        """Have ``get`` compute the value, once."""
    def _remember(self, timestamp: float, object: ValueOrExcept) -> None:
        """Take over what a store remembers from before: a sample that is not recorded again."""
    def _end_poll(self) -> None:
        """Note that a read ended without giving a value."""
    @property
    def name(self) -> str: ...
    @property
    def current_timestamp(self) -> int | None: ...
    @property
    def current_value(self) -> ValueOrExcept | None: ...
    @property
    def last_read(self) -> float:
        """When the last sample came, in seconds of time.monotonic(); 0 before the first."""
    callable_on_change: Callable[[Any], None] | None
    read_no_often_than: float | None
    read_group: ReadGroup | None
    storage_level: Any
    def can_read(self) -> bool:
        """Whether the pathpoint may be read now. Called by OrderExecutorThread before each read.

        :return: whether read_no_often_than seconds have passed since the last value
        """
    def get(self) -> tuple[int, PathpointValueType]:
        """The latest value. May be called by any thread.

        :return: (milliseconds since the epoch, value)
        :raises NotReadedError: it has not been read yet
        :raises OperationFailedError: the last read failed
        :raises InstanceNotReady: it is attached to no device
        """
    def set_new_value(self, *args: Any) -> None:
        """Record a value that came by itself, not from a read. May be called by any thread.

        ``set_new_value(timestamp, value)`` or ``set_new_value(OperationFailedError(...))``. A
        timestamp that is not above the current one is ignored with a UserWarning; a value that the
        pathpoint cannot hold is logged, and is a failure with reason TYPE.

        :param timestamp: milliseconds since the epoch, as in ``time.time_ns() // 1_000_000``. That
            it is none in seconds is not checked: such a value is of January 1970, and everything
            that is recorded in milliseconds is newer
        :param value: the value, or an OperationFailedError
        :raises InstanceNotReady: it is attached to no device
        """
    def set_new_values(self, timestamps: Any, values: Any) -> int:
        """Record many values at once. May be called by any thread.

        Those that are not newer than the ones before are left out and counted; a value that the
        pathpoint cannot hold is logged, and is a failure with reason TYPE.

        :param timestamps: milliseconds (not seconds, see above) since the epoch, rising: a buffer
            of format ``q``, such as ``array.array("q")`` or a NumPy array of int64, or a sequence
            of int
        :param values: as many values: a buffer of format ``q`` or ``d``, or a sequence of values
            and OperationFailedErrors
        :return: how many were recorded
        :raises ValueError: there are not as many values as timestamps
        :raises InstanceNotReady: it is attached to no device
        """

@final
class OrderRunner:
    """Runs the reads and writes of sections. Called by the order executor thread; stop by any."""

    def __new__(cls) -> OrderRunner: ...
    def stop(self) -> None:
        """Make the present run() return after the order that it is at, and every later one at
        once.
        """
    def begin_batch(self) -> None:
        """Have every pathpoint read anew from here on, although it has just been read."""
    def run(
        self,
        orders: list[Order] | DecodedOrders,
        start: int,
        pathpoints: dict[str, Pathpoint],
        held: dict[str, Any],
        execution: Execution,
    ) -> int:
        """Run reads and writes until an order of another type, or the end.

        :param orders: the orders of a section
        :param start: index of the first one to run
        :param pathpoints: the device's pathpoints by name
        :param held: names of the pathpoints that are not to be written to
        :param execution: who is told about everything but plain values
        :return: index of the first order that was not run
        """

def record_result(pathpoint: PathpointCore, result: ReadResult) -> bool:
    """Record the result of one read.

    :param pathpoint: the pathpoint that was read
    :param result: a value, an OperationFailedError, or None if it was not read
    :return: whether it failed
    """

def record_results(pathpoints: list[Pathpoint], results: Sequence[ReadResult]) -> list[int]:
    """Record the results of a read group.

    :param pathpoints: the pathpoints that were read
    :param results: for each, a value, an OperationFailedError, or None if it was not read
    :return: indices of those that failed
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
    """Base class of all orders. They are made by any thread: of those of the server, by the one
    that looks at them first.
    """

    def __new__(cls) -> Order: ...

@final
class ReadOrder(Order):
    """An order to read a pathpoint.

    Its methods may be called by any thread. ``fail`` is called by OrderExecutorThread, or by an
    execution loop of yours.

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

    Its methods may be called by any thread. ``fail`` is called by OrderExecutorThread, or by an
    execution loop of yours.

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

    Its methods may be called by any thread. ``fail`` is called by CommunicatorThread, or by an
    execution loop of yours.

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
    """An order to wait. Of several in one section the longest counts. May be used by any thread.

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
    """An order that the device's program defines the meaning of. May be used by any thread.

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

@final
class DecodedOrders:
    """The orders of one section as they came from the server. May be used by any thread."""

    def objects(self) -> list[Order]:
        """The orders as objects, in a list that is the same at each call. From the first call on
        the orders are what is in that list, whatever is done to it.
        """
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Order: ...

def decode_sections(
    body: bytes, minijson: bool
) -> tuple[list[tuple[DecodedOrders, int]], list[str]]:
    """Decode a list of sections.

    :param body: what the server sent
    :param minijson: whether it is MiniJSON, not JSON
    :return: for each section its orders and its disposition; and a line of text for each thing in
        the body that made no sense and was left out
    :raises DecodingError: the body is no list, or not in this format
    """

def encode_section(orders: list[Order] | DecodedOrders, joinable: bool) -> bytes:
    """Encode a section as the server sends it over NGTT.

    :param orders: its orders
    :param joinable: whether it may be joined with its neighbours
    :return: a list of one section, in MiniJSON
    :raises EncodingError: a value of a write has no form in MiniJSON
    :raises TypeError: the server knows no such order
    """

def longest_wait(orders: list[Order] | DecodedOrders) -> float | None:
    """The longest wait among orders.

    :param orders: orders of a section
    :return: how long it is, in seconds; None if there is none
    """

def change_anything(orders: list[Order] | DecodedOrders) -> bool:
    """Whether orders change anything: whether there is a write or a sysctl among them.

    :param orders: orders of a section
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

@final
class RegisterName:
    """What the name of a MODBUS pathpoint says; see :mod:`smok_fast.modbus.names`. It does not
    change, and may be used by any thread.

    :param name: name of the pathpoint, as ``W1r4002``
    :raises ValueError: it is not the name of a register; the message says why
    """

    def __new__(cls, name: str) -> RegisterName: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    @property
    def type(self) -> str:
        """The type letter: B, W, w, f or d."""
    @property
    def unit(self) -> int:
        """Unit identifier."""
    @property
    def table(self) -> int:
        """The table, as a :class:`smok_fast.modbus.Table` says it."""
    @property
    def address(self) -> int:
        """First address, counted from 0."""
    @property
    def count(self) -> int:
        """How many registers or bits hold the value."""
    @property
    def is_writable(self) -> bool:
        """Whether MODBUS has functions that write the table."""
    def decode(self, values: Iterable[int]) -> int | float:
        """The value that these registers or bits hold.

        :param values: as many as :attr:`count` says
        :raises ValueError: they are not, or they are a float that is NaN or infinite, which no
            pathpoint can be
        """
    def encode(self, value: object) -> list[int]:
        """The registers or bits that hold a value.

        :param value: a value of the type
        :raises ValueError: the type cannot hold it
        """
    def read_request(self) -> ModbusRequest:
        """The request that reads it."""
    def write_request(self, value: object) -> ModbusRequest:
        """The request that writes a value: function 5 for a coil, 6 for one register, 16 for
        several.

        :param value: a value of the type
        :raises ValueError: the type cannot hold it, or the table can only be read
        """

@final
class ModbusPlanner:
    """Plans the reading of registers in as few requests as possible. It belongs to one thread.

    :param max_gap: how many unwanted registers may be read in a row to save a request
    """

    def __new__(cls, max_gap: int) -> ModbusPlanner: ...
    def plan(self, registers: list[RegisterName]) -> list[ModbusBlock]:
        """The blocks that read these registers."""
    def cut_before(self, block: ModbusBlock) -> None:
        """Never again read the beginning of this block together with what lies before it."""
    def cut_around(self, block: ModbusBlock) -> None:
        """Never again read this block together with anything else."""

@final
class ModbusBlock:
    """What one request of a plan reads."""

    @property
    def request(self) -> ModbusRequest:
        """The request that reads it."""
    @property
    def indices(self) -> list[int]:
        """Which registers it reads: their indices in the list that was planned."""
    def decode(self, values: list[int]) -> list[int | float | None]:
        """The values of its registers, in the order of :attr:`indices`; None for a float that is
        NaN or infinite.

        :param values: what the request has read
        """
    def halves(self) -> tuple[ModbusBlock, ModbusBlock] | None:
        """Two blocks that read the same; None if it cannot be divided."""

# NGTT

@final
class NGTTDecoder:
    """Cuts what one side of an NGTT connection receives into frames. Every method may be called by
    any thread.

    It holds no more than one frame, and of that no more than has arrived.

    :param max_data: the longest data that a frame may carry, in bytes; 1 MiB by default
    """

    def __new__(cls, max_data: int = ...) -> NGTTDecoder: ...
    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Take the next bytes of the stream.

        :return: transaction ID, type and data of each frame that they complete. Those in front of
            a fault are among them; after it, which :attr:`error` shows, there are none
        """
    @property
    def is_between_frames(self) -> bool:
        """Whether the next byte can only begin a new frame: nothing is left over, nothing was
        wrong.
        """
    @property
    def error(self) -> str | None:
        """What is wrong with the stream, for good; None while nothing is."""

def encode_ngtt_frame(tid: int, packet_type: int, data: bytes) -> bytes:
    """The bytes of a frame.

    :param tid: transaction ID
    :param packet_type: type of the frame
    :param data: what it carries
    :raises OverflowError: the transaction ID or the type does not fit 16 bits
    :raises ValueError: the data is 4 GiB or longer
    """

# Reparse expressions: see smok_fast.sensor.reparse

@final
class Computation:
    """The present value of a reparse pathpoint: an expression over the latest values of others.

    May be called by any thread.

    :param expression: the expression
    :param name: name of the reparse pathpoint, which declares the type of its values
    :param pathpoints: the pathpoints of the expression's variables, in their order
    :raises ValueError: the name declares no type, or there are too few or too many pathpoints
    """

    def __new__(
        cls, expression: Expression, name: str, pathpoints: Sequence[Pathpoint]
    ) -> Computation: ...
    def compute(self) -> tuple[int, PathpointValueType]:
        """Compute the value.

        :return: the newest constituent's timestamp in milliseconds since the epoch (now if there
            are none), and the value
        :raises NotReadedError: a constituent has not been read yet
        :raises OperationFailedError: a constituent's last read failed
        :raises ReparseError: the expression has no value for these; it has that timestamp
        """

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
    def evaluate_as(
        self, name: str, values: Iterable[float | str], /
    ) -> int | float | str | bool: ...
    def __call__(self, *values: float | str) -> int | float | str | bool: ...
    def evaluate_series(
        self,
        columns: Sequence[
            tuple[
                SupportsBuffer | Sequence[int],
                SupportsBuffer | Sequence[float | str | OperationFailedError],
            ]
        ],
        letter: str | None = None,
    ) -> tuple[
        memoryview[int],
        memoryview[int] | memoryview[float] | list[int | float | str | bool | OperationFailedError],
    ]: ...
    def explain(self) -> str: ...
    def __reduce__(self) -> tuple[type[Self], tuple[str]]: ...
