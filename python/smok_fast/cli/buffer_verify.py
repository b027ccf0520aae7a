"""``smok-fast buffer verify``: is what is in a buffer's files what was written?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import typer

from smok_fast._core import BufferVerification
from smok_fast.cli.buffer_common import FolderArgument, find_folder, progress, show_count
from smok_fast.cli.console import console, fail

__all__ = ["FileCheck", "verify"]

#: How many ranges of damaged bytes of a file are shown.
MOST_RANGES = 10


@dataclasses.dataclass(frozen=True, slots=True)
class FileCheck:
    """What was found in a file of a buffer.

    :ivar name: its name
    :ivar bytes: its length
    :ivar frames: frames that are what was written
    :ivar samples: samples in them, without those that an earlier file has
    :ivar nameless: further samples in them, of which nobody knows the pathpoint
    :ivar missing: samples that the file should have besides
    :ivar damage: ranges of bytes that are not what was written: first byte, and the one after the
        last
    :ivar torn: bytes at the end of a write that did not finish
    :ivar error: why it could not be read, None if it could
    """

    name: str
    bytes: int
    frames: int
    samples: int
    nameless: int
    missing: int
    damage: list[tuple[int, int]]
    torn: int
    error: str | None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong. A torn end is usual after a power cut and while a device
        writes.
        """
        return not (self.damage or self.nameless or self.missing or self.error)


def verify(folder: FolderArgument) -> None:
    """Read all of a buffer, and say what is damaged.

    The device may be running; nothing is changed. Status 1 means that there
    is damage. A torn end is none: a write did not finish, after a power cut,
    or since the device is writing just now.

    For example:

    [bold]smok-fast buffer verify gateway-state[/]
    """
    folder = find_folder(folder)
    try:
        verification = BufferVerification(folder)
    except OSError as error:
        fail(error)
    checks = frames = samples = size = damaged = 0
    total = verification.bytes_left()
    with progress("Reading", total) as note_progress:
        for check in (FileCheck(**found) for found in verification):
            note_progress(total - verification.bytes_left())
            checks += 1
            frames += check.frames
            samples += check.samples
            size += check.bytes
            damaged += not check.is_sound
            for finding in _findings(check):
                console.print(f"{check.name}: {finding}", markup=False, soft_wrap=True)
    console.print(
        f"Read {show_count(size, 'byte')} in {show_count(checks, 'file')}: "
        f"{show_count(frames, 'frame')}, {show_count(samples, 'sample')}."
    )
    if damaged:
        console.print(f"There is damage in {show_count(damaged, 'file')}.")
        raise typer.Exit(1)
    console.print("There is no damage.")


def _findings(check: FileCheck) -> Iterator[str]:
    if check.error is not None:
        yield f"cannot be read: {check.error}"
    for start, end in check.damage[:MOST_RANGES]:
        yield f"{show_count(end - start, 'byte')} from byte {start:,} on are damaged"
    if len(check.damage) > MOST_RANGES:
        yield f"{show_count(len(check.damage) - MOST_RANGES, 'more range')} of bytes are damaged"
    if check.missing:
        yield f"{show_count(check.missing, 'sample')} are lost"
    if check.nameless:
        yield f"of {show_count(check.nameless, 'sample')} the pathpoint's name is lost"
    if check.torn:
        yield f"a torn end of {show_count(check.torn, 'byte')}, which is no damage"
