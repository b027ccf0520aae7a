"""One NGTT connection: TLS, frames, pings.

Invariants:

- One thread, the owner, connects, reads and writes; any thread may send frames, which wakes the
  owner. Nothing blocks but :class:`Waiter`, so that the owner can be woken at any moment. Only
  looking up the server's name can hold it up.
- The server's certificate is verified, its name included, before a byte is sent.
- A ping follows whatever is sent, and whatever silence of 30 seconds there is on our side. Its
  answer tells that the server has received everything in front of it. If nothing at all is
  received for 90 seconds while an answer is awaited, the connection is dead.
- What cannot be sent does not pile up, and neither does what is received: both are bounded.
- The frames in front of a fault, or of the end, are given out before it is raised.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from smok_fast._core import NGTTDecoder, encode_ngtt_frame
from smok_fast.client.certificate import ca_cert_files
from smok_fast.exceptions import InvalidCredentials, UnavailableError
from smok_fast.ngtt.exceptions import ConnectionFailed, InvalidFrame, NGTTError
from smok_fast.ngtt.protocol import MAX_DATA, NGTTFrame, NGTTHeaderType
from smok_fast.ngtt.uplink.waiter import Waiter

__all__ = ["CONNECT_WITHIN", "DEAD_AFTER", "PING_AFTER", "NGTTSocket", "client_context"]

#: For how many seconds nothing is written before a ping is.
PING_AFTER = 30.0

#: After how many seconds without a sign of life a server that owes one is given up.
DEAD_AFTER = 90.0

#: How long connecting may take, and how long the TLS handshake, in seconds.
CONNECT_WITHIN = 10.0

#: How many bytes may wait to be sent: answers to 60 000 orders.
MAX_UNSENT = 1 << 20

#: How much is read at once, in bytes, and how often before something else gets its turn.
_CHUNK = 65536
_CHUNKS = 16

#: How much is written at once, in bytes: a TLS record.
_RECORD = 16384

#: Transaction IDs of pings go from 1 up to this, and begin again.
_LAST_PING = 0x7FFF


def client_context(
    cert_file: str | os.PathLike[str],
    key_file: str | os.PathLike[str],
    ca_certs: str | os.PathLike[str] | None = None,
) -> ssl.SSLContext:
    """TLS settings of a device.

    The server must have a certificate for its host by one of SMOK's CAs. Where these are not
    configured, by one of those that the operating system trusts.

    :param cert_file: path of the device certificate, PEM
    :param key_file: path of its private key, PEM
    :param ca_certs: where SMOK's CAs are, see
        :func:`~smok_fast.client.certificate.ca_cert_files`
    :raises InvalidCredentials: TLS refuses the certificate or the key
    :raises UnavailableError: a CA certificate is configured, but cannot be read
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host
    try:
        context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        raise InvalidCredentials(f"certificate {cert_file}: TLS refuses it: {error}") from error
    authorities = set(ca_cert_files(ca_certs).values())
    for path in authorities:
        try:
            context.load_verify_locations(path)
        except OSError as error:
            raise UnavailableError(f"SMOK's CA certificate {path}: {error}") from error
    if not authorities:
        context.load_default_certs()
    return context


