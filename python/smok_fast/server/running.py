"""The server as a program in the foreground, and in a thread for tests and demonstrations.

The listening socket is made by the caller's thread before anything else, so that a port that is
taken is an OSError there and then, and a call made right after the start waits in the backlog at
worst. Stopping answers the calls that are being answered, and closes the connections that wait for
another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from smok_fast.server.app import DEFAULT_MAX_BODY, create_app
from smok_fast.server.faults import Faults
from smok_fast.server.ngtt import NGTTServer, server_context
from smok_fast.server.store import Store
from smok_fast.testing.admin import Admin

__all__ = ["LocalServer", "run"]

#: How long calls may go on once the server is told to stop, in seconds.
_GRACE = 5
#: How long a connection may be silent, in seconds. Devices speak every few seconds or once a
#: minute, and a call that meets the end of its connection is a link that is down.
_IDLE = 75
#: How long a TLS peer may take to say goodbye, in seconds.
_GOODBYE = 0.5


class _Connection(H11Protocol):
    """An HTTP connection that tells the application what ASGI does not.

    These are the certificate of its peer, and a way to drop the connection.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn does so
        super().connection_made(transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        self.app_state = {
            **self.app_state,
            "peer_certificate": certificate,
            "abort": transport.abort,
        }

    def shutdown(self) -> None:
        """Close the connection, once its call is answered if there is one."""
        is_idle = self.cycle is None or self.cycle.response_complete
        super().shutdown()
        if is_idle:
            # An idle peer may never notice the end of a TLS session, and would keep the server
            # waiting for it.
            self.loop.call_later(_GOODBYE, self.transport.abort)


class _Uvicorn(uvicorn.Server):
    """Uvicorn on a socket of ours, and NGTT beside it.

    :param app: the application
    :param listener: the listening socket
    :param tls: uvicorn's TLS settings
    :param ngtt: the NGTT server, if there is to be one
    """

    def __init__(
        self,
        app: Starlette,
        listener: socket.socket,
        tls: dict[str, Any],
        ngtt: NGTTServer | None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            # The admin API trusts loopback, so nobody may claim to be there.
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=_IDLE,
            **tls,
        )
        config.load()
        super().__init__(config)
        self._faults: Faults = app.state.context.faults
        self._listener = listener
        self._ngtt = ngtt
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Set once the server accepts connections, or has failed to.
        self.is_up = threading.Event()

    def serve_forever(self) -> None:
        """Serve until told to stop."""
        try:
            self.run(sockets=[self._listener])
        finally:
            self._listener.close()
            self.is_up.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self._ngtt is not None:
            self._ngtt.start()
        self.is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Delays that were injected end with the server.
        self._faults.release()
        if self._ngtt is not None:
            await self._ngtt.stop()
        await super().shutdown(sockets)

    def kill(self) -> None:
        """Drop all connections and stop. Any thread may call this once the server is up."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped already
                self._loop.call_soon_threadsafe(self._drop_everything)

    def _drop_everything(self) -> None:
        if self._ngtt is not None:
            self._ngtt.cut()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        self.should_exit = True


class LocalServer:
    """The server in a thread of its own, for tests and demonstrations.

    A context manager: ``with LocalServer() as server`` starts it and closes it. Between the two it
    may be stopped or killed and started again, on the same port and with the same data, to see what
    a device makes of that.

    :param database: as for :class:`~smok_fast.server.Store`; None keeps everything in memory until
        :meth:`close`
    :param host: address to listen at
    :param port: port to listen at, 0 for a free one, which then stays the same over restarts
    :param certificate: PEM file of the server's own certificate, for TLS
    :param key: PEM file of its private key, None when it is in the certificate's file
    :param ca_file: PEM file of the CAs that issue client certificates, for TLS as well as for the
        header
    :param admin_token: what the admin API asks for as bearer token; None: nothing, but it answers
        loopback only
    :param max_body: how many bytes a request's body may have
    :param ngtt_port: port to serve NGTT at, 0 for a free one, which then stays the same; None: no
        NGTT. It needs the server's certificate and the CA file
    :raises OSError: a file cannot be read
    :raises ValueError: the database cannot be used, or NGTT lacks a file
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        admin_token: str | None = None,
        max_body: int = DEFAULT_MAX_BODY,
        ngtt_port: int | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.ngtt_port = ngtt_port
        self._tls = _tls(certificate, key, ca_file)
        self._ngtt_tls = None if ngtt_port is None else _ngtt_tls(certificate, key, ca_file)
        self.store = Store(database)
        self._app = create_app(
            self.store, ca_file=ca_file, admin_token=admin_token, max_body=max_body
        )
        self._admin_token = admin_token
        self._trust = ca_file or certificate
        self._server: _Uvicorn | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the server is, without a slash at the end.

        :raises RuntimeError: it was to take a free port, and was never started
        """
        if self.port == 0:
            raise RuntimeError("the server has no port before its first start")
        return _url(self.host, self.port, bool(self._tls))

    @property
    def ngtt_address(self) -> str:
        """Where it serves NGTT, as ``SMOK_NGTT`` wants it.

        :raises RuntimeError: it does not, or it was to take a free port, and was never started
        """
        if not self.ngtt_port:
            raise RuntimeError("the server has no port for NGTT")
        return _address(self.host, self.ngtt_port)

    @functools.cached_property
    def admin(self) -> Admin:
        """The admin API of this server.

        Under TLS it trusts the CA file, else the server's own certificate.
        """
        verify = True if self._trust is None else os.fspath(self._trust)
        return Admin(self.url, token=self._admin_token, verify=verify)

    @property
    def is_running(self) -> bool:
        """Whether it is started and not stopped."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start. When this returns, the server answers.

        :raises OSError: the port is taken, or a file for TLS cannot be used
        :raises RuntimeError: it is running already, or could not start; the log tells why
        """
        if self.is_running:
            raise RuntimeError("the server is running already")
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(_listen(self.host, self.port))
            ngtt = None
            if self._ngtt_tls is not None:
                ngtt_listener = opened.enter_context(_listen(self.host, self.ngtt_port or 0))
                ngtt = NGTTServer(self._app.state.context, ngtt_listener, self._ngtt_tls)
                self.ngtt_port = ngtt_listener.getsockname()[1]
            server = _Uvicorn(self._app, listener, self._tls, ngtt)
            opened.pop_all()
        self.port = listener.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever, name="smok-server", daemon=True)
        self._server, self._thread = server, thread
        thread.start()
        server.is_up.wait()
        if not server.started:
            thread.join()
            raise RuntimeError("the server could not start; the log tells why")

    def stop(self) -> None:
        """Stop, answering what is being answered. What was stored stays. It need not be running."""
        if self._server is not None:
            self._server.should_exit = True
        self._join()

    def kill(self) -> None:
        """Stop as if the power had gone: calls get no answer any more, whether or not they were
        handled.

        It need not be running.
        """
        if self._server is not None:
            self._server.kill()
        self._join()

    def close(self) -> None:
        """Stop, and close the database. It cannot be started again."""
        self.stop()
        self.store.close()
        if "admin" in self.__dict__:
            self.admin.close()

    def __enter__(self) -> LocalServer:
        """Start."""
        try:
            self.start()
        except BaseException:
            self.store.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, and close the database."""
        self.close()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._server = self._thread = None


def run(
    host: str = "127.0.0.1",
    port: int = 8080,
    database: str | os.PathLike[str] | None = None,
    *,
    certificate: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    admin_token: str | None = None,
    max_body: int = DEFAULT_MAX_BODY,
    ngtt_port: int | None = None,
    announce: Callable[[str], None] | None = None,
    announce_ngtt: Callable[[str], None] | None = None,
) -> None:
    """Serve in the foreground until Ctrl-C (or SIGTERM), then return. To be called in the main
    thread.

    What is answered is logged by the logger ``smok_fast.server`` at the level INFO.

    :param host: address to listen at
    :param port: port to listen at, 0 for a free one
    :param database: as for :class:`~smok_fast.server.Store`; None keeps everything in memory
    :param certificate: PEM file of the server's own certificate, for TLS
    :param key: PEM file of its private key, None when it is in the certificate's file
    :param ca_file: PEM file of the CAs that issue client certificates, for TLS as well as for the
        header
    :param admin_token: what the admin API asks for as bearer token; None: nothing, but it answers
        loopback only
    :param max_body: how many bytes a request's body may have
    :param ngtt_port: port to serve NGTT at, 0 for a free one; None: no NGTT. It needs the server's
        certificate and the CA file
    :param announce: called with the server's URL once calls to it will be answered
    :param announce_ngtt: called after that with the address of NGTT, if it is served
    :raises OSError: a port is taken, or a file cannot be used
    :raises ValueError: the database cannot be used, NGTT lacks a file, or this is not the main
        thread
    """
    tls = _tls(certificate, key, ca_file)
    ngtt_tls = None if ngtt_port is None else _ngtt_tls(certificate, key, ca_file)
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(contextlib.closing(Store(database)))
        opened.enter_context(_interruptible())
        app = create_app(store, ca_file=ca_file, admin_token=admin_token, max_body=max_body)
        listener = opened.enter_context(_listen(host, port))
        ngtt = None
        if ngtt_tls is not None:
            ngtt_listener = opened.enter_context(_listen(host, ngtt_port or 0))
            ngtt = NGTTServer(app.state.context, ngtt_listener, ngtt_tls)
        server = _Uvicorn(app, listener, tls, ngtt)
        if announce is not None:
            announce(_url(host, listener.getsockname()[1], bool(tls)))
        if announce_ngtt is not None and ngtt is not None:
            announce_ngtt(_address(host, ngtt_listener.getsockname()[1]))
        server.serve_forever()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A block that Ctrl-C and SIGTERM end without a traceback.

    Uvicorn stops in order on either, and then raises the signal again for whoever handled it
    before: here.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        # The socket module adds to strerror what is said here better.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(error.errno, f"cannot listen at {host}:{port}: {reason}") from error
    # Connections inherit this. Asyncio would set it on sockets of its own making only, and without
    # it each answer waits 40 ms, for the peer to acknowledge the headers before the body is sent.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(host: str, port: int, is_tls: bool) -> str:
    return f"{'https' if is_tls else 'http'}://{_address(host, port)}"


def _address(host: str, port: int) -> str:
    """Host and port for a peer on this machine."""
    with contextlib.suppress(ValueError):  # a host name
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ngtt_tls(
    certificate: str | os.PathLike[str] | None,
    key: str | os.PathLike[str] | None,
    ca_file: str | os.PathLike[str] | None,
) -> ssl.SSLContext:
    if certificate is None or ca_file is None:
        raise ValueError("NGTT needs a certificate for the server, and the CA file of its devices")
    return server_context(certificate, key, ca_file)


def _tls(
    certificate: str | os.PathLike[str] | None,
    key: str | os.PathLike[str] | None,
    ca_file: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """Uvicorn's TLS settings, empty without a certificate."""
    if certificate is None:
        if key is not None:
            raise ValueError("a private key without a certificate")
        return {}
    return {
        "ssl_certfile": certificate,
        "ssl_keyfile": key,
        "ssl_ca_certs": ca_file,
        # Who has no certificate may still come with one in the header, or as administrator.
        "ssl_cert_reqs": ssl.CERT_NONE if ca_file is None else ssl.CERT_OPTIONAL,
    }
