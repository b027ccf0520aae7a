"""Which files there are, and what is in each.

In a folder everything that begins like a pickle has to be one of the reference's: what is left out
by mistake would be lost. Whoever has others there names the files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from smok_fast.migration.contents import BAOBs, Content, States, recognise
from smok_fast.migration.pickles import MOST_BYTES, UnreadablePickle, is_pickle, loads

__all__ = ["OldFile", "find_files", "look_into"]

#: The name that the reference gives to the versions of the BAOBs in a folder.
BAOB_VERSIONS = "metadata.pkl"


@dataclasses.dataclass(frozen=True, slots=True)
class OldFile:
    """A file of the reference's, or a folder of BAOBs.

    :ivar path: the file
    :ivar content: what is in it; None if it is empty
    :ivar problem: why it cannot be used, None if it can
    """

    path: Path
    content: Content | None = None
    problem: str | None = None


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files to look into: those that are given, and of a folder those that begin like pickles,
    and folders of BAOBs. Each comes once.

    :param paths: files and folders
    :raises OSError: one is not there, or cannot be read
    """
    seen: set[Path] = set()
    for path in paths:
        for file in _files_of(path):
            resolved = file.resolve()
            if resolved not in seen:
                seen.add(resolved)
                yield file


def _files_of(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if not path.is_file():
            path.stat()  # raises if it is not there
            raise OSError(None, "it is neither a file nor a folder", str(path))
        yield path
        return
    if _baob_versions(path) is not None:
        yield path
        return
    for entry in sorted(path.iterdir()):
        if entry.is_dir():
            is_one = _baob_versions(entry) is not None
        else:
            is_one = entry.is_file() and (_is_torn_off(entry) or is_pickle(_read(entry, 2)))
        if is_one:
            yield entry


def _is_torn_off(file: Path) -> bool:
    """Whether a file is empty: so is one of the reference's after a crash at the wrong time."""
    return file.suffix != ".lock" and not file.stat().st_size


def look_into(path: Path, *, holds_states: bool = False) -> OldFile:
    """What is in a file, or a folder of BAOBs.

    :param path: one of :func:`find_files`
    :param holds_states: whether it is known to hold states of predicates, of which the form tells
        nothing
    """
    try:
        if path.is_dir():
            return OldFile(path, BAOBs(path, _baob_versions(path) or {}))
        data = _read(path, MOST_BYTES + 1)
        if not data:
            return OldFile(path)
        value = loads(data)
        if holds_states:
            if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
                raise UnreadablePickle("it holds no states of predicates")
            return OldFile(path, States(value))
        return OldFile(path, recognise(value))
    except OSError as error:
        return OldFile(path, problem=error.strerror or str(error))
    except UnreadablePickle as error:
        return OldFile(path, problem=str(error))


def _baob_versions(folder: Path) -> dict[str, int] | None:
    """The versions of the BAOBs in a folder; None if it is none of BAOBs."""
    file = folder / BAOB_VERSIONS
    try:
        versions: Any = loads(_read(file, MOST_BYTES + 1)) if file.is_file() else None
    except UnreadablePickle:
        return None  # it is looked into with the others
    if not isinstance(versions, dict) or not versions:
        return None
    for key, version in versions.items():
        if not isinstance(key, str) or type(version) is not int or not 0 <= version < 2**63:
            return None
    return versions


def _read(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)
