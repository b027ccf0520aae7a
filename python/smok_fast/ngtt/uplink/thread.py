"""The connection to the NGTT server that makes itself anew.

Invariants:

- A connection that broke, or could not be made, is made again after a pause that grows from 1 to 60
  seconds, with jitter. It shrinks again only once a connection has lasted, so that a server which
  accepts and breaks connections is not stormed.
- What is wrong is logged once, and once that it is over.
- Callbacks are called by the thread, with no lock held. What they raise is logged.
- The thread ends within a second of being asked to, whatever it is at. Only looking up the server's
  name may take longer; it then ends after that, without connecting.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from smok_fast._backoff import Backoff
from smok_fast.client.certificate import get_device_info
from smok_fast.exceptions import InvalidCredentials
from smok_fast.ngtt.exceptions import ConnectionFailed, NGTTError
from smok_fast.ngtt.orders import Order
from smok_fast.ngtt.protocol import (
    HISTORICAL_TYPES,
    MAX_DATA,
    NGTTFrame,
    NGTTHeaderType,
    env_to_hostname,
    server_address,
)
from smok_fast.ngtt.uplink.connection import PING_AFTER, NGTTSocket, client_context
from smok_fast.ngtt.uplink.waiter import LONGEST_WAIT, Waiter
from smok_fast.threads.base import TerminableThread

__all__ = ["NGTTConnection"]

logger = logging.getLogger(__name__)

#: For how many seconds answers are still sent at the end.
FLUSH_FOR = 0.5

#: How long stop() waits for the thread, in seconds.
STOP_WITHIN = 1.0


class NGTTConnection(TerminableThread):
    """A thread that keeps a connection to the NGTT server. Making it starts it.

    :param cert_file: path of the device certificate, PEM
    :param key_file: path of its private key, PEM
    :param on_new_order: called by the thread with each order. The order is to be answered, by any
        thread and at any time: :meth:`~smok_fast.ngtt.orders.Order.acknowledge` once it was
        executed, or :meth:`~smok_fast.ngtt.orders.Order.nack`; until then the server sends it again
        over each new connection. It may raise :class:`~smok_fast.ngtt.exceptions.ConnectionFailed`
        to have the connection made anew. None if orders are not to be fetched
    :param address: the server, ``host`` or ``host:port``; by default that of the environment
        variable ``SMOK_NGTT``, else that of the certificate's environment
    :param ca_certs: where SMOK's CA certificates are, see
        :func:`~smok_fast.client.certificate.ca_cert_files`; those of the operating system if they
        are not configured
    :param on_change: called by the thread, with no argument, when :attr:`reachable` has changed
    :param max_data: the longest data that a frame from the server may carry, in bytes
    :param start: False to start it later, with :meth:`start`
    :param clock: a monotonic clock, seconds
    :param backoff: pauses between tries; from 1 to 60 seconds by default
    :raises InvalidCredentials: certificate or key cannot be used
    :raises UnavailableError: a CA certificate is configured, but cannot be read
    :raises ValueError: the address is none
    :ivar server: host and port of the server
    """

    def __init__(
        self,
        cert_file: str | os.PathLike[str],
        key_file: str | os.PathLike[str],
        on_new_order: Callable[[Order], None] | None = None,
        *,
        address: str | None = None,
        ca_certs: str | os.PathLike[str] | None = None,
        on_change: Callable[[], None] | None = None,
        max_data: int = MAX_DATA,
        start: bool = True,
        clock: Callable[[], float] = time.monotonic,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(name="ngtt uplink")
        self.on_new_order = on_new_order
        self._context = client_context(cert_file, key_file, ca_certs)
        self.server = server_address(address, os.environ, _default_host(cert_file))
        self._on_change = on_change
        self._max_data = max_data
        self._clock = clock
        self._backoff = backoff or Backoff(1.0, 60.0, clock=clock)
        self._waiter = Waiter()
        self._connection: NGTTSocket | None = None
        self._allowed = True
        # Of the present connection: whether the server has answered, and sent something odd.
        self._answered = False
        self._has_wondered = False
        self._reachable: bool | None = None
        self._last_contact: float | None = None
        self._complaint = ""
        self._is_announced = False
        if start:
            self.start()

    # For any thread

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        connection = self._connection
        return connection is not None and connection.connected

    @property
    def reachable(self) -> bool | None:
        """Whether the server answered the last time that a connection was made. None before that.

        Stays True over a break, until the first try to connect again fails.
        """
        return self._reachable

    @property
    def last_contact(self) -> float | None:
        """When something was last received from the server, in seconds since the epoch."""
        return self._last_contact

    def allow(self, allowed: bool) -> None:
        """Let it connect, or end the connection and keep it from making another."""
        self._allowed = allowed
        self.wake()

    def wake(self) -> None:
        """Have the thread look at the clock and at what is to be done."""
        self._waiter.wake()

    def terminate(self) -> None:
        """Ask the thread to end, and wake it. Does not wait for it."""
        super().terminate()
        if self.ident is None:
            self._waiter.close()
        self.wake()

    def stop(self, wait_for_completion: bool = True) -> None:
        """End the connection and the thread. May be called many times.

        :param wait_for_completion: whether to wait for the end of the thread, for one second at
            most
        """
        self.terminate()
        if wait_for_completion:
            self.join(STOP_WITHIN)

    def close(self) -> None:
        """The same as :meth:`stop`."""
        self.stop()

    # For the thread

    def run(self) -> None:
        """The thread's loop."""
        try:
            while not self.terminating:
                self.loop()
            if self._connection is not None:
                self._connection.flush(FLUSH_FOR)
        finally:
            self.cleanup()
            self._waiter.close()

    def loop(self) -> None:
        """Connect if need be, and do what there is to do over the connection once. Called by the
        thread.
        """
        if not self._allowed:
            self.cleanup()
            self._set_reachable(None)
            self._waiter.wait(LONGEST_WAIT)
            return
        try:
            self.connect()
            if self.connected:
                self.inner_loop()
        except NGTTError as error:
            self._failed(str(error))
        except Exception as error:  # the connection is made anew whatever ended it
            logger.exception("The NGTT connection failed")
            self._failed(repr(error))

    def connect(self) -> None:
        """Connect if there is no connection, unless the last try failed a moment ago: then wait for
        a while. Called by the thread.

        :raises ConnectionFailed: it was not possible
        """
        if self.connected:
            return
        pause = self._backoff.pause()
        if pause > 0:
            self._waiter.wait(pause)
            return
        host, port = self.server
        self._answered = self._has_wondered = False
        self._connection = NGTTSocket(
            host, port, self._context, self._waiter, max_data=self._max_data, clock=self._clock
        )
        self._connection.connect(lambda: self.terminating or not self._allowed)
        if self.on_new_order is not None:
            self._connection.send_frame(0, NGTTHeaderType.FETCH_ORDERS)

    def inner_loop(self) -> None:
        """Send what waits, wait for something to happen, and handle what came. Called by the
        thread.

        :raises NGTTError: the connection broke
        """
        connection = self._connection
        if connection is None:
            raise ConnectionFailed(False, "not connected")
        for frame in connection.exchange():
            self._note_answer(connection)
            self._handle(frame, connection)

    def cleanup(self) -> None:
        """Close the connection, if there is one. Called by the thread."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _handle(self, frame: NGTTFrame, connection: NGTTSocket) -> None:
        if frame.packet_type == NGTTHeaderType.ORDER and self.on_new_order is not None:
            order = Order(frame.data, frame.tid, connection)
            try:
                self.on_new_order(order)
            except ConnectionFailed:
                raise
            except BaseException:
                logger.exception("on_new_order raised on %r", order)
        elif frame.packet_type in HISTORICAL_TYPES:
            logger.debug("Ignored: %r", frame)
        elif frame.packet_type != NGTTHeaderType.PING:
            level = logging.DEBUG if self._has_wondered else logging.WARNING
            self._has_wondered = True
            logger.log(level, "Ignored, not for a device: %r", frame)

    def _note_answer(self, connection: NGTTSocket) -> None:
        self._last_contact = time.time()
        if not self._answered:
            self._answered = True
            if not self._is_announced:
                self._is_announced = True
                level = logging.WARNING if self._complaint else logging.INFO
                logger.log(level, "NGTT connection to %s:%d is there", *self.server)
            self._set_reachable(True)
        if self._complaint and self._clock() - connection.opened_at >= PING_AFTER:
            self._backoff.success()
            self._complaint = ""

    def _failed(self, reason: str) -> None:
        self.cleanup()
        if self.terminating or not self._allowed:
            return
        self._backoff.failed()
        if reason != self._complaint:
            self._complaint = reason
            self._is_announced = False
            logger.warning(
                "No NGTT connection to %s:%d (%s); trying again with growing pauses",
                *self.server,
                reason,
            )
        if not self._answered:
            self._set_reachable(False)

    def _set_reachable(self, reachable: bool | None) -> None:
        if reachable is self._reachable:
            return
        self._reachable = reachable
        if self._on_change is not None:
            try:
                self._on_change()
            except BaseException:
                logger.exception("on_change raised")


def _default_host(cert_file: str | os.PathLike[str]) -> str:
    try:
        content = Path(cert_file).read_bytes()
    except OSError as error:
        raise InvalidCredentials(f"certificate {cert_file}: cannot be read: {error}") from error
    return env_to_hostname(get_device_info(content)[1])
