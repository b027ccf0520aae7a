"""The reference client's side of the benchmarks: ``smok`` 0.21, run by ``.bench-venv``.

It is driven through its own classes: its executor's ``process_orders`` with a device that has its
in-memory database, no communicator and no network.
"""

import json
import queue as stdlib_queue
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.dont_write_bytecode = True

import workload
from workload import check, rate

warnings.simplefilter("ignore")


class Device:
    """What the reference's executor and pathpoints need of a device."""

    getter = None

    def __init__(self):
        from smok.extras.pp_database.in_memory import InMemoryPathpointDatabase

        self.pp_database = InMemoryPathpointDatabase()
        self.pathpoints = {}

    def register_pathpoint(self, pathpoint):
        self.pathpoints[pathpoint.name] = pathpoint

    def get_pathpoint(self, path, storage_level=None):
        if path[0] == "r":
            raise KeyError(path)
        return self.pathpoints[path]


def constant_pathpoints(device, count):
    from smok.pathpoint import Pathpoint

    class Constant(Pathpoint):
        def on_read(self, advise):
            return 21

    return [Constant(device, f"W1r{index}") for index in range(count)]


def execute():
    import itertools

    from smok.pathpoint import AdviseLevel, ReadOrder
    from smok.threads import executor
    from smok.threads.executor import OrderExecutorThread

    # It drops, with a warning, the second sample of a millisecond: a counter in its clock's place
    # lets it keep them all.
    executor.time_ms = itertools.count(workload.START).__next__

    device = Device()
    pathpoints = constant_pathpoints(device, workload.PATHPOINTS)
    thread = OrderExecutorThread(device, stdlib_queue.Queue(), device.pp_database)
    orders = [
        ReadOrder(pathpoint.name, AdviseLevel.ADVISE)
        for _ in range(workload.ROUNDS)
        for pathpoint in pathpoints
    ]
    figure = rate(len(orders), lambda: thread.process_orders(orders))
    check(all(pathpoint.get()[1] == 21 for pathpoint in pathpoints), "values")
    kept = sum(map(len, device.pp_database.pathpoints.values()))
    check(kept == 6 * len(orders), f"{kept} recorded")
    return figure


def set_new_value():
    device = Device()
    pathpoints = constant_pathpoints(device, 100)
    timestamp = workload.START

    def work():
        nonlocal timestamp
        for _ in range(workload.VALUES // 100):
            timestamp += 1
            for pathpoint in pathpoints:
                pathpoint.set_new_value(timestamp, 7)

    figure = rate(workload.VALUES, work)
    check(all(pathpoint.get() == (timestamp, 7) for pathpoint in pathpoints), "values")
    return figure


def queue():
    from satella.coding.concurrent import PeekableQueue
    from smok.pathpoint import Section

    order_queue, section = PeekableQueue(), Section()

    def work():
        for _ in range(workload.SECTIONS // 10):
            order_queue.put(section)
            if order_queue.get(1) is not section:
                check(False, "another section")

    return rate(workload.SECTIONS // 10, work)


def decode():
    from smok.pathpoint import WriteOrder
    from smok.pathpoint.orders import sections_from_list

    body = workload.orders_body()
    figure = rate(workload.ORDERS, lambda: sections_from_list(json.loads(body)), 20)
    sections = sections_from_list(json.loads(body))
    check(sum(len(section.orders) for section in sections) == workload.ORDERS, "number of orders")
    last = sections[-1].orders[48]
    check(isinstance(last, WriteOrder) and last.value == 48 and last.pathpoint == "W1r48", "order")
    return figure


def filled_database():
    from smok.extras.pp_database.in_memory import InMemoryPathpointDatabase

    database = InMemoryPathpointDatabase()
    pathpoints, samples = workload.BODY
    for number in range(pathpoints):
        for index in range(samples):
            database.on_new_data(f"W1r{number}", workload.START + 100 * index, 300 + index)
    return database


def build_body(database):
    import minijson
    from smok.threads.communicator import redo_data

    return minijson.dumps(redo_data(database.get_data_to_sync().to_json()))


def body():
    database = filled_database()
    count = workload.BODY[0] * workload.BODY[1]
    figure = rate(count, lambda: build_body(database), 3)
    check(len(build_body(database)) > 10 * count, "length of the body")
    return figure


def body_bytes():
    return len(build_body(filled_database())) / (workload.BODY[0] * workload.BODY[1])


def buffer_memory():
    """Bytes of memory for each sample that waits."""
    before = workload.resident_megabytes()
    database = filled_database()
    taken = (workload.resident_megabytes() - before) * 1024 * 1024
    check(database is not None, "no database")
    return taken / (workload.BODY[0] * workload.BODY[1])


def reparse_get():
    from smok.pathpoint import ReparsePathpoint

    device = Device()
    constant_pathpoints(device, 3)
    for number, value in ((1, 20), (2, 22)):
        device.get_pathpoint(f"W1r{number}").set_new_value(workload.START + number, value)
    get = ReparsePathpoint(device, workload.REPARSE_PATHPOINT).get
    count = workload.GETS // 10

    def work():
        for _ in range(count):
            get()

    figure = rate(count, work)
    check(get() == (workload.START + 2, 42), "value")
    return figure


def reparse_series():
    """Points, of which it makes one result each: what its archives do for each timestamp."""
    from smok.sensor.reparse import parse
    from smok.sensor.reparse_funs import ecre_eval

    expression, _ = parse(workload.REPARSE_EXPRESSION)
    rows = [(float(index % 1000), float(index % 700)) for index in range(10_000)]
    results = []

    def work():
        results[:] = [ecre_eval(expression, args=row) for row in rows]

    figure = rate(len(rows), work)
    check(results == [2 * max(a - b / 10, 0.0) for a, b in rows], "values")
    return figure


def import_():
    return workload.import_seconds("smok.client")


def memory():
    from smok.client import SMOKDevice

    folder = Path(tempfile.mkdtemp(prefix="smok-bench-"))
    cert, key = folder / "device.crt", folder / "device.key"
    make_certificate(cert, key)
    _device = SMOKDevice(str(cert), str(key), str(folder / "events"), allow_sync=False)
    time.sleep(0.2)
    return workload.resident_megabytes()


def make_certificate(cert, key):
    """A device certificate of the STAGING environment; PROTOCOL facts: two extensions, in DER."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.timezone.utc)
    arc = "1.3.6.1.4.1.55338.0."
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    for number, der in (("0", b"\x0c\x011"), ("1", b"\x02\x01\x01")):
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(arc + number), der)
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(private, hashes.SHA256())
    cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


MEASUREMENTS = {
    "execute": execute,
    "set_new_value": set_new_value,
    "queue": queue,
    "decode": decode,
    "body": body,
    "body_bytes": body_bytes,
    "buffer_memory": buffer_memory,
    "reparse_get": reparse_get,
    "reparse_series": reparse_series,
    "import": import_,
    "memory": memory,
}

if __name__ == "__main__":
    print(MEASUREMENTS[sys.argv[1]](), flush=True)
    # Its threads are no daemons, and closing them takes 10 seconds.
    import os

    os._exit(0)