class NGTTSocket:
    """A connection to the server from its beginning to its end. See the module's comment.

    :param host: name or address of the server, which its certificate must be for
    :param port: its port
    :param context: TLS settings, see :func:`client_context`
    :param waiter: what the owner waits with
    :param max_data: the longest data that a frame from the server may carry, in bytes
    :param clock: a monotonic clock, seconds
    :ivar opened_at: when it was connected, by the clock
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        waiter: Waiter,
        *,
        max_data: int = MAX_DATA,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._waiter = waiter
        self._clock = clock
        self._socket: ssl.SSLSocket | None = None
        self._decoder = NGTTDecoder(max_data)
        self._fault: NGTTError | None = None
        self._ping_ids = itertools.cycle(range(1, _LAST_PING + 1))
        self._ping: int | None = None
        self._pinged_at = self._read_at = self._written_at = self.opened_at = 0.0
        # These count frames other than pings: those in front of the last ping (the first ping is
        # due at once), and those that the server is known to have received.
        self._covered = -1
        self._received = 0
        # The lock guards what other threads touch.
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._position = 0
        self._open = False

    # For any thread

    @property
    def connected(self) -> bool:
        """Whether it is connected."""
        return self._open

    @property
    def received(self) -> int:
        """How many frames the server is known to have received, pings left out."""
        return self._received

    def send_frame(self, tid: int, header: NGTTHeaderType | int, data: bytes = b"") -> int | None:
        """Have a frame sent at once. Never blocks.

        :param tid: transaction ID
        :param header: type of the frame
        :param data: what it carries
        :return: which frame of this connection it is, counted from 1, to be compared with
            :attr:`received`; None if the connection is closed, or the server takes nothing any more
        :raises OverflowError: the transaction ID or the type does not fit 16 bits
        """
        frame = encode_ngtt_frame(tid, header, data)
        with self._lock:
            if not self._open:
                return None
            if len(self._unsent) + len(frame) > MAX_UNSENT:
                self._fault = self._fault or ConnectionFailed(False, "the server does not read")
                position = None
            else:
                self._unsent += frame
                self._position += 1
                position = self._position
        self._waiter.wake()
        return position

    # For the owner

    def connect(self, is_given_up: Callable[[], bool] = lambda: False) -> None:
        """Connect, and verify the server.

        :param is_given_up: asked whenever the waiter was woken; True ends the attempt
        :raises ConnectionFailed: there is no server, it is not ours, or it does not answer
        """
        plain = self._connect_to_any(is_given_up)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            secured = self._context.wrap_socket(
                plain, server_hostname=self._host, do_handshake_on_connect=False
            )
        except (OSError, ValueError) as error:
            plain.close()
            raise ConnectionFailed(True, reason_of(error)) from error
        try:
            self._shake_hands(secured, is_given_up)
        except BaseException:
            secured.close()
            raise
        self._socket = secured
        self.opened_at = self._read_at = self._written_at = self._clock()
        with self._lock:
            self._open = True

    def exchange(self) -> list[NGTTFrame]:
        """Send what waits, and wait for frames, until the waiter is woken or a ping is due.

        :return: the frames that came, answers to pings included; maybe none
        :raises ConnectionFailed: the connection broke, was closed by the server, or is dead
        :raises InvalidFrame: what came is not NGTT, or a frame is too long
        """
        if self._fault is not None:
            raise self._fault
        if self._socket is None:
            raise ConnectionFailed(False, "not connected")
        self._ping_or_give_up(self._clock())
        self._write(self._socket)
        if self._fault is None and not self._socket.pending():
            events = select.POLLIN | (select.POLLOUT if self._unsent else 0)
            if not self._waiter.wait(self._patience(), self._socket, events):
                return []
        return self._read(self._socket)

    def flush(self, timeout: float) -> None:
        """Send what waits, if the server takes it in time.

        :param timeout: for how many seconds to try
        """
        deadline = time.monotonic() + timeout
        while self._socket is not None and self._fault is None:
            self._write(self._socket)
            left = deadline - time.monotonic()
            if not self._unsent or left <= 0:
                return
            self._waiter.wait(left, self._socket, select.POLLOUT)

    def close(self) -> None:
        """Close the connection. What was not sent is gone. May be called many times."""
        with self._lock:
            self._open = False
            self._unsent.clear()
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError):  # a goodbye that nobody waits for
                self._socket.unwrap()
            self._socket.close()
            self._socket = None

    def _connect_to_any(self, is_given_up: Callable[[], bool]) -> socket.socket:
        """A TCP connection to one of the server's addresses."""
        deadline = self._clock() + CONNECT_WITHIN
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ConnectionFailed(True, f"cannot look it up: {reason_of(error)}") from error
        failure = ConnectionFailed(True, "it has no address")
        for index, (family, kind, protocol, _, address) in enumerate(found):
            now = self._clock()
            until = now + (deadline - now) / (len(found) - index)
            plain = socket.socket(family, kind, protocol)
            try:
                self._connect_to(plain, address, until, is_given_up)
            except OSError as error:
                plain.close()
                failure = ConnectionFailed(True, reason_of(error))
            except BaseException:
                plain.close()
                raise
            else:
                return plain
        raise failure

    def _connect_to(
        self,
        plain: socket.socket,
        address: tuple[Any, ...],
        until: float,
        is_given_up: Callable[[], bool],
    ) -> None:
        """:raises OSError: it is not possible"""
        plain.setblocking(False)
        code = plain.connect_ex(address)
        if code == errno.EINPROGRESS:
            self._await(plain, select.POLLOUT, until, is_given_up)
            code = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def _shake_hands(self, secured: ssl.SSLSocket, is_given_up: Callable[[], bool]) -> None:
        until = self._clock() + CONNECT_WITHIN
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                events = select.POLLIN
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            except (OSError, ValueError) as error:
                raise ConnectionFailed(True, reason_of(error)) from error
            else:
                return
            try:
                self._await(secured, events, until, is_given_up)
            except TimeoutError as error:
                raise ConnectionFailed(True, "TLS handshake: timed out") from error

    def _await(
        self, watched: socket.socket, events: int, until: float, is_given_up: Callable[[], bool]
    ) -> None:
        """Wait for a socket.

        :raises TimeoutError: it was not ready in time
        :raises ConnectionFailed: the attempt was given up
        """
        while not is_given_up():
            left = until - self._clock()
            if left <= 0:
                raise TimeoutError("timed out")
            if self._waiter.wait(left, watched, events):
                return
        raise ConnectionFailed(False, "given up")

    def _ping_or_give_up(self, now: float) -> None:
        if self._ping is not None:
            if now - max(self._pinged_at, self._read_at) >= DEAD_AFTER:
                raise ConnectionFailed(False, f"nothing was received for {DEAD_AFTER:g} s")
            return
        with self._lock:
            if self._position == self._covered and now - self._written_at < PING_AFTER:
                return
            self._ping = next(self._ping_ids)
            self._pinged_at = now
            self._covered = self._position
            self._unsent += encode_ngtt_frame(self._ping, NGTTHeaderType.PING, b"")

    def _patience(self) -> float:
        """In how many seconds something is to be done even if nothing happens."""
        if self._ping is None:
            due = self._written_at + PING_AFTER
        else:
            due = max(self._pinged_at, self._read_at) + DEAD_AFTER
        return due - self._clock()

    def _write(self, secured: ssl.SSLSocket) -> None:
        while self._fault is None:
            with self._lock:
                record = bytes(self._unsent[:_RECORD])
            if not record:
                return
            try:
                sent = secured.send(record)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self._fault = ConnectionFailed(False, reason_of(error))
                return
            self._written_at = self._clock()
            with self._lock:
                del self._unsent[:sent]

    def _read(self, secured: ssl.SSLSocket) -> list[NGTTFrame]:
        frames: list[NGTTFrame] = []
        for _ in range(_CHUNKS):
            try:
                data = secured.recv(_CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as error:
                self._fault = ConnectionFailed(False, reason_of(error))
                break
            if not data:
                self._fault = self._fault or ConnectionFailed(False, "closed by the server")
                break
            self._read_at = self._clock()
            frames += [NGTTFrame(*frame) for frame in self._decoder.feed(data)]
            if self._decoder.error is not None:
                self._fault = InvalidFrame(f"not NGTT: {self._decoder.error}")
                break
        for frame in frames:
            if frame.packet_type == NGTTHeaderType.PING and frame.tid == self._ping:
                self._ping = None
                self._received = self._covered
        return frames


def reason_of(error: Exception) -> str:
    """What an error of a socket or of TLS means, in few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
