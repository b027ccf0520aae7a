"""The native core of smok_fast. Use the modules of smok_fast instead of this one."""

from typing import Any

__all__ = ["DecodingError", "EncodingError", "MiniJSONError", "dumps", "loads"]

# MiniJSON: see smok_fast.minijson

class MiniJSONError(ValueError):
    """Base class of what goes wrong with MiniJSON."""

class EncodingError(MiniJSONError):
    """The object has no MiniJSON form; the message says why."""

class DecodingError(MiniJSONError):
    """The bytes cannot be decoded; the message says why and where."""

def dumps(obj: object, /) -> bytes:
    """Encode an object as MiniJSON, each value in its shortest form.

    :param obj: see :mod:`smok_fast.minijson` for what can be encoded
    :raises EncodingError: something in it cannot: its type, a text with a lone surrogate, an
        integer of more than 255 bytes, or more than 128 containers inside each other, as in a list
        that contains itself
    """

def loads(data: bytes | bytearray | memoryview, /) -> Any:
    """Decode MiniJSON that is all of the data.

    :param data: bytes, or anything with a buffer of unsigned bytes
    :raises DecodingError: it is no MiniJSON, or nothing Python can hold: a list or an object as a
        key, or more than 1024 keys that are integers beyond 64 bits
    """
