"""What the tests of NGTT have in common: servers that follow a script, frame for frame."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import ManualClock
from smok_fast import minijson
from smok_fast._backoff import Backoff
from smok_fast.client.certificate import DevelopmentCertificates, create_server_certificate
from smok_fast.ngtt.protocol import NGTTFrame, NGTTHeaderType
from smok_fast.server.ngtt import server_context

#: Seconds after which a test that waits for something gives up.
PATIENCE = 30

CONFIRM = NGTTHeaderType.ORDER_CONFIRM
REJECT = NGTTHeaderType.ORDER_REJECT
FETCH = NGTTHeaderType.FETCH_ORDERS
ORDER = NGTTHeaderType.ORDER
PING = NGTTHeaderType.PING


def quick() -> Backoff:
    """Pauses too short to be noticed."""
    return Backoff(0.01, 0.02)


def writes(*values: int, path: str = "W1") -> list[dict[str, Any]]:
    """Sections, each of which writes one value."""
    return [{"orders": [{"type": "write", "path": path, "value": value}]} for value in values]


def order(tid: int, sections: Any) -> NGTTFrame:
    return NGTTFrame(tid, ORDER, minijson.dumps(sections))


class WatchedClock(ManualClock):
    """A clock that stands still, and tells when it was looked at."""

    def __init__(self) -> None:
        super().__init__()
        self._looked = threading.Condition()
        self._looks = 0

    def __call__(self) -> float:
        with self._looked:
            self._looks += 1
            self._looked.notify_all()
        return self.now

    def wait_for_looks(self, count: int) -> None:
        """Wait until it was looked at so many times."""
        with self._looked:
            assert self._looked.wait_for(lambda: self._looks >= count, PATIENCE)

    def pass_by(self, seconds: float, wake: Callable[[], object]) -> None:
        """Let time pass, and wait until a thread that looks at most twice for each thing that it
        does, and that can be woken, has done whatever was due.
        """
        self.advance(seconds)
        for _ in range(3):
            before = self._looks
            wake()
            self.wait_for_looks(before + 1)


class Peer:
    """The server's end of one connection.

    :ivar socket: the connection
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def send(self, *frames: NGTTFrame) -> None:
        """Send frames, as one piece."""
        self.socket.sendall(b"".join(map(bytes, frames)))

    def receive(self) -> NGTTFrame:
        """The next frame."""
        head = self._receive_exactly(8)
        return NGTTFrame.from_bytes(head + self._receive_exactly(int.from_bytes(head[:4])))

    def expect(self, packet_type: NGTTHeaderType, tid: int | None = None) -> NGTTFrame:
        """The next frame but for pings, which are answered: it must be of this type."""
        while True:
            frame = self.receive()
            if frame.packet_type != PING or packet_type == PING:
                break
            self.send(frame)
        assert frame.packet_type == packet_type, frame
        assert tid in (None, frame.tid), frame
        return frame

    def greet(self) -> Peer:
        """See a connection begin as it should."""
        self.expect(FETCH, 0)
        self.send(self.expect(PING))
        return self

    def serve(self) -> None:
        """Answer pings until the client has gone; it may ask for orders, and say nothing else."""
        while True:
            frame = self.receive()
            if frame.packet_type == PING:
                self.send(frame)
            else:
                assert frame.packet_type == FETCH, frame

    def _receive_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise Gone
            data += chunk
        return data


class Gone(Exception):  # no OSError, so that no script takes it for one
    """The client has closed the connection."""


Script = Callable[[Peer], object]


class ScriptedServer:
    """A server that runs one script for each connection, the last one for all further ones.

    A script is called with a :class:`Peer`; the connection is closed when it returns, or when the
    client has gone. What else it raises, :meth:`close` raises again.

    :param context: TLS settings, None for plain TCP
    :param scripts: the scripts
    :param listening: False to refuse connections until :meth:`listen`
    """

    def __init__(
        self, context: ssl.SSLContext | None, *scripts: Script, listening: bool = True
    ) -> None:
        self._context = context
        self._scripts = scripts
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._accepted = threading.Condition()
        self.accepted = 0
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._ended = False
        self._acceptor = threading.Thread(target=self._accept)
        if listening:
            self.listen()

    def listen(self) -> None:
        self._socket.listen()
        self._acceptor.start()

    def wait_for_connections(self, count: int) -> None:
        """Wait until there have been so many."""
        with self._accepted:
            assert self._accepted.wait_for(lambda: self.accepted >= count, PATIENCE)

    def close(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._acceptor.ident is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._acceptor.join()
        self._socket.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                # Not SSLSocket's method: that takes the TLS state from under the other thread.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                connection = self._context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
            self._connections.append(connection)
            thread = threading.Thread(target=self._run, args=(script, connection))
            self._threads.append(thread)
            with self._accepted:  # before the script is through with it
                self.accepted += 1
                self._accepted.notify_all()
            thread.start()

    def _run(self, script: Script, connection: socket.socket) -> None:
        with connection:
            try:
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
                script(Peer(connection))
            except (Gone, OSError):
                return  # the client has gone, or close() has ended the script
            except BaseException as failure:
                self._failures.append(failure)


def server_tls(
    certificate: DevelopmentCertificates,
    hosts: tuple[str, ...] = ("127.0.0.1",),
    ca_file: Path | None = None,
) -> ssl.SSLContext:
    """TLS settings of a server with a certificate by the CA of a device.

    :param ca_file: the CA of the devices that it accepts, the same by default
    """
    made = create_server_certificate(certificate.ca_cert.parent, hosts, overwrite=True)
    return server_context(made.cert, made.key, ca_file or certificate.ca_cert)
