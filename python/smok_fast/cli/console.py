"""How commands speak: results on standard output, and errors as one line on standard error."""

from __future__ import annotations

from typing import NoReturn

import rich.console
import typer
from rich.text import Text

__all__ = ["console", "error_console", "fail", "printable"]

#: Where results go.
console = rich.console.Console(highlight=False)
#: Where everything else goes.
error_console = rich.console.Console(highlight=False, stderr=True)


def fail(error: str | Exception) -> NoReturn:
    """End the command, with an error that the user can do something about and status 1.

    :param error: what is wrong
    :raises typer.Exit: always
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        error = f"{where}{error.strerror}"
    line = Text.assemble(("smok-fast: ", "bold red"), printable(error))
    error_console.print(line, soft_wrap=True)
    raise typer.Exit(1)


def printable(text: object) -> str:
    """Text that came from elsewhere, on one line and without controls for the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
