"""Peers for the tests of the MODBUS client: servers that follow a script, byte for byte."""

import socket
import struct
import threading
import time
from contextlib import suppress

#: Seconds after which a test that waits for something gives up.
PATIENCE = 30


def wait_for(event):
    """Wait for an event that must come."""
    assert event.wait(PATIENCE)


def eventually(attempt, *errors):
    """The result of the first attempt that raises none of these errors."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except errors:
            if time.monotonic() > deadline:
                raise


class Query:
    """A request as a scripted server sees it."""

    def __init__(self, frame):
        self.transaction, _, _, self.unit, self.function, self.address, self.argument = (
            struct.unpack(">HHHBBHH", frame[:12])
        )

    def answer(self, pdu):
        """The frame around the PDU of an answer."""
        return struct.pack(">HHHB", self.transaction, 0, len(pdu) + 1, self.unit) + pdu

    def registers(self, *values):
        """The frame that answers a read of registers with these values."""
        data = struct.pack(f">{len(values)}H", *values)
        return self.answer(bytes([self.function, len(data)]) + data)

    def addresses(self):
        """The answer that gives each register its own address as its value, or confirms a write."""
        if self.function <= 4:
            return self.registers(*range(self.address, self.address + self.argument))
        return self.answer(struct.pack(">BHH", self.function, self.address, self.argument))


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection):
        self.socket = connection

    def receive(self, size):
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise ConnectionError("the client has gone")
            data += chunk
        return data

    def query(self):
        """The next request."""
        head = self.receive(6)
        return Query(head + self.receive(int.from_bytes(head[4:6])))

    def send(self, data):
        self.socket.sendall(data)

    def serve(self):
        """Answer every request with addresses as values, until the client goes."""
        while True:
            self.send(self.query().addresses())

    def half_close(self):
        """Close the sending direction, and wait until the client's kernel knows it."""
        self.socket.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + PATIENCE
        fin_wait_2 = 5  # acknowledged by the other side
        while self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != fin_wait_2:
            assert time.monotonic() < deadline


class ScriptedServer:
    """A TCP server that runs one script for each connection, the last one for all further ones.

    A script is called with a :class:`Peer`; the connection is closed when it returns, or when the
    client has gone. With ``listening=False`` it refuses connections until :meth:`listen`.
    """

    def __init__(self, *scripts, listening=True):
        self._scripts = scripts
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.accepted = 0
        self._connections = []
        self._threads = []
        self._failures = []
        self._ended = False
        self._acceptor = threading.Thread(target=self._accept)
        if listening:
            self.listen()

    def listen(self):
        self._socket.listen()
        self._acceptor.start()

    def close(self):
        self._ended = True
        if self._acceptor.ident is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._acceptor.join()
        self._socket.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def _accept(self):
        while not self._ended:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
            self.accepted += 1
            self._connections.append(connection)
            thread = threading.Thread(target=self._run, args=(script, connection))
            self._threads.append(thread)
            thread.start()

    def _run(self, script, connection):
        with connection:
            try:
                script(Peer(connection))
            except OSError:
                return  # the client has gone, or close() has ended the script
            except BaseException as failure:
                self._failures.append(failure)
