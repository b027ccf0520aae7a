"""Faults on demand: refused, garbled, late and lost answers, so that tests can see what a device
makes of them.

A fault applies to the next ``times`` calls of the device API whose path begins with ``path``. It
may let the server do what it was asked first and spoil only the answer (``handled``), which is what
a link that dies at the wrong moment does. Faults live in memory and go with the process; the admin
API itself cannot be disturbed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import itertools
import json
import threading
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smok_fast.server import checks
from smok_fast.server.checks import ApiError

__all__ = ["Fault", "FaultInjection", "Faults"]

_DEVICE_API = "/v1/"
_MAX_DELAY = 3600.0
_BODILESS = (204, 205, 304)


@dataclasses.dataclass(slots=True)
class Fault:
    """One fault.

    :ivar fault_id: number, given by the server
    :ivar path: beginning of the paths that it applies to
    :ivar method: HTTP method that it applies to, None for all
    :ivar remaining: to how many more calls it applies, None until it is removed
    :ivar delay: seconds to wait first
    :ivar status: HTTP status to answer with, None to let the server answer
    :ivar content: body to answer with
    :ivar content_type: its type
    :ivar drop: drop the connection instead of answering
    :ivar handled: let the server do what it was asked before the answer is replaced or dropped
    :ivar hits: how often it was applied
    """

    fault_id: int
    path: str = _DEVICE_API
    method: str | None = None
    remaining: int | None = 1
    delay: float = 0.0
    status: int | None = None
    content: bytes = b""
    content_type: str = "application/json"
    drop: bool = False
    handled: bool = False
    hits: int = 0

    @classmethod
    def from_json(cls, fault_id: int, what: object) -> Fault:
        """From the body of ``POST /admin/faults``.

        :raises ApiError: it describes no fault
        """
        body = checks.object_(what)
        checks.only(body, _FIELDS, "a fault")
        path = checks.text(body.get("path", _DEVICE_API), "path")
        if not path.startswith(_DEVICE_API):
            raise ApiError(400, f"path must begin with {_DEVICE_API}")
        method, status, times = body.get("method"), body.get("status"), body.get("times", 1)
        fault = cls(
            fault_id,
            path,
            None if method is None else checks.text(method, "method").upper(),
            None if times is None else checks.integer(times, "times", 1),
            float(checks.number(body.get("delay", 0), "delay")),
            None if status is None else checks.integer(status, "status", 200, 599),
            _content(body),
            _content_type(body),
            checks.boolean(body.get("drop", False), "drop"),
            checks.boolean(body.get("handled", False), "handled"),
        )
        if fault.delay > _MAX_DELAY:
            raise ApiError(400, f"delay must be at most {_MAX_DELAY:g} seconds")
        if fault.drop and fault.status is not None:
            raise ApiError(400, "a dropped connection has no status")
        if not (fault.drop or fault.status is not None or fault.delay):
            raise ApiError(400, "a fault needs a status, a delay or drop")
        if fault.status in _BODILESS:
            fault.content = b""
        return fault

    def matches(self, method: str, path: str) -> bool:
        """Whether it applies to this call."""
        return path.startswith(self.path) and self.method in (None, method)

    def to_json(self) -> dict[str, Any]:
        """For the admin API."""
        return {
            "id": self.fault_id,
            "path": self.path,
            "method": self.method,
            "times": self.remaining,
            "delay": self.delay,
            "status": self.status,
            "drop": self.drop,
            "handled": self.handled,
            "hits": self.hits,
        }


_FIELDS = {
    "path",
    "method",
    "times",
    "delay",
    "status",
    "body",
    "body_base64",
    "content_type",
    "drop",
    "handled",
}


def _content(body: dict[str, Any]) -> bytes:
    if "body_base64" in body:
        try:
            return base64.b64decode(checks.text(body["body_base64"], "body_base64"), validate=True)
        except ValueError as error:  # binascii.Error among them
            raise ApiError(400, f"body_base64: {error}") from None
    if "body" in body:
        return checks.text(body["body"], "body").encode()
    return json.dumps({"status": "injected fault"}).encode()


def _content_type(body: dict[str, Any]) -> str:
    content_type = checks.text(body.get("content_type", "application/json"), "content_type")
    if not (content_type.isascii() and content_type.isprintable()):
        raise ApiError(400, "content_type must be printable ASCII")
    return content_type


class Faults:
    """The faults of one server. Any thread may call this, but for :meth:`release`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._faults: dict[int, Fault] = {}
        self._delays: set[asyncio.Event] = set()

    def add(self, what: object) -> Fault:
        """Add the fault that this JSON value describes.

        :raises ApiError: it describes none
        """
        with self._lock:
            fault = Fault.from_json(next(self._numbers), what)
            self._faults[fault.fault_id] = fault
        return fault

    def all(self) -> list[dict[str, Any]]:
        """All faults, with how often each was applied; used-up ones too."""
        with self._lock:
            return [fault.to_json() for fault in self._faults.values()]

    def remove(self, fault_id: int | None = None) -> None:
        """Remove one fault, or all.

        :raises ApiError: 404, there is no such fault
        """
        with self._lock:
            if fault_id is None:
                self._faults.clear()
            elif self._faults.pop(fault_id, None) is None:
                raise ApiError(404, f"there is no fault {fault_id}")

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that applies to this call, if any; this uses it up once."""
        with self._lock:
            for fault in self._faults.values():
                if fault.remaining != 0 and fault.matches(method, path):
                    fault.hits += 1
                    if fault.remaining is not None:
                        fault.remaining -= 1
                    return fault
        return None

    async def wait(self, seconds: float) -> None:
        """Wait this long, or until :meth:`release`."""
        released = asyncio.Event()
        self._delays.add(released)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(released.wait(), seconds)
        finally:
            self._delays.discard(released)

    def release(self) -> None:
        """End all delays, so that the server can stop. Called in the event loop."""
        for released in self._delays:
            released.set()


class FaultInjection:
    """ASGI middleware that applies the faults.

    :param app: the application
    :param faults: the faults
    """

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        fault = None
        if scope["type"] == "http":
            fault = self._faults.take(scope["method"], scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.delay:
            await self._faults.wait(fault.delay)
        if not fault.drop and fault.status is None:
            await self._app(scope, receive, send)
            return
        if fault.handled:
            await self._app(scope, receive, _discard)
        if fault.drop:
            await _drop(scope, receive)
        else:
            await _reply(fault, send)


async def _discard(message: Message) -> None:
    pass


async def _drop(scope: Scope, receive: Receive) -> None:
    scope["state"]["abort"]()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reply(fault: Fault, send: Send) -> None:
    headers = [
        (b"content-type", fault.content_type.encode()),
        (b"content-length", str(len(fault.content)).encode()),
    ]
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": fault.content})
