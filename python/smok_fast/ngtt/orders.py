"""Orders as NGTT delivers them: each is to be confirmed once it was executed, or rejected."""

from __future__ import annotations

from typing import Any, Protocol

from smok_fast import minijson
from smok_fast.ngtt.protocol import NGTTHeaderType

__all__ = ["FrameSender", "NGTTHeaderType", "Order"]


class FrameSender(Protocol):
    """What an order is answered through: an :class:`~smok_fast.ngtt.uplink.NGTTSocket`."""

    @property
    def connected(self) -> bool:
        """Whether what is sent has a chance to arrive."""

    @property
    def received(self) -> int:
        """How many frames the server is known to have received."""

    def send_frame(self, tid: int, header: NGTTHeaderType, data: bytes = b"") -> int | None:
        """Send a frame. For any thread.

        :return: which one of the connection it is, counted from 1; None if it cannot be sent
        """


class Order:
    """An order from the server, which keeps it until it is answered. For any thread.

    An answer goes over the connection that the order came over. If that is gone, so is the answer,
    and the server sends the order again over the next one.

    :param data: list of sections, or the MiniJSON that says it
    :param tid: transaction ID
    :param sock: the connection that it came over
    :ivar body: the sections in MiniJSON, as they were received
    :ivar tid: as given
    :ivar sock: as given
    :ivar confirmed: whether it was answered
    """

    __slots__ = ("_position", "body", "sock", "tid")

    def __init__(self, data: bytes | list[Any], tid: int, sock: FrameSender) -> None:
        self.body = data if isinstance(data, bytes) else minijson.dumps(data)
        self.tid = tid
        self.sock = sock
        self._position: int | None = None

    @property
    def data(self) -> Any:
        """What the server wants done: a list of sections, unless the server is mistaken.

        :raises DecodingError: it is no MiniJSON; a ``ValueError``
        """
        return minijson.loads(self.body) if self.body else []

    @property
    def confirmed(self) -> bool:
        """Whether it was answered."""
        return self._position is not None

    @property
    def is_settled(self) -> bool:
        """Whether the server is known to have received the answer."""
        return self._position is not None and self._position <= self.sock.received

    def acknowledge(self) -> None:
        """Tell the server that the order was executed. No-op if it was answered already."""
        if not self.confirmed:
            self.confirm_with(NGTTHeaderType.ORDER_CONFIRM)

    def nack(self) -> None:
        """Tell the server that the order cannot be executed. No-op if it was answered already."""
        if not self.confirmed:
            self.confirm_with(NGTTHeaderType.ORDER_REJECT)

    def confirm_with(self, c_type: NGTTHeaderType) -> None:
        """Answer the order.

        :param c_type: ``ORDER_CONFIRM`` or ``ORDER_REJECT``
        """
        self._position = self.sock.send_frame(self.tid, c_type)

    def __repr__(self) -> str:
        return f"<Order {self.tid}: {self.body!r:.200}>"
