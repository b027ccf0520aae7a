"""MiniJSON, the binary JSON of the SMOK protocol.

==========================================  =====================================================
Python                                      MiniJSON
==========================================  =====================================================
``None``, ``bool``, ``str``                 null, true and false, text
``int``                                     an integer of up to 255 bytes
``float``                                   a single where that is exact, else a double
``bytes``, ``bytearray``, ``memoryview``    bytes; decoded as ``bytes``
``list``, ``tuple``                         a list; decoded as ``list``
``dict``                                    an object: string-keyed if all keys are texts of up to
                                            255 bytes, else value-keyed
==========================================  =====================================================

Instances of subclasses, such as members of an ``IntEnum``, are encoded as what they derive from.
All functions may be called from any thread.
"""

from __future__ import annotations

from smok_fast._core import DecodingError, EncodingError, MiniJSONError, dumps, loads

__all__ = ["DecodingError", "EncodingError", "MiniJSONError", "dumps", "loads"]
