"""One connection to a MODBUS TCP server that makes itself anew.

What is sent and what an answer is, the core decides (:class:`smok_fast._core.ModbusClient`); here
are the socket, the time-outs, and when to connect. Invariants:

* one request is on its way at a time, and it ends within the time-out, however slowly bytes drip
  in;
* a connection on which something malformed or half a frame arrived is closed, since nobody can say
  what its next byte means;
* the late answer of a request that timed out is told by its transaction identifier, so a time-out
  alone does not close the connection, but several in a row do: the peer may be gone without having
  said so;
* while a server cannot be reached, requests fail at once, and only one of them per back-off period
  pays for an attempt; an outage is logged once, and so is its end, which is the first answer.
"""

from __future__ import annotations

import logging
import random
import select
import socket
import threading
import time

from smok_fast._core import ModbusClient, ModbusRequest
from smok_fast.modbus.exceptions import (
    BadResponseError,
    ClientClosedError,
    ConnectFailedError,
    ConnectionLostError,
    ExceptionResponseError,
    FrameError,
    NoResponseError,
)

__all__ = ["TcpConnection"]

logger = logging.getLogger("smok_fast.modbus")

#: Time-outs in a row after which the connection is not trusted any more.
MOST_UNANSWERED = 3
#: Enough for fifteen of the longest frames.
RECEIVE_SIZE = 4096


class TcpConnection:
    """A connection to one server.

    It belongs to one thread; only :meth:`interrupt` may be called by others.

    :param host: name or address of the server
    :param port: TCP port
    :param timeout: seconds from a request to the end of its answer
    :param connect_timeout: seconds that connecting may take
    :param reconnect_delay: seconds to the second attempt to connect; doubled with every further one
    :param max_reconnect_delay: seconds between two attempts at most
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        connect_timeout: float,
        reconnect_delay: float,
        max_reconnect_delay: float,
    ) -> None:
        self._host = host
        self._port = port
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._first_delay = reconnect_delay
        self._longest_delay = max_reconnect_delay
        self._protocol = ModbusClient()
        # Guards the socket against being closed by its thread while another one shuts it down.
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._readable = select.poll()
        self._interrupted = False
        self._unanswered = 0
        self._worked = False
        self._outage: str | None = None
        self._delay = reconnect_delay
        self._next_attempt = 0.0

    @property
    def stale(self) -> int:
        """Answers that came too late, or to nothing: ignored."""
        return self._protocol.stale

    @property
    def other_unit(self) -> int:
        """Answers of another unit than the one that was asked: ignored."""
        return self._protocol.other_unit

    def transact(self, request: ModbusRequest) -> list[int]:
        """Send a request and wait for its answer.

        :param request: what to send
        :return: the values that were read, none for a write
        :raises ModbusError: see :mod:`smok_fast.modbus.exceptions`
        """
        connected = self._connected()
        try:
            values = self._exchange(connected, request)
        except ExceptionResponseError:
            self._answered()
            raise
        except NoResponseError:
            self._unanswered += 1
            if self._unanswered >= MOST_UNANSWERED or not self._protocol.is_between_frames:
                self.disconnect()
            raise
        except (FrameError, BadResponseError):
            self.disconnect()
            raise
        except OSError as error:
            raise self._lost(error) from error
        self._answered()
        return values

    def disconnect(self) -> None:
        """Close the connection; the next request makes a new one."""
        with self._lock:
            if self._socket is not None:
                self._readable.unregister(self._socket)
                self._socket.close()
                self._socket = None

    def interrupt(self) -> None:
        """Break off what is on its way and refuse everything from now on. For any thread."""
        with self._lock:
            self._interrupted = True
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError as error:
                    logger.debug("%s was closed already: %s", self, error)

    def __str__(self) -> str:
        return f"MODBUS server {self._host}:{self._port}"

    def _exchange(self, connected: socket.socket, request: ModbusRequest) -> list[int]:
        frame = self._protocol.begin(request)
        deadline = time.monotonic() + self._timeout
        if connected.send(frame) < len(frame):
            raise ConnectionResetError("the peer has stopped to read")
        while (left := deadline - time.monotonic()) > 0 and self._readable.poll(left * 1000):
            data = connected.recv(RECEIVE_SIZE)
            if not data:
                raise ConnectionResetError("closed by the peer")
            values = self._protocol.feed(data)
            if values is not None:
                return values
        raise NoResponseError(f"unit {request.unit} did not answer within {self._timeout} s")

    def _connected(self) -> socket.socket:
        """The socket of a connection that is open as far as one can know without sending."""
        if self._socket is not None and self._is_closed_by_peer(self._socket):
            logger.debug("%s has closed the idle connection", self)
            self.disconnect()
        return self._connect() if self._socket is None else self._socket

    def _is_closed_by_peer(self, connected: socket.socket) -> bool:
        if not self._readable.poll(0):
            return False
        try:
            return not connected.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _connect(self) -> socket.socket:
        self._refuse_if_interrupted()
        wait = self._next_attempt - time.monotonic()
        if wait > 0:
            raise ConnectFailedError(
                f"no connection to {self}, next attempt in {wait:.1f} s: {self._outage}"
            )
        try:
            connected = self._open()
        except (OSError, UnicodeError) as error:
            self._back_off(error)
            raise ConnectFailedError(f"no connection to {self}: {error}") from error
        with self._lock:
            self._socket = connected
            self._readable.register(connected, select.POLLIN)
        self._protocol.reset()
        self._unanswered = 0
        self._worked = False
        self._refuse_if_interrupted()
        return connected

    def _open(self) -> socket.socket:
        connected = socket.create_connection((self._host, self._port), self._connect_timeout)
        try:
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError:
            connected.close()
            raise
        return connected

    def _refuse_if_interrupted(self) -> None:
        if self._interrupted:
            raise ClientClosedError(f"the client of {self} is closed")

    def _lost(self, error: OSError) -> ConnectionLostError:
        """Note that the connection broke; one that never worked was a failed attempt."""
        self.disconnect()
        self._refuse_if_interrupted()
        if self._worked:
            self._begin_outage(error)
        else:
            self._back_off(error)
        return ConnectionLostError(f"the connection to {self} broke: {error}")

    def _back_off(self, error: Exception) -> None:
        # Jitter keeps many gateways from knocking at the same moment when a server comes back.
        self._next_attempt = time.monotonic() + self._delay * random.uniform(0.5, 1)
        self._delay = min(self._delay * 2, self._longest_delay)
        self._begin_outage(error)

    def _begin_outage(self, error: Exception) -> None:
        if self._outage is None:
            logger.warning("no connection to %s: %s", self, error)
        self._outage = str(error)

    def _answered(self) -> None:
        self._unanswered = 0
        self._worked = True
        self._delay = self._first_delay
        if self._outage is not None:
            self._outage = None
            logger.warning("%s is back", self)
        if not self._protocol.is_between_frames:
            self.disconnect()
