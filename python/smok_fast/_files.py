"""Files that are replaced as a whole, and files that are moved out of the way."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

__all__ = ["new_file", "put_aside", "sync_folder", "write_file"]


def write_file(path: Path, data: bytes, *, mode: int) -> None:
    """Put a file in its place in one step, so that a crash leaves the old one or the new one.

    What a crash leaves behind besides is overwritten the next time.

    :param path: where to put it
    :param data: what it is to hold
    :param mode: its permissions
    :raises OSError: it cannot be written; the old one is still there
    """
    with new_file(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def new_file(path: Path, *, mode: int | None) -> Iterator[BinaryIO]:
    """The same for a file that is written piece by piece: it is in its place once the block ends.

    :param path: where to put it
    :param mode: its permissions; None for those that new files usually have
    :return: what to write to; after an exception of any kind the old one is still there
    :raises OSError: it cannot be written
    """
    temporary = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def put_aside(path: Path, label: str, suffixes: Sequence[str] = ("",)) -> Path:
    """Rename a file that cannot be used, to ``<path>.<label>-<time in UTC>``.

    :param path: the file
    :param label: what is the matter with it
    :param suffixes: of the files that belong together, in the order in which they are renamed
    :return: its new path
    :raises OSError: it cannot be renamed
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.{label}-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{label}-{stamp}-{number}")
    for suffix in suffixes:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    sync_folder(path.parent)
    return aside


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut, on file systems that can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
