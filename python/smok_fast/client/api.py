"""HTTP between this device and the SMOK server.

Invariants:

- A call ends with the server's answer, or with :class:`ResponseError`. Status 599 stands for every
  way of not getting an answer: no connection, a time-out, a cut in the middle, bytes that are not
  HTTP, an answer too long to hold, a web page where SMOK answers with data.
- No call lasts for ever: connecting and each silence have time-outs, and the whole call has a
  deadline, whatever the server drips.
- :meth:`RequestsAPI.close` cuts the connections of calls in progress, from another thread.
- Nothing but the configured server is talked to: redirects are errors, not followed.

A ``requests.Session`` is not made for several threads at once, so each thread that calls gets its
own, which keeps its connection alive.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from cryptography.hazmat.primitives.serialization import Encoding
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from smok_fast import __version__, minijson
from smok_fast._backoff import Backoff
from smok_fast.basics import Environment
from smok_fast.client.certificate import Credentials, ca_cert_files, load_certificate
from smok_fast.exceptions import NO_LINK, InvalidCredentials, ResponseError, UnavailableError

__all__ = ["BASE_URL_VARIABLE", "Backoff", "RequestsAPI", "base_url"]

#: The environment variable that says where the server is.
BASE_URL_VARIABLE: Final = "SMOK_BASE_URL"

_BASE_URLS: Final = {
    Environment.PRODUCTION: "https://api.smok.co",
    Environment.STAGING: "https://api.test.smok-serwis.pl",
    Environment.LOCAL_DEVELOPMENT: "http://http-api",
}
_MINIJSON: Final = "application/minijson"
#: How much goes to a socket at once, in bytes.
_SLICE: Final = 16384
#: How much of an error's body is read, in bytes, and told, in characters.
_ERROR_BYTES, _ERROR_CHARACTERS = 65536, 1000


def base_url(argument: str | None, environ: Mapping[str, str], environment: Environment) -> str:
    """Where the server is: as the argument says, else ``SMOK_BASE_URL``, else the certificate.

    :param argument: what the user passed
    :param environ: environment variables
    :param environment: environment in the device's certificate
    :return: URL without a slash at its end
    :raises ValueError: it is no HTTP or HTTPS URL
    """
    url = (argument or environ.get(BASE_URL_VARIABLE) or _BASE_URLS[environment]).rstrip("/")
    try:
        parts = urlsplit(url)
        # .port raises ValueError by itself
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as e:
        raise ValueError(f"base URL {url!r}: {e}") from e
    if not good or parts.query or parts.fragment:
        raise ValueError(f"base URL {url!r}: it should look like https://host or http://host:port")
    return url


# --- Connections that another thread can cut ------------------------------------------------------


class _Call:
    """One call in progress, in the thread that makes it."""

    def __init__(self, read_timeout: float) -> None:
        self.cut_because: str | None = None
        self._read_timeout = read_timeout
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def connects_on(self, sock: socket.socket) -> None:
        """A connection is being made; its time-out is that of connecting."""
        with self._lock:
            self._socket = sock
            if self.cut_because is not None:
                self._shut_down()

    def talks_on(self, sock: socket.socket) -> None:
        """A connection is made, or used again.

        urllib3 sends under the time-out of connecting, too short for sending over a slow link.
        """
        sock.settimeout(self._read_timeout)
        self.connects_on(sock)

    def cut(self, reason: str) -> None:
        """End the call, from another thread."""
        with self._lock:
            self.cut_because = self.cut_because or reason
            self._shut_down()

    def _shut_down(self) -> None:
        """Make the thread that reads or writes the socket see its end."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # not connected any more
                # Not SSLSocket's method: that takes the TLS state from under the other thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


#: The call that this thread makes: urllib3 has no way to pass it to a connection.
_running = threading.local()


class _SSLSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        _running.call.connects_on(self)
        super().do_handshake(block)


class _HTTPConnection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _running.call.talks_on(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            _running.call.talks_on(self.sock)
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        """Send, in slices: the time-out of a socket is for all that one ``sendall`` gets."""
        if not isinstance(data, bytes):
            super().send(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), _SLICE):
            super().send(view[start : start + _SLICE])


