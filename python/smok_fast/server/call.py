"""From an HTTP request to a plain function and back.

A resource is a list of :class:`Endpoint`. Its handler is an ordinary function of a :class:`Call`
that runs in a worker thread, so that neither decoding nor the database ever blocks the event loop.
It gives back a JSON value (None: 204), or a response of its own, or raises
:class:`~smok_fast.server.checks.ApiError`.
"""

from __future__ import annotations

import dataclasses
import functools
import hmac
import ipaddress
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smok_fast.server import checks, tables, wire
from smok_fast.server.checks import ApiError
from smok_fast.server.faults import Faults
from smok_fast.server.identity import Identifier
from smok_fast.server.outbox import Outbox
from smok_fast.server.store import Store, insert_new

__all__ = ["Call", "Context", "Endpoint", "called_path", "page"]

logger = logging.getLogger("smok_fast.server")

_MAX_PAGE = 10_000
_DEFAULT_PAGE = 1000


class Context:
    """What all calls of one application share.

    :param store: the database
    :param identifier: tells callers by their certificates
    :param faults: the faults to inject
    :param admin_token: what the admin API asks for as bearer token; None: nothing, but it answers
        loopback only
    :param max_body: how many bytes a request's body may have
    """

    def __init__(
        self,
        store: Store,
        identifier: Identifier,
        faults: Faults,
        admin_token: str | None,
        max_body: int,
    ) -> None:
        self.store = store
        self.outbox = Outbox(store)
        self.identifier = identifier
        self.faults = faults
        self.admin_token = admin_token
        self.max_body = max_body
        # Each device is written down once, not with each of its calls.
        self.note_device = functools.lru_cache(maxsize=1024)(self._note_device)

    def _note_device(self, device_id: str) -> None:
        with self.store.transaction() as connection:
            connection.execute(
                insert_new(connection, tables.devices).values(
                    device_id=device_id, info={}, duplicates=0
                )
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call of the API.

    :ivar context: what all calls share
    :ivar device_id: the device that calls, or that an admin call is about
    :ivar parameters: the parts of the path that vary, percent-decoded
    :ivar query: the query parameters
    :ivar headers: the headers, by their names in any case
    :ivar body: the body, not decoded yet
    """

    context: Context
    device_id: str
    parameters: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: wire.Body

    @property
    def store(self) -> Store:
        """The database."""
        return self.context.store

    def required(self, name: str) -> str:
        """A query parameter that must be there.

        :raises ApiError: 400, it is not
        """
        return checks.key(checks.field(self.query, name, "query"), name)

    def number(self, name: str, default: int, maximum: int = checks.INT64_MAX) -> int:
        """An integer query parameter, or the default where it is absent.

        :raises ApiError: 400, it is no integer between 0 and the maximum
        """
        if name not in self.query:
            return default
        try:
            number = int(self.query[name])
        except ValueError:
            raise ApiError(400, f"{name} must be an integer") from None
        return checks.integer(number, name, 0, maximum)

    def limit(self) -> int:
        """How many items a page of the answer may have."""
        return self.number("limit", _DEFAULT_PAGE, _MAX_PAGE)


def page(items: Sequence[Any], positions: Sequence[int], limit: int) -> dict[str, Any]:
    """A page of a longer list.

    :param items: at most ``limit`` items
    :param positions: where each is; ``after`` of the next page is the last of them
    """
    return {"items": items, "next": positions[-1] if len(items) == limit and items else None}


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """One call that the server answers.

    :ivar method: HTTP method
    :ivar path: path, with Starlette's ``{name}`` or ``{name:path}`` where it varies
    :ivar handler: the function that answers; the first line of its docstring explains the call
    :ivar about_device: whether an admin call is about one device, named by the ``device`` query
        parameter
    """

    method: str
    path: str
    handler: Callable[[Call], Any]
    about_device: bool = True

    @property
    def is_admin(self) -> bool:
        """Whether this belongs to the admin API, not to the one for devices."""
        return self.path.startswith("/admin")

    @property
    def summary(self) -> str:
        """What the call does, in one line."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0]

    def route(self) -> Route:
        """The route for Starlette."""
        return Route(self.path, self._answer, methods=[self.method])

    async def _answer(self, request: Request) -> Response:
        started = time.monotonic()
        accept = request.headers.get("Accept", "")
        device_id = ""
        try:
            device_id = self._authorize(request)
            call = await self._receive(request, device_id)
            response = await run_in_threadpool(self._handle, call, accept)
            outcome = ""
        except ApiError as refused:
            response = wire.refusal(accept, refused.status_code, refused.status)
            outcome = f", {refused.status}"
        logger.info(
            "%s %s of device %s: %d in %.1f ms%s",
            self.method,
            called_path(request),
            device_id or "-",
            response.status_code,
            (time.monotonic() - started) * 1000,
            outcome,
        )
        return response

    def _authorize(self, request: Request) -> str:
        """The device that the call is about, empty for none."""
        context: Context = request.app.state.context
        if not self.is_admin:
            return context.identifier.device_id(request)
        _check_admin(request, context.admin_token)
        if not self.about_device:
            return ""
        return checks.key(checks.field(request.query_params, "device", "query"), "device")

    async def _receive(self, request: Request, device_id: str) -> Call:
        context: Context = request.app.state.context
        content = await _read(request, context.max_body)
        body = wire.Body(content, request.headers.get("Content-Type", ""))
        parameters = {name: checks.text(value, name) for name, value in request.path_params.items()}
        return Call(context, device_id, parameters, request.query_params, request.headers, body)

    def _handle(self, call: Call, accept: str) -> Response:
        if call.device_id:
            call.context.note_device(call.device_id)
        answer = self.handler(call)
        return answer if isinstance(answer, Response) else wire.response(answer, accept)


def called_path(request: Request) -> str:
    """The path of a request as it was sent: percent-encoded, so that it is safe to log."""
    raw: bytes = request.scope["raw_path"]
    return raw.decode("latin-1")


def _check_admin(request: Request, token: str | None) -> None:
    if token is None:
        if not _is_loopback(request):
            raise ApiError(403, "without an admin token the admin API answers this machine only")
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        given.strip().encode("latin-1"), token.encode()
    ):
        raise ApiError(401, "the admin API needs the admin token: Authorization: Bearer …")


def _is_loopback(request: Request) -> bool:
    if request.client is None:
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


async def _read(request: Request, limit: int) -> bytes:
    too_long = ApiError(413, f"the body is longer than {limit} bytes")
    # A malformed length never gets here: the HTTP parser has refused it.
    if int(request.headers.get("Content-Length", 0)) > limit:
        raise too_long
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise too_long
    return bytes(content)
