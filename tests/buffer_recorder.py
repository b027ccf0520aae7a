"""The program that tests/test_buffer_kill.py kills: it records and uploads, and says what it does.

Started once, it forks a process for each line of JSON that it is given, so that a process costs no
start of an interpreter. What happens is told in lines on stdout, each in one write, so that none is
torn by a kill:

    pid <pid>                     a process was forked
    r <number>                    every pathpoint is going to be recorded up to this number
    d <number>                    and that is durable
    u <checksum> <path> <first> <last> …   these are going to be uploaded
    a                             the server has them, and that is durable
    error <words>                 something is wrong
    closed                        the buffer is closed
    end <status>                  the process has ended
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import random
import sys
import threading
import urllib.parse
import zlib
from array import array
from collections.abc import Iterator
from typing import Any

from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.extras import BufferedPathpointDatabase, BufferUpload
from smok_fast.pathpoint import Pathpoint
from smok_fast.testing import wait_until

INVALID = OperationFailedReason.INVALID.value

LEVELS = {
    "W1": StorageLevel.TREND,
    "d2": StorageLevel.PERMANENT,
    "u3": StorageLevel.TREND,
    "B4": StorageLevel.PERMANENT,
}


def value_of(path: str, number: int) -> Any:
    """What a pathpoint has with this number: its value, or why the read failed."""
    if path == "W1":
        return number // 10 % 65536
    if path == "d2":
        return number * 2654435761 % 2**32 / 7
    if path == "u3":
        return f"{number * 0x9E3779B97F4A7C15 % 2**64:x}" * 5
    return INVALID if number % 5 == 0 else number % 2


def number_of(sample: list[Any]) -> int:
    number: int = sample[1] if sample[0] is False else sample[0]
    return number


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Noted(BufferUpload):
    """Says that it was acknowledged."""

    __slots__ = ()

    def acknowledge(self) -> None:
        super().acknowledge()
        tell("a")


class Noting(BufferedPathpointDatabase):
    """Says what is uploaded."""

    def get_data_to_sync(self) -> Any:
        upload = super().get_data_to_sync()
        if not isinstance(upload, BufferUpload):
            return upload
        words: list[object] = []
        for entry in upload.to_json():
            numbers = [number_of(sample) for sample in entry["values"]]
            if numbers != sorted(set(numbers)):
                tell("error", "they do not rise:", entry)
            words += [entry["path"], numbers[0], numbers[-1]]
        tell("u", zlib.crc32(upload.body), *words)
        return Noted(self, upload.body, upload._token, upload.samples, upload._is_last_try)


class Server:
    """A connection to the server."""

    def __init__(self, url: str, certificate: str) -> None:
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)
        with open(certificate) as file:  # noqa: PTH123 - less to import
            pem = file.read().replace("\n", "\t")
        self._headers = {
            "Content-Type": "application/minijson",
            "X-SSL-Client-Certificate": pem,
        }

    def takes(self, body: bytes) -> bool:
        """Whether the server takes an upload."""
        try:
            self._connection.request("POST", "/v1/device/pathpoints", body, self._headers)
            response = self._connection.getresponse()
            response.read()
        except (http.client.HTTPException, OSError):
            self._connection.close()
            return False
        return response.status < 300


class Uploader(threading.Thread):
    """Uploads until it is told to stop."""

    def __init__(self, database: Noting, server: Server) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._server = server
        self._stopping = False

    def run(self) -> None:
        while not self._stopping:
            batch = self._database.get_data_to_sync()
            if batch is None:
                self._database.buffer.wait(60.0)
            elif self._server.takes(batch.body):
                batch.acknowledge()
            else:
                batch.negative_acknowledge()

    def stop(self) -> None:
        self._stopping = True
        self._database.buffer.wake()
        self.join()


class Complaints(logging.Handler):
    """Tells what is logged as an error."""

    def emit(self, record: logging.LogRecord) -> None:
        tell("error", self.format(record).replace("\n", " "))


@contextlib.contextmanager
def pathpoints_of(database: Noting, job: dict[str, Any]) -> Iterator[list[Pathpoint]]:
    """Pathpoints whose samples are uploaded meanwhile, by a device or by the least that does it."""
    pathpoints = [Pathpoint(None, name, level) for name, level in LEVELS.items()]
    if job["device"]:
        with SMOKDevice(
            job["cert"], job["key"], job["state"], database, url=job["url"], upload_linger=0.001
        ) as device:
            for pathpoint in pathpoints:
                device.register_pathpoint(pathpoint)
            yield pathpoints
    else:
        for pathpoint in pathpoints:
            pathpoint._attach(database.buffer, None, False, False)
        uploader = Uploader(database, Server(job["url"], job["cert"]))
        uploader.start()
        yield pathpoints
        uploader.stop()


def record(pathpoints: list[Pathpoint], numbers: range) -> None:
    """Record these numbers of all pathpoints: many all at once, and few one by one."""
    for pathpoint in pathpoints:
        values = [value_of(pathpoint.name, number) for number in numbers]
        readings = [
            OperationFailedError(OperationFailedReason.INVALID) if value == INVALID else value
            for value in values
        ]
        if len(numbers) > 20:
            pathpoint.set_new_values(array("q", numbers), readings)
        else:
            for number, reading in zip(numbers, readings, strict=True):
                pathpoint.set_new_value(number, reading)


def run(job: dict[str, Any]) -> None:
    """Record for a while, with uploads at the same time; then close."""
    chance = random.Random(job["first"])
    durability = job["durability"]
    # Whatever the server has is old, so that files are removed all the time.
    database = Noting(
        job["folder"], durability=durability, segment_bytes=256 << 10, trend_for=0, reserve_bytes=0
    )
    with pathpoints_of(database, job) as pathpoints:
        first = job["first"]
        for _ in range(job["chunks"]):
            numbers = range(first, first + chance.choice([1, 5, 20, 60, 150]))
            first = numbers.stop
            tell("r", first - 1)
            record(pathpoints, numbers)
            if durability:
                database.flush()
            tell("d", first - 1)
        if job["is_last"]:
            wait_until(lambda: not database.statistics().pending, 120)
    database.close()
    tell("closed")


def main() -> None:
    logging.getLogger().addHandler(Complaints(logging.ERROR))
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if not pid:
            run(job)
            os._exit(0)
        tell("pid", pid)
        sys.stdin.readline()  # until then nobody else gets its number
        _, status = os.waitpid(pid, 0)
        tell("end", status)


if __name__ == "__main__":
    main()
