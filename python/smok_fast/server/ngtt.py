"""NGTT, the server's side: pushes orders to the devices that are connected.

Invariants:

- Only who has a certificate by one of the CAs gets past the TLS handshake, which has a time-out.
- What one device can make the server hold is bounded: one connection, one frame, a window of
  orders. A device that is silent, or does not read, is cut off after a while.
- An answer to a ping comes after what was sent in front of the ping was dealt with: confirmations
  are in the database by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
import ssl

from starlette.concurrency import run_in_threadpool

from smok_fast._core import NGTTDecoder
from smok_fast.ngtt.protocol import MAX_DATA, NGTTFrame, NGTTHeaderType
from smok_fast.server.call import Context
from smok_fast.server.checks import ApiError
from smok_fast.server.outbox import Delivery

__all__ = ["NGTTServer", "server_context"]

logger = logging.getLogger("smok_fast.server")

#: How many connections there may be at a time, those that still shake hands included.
MOST_CONNECTIONS = 1000

#: After how many seconds connections are accepted again when that has failed.
ACCEPT_AGAIN_AFTER = 1.0

#: How long a TLS handshake may take, in seconds.
HANDSHAKE_WITHIN = 10.0

#: After how many seconds without a byte from a device it is cut off; it pings every 30 seconds.
SILENT_FOR = 120.0

#: For how many seconds a device may leave unread what it is sent.
UNREAD_FOR = 30.0


def server_context(
    certificate: str | os.PathLike[str],
    key: str | os.PathLike[str] | None,
    ca_file: str | os.PathLike[str],
) -> ssl.SSLContext:
    """TLS settings: devices must have a certificate.

    :param certificate: PEM file of the server's own certificate
    :param key: PEM file of its private key, None when it is in the certificate's file
    :param ca_file: PEM file of the CAs that issue client certificates
    :raises OSError: a file cannot be used
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class NGTTServer:
    """Serves NGTT in an event loop.

    :param context: what it shares with the HTTP API
    :param listener: the listening socket; :meth:`stop` closes it
    :param tls: TLS settings, see :func:`server_context`
    """

    def __init__(self, context: Context, listener: socket.socket, tls: ssl.SSLContext) -> None:
        self._context = context
        self._listener = listener
        self._tls = tls
        self._connections: dict[socket.socket, asyncio.Task[None]] = {}
        self._is_stopping = False

    def start(self) -> None:
        """Accept connections. Called in the event loop."""
        self._listener.setblocking(False)
        self._listen()

    async def stop(self) -> None:
        """Stop to listen, and end all connections."""
        self.cut()
        if self._connections:
            await asyncio.wait(self._connections.values())
        self._listener.close()

    def cut(self) -> None:
        """Begin to :meth:`stop`. Called in the event loop."""
        self._is_stopping = True
        asyncio.get_running_loop().remove_reader(self._listener)
        for connection in self._connections:
            # Not by cancelling its task: in the midst of a handshake asyncio does not clean up.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        if not self._is_stopping:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, (peer, *_) = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # who wanted to connect has gone
        except OSError as error:  # too many open files, say
            logger.error("NGTT: cannot accept a connection: %s", error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            loop.call_later(ACCEPT_AGAIN_AFTER, self._listen)
            return
        if len(self._connections) >= MOST_CONNECTIONS:
            logger.warning("NGTT: %s is turned away, there are too many connections", peer)
            connection.close()
            return
        connection.setblocking(False)
        self._connections[connection] = asyncio.create_task(self._serve(connection, peer))

    async def _serve(self, connection: socket.socket, peer: str) -> None:
        why = "of a defect"
        try:
            reader, writer = await self._shake_hands(connection)
            try:
                why = await self._talk(reader, writer)
            finally:
                writer.transport.abort()
        except OSError as error:
            why = str(error) or repr(error)
        except Exception:  # one client must not end the server
            logger.exception("NGTT: serving %s failed", peer)
        finally:
            connection.close()
            del self._connections[connection]
            logger.info("NGTT: the connection of %s has ended: %s", peer, why)

    async def _shake_hands(
        self, connection: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_WITHIN
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        try:
            device_id = self._context.identifier.device_id_of(certificate)
        except ApiError as refused:
            return refused.status
        await run_in_threadpool(self._context.note_device, device_id)
        logger.info("NGTT: device %s is connected", device_id)
        return await _Session(self._context, device_id, reader, writer).talk()


class _Session:
    """One device, as long as it is connected."""

    def __init__(
        self,
        context: Context,
        device_id: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._outbox = context.outbox
        self._reader = reader
        self._writer = writer
        self._writing = asyncio.Lock()
        self._news = asyncio.Event()
        self._replaced = asyncio.Event()
        self._wants_orders = False
        loop = asyncio.get_running_loop()
        self._delivery = Delivery(
            device_id,
            functools.partial(_set_soon, loop, self._news),
            functools.partial(_set_soon, loop, self._replaced),
        )

    async def talk(self) -> str:
        """Talk until either side has enough.

        :returns: why it ended
        """
        # The outbox waits for its database, which the event loop must not.
        await run_in_threadpool(self._outbox.connect, self._delivery)
        tasks = [
            asyncio.create_task(coroutine)
            for coroutine in (self._listen(), self._push(), self._wait_for_successor())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await run_in_threadpool(self._outbox.disconnect, self._delivery)

    async def _listen(self) -> str:
        decoder = NGTTDecoder(MAX_DATA)
        while True:
            try:
                data = await asyncio.wait_for(self._reader.read(65536), SILENT_FOR)
            except TimeoutError:
                return f"silent for {SILENT_FOR:g} s"
            if not data:
                return "it has closed the connection"
            for frame in decoder.feed(data):
                await self._handle(NGTTFrame(*frame))
            if decoder.error is not None:
                return f"what it sends is not NGTT: {decoder.error}"

    async def _handle(self, frame: NGTTFrame) -> None:
        if frame.packet_type == NGTTHeaderType.PING:
            await self._send(NGTTFrame(frame.tid, NGTTHeaderType.PING))
        elif frame.packet_type == NGTTHeaderType.FETCH_ORDERS:
            await run_in_threadpool(self._outbox.start_over, self._delivery)
            self._wants_orders = True
            self._news.set()
        elif frame.packet_type in (NGTTHeaderType.ORDER_CONFIRM, NGTTHeaderType.ORDER_REJECT):
            confirmed = frame.packet_type == NGTTHeaderType.ORDER_CONFIRM
            if not confirmed:
                logger.warning(
                    "NGTT: device %s rejects order %d", self._delivery.device_id, frame.tid
                )
            await run_in_threadpool(
                self._outbox.answered, self._delivery, frame.tid, confirmed=confirmed
            )
            self._news.set()

    async def _push(self) -> str:
        while True:
            await self._news.wait()
            self._news.clear()
            if not self._wants_orders:
                continue
            for tid, body in await run_in_threadpool(self._outbox.push, self._delivery):
                await self._send(NGTTFrame(tid, NGTTHeaderType.ORDER, body))

    async def _wait_for_successor(self) -> str:
        await self._replaced.wait()
        return "it has connected again"

    async def _send(self, frame: NGTTFrame) -> None:
        """:raises TimeoutError: the device does not read"""
        async with self._writing:
            self._writer.write(bytes(frame))
            try:
                await asyncio.wait_for(self._writer.drain(), UNREAD_FOR)
            except TimeoutError:
                raise TimeoutError(f"it has not read for {UNREAD_FOR:g} s") from None


def _set_soon(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set an event of a loop from any thread; no-op if the loop has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)
