"""NGTT: a TLS connection over which the server pushes orders the moment they are given.

``SMOKDevice(use_ngtt=True)`` does everything by itself. To use it alone::

    def on_new_order(order: Order) -> None:
        print(order.data)
        order.acknowledge()

    connection = NGTTConnection("device.crt", "device.key", on_new_order, ca_certs="ca.crt")
    …
    connection.close()

The exceptions are in :mod:`smok_fast.ngtt.exceptions`, the frames in
:mod:`smok_fast.ngtt.protocol`, orders in :mod:`smok_fast.ngtt.orders` and the connection in
:mod:`smok_fast.ngtt.uplink`.
"""