class _HTTPSConnection(_HTTPConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


def _socket_options() -> list[tuple[int, int, int]]:
    """Find out that a kept-alive connection is dead before it is used.

    Mobile networks forget idle connections without telling either side, and the next call would
    wait for its time-out. The probes also keep the connection from being forgotten.
    """
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if sys.platform == "linux":
        options += [
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        ]
    return options


class _Adapter(HTTPAdapter):
    """Makes connections of the kinds above, with our TLS settings."""

    def __init__(self, ssl_context: ssl.SSLContext | None) -> None:
        self._options: dict[str, Any] = {
            "ssl_context": ssl_context,
            "socket_options": _socket_options(),
        }
        super().__init__()

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **kwargs: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._options)
        self._use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **kwargs, **self._options)
        self._use_our_pools(manager)
        return manager

    @staticmethod
    def _use_our_pools(manager: urllib3.PoolManager) -> None:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: not even looked at, since requests would read all of the answer first."""
        return None


# --- The API --------------------------------------------------------------------------------------


class RequestsAPI:
    """Calls to the SMOK server. May be used by any number of threads at once.

    The device shows who it is by TLS client authentication in PRODUCTION, else by the header
    ``X-SSL-Client-Certificate``. The server's certificate is verified against SMOK's CAs and the
    public ones (or those that the environment variable ``REQUESTS_CA_BUNDLE`` names instead).
    Proxies are taken from the environment too (``HTTPS_PROXY``).

    :param base_url: where the server is, see :func:`base_url`
    :param credentials: who the device is
    :param ca_certs: where SMOK's CA certificates are, see
        :func:`~smok_fast.client.certificate.ca_cert_files`
    :param timeout: the longest to wait for a connection, and the longest silence in sending and
        receiving, seconds
    :param deadline: the longest a call may take, seconds
    :param max_answer: length of the longest answer that is accepted, bytes
    :raises InvalidCredentials: TLS does not accept the device's certificate
    :raises UnavailableError: a CA certificate is configured, but cannot be read
    :ivar base_url: where the server is
    """

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        ca_certs: str | os.PathLike[str] | None = None,
        timeout: tuple[float, float] = (5, 30),
        deadline: float = 600,
        max_answer: int = 64 << 20,
    ) -> None:
        self.base_url = base_url
        self._timeout = timeout
        self._deadline = deadline
        self._max_answer = max_answer
        self._headers = {
            "User-Agent": f"smok-fast/{__version__}",
            "Accept": f"application/json, {_MINIJSON}",
        }
        self._ssl_context: ssl.SSLContext | None = None
        tls = base_url.startswith("https:")
        by_tls = tls and credentials.environment is Environment.PRODUCTION
        if tls:
            self._ssl_context = _ssl_context(credentials if by_tls else None, ca_certs)
        if not by_tls:
            pem = load_certificate(credentials.cert_data).public_bytes(Encoding.PEM)
            self._headers["X-SSL-Client-Certificate"] = pem.decode().replace("\n", "\t")
        self._local = threading.local()
        self._lock = threading.Lock()
        self._closed = False
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._calls: set[_Call] = set()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | None = None,
        direct_response: bool = False,
        timeout: tuple[float, float] | None = None,
        deadline: float | None = None,
        headers: Mapping[str, str] | None = None,
        files: Any = None,
        data: Any = None,
    ) -> Any:
        """Make a call, and wait for its answer.

        An answer of status 2xx that holds no JSON is ``{}``: the server has done what it was asked.
        Not so a web page: that is what the login of a mobile network or a misplaced proxy answers
        with, so it is status 599, and what was uploaded does not count as accepted. With
        ``direct_response`` the content is not looked at: see :meth:`refuse_web_page`.

        :param method: HTTP method, in any case
        :param path: path below the base URL, with its slash
        :param json: what to send as MiniJSON, unless None
        :param body: MiniJSON to send as it is, instead
        :param direct_response: whether to return the answer's content and headers as they are
        :param timeout: the longest to wait for a connection, and the longest silence, seconds; by
            default as the constructor says
        :param deadline: the longest the call may take, seconds; by default as the constructor says
        :param headers: more headers
        :param files: files to send as a multipart form, as requests takes them
        :param data: what else to send, as requests takes it
        :return: the JSON or MiniJSON of the answer, or a tuple of bytes and a mapping of headers
        :raises ResponseError: the server refused, or did not answer (status 599)
        :raises EncodingError: ``json`` cannot be sent
        :raises RuntimeError: :meth:`close` was called before
        """
        all_headers = dict(headers or {})
        if json is not None:
            body = minijson.dumps(json)
        if body is not None:
            all_headers["Content-Type"] = _MINIJSON
            data = body
        timeout = timeout or self._timeout
        with self._in_progress(timeout[1], deadline or self._deadline) as call:
            try:
                response, content = self._exchange(
                    method.upper(),
                    self.base_url + path,
                    data=data,
                    files=files,
                    headers=all_headers,
                    timeout=timeout,
                )
            except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as e:
                raise self._no_answer(call.cut_because or _root_cause(e)) from e
        if call.cut_because is not None:  # which some answers would take for their end
            raise self._no_answer(call.cut_because)
        if not _is_success(response):
            raise ResponseError(response.status_code, _status_text(response, content))
        if len(content) > self._max_answer:
            raise self._no_answer(f"the answer is longer than {self._max_answer} bytes")
        if direct_response:
            return content, response.headers
        if not content.strip():  # which some servers call text/html
            return {}
        try:
            return _decode(response, content)
        except (ValueError, RecursionError) as e:
            self.refuse_web_page(content, response.headers, e)
            return {}

    def refuse_web_page(
        self, content: bytes, headers: Mapping[str, str], error: Exception | None = None
    ) -> None:
        """Look whether an answer that is not what was expected is the page of a network's login.

        :param content: content of the answer, neither JSON nor MiniJSON
        :param headers: its headers
        :param error: why it is not what was expected
        :raises ResponseError: it is a web page, so the server did not answer (status 599)
        """
        if _content_type(headers) == "text/html" or content.lstrip().startswith(b"<"):
            raise self._no_answer("a web page instead (the login of a network?)") from error

    def _exchange(self, method: str, url: str, **options: Any) -> tuple[requests.Response, bytes]:
        """Send a request and read the answer, up to one byte more than is accepted."""
        with self._session().request(method, url, stream=True, **options) as response:
            accepted = self._max_answer if _is_success(response) else _ERROR_BYTES
            content = bytearray()
            for chunk in response.iter_content(65536):
                content += chunk
                if len(content) > accepted:
                    break
            return response, bytes(content[: accepted + 1])

    def get(self, path: str, **options: Any) -> Any:
        """:meth:`request` with the method GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Any:
        """:meth:`request` with the method POST."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Any:
        """:meth:`request` with the method PUT."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Any:
        """:meth:`request` with the method PATCH."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Any:
        """:meth:`request` with the method DELETE."""
        return self.request("DELETE", path, **options)

    def close(self) -> None:
        """Close all connections; calls in progress end with status 599. May be called many times.

        Only looking up the server's name and connecting to it cannot be cut short.
        """
        with self._lock:
            self._closed = True
            calls, sessions = list(self._calls), list(self._sessions)
        for call in calls:
            call.cut("the device is closing")
        for session in sessions:
            session.close()

    @contextlib.contextmanager
    def _in_progress(self, read_timeout: float, deadline: float) -> Iterator[_Call]:
        """Have a call that the deadline and :meth:`close` can cut."""
        call = _Call(read_timeout)
        timer = threading.Timer(deadline, call.cut, [f"it took longer than {deadline:g} s"])
        timer.daemon = True
        with self._lock:
            if self._closed:
                raise RuntimeError("the connection to the server is closed")
            self._calls.add(call)
        _running.call = call
        try:
            timer.start()
            yield call
        finally:
            timer.cancel()
            del _running.call
            with self._lock:
                self._calls.discard(call)

    def _session(self) -> requests.Session:
        """The session of the thread that asks."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = _Session()
            adapter = _Adapter(self._ssl_context)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            session.headers.update(self._headers)
            with self._lock:
                self._sessions.add(session)
        return session

    def _no_answer(self, why: str) -> ResponseError:
        text = f"no answer from {self.base_url}: {why}"
        return ResponseError(NO_LINK, text[:_ERROR_CHARACTERS])


