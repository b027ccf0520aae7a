"""HTTP calls against servers on real sockets, well-behaved and hostile."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smok_fast import minijson
from smok_fast.basics import Environment
from smok_fast.client.api import Backoff, RequestsAPI, base_url
from smok_fast.client.certificate import (
    Credentials,
    create_development_certificates,
    create_server_certificate,
    get_device_info,
)
from smok_fast.exceptions import InvalidCredentials, ResponseError, UnavailableError

#: Longer than anything here takes, seconds; reached only when something hangs.
LONG = 60


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's own settings would change."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SMOK_CA_CERTS", "SMOK_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[Environment, Credentials]:
    made = {}
    for environment in Environment:
        directory = tmp_path_factory.mktemp(environment.name)
        files = create_development_certificates(directory, "skylab", environment)
        made[environment] = Credentials(files.cert, files.key)
    return made


@pytest.fixture
def credentials(certificates: dict[Environment, Credentials]) -> Credentials:
    return certificates[Environment.LOCAL_DEVELOPMENT]


# --- A server whose every byte the test decides ---------------------------------------------------


class RawServer:
    """Runs ``serve(connection)`` for each connection, in a thread of its own."""

    def __init__(
        self, serve: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self.connections = 0
        self.stopping = threading.Event()
        self._serve = serve
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://localhost:{self.port}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._run, args=[connection]))
            self._threads[-1].start()

    def _run(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # what a client that goes away causes
            if self._tls is None:
                self._serve(connection)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as secured:
                    self._open.append(secured)
                    self._serve(secured)

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(LONG)
        for connection in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONG)
            assert not thread.is_alive()


def read_request(connection: socket.socket) -> tuple[str, Message, bytes] | None:
    """One request: its first line, its headers, its body; None when the client is gone."""
    received = b""
    while b"\r\n\r\n" not in received:
        some = connection.recv(65536)
        if not some:
            return None
        received += some
    head, _, body = received.partition(b"\r\n\r\n")
    line, _, fields = head.decode("latin-1").partition("\r\n")
    headers = Message()
    for field in fields.split("\r\n"):
        name, _, value = field.partition(": ")
        headers[name] = value
    while len(body) < int(headers.get("Content-Length", 0)):
        body += connection.recv(65536)
    return line, headers, body


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    """Serve one request with those bytes, then hang up."""

    def serve(connection: socket.socket) -> None:
        if read_request(connection) is not None:
            connection.sendall(answer)

    return serve


def answer(
    body: bytes = b"", status: str = "200 OK", content_type: str = "application/json"
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode("latin-1") + b"\r\n" + body


@pytest.fixture
def call(credentials: Credentials) -> Callable[..., Any]:
    """Make one call against a server that gives one answer."""

    def run(raw: bytes, method: str = "GET", **options: Any) -> Any:
        limits = {"max_answer": options.pop("max_answer")} if "max_answer" in options else {}
        with RawServer(answering(raw)) as server:
            api = RequestsAPI(server.url, credentials, **limits)
            try:
                return api.request(method, "/v1/device", **options)
            finally:
                api.close()

    return run


@contextlib.contextmanager
def connected(url: str, credentials: Credentials, **options: Any) -> Iterator[RequestsAPI]:
    api = RequestsAPI(url, credentials, **options)
    try:
        yield api
    finally:
        api.close()


# --- Good servers ---------------------------------------------------------------------------------


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent, keeping the connection."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = json.dumps(
            {
                "method": self.command,
                "path": self.path,
                "headers": dict(self.headers),
                "body": body.hex(),
                "port": self.client_address[1],
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 (http.server's names)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(LONG)


def test_each_method_is_sent_as_it_is_called(echo: str, credentials: Credentials) -> None:
    with connected(echo, credentials) as api:
        for name in ("get", "post", "put", "patch", "delete"):
            seen = getattr(api, name)("/v1/device?a=b")
            assert (seen["method"], seen["path"]) == (name.upper(), "/v1/device?a=b")
        assert api.request("get", "/")["method"] == "GET"


def test_json_is_sent_as_minijson(echo: str, credentials: Credentials) -> None:
    with connected(echo, credentials) as api:
        seen = api.put("/v1/device/pathpoints", json=[{"path": "W1", "storage_level": 1}])
        assert seen["headers"]["Content-Type"] == "application/minijson"
        assert minijson.loads(bytes.fromhex(seen["body"])) == [{"path": "W1", "storage_level": 1}]
        assert bytes.fromhex(api.post("/", json=[])["body"]) == minijson.dumps([])
        with pytest.raises(minijson.EncodingError):
            api.post("/", json=object())


def test_a_prebuilt_body_is_sent_as_it_is(echo: str, credentials: Credentials) -> None:
    with connected(echo, credentials) as api:
        seen = api.post("/v1/device/pathpoints", body=b"\x40", headers={"X-Extra": "1"})
        assert seen["body"] == "40"
        assert seen["headers"]["Content-Type"] == "application/minijson"
        assert seen["headers"]["X-Extra"] == "1"


def test_files_are_sent_as_a_multipart_form(echo: str, credentials: Credentials) -> None:
    with connected(echo, credentials) as api:
        seen = api.put("/baobs/a", files={"file": b"\0\1\2"}, data={"data": '{"version": 3}'})
        assert seen["headers"]["Content-Type"].startswith("multipart/form-data; boundary=")
        body = bytes.fromhex(seen["body"])
        assert b"\r\n\r\n\0\1\2\r\n" in body
        assert b'\r\n\r\n{"version": 3}\r\n' in body


@pytest.mark.parametrize("environment", [Environment.STAGING, Environment.LOCAL_DEVELOPMENT])
def test_the_certificate_goes_in_a_header_with_tabs_for_newlines(
    echo: str, certificates: dict[Environment, Credentials], environment: Environment
) -> None:
    pem = certificates[environment].cert_data
    with connected(echo, certificates[environment]) as api:
        header = api.get("/")["headers"]["X-SSL-Client-Certificate"]
    assert header.replace("\t", "\n").strip() == pem.decode().strip()
    key = Path(certificates[environment].key_path)
    windows = b"Subject: CN=\xc5\xbcora\r\n" + pem.replace(b"\n", b"\r\n") + pem
    with Credentials(windows, key) as other, connected(echo, other) as api:
        assert api.get("/")["headers"]["X-SSL-Client-Certificate"] == header


def test_calls_of_one_thread_share_a_connection(echo: str, credentials: Credentials) -> None:
    with connected(echo, credentials) as api:
        ports = {api.get("/")["port"] for _ in range(5)}
        assert len(ports) == 1
        with concurrent.futures.ThreadPoolExecutor(1) as other:
            others = {other.submit(api.get, "/").result(LONG)["port"] for _ in range(3)}
        assert len(others) == 1
        assert others != ports
        assert api.get("/")["port"] in ports


def test_an_error_answer_keeps_the_connection(credentials: Credentials) -> None:
    def serve(connection: socket.socket) -> None:
        while read_request(connection) is not None:
            connection.sendall(answer(b'{"status": "no"}', "404 Not Found"))

    with RawServer(serve) as server, connected(server.url, credentials) as api:
        for _ in range(3):
            with pytest.raises(ResponseError):
                api.get("/")
        assert server.connections == 1


def test_a_connection_that_the_server_closed_is_replaced(credentials: Credentials) -> None:
    closed = threading.Event()

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer(b"[1]"))
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with RawServer(serve) as server, connected(server.url, credentials) as api:
        for _ in range(3):
            closed.clear()
            assert api.get("/") == [1]
            assert closed.wait(LONG)
        assert server.connections == 3


# --- Answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (answer(b'{"a": [1, null, "\xc5\xbc"]}'), {"a": [1, None, "ż"]}),
        (answer(b"[]"), []),
        (answer(b'{"a": 1}', content_type="text/html"), {"a": 1}),
        (answer(bytes.fromhex("41510161093fc00000"), content_type="application/minijson"),
         [{"a": 1.5}]),
        (answer(b"\x40", content_type="Application/MiniJSON; v=1"), []),
        (answer(b'{"a": 1}', "201 Created"), {"a": 1}),
        (answer(b"", "204 No Content"), {}),
        (answer(b""), {}),
        (answer(b"", content_type="text/html; charset=utf-8"), {}),
        (answer(b" \r\n", content_type="text/html"), {}),
        (answer(b"OK", content_type="text/plain"), {}),
        (answer(b'{"a": '), {}),
        (answer(b"\xff\xfe\xff"), {}),
        (answer(b"[" * 100000), {}),
        (answer(b"1" * 10000), {}),
        (answer(b"\x61", content_type="application/minijson"), {}),
        (b"HTTP/1.0 200 OK\r\n\r\n[1, 2]", [1, 2]),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n", [1]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"[1]"), [1]),
    ],
)  # fmt: skip
def test_a_good_answer_is_decoded_and_one_without_json_is_empty(
    call: Callable[..., Any], raw: bytes, expected: object
) -> None:
    assert call(raw) == expected


def test_a_direct_response_is_content_and_headers(call: Callable[..., Any]) -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-SMOK-BAOB-Version: 7\r\nContent-Length: 6\r\n\r\n<\0\1\2\xff>"
    content, headers = call(raw, direct_response=True)
    assert content == b"<\0\1\2\xff>"
    assert headers["x-smok-baob-version"] == "7"
    assert call(answer(b"", "204 No Content"), direct_response=True)[0] == b""


@pytest.mark.parametrize(
    ("raw", "status_code", "status"),
    [
        (answer(b'{"status": "no such device"}', "404 Not Found"), 404, "no such device"),
        (answer(b'{"status": 5}', "400 Bad Request"), 400, "5"),
        (answer(minijson.dumps({"status": "x"}), "400 Bad", "application/minijson"), 400, "x"),
        (answer(b'{"error": "x"}', "400 Bad Request"), 400, '{"error": "x"}'),
        (answer(b'["status"]', "400 Bad Request"), 400, '["status"]'),
        (answer(b"no \xff such", "500 Oops", "text/plain"), 500, "no \ufffd such"),
        (answer(b"<h1>Bad gateway</h1>", "502 Bad Gateway", "text/html"), 502,
         "<h1>Bad gateway</h1>"),
        (answer(b"", "503 Service Unavailable"), 503, "Service Unavailable"),
        (answer(b"[" * 60000, "500 Oops"), 500, "[" * 1000),
        (answer(b"x" * 2000, "500 Oops"), 500, "x" * 1000),
        (answer(b"x" * 2_000_000, "500 Oops"), 500, "x" * 1000),
        (answer(json.dumps({"status": "y" * 2000}).encode(), "400 Bad"), 400, "y" * 1000),
        (answer(b"", "304 Not Modified"), 304, "Not Modified"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("direct_response", [False, True])
def test_an_error_status_is_raised_with_what_the_server_says(
    call: Callable[..., Any], raw: bytes, status_code: int, status: str, direct_response: bool
) -> None:
    with pytest.raises(ResponseError) as caught:
        call(raw, direct_response=direct_response)
    assert (caught.value.status_code, caught.value.status) == (status_code, status)


def test_a_redirect_is_an_error_and_not_followed(credentials: Credentials) -> None:
    with RawServer(answering(answer(b"[]"))) as portal:
        redirect = answer(b"moved", "302 Found").replace(
            b"\r\n", f"\r\nLocation: {portal.url}/login\r\n".encode(), 1
        )
        with (
            RawServer(answering(redirect)) as server,
            connected(server.url, credentials) as api,
            pytest.raises(ResponseError) as caught,
        ):
            api.post("/v1/device/pathpoints", body=b"\x40")
        assert (caught.value.status_code, caught.value.status) == (302, "moved")
        assert portal.connections == 0


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"<html>Please log in</html>", content_type="text/html; charset=utf-8"),
        answer(b"Please log in", content_type="text/html"),
        answer(b"\n <!DOCTYPE html><html></html>", content_type="text/plain"),
    ],
)
def test_a_web_page_is_no_acknowledgement(call: Callable[..., Any], raw: bytes) -> None:
    with pytest.raises(ResponseError, match="a web page instead") as caught:
        call(raw, "POST", body=b"\x40")
    assert caught.value.is_no_link()


# --- No answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "closed connection without response"),
        (b"\0\1\2\3 garbage\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1", "BadStatusLine"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "BadStatusLine('HTTP/1.1 2x0 OK"),
        (b"\x15\x03\x01\x00\x02\x02\x28", ""),
        (answer(b'{"status": "ok"}')[:-3], "13 bytes read, 3 more expected"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab", ""),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "more than 100 headers"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000 + b"\r\n\r\n", "more than 65536 bytes"),
        (answer(b"x" * 60, "404 Not Found")[:-3], "57 bytes read, 3 more expected"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("direct_response", [False, True])
def test_garbage_and_cut_answers_are_no_link(
    call: Callable[..., Any], raw: bytes, why: str, direct_response: bool
) -> None:
    with pytest.raises(ResponseError) as caught:
        call(raw, direct_response=direct_response)
    assert caught.value.is_no_link()
    assert caught.value.status.startswith("no answer from http://localhost:")
    assert why in caught.value.status
    assert len(caught.value.status) <= 1000


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail),
        st.binary(max_size=200).map(lambda tail: b"HTTP/1.1 302 x\r\nLocation: " + tail),
        st.binary(max_size=50).map(lambda tail: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + tail),
        st.binary(max_size=50).map(lambda tail: answer(tail, content_type="application/minijson")),
    )
)
def test_any_bytes_are_an_answer_or_a_response_error(call: Callable[..., Any], raw: bytes) -> None:
    with contextlib.suppress(ResponseError):
        call(raw)


def test_a_server_that_is_down_is_no_link(credentials: Credentials) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with connected(f"http://127.0.0.1:{port}", credentials) as api:
        with pytest.raises(ResponseError) as caught:
            api.get("/v1/device")
        assert caught.value.is_no_link()
        assert caught.value.status == f"no answer from http://127.0.0.1:{port}: Connection refused"


def test_an_answer_that_is_too_long_is_no_link(call: Callable[..., Any]) -> None:
    assert call(answer(b"1" * 1000), max_answer=1000) == int("1" * 1000)
    for raw in (
        answer(b"1" * 1001),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"1" * 200_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"1" * 200_000,
    ):
        for direct_response in (False, True):
            with pytest.raises(ResponseError, match="longer than 1000 bytes") as caught:
                call(raw, max_answer=1000, direct_response=direct_response)
            assert caught.value.is_no_link()


def test_an_endless_answer_is_given_up(credentials: Credentials) -> None:
    gone = threading.Event()

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                connection.sendall(b"400\r\n" + b"1" * 1024 + b"\r\n")
        except OSError:
            gone.set()

    with RawServer(serve) as server, connected(server.url, credentials, max_answer=10**6) as api:
        with pytest.raises(ResponseError, match="longer than 1000000 bytes"):
            api.get("/")
        assert gone.wait(LONG)


def test_a_silent_server_is_no_link_after_the_time_out(credentials: Credentials) -> None:
    with RawServer(lambda connection: server.stopping.wait(LONG) and None) as server:
        with (
            connected(server.url, credentials, timeout=(LONG, 0.05)) as api,
            pytest.raises(ResponseError, match="timed out") as caught,
        ):
            api.get("/")
        assert caught.value.is_no_link()
        with (
            connected(server.url, credentials, timeout=(LONG, LONG)) as api,
            pytest.raises(ResponseError, match="timed out"),
        ):
            api.get("/", timeout=(LONG, 0.05))
        secure = server.url.replace("http:", "https:")
        with (
            connected(secure, credentials, timeout=(0.05, LONG)) as api,
            pytest.raises(ResponseError, match="timed out"),
        ):
            api.get("/")


@pytest.mark.parametrize(
    ("scheme", "start"),
    [
        ("http", b""),
        ("http", b"HTTP/1.1 200 OK\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("https", b"\x16\x03\x03\x3f\xff"),  # a TLS record of 16 KiB that never completes
    ],
    ids=["nothing", "headers", "body", "body-until-close", "handshake"],
)
@pytest.mark.parametrize("ended_by", ["deadline", "close"])
def test_a_dripping_server_is_left_at_the_deadline_and_at_close(
    credentials: Credentials, scheme: str, start: bytes, ended_by: str
) -> None:
    dripping = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(start)
        dripped = 0
        while not server.stopping.wait(0.01):
            connection.sendall(b"2")
            dripped += 1
            if dripped == 3:
                dripping.set()

    deadline = 0.3 if ended_by == "deadline" else LONG
    with (
        RawServer(serve) as server,
        connected(
            f"{scheme}://localhost:{server.port}",
            credentials,
            timeout=(LONG, LONG),
            deadline=deadline,
        ) as api,
        concurrent.futures.ThreadPoolExecutor(1) as thread,
    ):
        result = thread.submit(api.get, "/")
        if ended_by == "close":
            assert dripping.wait(LONG)
            api.close()
        with pytest.raises(ResponseError) as caught:
            result.result(LONG / 2)
        assert caught.value.is_no_link()
        expected = "it took longer than 0.3 s" if deadline == 0.3 else "the device is closing"
        assert caught.value.status.endswith(f": {expected}")


def test_a_deadline_can_be_given_for_one_call(credentials: Credentials) -> None:
    with (
        RawServer(lambda connection: server.stopping.wait(LONG) and None) as server,
        connected(server.url, credentials, timeout=(LONG, LONG)) as api,
        pytest.raises(ResponseError, match=r"longer than 0\.05 s"),
    ):
        api.get("/", deadline=0.05)


def test_a_long_body_may_take_longer_than_each_time_out(credentials: Credentials) -> None:
    """A slow link: no time-out ends an upload that makes progress."""
    body = bytes(range(256)) * 65536
    received = bytearray()

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        for part in range(1, 9):
            server.stopping.wait(0.4)
            while len(received) < part * len(body) // 8:
                received.extend(connection.recv(65536))
        while not received.endswith(body):
            received.extend(connection.recv(65536))
        connection.sendall(answer(b"[1]"))

    with (
        RawServer(serve) as server,
        connected(server.url, credentials, timeout=(0.2, 2)) as api,
    ):
        assert api.post("/", body=body) == [1]


# --- Closing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_hung_call_ends_at_close_and_later_ones_are_refused(
    credentials: Credentials, calls_before: int
) -> None:
    asked = threading.Event()

    def serve(connection: socket.socket) -> None:
        for _ in range(calls_before):
            read_request(connection)
            connection.sendall(answer(b"[1]"))
        read_request(connection)
        asked.set()
        server.stopping.wait(LONG)

    with RawServer(serve) as server, concurrent.futures.ThreadPoolExecutor(1) as thread:
        api = RequestsAPI(server.url, credentials, timeout=(LONG, LONG))
        for _ in range(calls_before):
            assert thread.submit(api.get, "/").result(LONG) == [1]
        result = thread.submit(api.get, "/")
        assert asked.wait(LONG)
        api.close()
        with pytest.raises(ResponseError, match="the device is closing") as caught:
            result.result(LONG / 2)
        assert caught.value.is_no_link()
        assert server.connections == 1
        for _ in range(2):
            with pytest.raises(RuntimeError, match="closed"):
                api.get("/")
            api.close()


def test_close_hangs_up_idle_connections_of_all_threads(credentials: Credentials) -> None:
    hung_up = threading.Semaphore(0)

    def serve(connection: socket.socket) -> None:
        while read_request(connection) is not None:
            connection.sendall(answer(b"[1]"))
        hung_up.release()

    with RawServer(serve) as server, concurrent.futures.ThreadPoolExecutor(1) as thread:
        api = RequestsAPI(server.url, credentials)
        assert api.get("/") == thread.submit(api.get, "/").result(LONG) == [1]
        assert server.connections == 2
        api.close()
        assert hung_up.acquire(timeout=LONG)
        assert hung_up.acquire(timeout=LONG)


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path, Credentials]:
    """A server's settings that demand a client certificate, its CA, and a PRODUCTION device."""
    files = create_server_certificate(tmp_path)
    device = create_development_certificates(tmp_path, "gateway", Environment.PRODUCTION)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.ca_cert)
    context.verify_mode = ssl.CERT_REQUIRED
    return context, files.ca_cert, Credentials(device.cert, device.key)


