"""A TCP proxy between a device and its server that delays, cuts, truncates and duplicates."""

from __future__ import annotations

import contextlib
import random
import socket
import threading

#: The longest delay, in seconds.
DELAY = 0.02


class ChaosProxy:
    """Forwards connections, and spoils some of what goes through them.

    What happens to the n-th piece of the n-th connection depends on the seed alone. After so many
    misfortunes everything goes through, so that a test ends.

    :param host: the server
    :param port: its port
    :param seed: what decides about the misfortunes
    :param to_server: what may happen to a piece that the device sends: ``delay``, ``cut`` (nothing
        of it arrives), ``truncate`` (half of it does; both end the connection), ``duplicate``
    :param to_device: what may happen to what the server sends
    :param misfortunes: how many there are
    :ivar address: where it listens, ``host:port``
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        seed: int,
        to_server: tuple[str, ...],
        to_device: tuple[str, ...],
        misfortunes: int = 60,
    ) -> None:
        self._server = host, port
        self._seed = seed
        self._fates = to_server, to_device
        self._lock = threading.Lock()
        self._left = misfortunes
        self._connections = 0
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def left(self) -> int:
        """How many misfortunes are to come."""
        return self._left

    def close(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for each in self._sockets:
            _cut(each)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def __enter__(self) -> ChaosProxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                device, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                device.close()
                continue
            self._sockets += [device, server]
            self._connections += 1
            pairs = ((device, server), (server, device))
            for direction, (source, sink) in enumerate(pairs):
                chance = random.Random(f"{self._seed} {self._connections} {direction}")
                arguments = source, sink, chance, self._fates[direction]
                thread = threading.Thread(target=self._pump, args=arguments)
                self._threads.append(thread)
                thread.start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, chance: random.Random, fates: tuple[str]
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                fate = chance.choice(fates) if chance.random() < 0.25 else "pass"
                if fate != "pass" and not self._take_misfortune():
                    fate = "pass"
                if fate == "delay":
                    self._ended.wait(chance.random() * DELAY)
                if fate == "truncate":
                    sink.sendall(piece[: len(piece) // 2])
                if fate in ("truncate", "cut"):
                    break
                sink.sendall(piece * 2 if fate == "duplicate" else piece)
        _cut(source)
        _cut(sink)

    def _take_misfortune(self) -> bool:
        with self._lock:
            self._left = max(self._left - 1, -1)
            return self._left >= 0


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
