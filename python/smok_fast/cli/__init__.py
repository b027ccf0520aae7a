"""The command ``smok-fast``; its modules need the extra ``cli``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, and end the program with its exit status."""
    try:
        from smok_fast.cli.app import app  # noqa: PLC0415 (needs what may not be installed)
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        if missing not in ("rich", "typer"):
            raise
        print(
            f"smok-fast: {missing} is not installed; run: pip install 'smok-fast[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    app(prog_name="smok-fast")
