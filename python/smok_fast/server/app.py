"""The application: every call of the device API and of the admin API, over one store."""

from __future__ import annotations

import logging
import os
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from smok_fast.server import wire
from smok_fast.server.call import Call, Context, Endpoint, called_path
from smok_fast.server.faults import FaultInjection, Faults
from smok_fast.server.identity import Identifier
from smok_fast.server.resources import (
    alarms,
    baobs,
    device,
    logs,
    macros,
    metadata,
    orders,
    overview,
    pathpoints,
    samples,
)
from smok_fast.server.store import Store

__all__ = ["DEFAULT_MAX_BODY", "create_app"]

logger = logging.getLogger("smok_fast.server")

DEFAULT_MAX_BODY = 16 * 1024 * 1024


def create_app(
    store: Store,
    *,
    ca_file: str | os.PathLike[str] | None = None,
    admin_token: str | None = None,
    max_body: int = DEFAULT_MAX_BODY,
) -> Starlette:
    """The ASGI application.

    Under :class:`~smok_fast.server.LocalServer` and :func:`~smok_fast.server.run` it also sees TLS
    client certificates and can drop connections, which ASGI has no way to tell; under other ASGI
    servers devices identify themselves with the header only.

    :param store: the database; the caller closes it, after the server has stopped
    :param ca_file: PEM file with the CAs whose certificates are accepted in the header; None
        accepts any
    :param admin_token: what the admin API asks for as bearer token; None: nothing, but it answers
        loopback only
    :param max_body: how many bytes a request's body may have
    :raises OSError: the CA file cannot be read
    :raises ValueError: the CA file holds no certificates
    """
    faults = Faults()
    app = Starlette(
        routes=[endpoint.route() for endpoint in ENDPOINTS],
        middleware=[Middleware(FaultInjection, faults=faults)],
        exception_handlers={
            HTTPException: _http_error,
            DBAPIError: _database_error,
            PoolTimeoutError: _database_error,
            ClientDisconnect: _disconnected,
            Exception: _defect,
        },
    )
    # A key may end with a slash; a call never does.
    app.router.redirect_slashes = False
    app.state.context = Context(store, Identifier(ca_file), faults, admin_token, max_body)
    return app


def index(call: Call) -> Any:
    """All calls of this server."""
    return [
        {"method": endpoint.method, "path": endpoint.path, "summary": endpoint.summary}
        for endpoint in ENDPOINTS
    ]


def add_fault(call: Call) -> Any:
    """Add a fault: {path, method, times, delay, handled} and {status, body, …} or {drop}."""
    return call.context.faults.add(call.body.decode()).to_json()


def all_faults(call: Call) -> Any:
    """All faults, used-up ones too, and how often each was applied."""
    return call.context.faults.all()


def remove_faults(call: Call) -> None:
    """Remove the fault ``id``, or all faults."""
    chosen = call.number("id", 0) if "id" in call.query else None
    call.context.faults.remove(chosen)


ENDPOINTS = [
    *device.ENDPOINTS,
    *orders.ENDPOINTS,
    *pathpoints.ENDPOINTS,
    *samples.ENDPOINTS,
    *alarms.ENDPOINTS,
    *macros.ENDPOINTS,
    *baobs.ENDPOINTS,
    *metadata.ENDPOINTS,
    *logs.ENDPOINTS,
    *overview.ENDPOINTS,
    Endpoint("GET", "/admin", index, about_device=False),
    Endpoint("POST", "/admin/faults", add_fault, about_device=False),
    Endpoint("GET", "/admin/faults", all_faults, about_device=False),
    Endpoint("DELETE", "/admin/faults", remove_faults, about_device=False),
]


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    response = wire.refusal(
        request.headers.get("Accept", ""),
        error.status_code,
        f"{error.detail}: {called_path(request)}",
    )
    response.headers.update(error.headers or {})
    return response


async def _database_error(request: Request, error: Exception) -> Response:
    # A full disk, a lost connection to PostgreSQL: no fault of the caller, who is to try again
    # later.
    logger.error("%s %s: the database failed: %s", request.method, called_path(request), error)
    return wire.refusal(request.headers.get("Accept", ""), 503, "the database failed")


async def _disconnected(request: Request, error: Exception) -> Response:
    logger.info("%s %s: the caller hung up in the middle", request.method, called_path(request))
    return wire.refusal(request.headers.get("Accept", ""), 400, "incomplete request")


async def _defect(request: Request, error: Exception) -> Response:
    return wire.refusal(request.headers.get("Accept", ""), 500, "internal error")
