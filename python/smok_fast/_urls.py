"""Names of things as parts of a URL's path."""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["segment"]


def segment(name: str) -> str:
    """A name as one segment of a URL's path (RFC 3986, section 3.3), whatever characters it has.

    :raises TypeError: the name is no text
    :raises ValueError: the name is empty, ``.`` or ``..``: a path cannot hold these as a segment
    """
    if not isinstance(name, str):
        raise TypeError(f"a name is a text, not {name!r:.100}")
    if name in {"", ".", ".."}:
        raise ValueError(f"{name!r} cannot be a part of a URL's path")
    return quote(name, safe="", errors="strict")
