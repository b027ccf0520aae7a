"""What the end-to-end tests have in common: gateways that note what they record, odd servers."""

from __future__ import annotations

import socketserver
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError
from smok_fast.extras import NativePathpointDatabase
from smok_fast.modbus import ModbusPathpoint, TcpClient
from smok_fast.pathpoint import Pathpoint, Section
from smok_fast.pathpoint.orders import Disposition
from smok_fast.testing import Admin, wait_until

DEVICE_ID = "1"

#: Seconds after which a test that waits for something gives up.
PATIENCE = 30

#: Rhythms for tests: whatever is waited for comes within a moment.
QUICK = {"upload_linger": 0.05, "orders_interval": 0.1}

#: A reading in a form that can be compared: milliseconds, and a value or an error code.
Reading = tuple[int, Any]


class Recorder(SMOKDevice):
    """A device that notes what its pathpoints report, and what it is told about the link."""

    def __init__(self, certificate: Any, url: str, **options: Any) -> None:
        self.readings: dict[str, list[Reading]] = defaultdict(list)
        self.failed_syncs = 0
        self.successful_syncs = 0
        self.synced = threading.Event()
        self.failed = threading.Event()
        state = Path(certificate.cert).with_name(f"state-{uuid.uuid4().hex}")
        options = {"evt_database": state, "url": url, **QUICK, **options}
        super().__init__(str(certificate.cert), str(certificate.key), **options)

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        return Pathpoint(self, name, storage_level, self.note)

    def note(self, pathpoint: Pathpoint) -> None:
        """To be the callable_on_change of a pathpoint."""
        try:
            reading = pathpoint.get()
        except OperationFailedError as error:
            reading = int(error.timestamp), str(error.reason.value)
        self.readings[pathpoint.name].append(reading)

    def record(self, name: str, *values: Any, start: int = 1) -> None:
        """Record values of a pathpoint, at one millisecond after the other."""
        pathpoint = self.get_pathpoint(name)
        for timestamp, value in enumerate(values, start):
            pathpoint.set_new_value(timestamp, value)

    def on_successful_sync(self, *args: Any, **kwargs: Any) -> None:
        self.successful_syncs += 1
        self.synced.set()

    def on_failed_sync(self, *args: Any, **kwargs: Any) -> None:
        self.failed_syncs += 1
        self.failed.set()


class Gateway(Recorder):
    """A recorder whose pathpoints are MODBUS registers."""

    def __init__(self, certificate: Any, url: str, modbus: TcpClient, **options: Any) -> None:
        self.modbus = modbus
        super().__init__(certificate, url, **options)

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        try:
            return ModbusPathpoint(self, name, storage_level, self.note, client=self.modbus)
        except ValueError as error:
            raise KeyError(name) from error


def held(admin: Admin) -> dict[str, list[Reading]]:
    """The samples that the server holds, by pathpoint."""
    return {
        path: [
            (sample.timestamp, sample.error_code or sample.value)
            for sample in admin.values(DEVICE_ID, path)
        ]
        for path in admin.counts(DEVICE_ID).pathpoints
    }


def pending(device: SMOKDevice) -> int:
    """How many samples the server has not acknowledged."""
    assert isinstance(device.pp_database, NativePathpointDatabase)
    return int(device.pp_database.buffer.statistics()["pending"])


def settle(device: SMOKDevice) -> None:
    """End the archiving, and wait until the server has acknowledged everything."""
    device.set_archives({})
    barrier = Section(disposition=Disposition.CANNOT_JOIN)
    device.execute(barrier)
    barrier.result(PATIENCE)
    wait_until(lambda: pending(device) == 0, PATIENCE)


def check_server_holds_what_was_read(device: Recorder, admin: Admin) -> None:
    """The device must have settled."""
    assert device.readings
    # A poll may have begun just before the archiving ended.
    wait_until(lambda: held(admin) == device.readings, PATIENCE)
    assert admin.conflicts(DEVICE_ID) == []


class OddServer:
    """An HTTP server that answers as a test says.

    :param answer: called with method and path; returns the bytes of the whole answer, after which
        the connection is closed, or None to leave the caller hanging
    """

    def __init__(self, answer: Callable[[str, str], bytes | None]) -> None:
        self.calls: Counter[str] = Counter()
        self.called = threading.Event()
        released = self._released = threading.Event()
        odd = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                method, path, _ = self.rfile.readline().decode().split(" ", 2)
                length = 0
                while (line := self.rfile.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                self.rfile.read(length)
                odd.calls[path] += 1
                odd.called.set()
                content = answer(method, path)
                if content is None:
                    released.wait()
                else:
                    self.wfile.write(content)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> OddServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def http(status: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """The bytes of an answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
