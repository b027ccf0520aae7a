"""``smok-fast cert``: make development certificates, and look into certificates."""

from __future__ import annotations

import datetime
import enum
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from rich.table import Table
from rich.text import Text

from smok_fast.basics import Environment
from smok_fast.cli.console import console, fail, printable
from smok_fast.client.certificate import (
    DevelopmentCertificates,
    create_development_certificates,
    create_server_certificate,
    get_device_info,
    load_certificate,
)
from smok_fast.exceptions import InvalidCredentials

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Make development certificates, and look into certificates.",
)

_HOSTS = ("localhost", "127.0.0.1", "::1")


class EnvironmentName(enum.Enum):
    """What environments are called on the command line."""

    LOCAL = "local"
    STAGING = "staging"
    PRODUCTION = "production"


_ENVIRONMENTS = {
    EnvironmentName.LOCAL: Environment.LOCAL_DEVELOPMENT,
    EnvironmentName.STAGING: Environment.STAGING,
    EnvironmentName.PRODUCTION: Environment.PRODUCTION,
}

_Out = Annotated[
    Path,
    typer.Option(
        "--out", metavar="DIR", help="Directory for the files. A CA found there is used again."
    ),
]
_Days = Annotated[
    int, typer.Option("--days", min=1, max=36500, metavar="N", help="How long it is valid, days.")
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the one that is there.")]


@app.command("new")
def new(
    device_id: Annotated[
        str, typer.Option("--device-id", metavar="ID", help="ID of the device, of your choice.")
    ],
    environment: Annotated[
        EnvironmentName,
        typer.Option(
            "--environment",
            help="Environment in the certificate. With production, the device shows the "
            "certificate by TLS; with the others, in an HTTP header.",
        ),
    ] = EnvironmentName.LOCAL,
    out: _Out = Path("certs"),
    days: _Days = 3650,
    overwrite: _Overwrite = False,
) -> None:
    """Make a device certificate, signed by a development CA of your own.

    A local server accepts it; the real SMOK accepts only what SMOK issued.
    The files are device.crt and device.key, and ca.crt and ca.key if there
    is no CA yet.

    For example:

    [bold]smok-fast cert new --device-id boiler-1 --out certs[/]
    """
    try:
        files = create_development_certificates(
            out, device_id, _ENVIRONMENTS[environment], days=days, overwrite=overwrite
        )
    except (InvalidCredentials, ValueError, OSError) as e:
        fail(e)
    _show_files(f"Made a certificate for device {device_id} ({environment.value}):", files)


@app.command("server")
def server(
    hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="Name or IP address of the server; may be repeated. By default, this machine.",
        ),
    ] = None,
    out: _Out = Path("certs"),
    days: _Days = 3650,
    overwrite: _Overwrite = False,
) -> None:
    """Make the certificate of a local server with TLS, signed by the same development CA.

    The files are server.crt and server.key, and ca.crt and ca.key if there
    is no CA yet.

    For example:

    [bold]smok-fast cert server --host gateway.local --out certs[/]
    """
    names = hosts or _HOSTS
    try:
        files = create_server_certificate(out, names, days=days, overwrite=overwrite)
    except (InvalidCredentials, ValueError, OSError) as e:
        fail(e)
    _show_files(f"Made a certificate for server {', '.join(names)}:", files)


def _show_files(title: str, files: DevelopmentCertificates) -> None:
    console.print(printable(title), markup=False)
    _show_rows(
        ("certificate", Text(printable(files.cert))),
        ("private key", Text(printable(files.key))),
        ("CA", Text(printable(files.ca_cert))),
    )


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The certificate, PEM.")],
) -> None:
    """Show what a certificate says: whose it is, who issued it, how long it is valid.

    For example:

    [bold]smok-fast cert show certs/device.crt[/]
    """
    try:
        certificate = load_certificate(file)
    except InvalidCredentials as e:
        fail(e)
    _show_rows(
        *_device_rows(certificate),
        ("subject", Text(printable(certificate.subject.rfc4514_string()))),
        ("issuer", Text(printable(certificate.issuer.rfc4514_string()))),
        *_validity_rows(certificate),
        ("SHA-256", _fingerprint(certificate)),
    )


def _show_rows(*rows: tuple[str, Text]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _device_rows(certificate: x509.Certificate) -> list[tuple[str, Text]]:
    try:
        device_id, environment = get_device_info(certificate.public_bytes(Encoding.PEM))
    except InvalidCredentials as e:
        reason = str(e).removeprefix("device certificate: ")
        return [("device ID", Text(f"none: {printable(reason)}", "yellow"))]
    return [("device ID", Text(device_id)), ("environment", Text(environment.name))]


def _validity_rows(certificate: x509.Certificate) -> list[tuple[str, Text]]:
    now = datetime.datetime.now(datetime.UTC)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    from_text = Text(f"{start:%Y-%m-%d %H:%M} UTC")
    until_text = Text(f"{end:%Y-%m-%d %H:%M} UTC, ")
    if now < start:
        from_text.append(", not valid yet", "red")
    if now > end:
        until_text.append(f"expired {_days(now - end)} ago", "bold red")
    else:
        left = end - now
        until_text.append(f"{_days(left)} left", "green" if left.days >= 30 else "yellow")
    return [("valid from", from_text), ("valid until", until_text)]


def _days(span: datetime.timedelta) -> str:
    return "1 day" if span.days == 1 else f"{span.days} days"


def _fingerprint(certificate: x509.Certificate) -> Text:
    """As ``openssl x509 -fingerprint`` writes it, in two lines."""
    digest = certificate.fingerprint(hashes.SHA256())
    return Text(f"{digest[:16].hex(':')}:\n{digest[16:].hex(':')}".upper())
