"""Checks of what came over the wire: each returns the checked value or raises :class:`ApiError`.

``where`` always names the place within the body (``[3].values[0]``), so that the ``status`` of a
400 tells the caller which part of a batch is wrong. A text that passes is safe in every database:
no NUL, no lone surrogate, and short enough to be indexed where it is a key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping
from typing import Any

__all__ = [
    "INT64_MAX",
    "ApiError",
    "array",
    "boolean",
    "field",
    "integer",
    "key",
    "number",
    "object_",
    "only",
    "optional",
    "path",
    "plain",
    "text",
    "value",
]

INT64_MAX = (1 << 63) - 1
#: Keys are indexed, and PostgreSQL takes index rows of at most 2704 bytes.
_MAX_KEY_BYTES = 1000
_PATHPOINT_TYPES = "BWwfdu"


class ApiError(Exception):
    """The call cannot be answered as asked.

    :param status_code: HTTP status
    :param status: what is wrong, for the ``status`` of the answer
    """

    def __init__(self, status_code: int, status: str) -> None:
        super().__init__(status_code, status)
        self.status_code = status_code
        self.status = status


def _wrong(what: object, where: str, expected: str) -> ApiError:
    name = {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(
        type(what), f"{type(what).__name__} {what!r:.60}"
    )
    return ApiError(400, f"{where or 'body'} must be {expected}, not {name}")


def object_(what: object, where: str = "") -> dict[str, Any]:
    """:raises ApiError: it is no object"""
    if not isinstance(what, dict):
        raise _wrong(what, where, "an object")
    return what


def array(what: object, where: str = "") -> list[Any]:
    """:raises ApiError: it is no list"""
    if not isinstance(what, list):
        raise _wrong(what, where, "a list")
    return what


def field(owner: Mapping[str, Any], name: str, where: str = "") -> Any:
    """The named field of an object.

    :raises ApiError: it is missing
    """
    try:
        return owner[name]
    except KeyError:
        raise ApiError(400, f"{where or 'body'} lacks {name!r}") from None


def optional(owner: Mapping[str, Any], name: str, default: Any) -> Any:
    """The named field of an object, or the default where it is missing or null."""
    found = owner.get(name)
    return default if found is None else found


def only(owner: Mapping[str, Any], names: Container[str], what: str) -> None:
    """Refuse fields that nothing is done with, so that a misspelt one is noticed.

    :raises ApiError: there is a field of another name
    """
    unknown = [repr(name) for name in owner if name not in names]
    if unknown:
        raise ApiError(400, f"{what} has no {', '.join(unknown)}")


def text(what: object, where: str) -> str:
    """:raises ApiError: it is no text, or holds NUL characters or lone surrogates"""
    if not isinstance(what, str):
        raise _wrong(what, where, "a text")
    if "\0" in what:
        raise ApiError(400, f"{where} holds a NUL character")
    try:
        what.encode()
    except UnicodeEncodeError:
        raise ApiError(400, f"{where} is not valid Unicode") from None
    return what


def key(what: object, where: str) -> str:
    """:raises ApiError: it is no text, is empty, or is too long to name something"""
    name = text(what, where)
    if not name:
        raise ApiError(400, f"{where} is empty")
    if len(name.encode()) > _MAX_KEY_BYTES:
        raise ApiError(400, f"{where} is longer than {_MAX_KEY_BYTES} bytes")
    return name


def path(what: object, where: str) -> str:
    """:raises ApiError: it is no pathpoint's name"""
    name = key(what, where)
    letter = name[1:2] if name[0] == "r" else name[0]
    if not letter or letter not in _PATHPOINT_TYPES:
        raise ApiError(
            400,
            f"{where}: {name!r:.80} begins with none of the types {', '.join(_PATHPOINT_TYPES)}, r",
        )
    return name


def boolean(what: object, where: str) -> bool:
    """:raises ApiError: it is no boolean"""
    if not isinstance(what, bool):
        raise _wrong(what, where, "a boolean")
    return what


def integer(what: object, where: str, minimum: int = 0, maximum: int = INT64_MAX) -> int:
    """:raises ApiError: it is no integer, or is out of range"""
    if not isinstance(what, int) or isinstance(what, bool):
        raise _wrong(what, where, "an integer")
    if not minimum <= what <= maximum:
        raise ApiError(400, f"{where} must be between {minimum} and {maximum}")
    return what


def number(what: object, where: str, minimum: float = 0.0) -> int | float:
    """:raises ApiError: it is no finite number, or is below the minimum"""
    if not isinstance(what, int | float) or isinstance(what, bool):
        raise _wrong(what, where, "a number")
    if isinstance(what, int):
        integer(what, where, -INT64_MAX)
    if not math.isfinite(what) or what < minimum:
        raise ApiError(400, f"{where} must be a finite number, at least {minimum:g}")
    return what


def value(what: object, where: str) -> int | float | str:
    """A pathpoint's value; a boolean is the integer that it is.

    :raises ApiError: it is none
    """
    if isinstance(what, str):
        return text(what, where)
    if isinstance(what, bool):
        return int(what)
    if isinstance(what, int):
        return integer(what, where, -INT64_MAX - 1)
    if not isinstance(what, float):
        raise _wrong(what, where, "an integer, a float or a text")
    return what


def plain(what: object, where: str) -> Any:
    """Something free-form, as JSON has it: keys are texts.

    :raises ApiError: JSON cannot hold it
    """
    try:
        return json.loads(json.dumps(what))
    except (TypeError, ValueError, RecursionError):
        raise ApiError(400, f"{where} holds something that JSON has no form for") from None
