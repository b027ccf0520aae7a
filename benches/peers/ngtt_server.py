"""An NGTT server for the rows about latency: ``ngtt_server.py CERTIFICATE KEY CA COUNT``.

It prints its port, takes one connection, and sends one order after the other, each when the one
before it was confirmed. What an order writes is the time just before it is sent, in nanoseconds of
the monotonic clock, which all processes share. Pings are not answered: that is work which the
figure is not about.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time

from smok_fast._core import NGTTDecoder
from smok_fast.minijson import dumps
from smok_fast.ngtt.protocol import NGTTFrame, NGTTHeaderType


def main() -> None:
    certificate, key, ca_file, count = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    plain, _ = listener.accept()
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(plain, server_side=True)
    decoder = NGTTDecoder()
    expected = NGTTHeaderType.FETCH_ORDERS
    for tid in range(1, int(count) + 1):
        while expected not in [kind for _, kind, _ in decoder.feed(connection.recv(65536))]:
            pass
        expected = NGTTHeaderType.ORDER_CONFIRM
        connection.sendall(bytes(NGTTFrame(tid, NGTTHeaderType.ORDER, order())))
    connection.recv(65536)
    connection.close()


def order() -> bytes:
    write = {"type": "write", "path": "d1", "value": time.monotonic_ns()}
    return dumps([{"orders": [write]}])


if __name__ == "__main__":
    main()
