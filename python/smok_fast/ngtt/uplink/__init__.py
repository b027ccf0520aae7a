"""The connection to the NGTT server: one that makes itself anew, :class:`NGTTConnection`, and one
from its beginning to its end, :class:`NGTTSocket`.
"""

from smok_fast.ngtt.uplink.connection import NGTTSocket
from smok_fast.ngtt.uplink.thread import NGTTConnection

__all__ = ["NGTTConnection", "NGTTSocket"]
