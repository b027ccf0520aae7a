"""The command line itself: its commands, and what ``smok-fast --help`` says."""

from __future__ import annotations

from typing import Annotated

import typer

from smok_fast import __version__
from smok_fast.cli import buffer, cert, demo, evaluate, migrate, server
from smok_fast.cli.console import console

__all__ = ["app"]

app = typer.Typer(
    name="smok-fast",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)
app.command("demo")(demo.demo)
app.command("server")(server.serve)
app.command("eval")(evaluate.evaluate)
app.command("migrate")(migrate.migrate)
app.add_typer(cert.app, name="cert")
app.add_typer(buffer.app, name="buffer")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        console.print(f"smok-fast {__version__}")
        raise typer.Exit


@app.callback(
    epilog="To see everything work together:\n\n"
    "[bold]smok-fast demo[/]\n\n"
    "To start a device of your own, in an empty directory:\n\n"
    "[bold]smok-fast cert new --device-id boiler-1 --out certs[/]\n\n"
    "[bold]smok-fast server --port 8080[/]\n\n"
    "and, in another terminal, your device with certs/device.crt and certs/device.key:\n\n"
    "[bold]SMOK_BASE_URL=http://localhost:8080 python my_device.py[/]"
)
def _smok_fast(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Tools for SMOK devices: programs that read, write and archive the registers of a plant.

    A device shows the server a certificate that says who it is. SMOK issues
    the real ones. To try things out, make one with [bold]cert new[/], and run a server of
    your own with [bold]server[/].
    """
