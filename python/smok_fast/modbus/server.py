"""A small MODBUS TCP server for demonstrations and tests.

One thread serves all clients, so that it is bounded whatever they do: a client that does not read
its answers is not read from either, at most 4 KiB of requests are answered ahead, and when all
places are taken the client that was silent for longest loses its own (MODBUS Messaging on TCP/IP
Implementation Guide V1.0b, section 4.2.1).
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from types import TracebackType

from smok_fast._core import ModbusQuery, ModbusRequest, ModbusServer
from smok_fast.modbus.names import Table
from smok_fast.modbus.registers import RegisterModel

__all__ = ["TcpServer"]

logger = logging.getLogger("smok_fast.modbus.server")

#: Exception codes, section 7 of the MODBUS Application Protocol Specification V1.1b3.
ILLEGAL_DATA_ADDRESS = 2
SERVER_DEVICE_FAILURE = 4
GATEWAY_TARGET_FAILED_TO_RESPOND = 11

RECEIVE_SIZE = 4096
#: Seconds that :meth:`TcpServer.stop` waits for a callback that does not return.
STOP_TIMEOUT = 5.0

_WRITTEN_TABLES = {
    5: Table.COILS,
    6: Table.HOLDING_REGISTERS,
    15: Table.COILS,
    16: Table.HOLDING_REGISTERS,
}


class TcpServer:
    """A MODBUS TCP server: functions 1 to 6, 15 and 16.

    It answers exception 1 to other functions, 2 to addresses that are not defined, 3 to requests
    that the specification does not allow, 4 if ``on_write`` raises (the exception is logged), and
    11 for units of which nothing is defined, as a gateway does. Unit 0 is a unit like others. A
    client that does not speak MODBUS TCP is disconnected.

    May be started again after it was stopped, on the same port. Usable as a context manager.

    :param registers: what to serve
    :param host: address to listen at
    :param port: TCP port, 0 for a free one
    :param max_clients: how many clients at the same time
    :ivar registers: what it serves
    :ivar host: address to listen at
    :ivar port: TCP port; the real one once it is started
    """

    def __init__(
        self,
        registers: RegisterModel,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        max_clients: int = 64,
    ) -> None:
        self.registers = registers
        self.host = host
        self.port = port
        self._max_clients = max_clients
        self._service: _Service | None = None

    def start(self) -> None:
        """Listen, and serve in a daemon thread of its own, ``ModbusServerThread``.

        :raises OSError: the port cannot be had
        """
        if self._service is None:
            listener = socket.create_server((self.host, self.port), backlog=self._max_clients)
            # What is accepted inherits it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.port = listener.getsockname()[1]
            self._service = _Service(listener, self.registers, self._max_clients)
            self._service.start()

    def stop(self) -> None:
        """Disconnect all clients and end the thread. May be called again."""
        service, self._service = self._service, None
        if service is not None:
            service.stop()

    def __enter__(self) -> TcpServer:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.stop()


class _Client:
    """One connected client."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.protocol = ModbusServer()
        self.unsent = b""
        self.awaited = selectors.EVENT_READ


class _Service:
    """A server between its start and its stop. Everything but :meth:`stop` runs in its thread."""

    def __init__(self, listener: socket.socket, registers: RegisterModel, max_clients: int) -> None:
        self._listener = listener
        self._registers = registers
        self._max_clients = max_clients
        self._clients: dict[_Client, None] = {}  # the one that was silent for longest comes first
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self._wake, self._woken = socket.socketpair()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="ModbusServerThread", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.close()  # which makes the other end readable
        if threading.current_thread() is not self._thread:
            self._thread.join(STOP_TIMEOUT)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data in self._clients:
                    self._serve_client(key.data)
        for client in [*self._clients]:
            self._drop(client)
        self._selector.close()
        self._listener.close()
        self._woken.close()

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # it has gone already
        except OSError as error:
            # Too many open files, as a rule: the pause keeps the loop from spinning.
            logger.warning("could not accept a client: %s", error)
            self._stopping.wait(0.1)
            return
        connected.setblocking(False)
        if len(self._clients) >= self._max_clients:
            self._drop(next(iter(self._clients)))
        client = _Client(connected)
        self._clients[client] = None
        self._selector.register(connected, client.awaited, client)

    def _serve_client(self, client: _Client) -> None:
        """Go on with a client that has sent something, or that reads what it was sent."""
        try:
            if not client.unsent and not self._receive(client):
                self._drop(client)
                return
            self._send(client)
        except OSError as error:
            logger.debug("lost a client: %s", error)
            self._drop(client)
            return
        if client.protocol.error is not None and not client.unsent:
            logger.debug("disconnected a client: %s", client.protocol.error)
            self._drop(client)

    def _receive(self, client: _Client) -> bool:
        """Answer what the client sent; False if it has gone."""
        data = client.socket.recv(RECEIVE_SIZE)
        if not data:
            return False
        del self._clients[client]
        self._clients[client] = None
        client.unsent = b"".join([self._answer(query) for query in client.protocol.feed(data)])
        return True

    def _send(self, client: _Client) -> None:
        if client.unsent:
            try:
                sent = client.socket.send(client.unsent)
            except BlockingIOError:
                sent = 0
            client.unsent = client.unsent[sent:]
        awaited = selectors.EVENT_WRITE if client.unsent else selectors.EVENT_READ
        if awaited != client.awaited:
            client.awaited = awaited
            self._selector.modify(client.socket, awaited, client)

    def _drop(self, client: _Client) -> None:
        del self._clients[client]
        self._selector.unregister(client.socket)
        client.socket.close()

    def _answer(self, query: ModbusQuery) -> bytes:
        if not self._registers.has_unit(query.unit):
            return query.refuse(GATEWAY_TARGET_FAILED_TO_RESPOND)
        request = query.request
        if request is None:
            return query.refuse(query.refusal or SERVER_DEVICE_FAILURE)
        try:
            return query.answer(self._carry_out(request))
        except KeyError:
            return query.refuse(ILLEGAL_DATA_ADDRESS)
        except Exception:
            logger.exception("on_write raised for %r", request)
            return query.refuse(SERVER_DEVICE_FAILURE)

    def _carry_out(self, request: ModbusRequest) -> list[int]:
        table = _WRITTEN_TABLES.get(request.function)
        if table is None:
            return self._registers.read(
                request.unit, Table(request.function), request.address, request.count
            )
        self._registers.write(request.unit, table, request.address, request.values)
        return []
