"""``smok-fast server``: the local SMOK server in the foreground."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Annotated

import typer
from rich.logging import RichHandler

from smok_fast.cli.console import console, error_console, fail, printable

__all__ = ["serve"]


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen at; 0 for a free one.")
    ] = 8080,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="FILE|URL",
            help="SQLite file, or SQLAlchemy URL of another database. By default everything is "
            "kept in memory, and lost at the end.",
        ),
    ] = None,
    admin_token: Annotated[
        str | None,
        typer.Option(
            "--admin-token",
            envvar="SMOK_ADMIN_TOKEN",
            help="Bearer token that the admin API asks for. Without it, the admin API answers "
            "this machine only.",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Certificate of the server, for TLS.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Private key of the server, for TLS.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="CA whose devices are accepted. By default, devices of any.",
        ),
    ] = None,
    ngtt_port: Annotated[
        int | None,
        typer.Option(
            "--ngtt-port",
            min=0,
            max=65535,
            help="Port to push orders at over NGTT (SMOK's own is 2405); 0 for a free one. Needs "
            "--certificate and --ca-file.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show the calls.")] = False,
) -> None:
    """Run a SMOK server of your own, until Ctrl-C.

    It speaks the whole device API, keeps what devices send, and has an admin
    API (below /admin) to queue orders, define archives and read values back.
    Point devices at it with the environment variable SMOK_BASE_URL.

    Without a CA file, devices say who they are without proof: keep it off the
    Internet.

    For example:

    [bold]smok-fast server --port 8080 --database smok.db[/]

    With TLS, after [bold]smok-fast cert server[/]:

    [bold]smok-fast server --certificate certs/server.crt --key certs/server.key[/]

    and with orders pushed over NGTT, add [bold]--ca-file certs/ca.crt --ngtt-port 2405[/]
    """
    try:
        from smok_fast.server import run  # noqa: PLC0415 (needs the extra that may be missing)
    except ImportError as e:
        fail(e)
    handler = RichHandler(console=error_console, show_path=False, log_time_format="%X")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    if not quiet:
        logging.getLogger("smok_fast.server").setLevel(logging.INFO)
    keeps = "keeps everything in memory" if database is None else f"keeps its data in {database}"

    def announce(url: str) -> None:
        console.print(f"[bold]SMOK server at {url}[/]")
        console.print(printable(f"It {keeps}. Ctrl-C stops it."), markup=False)
        console.print(f"Devices:   SMOK_BASE_URL={url}")
        console.print(f"Admin API: {url}/admin")

    def announce_ngtt(address: str) -> None:
        console.print(f"NGTT:      SMOK_NGTT={address}")

    try:
        run(
            host,
            port,
            database,
            certificate=certificate,
            key=key,
            ca_file=ca_file,
            admin_token=admin_token,
            ngtt_port=ngtt_port,
            announce=announce,
            announce_ngtt=announce_ngtt,
        )
    except ssl.SSLError as e:
        fail(f"TLS refuses the certificate, its key or the CA: {e}")
    except OSError as e:
        fail(e if e.filename else str(e.strerror))
    except ValueError as e:
        fail(e)
    console.print("Stopped.")