def _ssl_context(
    client: Credentials | None, ca_certs: str | os.PathLike[str] | None
) -> ssl.SSLContext:
    """TLS settings: who we are, and which CAs are trusted besides those that requests loads."""
    context = create_urllib3_context()
    context.sslsocket_class = _SSLSocket
    if client is not None:
        try:
            context.load_cert_chain(client.cert_path, client.key_path)
        except OSError as e:
            raise InvalidCredentials(f"certificate {client.cert_path}: TLS refuses it: {e}") from e
    for path in set(ca_cert_files(ca_certs).values()):
        try:
            context.load_verify_locations(path)
        except OSError as e:
            raise UnavailableError(f"SMOK's CA certificate {path}: {e}") from e
    return context


def _is_success(response: requests.Response) -> bool:
    return 200 <= response.status_code < 300


def _content_type(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _decode(response: requests.Response, content: bytes) -> Any:
    """The JSON or MiniJSON of an answer.

    :raises ValueError: it is neither
    :raises RecursionError: it is nested too deeply
    """
    if _content_type(response.headers) == _MINIJSON:
        return minijson.loads(content)
    return json.loads(content)


def _status_text(response: requests.Response, content: bytes) -> str:
    """What the server says about an error."""
    try:
        text = str(_decode(response, content)["status"])
    except (ValueError, RecursionError, LookupError, TypeError):
        text = content.decode(errors="replace").strip() or str(response.reason)
    return text[:_ERROR_CHARACTERS]


def _root_cause(error: BaseException) -> str:
    """What went wrong at the bottom of what requests and urllib3 wrapped around it."""
    inside = [error.__cause__, getattr(error, "reason", None), *error.args]
    for inner in inside:
        if isinstance(inner, BaseException):
            return _root_cause(inner)
    if isinstance(error, http.client.HTTPException):  # whose texts may be what the server sent
        return repr(error)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