def test_in_production_the_device_shows_its_certificate_by_tls(
    tls: tuple[ssl.SSLContext, Path, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, ca, device = tls
    seen = []

    def serve(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        der = connection.getpeercert(binary_form=True)
        pem = x509.load_der_x509_certificate(der or b"").public_bytes(Encoding.PEM)
        while (request := read_request(connection)) is not None:
            seen.append((get_device_info(pem), request[1].get("X-SSL-Client-Certificate")))
            connection.sendall(answer(b"[1]"))

    with RawServer(serve, context) as server:
        with connected(server.url, device, ca_certs=ca) as api:
            assert api.get("/") == [1]
            assert api.get("/") == [1]
        assert server.connections == 1
        monkeypatch.setenv("SMOK_CA_CERTS", str(ca))
        with connected(server.url, device) as api:
            assert api.get("/") == [1]
    assert seen == [(("gateway", Environment.PRODUCTION), None)] * 3


def test_a_server_that_no_trusted_ca_vouches_for_is_no_link(
    tls: tuple[ssl.SSLContext, Path, Credentials], certificates: dict[Environment, Credentials]
) -> None:
    context, ca, device = tls
    other_ca = Path(certificates[Environment.PRODUCTION].cert_path).with_name("ca.crt")
    with RawServer(answering(answer(b"[]")), context) as server:
        for ca_certs in (None, other_ca):
            with (
                connected(server.url, device, ca_certs=ca_certs) as api,
                pytest.raises(ResponseError, match="certificate verify failed") as caught,
            ):
                api.get("/")
            assert caught.value.is_no_link()
        wrong_name = f"https://127.0.0.2:{server.port}"
        with (
            connected(wrong_name, device, ca_certs=ca) as api,
            pytest.raises(ResponseError) as caught,
        ):
            api.get("/")
        assert caught.value.is_no_link()


def test_a_device_that_the_server_refuses_by_tls_has_no_link(
    tls: tuple[ssl.SSLContext, Path, Credentials], credentials: Credentials
) -> None:
    context, ca, _ = tls
    with (
        RawServer(answering(answer(b"[]")), context) as server,
        connected(server.url, credentials, ca_certs=ca) as api,
        pytest.raises(ResponseError) as caught,
    ):
        api.get("/")
    assert caught.value.is_no_link()


def test_ca_certificates_that_cannot_be_read_are_named_at_once(
    credentials: Credentials, tmp_path: Path
) -> None:
    garbage = tmp_path / "ca.crt"
    garbage.write_bytes(b"garbage")
    with pytest.raises(UnavailableError, match=str(garbage)):
        RequestsAPI("https://localhost", credentials, ca_certs=garbage)
    with pytest.raises(UnavailableError, match="there is no"):
        RequestsAPI("https://localhost", credentials, ca_certs=tmp_path / "missing")


def test_a_certificate_that_vanished_is_named(
    tls: tuple[ssl.SSLContext, Path, Credentials],
) -> None:
    _, _, device = tls
    Path(device.key_path).unlink()
    with pytest.raises(InvalidCredentials, match=r"device\.crt: TLS refuses it: .*No such file"):
        RequestsAPI("https://localhost", device)


def test_a_proxy_in_the_environment_is_used(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []

    def serve(connection: socket.socket) -> None:
        while (request := read_request(connection)) is not None:
            lines.append(request[0])
            connection.sendall(answer(b"[1]"))

    with RawServer(serve) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with connected("http://smok.invalid", credentials) as api:
            assert api.get("/v1/device") == [1]
            assert api.get("/v1/device") == [1]
        assert proxy.connections == 1
    assert lines == ["GET http://smok.invalid/v1/device HTTP/1.1"] * 2


# --- Base URL -------------------------------------------------------------------------------------


def test_the_base_url_is_the_argument_then_the_variable_then_the_certificates() -> None:
    variables = {"SMOK_BASE_URL": "http://localhost:8000/"}
    assert base_url("https://a:1/b//", variables, Environment.STAGING) == "https://a:1/b"
    assert base_url(None, variables, Environment.STAGING) == "http://localhost:8000"
    assert base_url(None, {}, Environment.PRODUCTION) == "https://api.smok.co"
    assert base_url(None, {}, Environment.STAGING) == "https://api.test.smok-serwis.pl"
    assert base_url(None, {"SMOK_BASE_URL": ""}, Environment.LOCAL_DEVELOPMENT) == "http://http-api"


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://a", "http://", "https:///v1", "http://a:port", "http://a:99999",
     "http://a:0", "http://a?b", "http://a#b", "http://[::1", "file:///etc/passwd"],
)  # fmt: skip
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        base_url(url, {}, Environment.STAGING)
    with pytest.raises(ValueError, match="base URL"):
        base_url(None, {"SMOK_BASE_URL": url}, Environment.STAGING)


# --- Backoff --------------------------------------------------------------------------------------


def test_pauses_double_up_to_the_longest_and_start_again_after_success() -> None:
    for chance, expected in (
        (1.0, [1, 2, 4, 8, 16, 32, 60, 60]),
        (0.0, [0.5, 1, 2, 4, 8, 16, 30, 30]),
    ):
        backoff = Backoff(uniform=lambda chance=chance: chance)  # type: ignore[misc]
        assert [backoff.failed() for _ in range(8)] == expected
        backoff.success()
        assert backoff.failed() == expected[0]


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(first=0.25, longest=3)
    assert all(0.125 <= backoff.failed() <= 3 for _ in range(5000))


def test_the_next_try_is_due_when_the_pause_is_over() -> None:
    now = 100.0
    backoff = Backoff(clock=lambda: now, uniform=lambda: 1.0)
    assert backoff.ready()
    backoff.failed()
    assert not backoff.ready()
    assert not backoff.ready(100.99)
    assert backoff.ready(101.0)
    now = 101.0
    assert backoff.ready()
    backoff.failed()
    assert not backoff.ready(102.9)
    backoff.success()
    assert backoff.ready()
