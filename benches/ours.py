"""Our side of the benchmarks: ``ours.py ROW`` prints one figure. Everything goes through the public
classes; the executor is the device's own thread.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import workload
from workload import check, rate


def temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="smok-fast-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def offline_device(pp_database: object = None) -> object:
    from smok_fast.client import SMOKDevice
    from smok_fast.client.certificate import create_development_certificates
    from smok_fast.extras import InMemoryEventDatabase
    from smok_fast.pathpoint import Pathpoint

    class Offline(SMOKDevice):
        def provide_unknown_pathpoint(self, name: str, storage_level: object = None) -> object:
            return Pathpoint(self, name)

    folder = temporary_folder()
    made = create_development_certificates(folder, "bench")
    state = f"{folder}/state" if pp_database is None else InMemoryEventDatabase()
    return Offline(str(made.cert), str(made.key), state, pp_database, allow_sync=False)


def constant_pathpoints(device: object, count: int) -> list[object]:
    from smok_fast.pathpoint import Pathpoint

    class Constant(Pathpoint):
        def on_read(self, advise: object) -> int:
            return 21

    return [Constant(device, f"W1r{index}") for index in range(count)]


def execute() -> float:
    from smok_fast.pathpoint import AdviseLevel, ReadOrder, Section
    from smok_fast.pathpoint.orders import Disposition

    device = offline_device()
    pathpoints = constant_pathpoints(device, workload.PATHPOINTS)
    orders = [ReadOrder(pathpoint.name, AdviseLevel.ADVISE) for pathpoint in pathpoints]

    def work() -> None:
        # In sections that are not joined, since in those that are each pathpoint is read once
        sections = [Section(orders, Disposition.CANNOT_JOIN) for _ in range(workload.ROUNDS)]
        device.execute(*sections).result(60)

    count = workload.ROUNDS * len(orders)
    figure = rate(count, work)
    check(all(pathpoint.get()[1] == 21 for pathpoint in pathpoints), "values")
    recorded = device.pp_database.buffer.statistics()["recorded"]
    check(recorded == 6 * count, f"{recorded} recorded")
    device.close()
    return figure


def bare_loop() -> float:
    device = offline_device()
    pathpoints = constant_pathpoints(device, workload.PATHPOINTS)

    def loop() -> None:
        for _ in range(workload.ROUNDS):
            for pathpoint in pathpoints:
                pathpoint.on_read(0)

    figure = rate(workload.ROUNDS * len(pathpoints), loop)
    device.close()
    return figure


def set_new_value() -> float:
    device = offline_device()
    pathpoints = constant_pathpoints(device, 100)
    timestamp = workload.START

    def work() -> None:
        nonlocal timestamp
        for _ in range(workload.VALUES // 100):
            timestamp += 1
            for pathpoint in pathpoints:
                pathpoint.set_new_value(timestamp, 7)

    figure = rate(workload.VALUES, work)
    check(all(pathpoint.get() == (timestamp, 7) for pathpoint in pathpoints), "values")
    check(device.pp_database.buffer.statistics()["recorded"] == 6 * workload.VALUES, "recorded")
    device.close()
    return figure


def queue() -> float:
    from smok_fast._core import OrderQueue
    from smok_fast.pathpoint import Section

    order_queue, section = OrderQueue(), Section()

    def work() -> None:
        for _ in range(workload.SECTIONS):
            order_queue.put(section, True)
            if order_queue.take(1)[0] is not section:  # a call of check() would cost a third more
                check(False, "another section")

    return rate(workload.SECTIONS, work)


def decode() -> float:
    from smok_fast.pathpoint import WriteOrder
    from smok_fast.pathpoint.orders import sections_from_body

    body = workload.orders_body()
    figure = rate(workload.ORDERS, lambda: sections_from_body(body, "application/json"), 20)
    sections = sections_from_body(body, "application/json")
    check(sum(len(section.orders) for section in sections) == workload.ORDERS, "number of orders")
    last = sections[-1].orders[48]
    check(isinstance(last, WriteOrder) and last.value == 48 and last.pathpoint == "W1r48", "order")
    return figure


def decode_objects() -> float:
    from smok_fast.pathpoint.orders import sections_from_body

    body = workload.orders_body()

    def work() -> None:
        sections = sections_from_body(body, "application/json")
        count = sum(len(section.orders) for section in sections)
        check(count == workload.ORDERS, "number of orders")

    return rate(workload.ORDERS, work, 20)


def drained() -> tuple[list[bytes], float]:
    """The bodies of a backlog on disk, each acknowledged, and how much CPU time building them
    took.
    """
    from smok_fast.extras import BufferedPathpointDatabase
    from smok_fast.extras.pp_native import UPLOAD_BYTES

    database = BufferedPathpointDatabase(temporary_folder())
    device = offline_device(database)
    pathpoints, samples = workload.BODY
    step = 100 * samples
    values = array("q", range(300, 300 + samples))
    for run in range(workload.BACKLOG):
        first = workload.START + step * run
        for number in range(pathpoints):
            pathpoint = device.get_pathpoint(f"W1r{number}")
            pathpoint.set_new_values(array("q", range(first, first + step, 100)), values)
    database.flush()
    device.close()
    bodies, seconds = [], 0.0
    while True:
        started = time.process_time()
        upload = database.buffer.next_upload(UPLOAD_BYTES)
        seconds += time.process_time() - started
        if upload is None:
            break
        bodies.append(upload[0])
        database.buffer.acknowledge(upload[1])
    database.close()
    return bodies, seconds


def body() -> float:
    from smok_fast import minijson

    runs = [drained() for _ in range(3)]
    content: dict[str, list[object]] = {}
    for built in runs[0][0]:
        for entry in minijson.loads(built):
            content.setdefault(entry["path"], []).extend(entry["values"])
    check(len(content) == workload.BODY[0], "pathpoints in the bodies")
    count = workload.BODY[1]
    expected = [
        [workload.START + 100 * index, 300 + index % count]
        for index in range(workload.BACKLOG * count)
    ]
    check(all(values == expected for values in content.values()), "samples in the bodies")
    total = workload.BODY[0] * len(expected)
    return total / sorted(seconds for _, seconds in runs)[1]


def body_bytes() -> float:
    bodies, _ = drained()
    return sum(map(len, bodies)) / (workload.BODY[0] * workload.BODY[1] * workload.BACKLOG)


def ingested(rounds: list[dict[str, tuple[object, object]]]) -> tuple[object, float]:
    """A database on disk into which columns were recorded, and how much CPU time that took until
    all was durable.
    """
    from smok_fast.extras import BufferedPathpointDatabase

    database = BufferedPathpointDatabase(temporary_folder())
    device = offline_device(database)
    pathpoints = {name: device.get_pathpoint(name) for name in rounds[0]}
    started = time.process_time()
    for columns in rounds:
        for name, (timestamps, values) in columns.items():
            pathpoints[name].set_new_values(timestamps, values)
    database.flush()
    seconds = time.process_time() - started
    device.close()
    return database, seconds


def check_stored(database: object, rounds: list[dict[str, tuple[object, object]]]) -> int:
    """Check that a database has exactly these columns, after it was opened again; how many samples
    they are.
    """
    from smok_fast.extras import BufferedPathpointDatabase

    database.close()
    database = BufferedPathpointDatabase(database.path)
    total = 0
    for name in rounds[0]:
        timestamps, values = database.buffer.columns(name)
        check(list(timestamps) == [t for columns in rounds for t in columns[name][0]], "times")
        check(list(values) == [v for columns in rounds for v in columns[name][1]], "values")
        total += len(timestamps)
    database.close()
    return total


def ingest() -> float:
    rounds = list(workload.repeated(workload.registers()))
    runs = [ingested(rounds) for _ in range(3)]
    seconds = sorted(seconds for _, seconds in runs)[1]
    return check_stored(runs[0][0], rounds) / seconds


def ingest_bytes() -> float:
    rounds = list(workload.repeated(workload.registers()))
    database, _ = ingested(rounds)
    stored = database.statistics().bytes
    return stored / check_stored(database, rounds)


def ingest_noise_bytes() -> float:
    rounds = [workload.noise()]
    database, _ = ingested(rounds)
    stored = database.statistics().bytes
    return stored / check_stored(database, rounds)


def ingest_written() -> float:
    database, _ = ingested(list(workload.repeated(workload.registers())))
    figures = database.statistics()
    database.close()
    return figures.written_bytes / figures.bytes


def polled(seconds: int = 600) -> object:
    """A database into which the registers were recorded as they came, durable each second."""
    from smok_fast.extras import BufferedPathpointDatabase

    database = BufferedPathpointDatabase(temporary_folder())
    samples = sorted(
        (timestamp, name, value)
        for name, (timestamps, values) in workload.registers().items()
        for timestamp, value in zip(timestamps, values, strict=True)
        if timestamp < 1_764_000_000_000 + 1_000 * seconds
    )
    second = 0
    for timestamp, name, value in samples:
        if timestamp // 1_000 != second:
            database.flush()
            second = timestamp // 1_000
        database.on_new_data(name, timestamp, value)
    database.flush()
    return database


def polled_bytes() -> float:
    database = polled()
    figures = database.statistics()
    check(figures.volatile == 0, "not durable")
    database.close()
    return figures.bytes / figures.recorded


def arrays() -> float:
    device = offline_device()
    pathpoint = device.get_pathpoint("W1r1")
    values = array("q", (index // 10 % 500 for index in range(1_000_000)))
    columns = [
        array(
            "q",
            range(
                workload.START + 1_000_000_000 * run,
                workload.START + 1_000_000_000 * run + 1_000_000,
            ),
        )
        for run in range(6)
    ]
    remaining = iter(columns)
    figure = rate(len(values), lambda: pathpoint.set_new_values(next(remaining), values))
    check(pathpoint.get() == (columns[-1][-1], values[-1]), "value")
    device.close()
    return figure


def buffer_memory() -> float:
    """Bytes of memory for each sample that waits in memory."""
    from smok_fast.extras import InMemoryPathpointDatabase

    columns = workload.registers()
    database = InMemoryPathpointDatabase(capacity=1 << 40)
    device = offline_device(database)
    pathpoints = {name: device.get_pathpoint(name) for name in columns}
    before = None
    for later in workload.repeated(columns):
        for name, (timestamps, values) in later.items():
            pathpoints[name].set_new_values(timestamps, values)
        if before is None:  # what the first round takes is the code's, mostly
            before, first = workload.resident_megabytes(), database.statistics().kept
    figures = database.statistics()
    check(figures.pending == figures.kept == figures.recorded, "samples kept")
    return (workload.resident_megabytes() - before) * 1024 * 1024 / (figures.kept - first)


def reopen() -> float:
    """Seconds to open a buffer of 100 M samples."""
    from smok_fast.extras import BufferedPathpointDatabase

    database = BufferedPathpointDatabase(temporary_folder())
    device = offline_device(database)
    count, names = 100_000, [f"W1r{number}" for number in range(100)]
    values = array("q", (500 + index * 7919 % 97 // 24 for index in range(count)))
    for run in range(workload.REOPENED // count // len(names)):
        timestamps = array(
            "q",
            range(
                workload.START + 1_000 * count * run,
                workload.START + 1_000 * count * (run + 1),
                1_000,
            ),
        )
        for name in names:
            device.get_pathpoint(name).set_new_values(timestamps, values)
    database.close()
    device.close()
    before = workload.resident_megabytes()
    started = time.perf_counter()
    database = BufferedPathpointDatabase(database.path)
    seconds = time.perf_counter() - started
    check(database.report.samples == database.report.pending == workload.REOPENED, "samples")
    check(workload.resident_megabytes() - before < 20, "memory stays flat")
    database.close()
    return seconds


def answer() -> tuple[object, bytes]:
    from smok_fast._core import ModbusClient, ModbusRequest, ModbusServer

    request = ModbusRequest(1, 3, 0, 125)
    sent = ModbusClient().begin(request)
    (query,) = ModbusServer().feed(sent)
    return query, query.answer(workload.REGISTERS)


def modbus_decode() -> float:
    from smok_fast._core import ModbusClient, ModbusRequest, ModbusServer

    request = ModbusRequest(1, 3, 0, 125)
    client, server = ModbusClient(), ModbusServer()
    answers = []
    for _ in range(2_000):
        (query,) = server.feed(client.begin(request))
        answers.append(query.answer(workload.REGISTERS))

    def work() -> None:
        reader = ModbusClient()
        for frame in answers:
            reader.begin(request)
            check(len(reader.feed(frame)) == 125, "registers")

    figure = rate(len(answers), work)
    reader = ModbusClient()
    reader.begin(request)
    check(reader.feed(answers[0]) == workload.REGISTERS, "values")
    return figure


def modbus_encode() -> float:
    query, frame = answer()
    figure = rate(2_000, lambda: [query.answer(workload.REGISTERS) for _ in range(2_000)])
    check(frame[9:13] == bytes([0, 0, 0, 7]), "registers")
    return figure


def reparse_get() -> float:
    device = offline_device()
    constant_pathpoints(device, 3)
    for number, value in ((1, 20), (2, 22)):
        device.get_pathpoint(f"W1r{number}").set_new_value(workload.START + number, value)
    get = device.get_pathpoint(workload.REPARSE_PATHPOINT).get

    def work() -> None:
        for _ in range(workload.GETS):
            get()

    figure = rate(workload.GETS, work)
    check(get() == (workload.START + 2, 42), "value")
    device.close()
    return figure


def reparse_expression() -> float:
    from smok_fast.sensor.reparse import Expression

    expression = Expression(workload.REPARSE_EXPRESSION)
    values = workload.REPARSE_VALUES

    def work() -> None:
        for _ in range(workload.EVALUATIONS):
            expression.evaluate(values)

    figure = rate(workload.EVALUATIONS, work)
    check(expression.evaluate(values) == workload.REPARSE_RESULT, "value")
    return figure


def reparse_series() -> float:
    from array import array

    from smok_fast.sensor.reparse import Expression

    expression = Expression(workload.REPARSE_EXPRESSION)
    first = range(workload.START, workload.START + 2 * workload.SERIES, 2)
    second = range(workload.START, workload.START + 4 * workload.SERIES, 4)
    columns = [
        (array("q", first), array("d", (float(index % 1000) for index in range(len(first))))),
        (array("q", second), array("d", (float(index % 700) for index in range(len(second))))),
    ]
    points = 2 * workload.SERIES
    figure = rate(points, lambda: expression.evaluate_series(columns))
    timestamps, results = expression.evaluate_series(columns)
    check(list(timestamps) == sorted({*first, *second}), "timestamps")
    values = [dict(zip(*column, strict=True)) for column in columns]
    latest = [0.0, 0.0]
    for timestamp, result in zip(timestamps, results, strict=True):
        latest = [column.get(timestamp, old) for column, old in zip(values, latest, strict=True)]
        a, b = latest
        check(result == 2 * max(a - b / 10, 0.0), f"value at {timestamp}")
    return figure


@contextlib.contextmanager
def ngtt_server() -> Iterator[tuple[object, object, int]]:
    """The server of the latency rows in a process of its own: certificates, and its port."""
    from smok_fast.client.certificate import (
        create_development_certificates,
        create_server_certificate,
    )

    folder = tempfile.mkdtemp(prefix="smok-fast-bench-")
    device = create_development_certificates(folder, "bench")
    server = create_server_certificate(folder)
    script = Path(__file__).parent / "peers" / "ngtt_server.py"
    arguments = [server.cert, server.key, device.ca_cert, workload.PUSHES]
    with subprocess.Popen(
        [sys.executable, script, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    ) as process:
        yield device, int(process.stdout.readline())


def latencies(*, beside_hung_bus: bool = False) -> list[float]:
    """Milliseconds from the server's sending of an order to its on_write.

    :param beside_hung_bus: whether a read of another pathpoint has begun and does not end
    """
    from smok_fast.client import SMOKDevice
    from smok_fast.pathpoint import AdviseLevel, Pathpoint

    done, times = threading.Event(), []

    class Hung(Pathpoint):
        def on_read(self, advise: object) -> Future[float]:
            return Future()

    class Timed(Pathpoint):
        def on_write(self, value: float, advise: object) -> None:
            times.append((time.monotonic_ns() - value) / 1e6)
            if len(times) == workload.PUSHES:
                done.set()

    with ngtt_server() as (made, port):
        device = SMOKDevice(
            str(made.cert), str(made.key), f"{temporary_folder()}/state", url="http://127.0.0.1:1",
            use_ngtt=True, ngtt=f"127.0.0.1:{port}", ca_certs=made.ca_cert, delayed_boot=True,
        )  # fmt: skip
        Timed(device, "d1")
        if beside_hung_bus:
            device.execute(Hung(device, "d2").read(AdviseLevel.FORCE))
        device.continue_boot()
        check(done.wait(60), "orders are missing")
        device.close()
    return times


def bare_latencies() -> list[float]:
    """The same to the return of a blocking read, and of the decoder, in a program that does nothing
    else.
    """
    import socket

    from smok_fast._core import NGTTDecoder
    from smok_fast.minijson import loads
    from smok_fast.ngtt.protocol import NGTTFrame, NGTTHeaderType
    from smok_fast.ngtt.uplink.connection import client_context

    times, decoder = [], NGTTDecoder()
    with ngtt_server() as (made, port):
        context = client_context(made.cert, made.key, made.ca_cert)
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.sendall(bytes(NGTTFrame(0, NGTTHeaderType.FETCH_ORDERS)))
            while len(times) < workload.PUSHES:
                for tid, _, data in decoder.feed(connection.recv(65536)):
                    sent = loads(data)[0]["orders"][0]["value"]
                    times.append((time.monotonic_ns() - sent) / 1e6)
                    connection.sendall(bytes(NGTTFrame(tid, NGTTHeaderType.ORDER_CONFIRM)))
    return times


def percentile(times: list[float], share: float) -> float:
    check(len(times) == workload.PUSHES and min(times) > 0, "latencies")
    return sorted(times)[int(share * len(times))]


def import_() -> float:
    return workload.import_seconds("smok_fast.client")


def memory() -> float:
    device = offline_device()
    figure = workload.resident_megabytes()
    device.close()
    return figure


MEASUREMENTS: dict[str, Callable[[], float]] = {
    "execute": execute,
    "bare_loop": bare_loop,
    "set_new_value": set_new_value,
    "queue": queue,
    "decode": decode,
    "decode_objects": decode_objects,
    "body": body,
    "body_bytes": body_bytes,
    "arrays": arrays,
    "ingest": ingest,
    "ingest_bytes": ingest_bytes,
    "ingest_noise_bytes": ingest_noise_bytes,
    "ingest_written": ingest_written,
    "polled_bytes": polled_bytes,
    "buffer_memory": buffer_memory,
    "reopen": reopen,
    "modbus_decode": modbus_decode,
    "modbus_encode": modbus_encode,
    "reparse_get": reparse_get,
    "reparse_expression": reparse_expression,
    "reparse_series": reparse_series,
    "ngtt_latency": lambda: percentile(latencies(), 0.5),
    "ngtt_latency_p99": lambda: percentile(latencies(), 0.99),
    "ngtt_latency_hung": lambda: percentile(latencies(beside_hung_bus=True), 0.5),
    "ngtt_bare": lambda: percentile(bare_latencies(), 0.5),
    "ngtt_bare_p99": lambda: percentile(bare_latencies(), 0.99),
    "import": import_,
    "memory": memory,
}

if __name__ == "__main__":
    print(MEASUREMENTS[sys.argv[1]]())
