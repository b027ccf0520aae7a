"""The command smok-fast, run as users run it."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import logging
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

import smok_fast
from smok_fast.basics import Environment
from smok_fast.cli.app import app
from smok_fast.client.api import RequestsAPI
from smok_fast.client.certificate import Credentials, create_development_certificates
from smok_fast.ngtt.orders import Order
from smok_fast.ngtt.uplink import NGTTConnection
from smok_fast.testing import Admin, wait_until

#: Longer than anything here takes, seconds; reached only when something hangs.
LONG = 60

COMMANDS = [
    [],
    ["demo"],
    ["server"],
    ["migrate"],
    ["cert"],
    ["cert", "new"],
    ["cert", "server"],
    ["cert", "show"],
    ["buffer"],
    ["buffer", "stat"],
    ["buffer", "verify"],
    ["buffer", "export"],
    ["buffer", "quarantine"],
    ["buffer", "quarantine", "list"],
    ["buffer", "quarantine", "export"],
    ["buffer", "quarantine", "retry"],
    ["buffer", "quarantine", "delete"],
]

#: Those that consist of others.
GROUPS = [["cert"], ["buffer"], ["buffer", "quarantine"]]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what commands that run in this process do to logging, or other tests see more lines."""
    loggers = [logging.getLogger(), logging.getLogger("smok_fast.server")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def environment() -> dict[str, str]:
    """A terminal of 80 columns, and none of the machine's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SMOK_") and not name.lower().endswith("_proxy")
    }
    return kept | {"COLUMNS": "80", "PYTHONUNBUFFERED": "1"}


def smok_fast_command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smok_fast", *arguments],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
        cwd=cwd,
        env=environment(),
    )


def run(*arguments: object, status: int = 0) -> str:
    """Run a command in this process.

    :return: what it prints, on standard error if it fails
    """
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.stderr if status else result.stdout


def refusal(*arguments: object) -> str:
    """The one line with which a command is refused."""
    lines = run(*arguments, status=1).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("smok-fast: ")
    return lines[0].removeprefix("smok-fast: ")


# --- The program ----------------------------------------------------------------------------------


def test_the_entry_point_is_installed() -> None:
    (entry_point,) = importlib.metadata.entry_points(group="console_scripts", name="smok-fast")
    assert entry_point.load() is smok_fast.cli.main
    script = shutil.which("smok-fast", path=sysconfig.get_path("scripts"))
    assert script is not None
    output = subprocess.run([script, "--version"], capture_output=True, check=True, timeout=LONG)
    assert output.stdout.decode() == f"smok-fast {smok_fast.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches_and_fits_in_80_columns(command: list[str]) -> None:
    result = smok_fast_command(*command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert f"Usage: {' '.join(['smok-fast', *command])} " in result.stdout
    if command not in (*GROUPS, ["demo"]):
        example = rf"^ (For example|To start)[^:]*:\s+{' '.join(['smok-fast', *command])} "
        assert re.search(example, result.stdout, re.MULTILINE)
    for known in COMMANDS:
        if known[:-1] == command and known:
            assert f"│ {known[-1]} " in result.stdout


def test_without_a_command_the_help_is_shown() -> None:
    result = smok_fast_command()
    assert result.returncode == 2
    assert "Commands" in result.stdout + result.stderr


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_the_extra_the_user_is_told_what_to_install(module: str) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None; import smok_fast.cli; smok_fast.cli.main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"smok-fast: {module} is not installed; run: pip install 'smok-fast[cli]'\n"
    )


def test_a_mistake_of_the_user_is_no_traceback(tmp_path: Path) -> None:
    result = smok_fast_command("cert", "show", "missing.crt", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "smok-fast: certificate missing.crt: cannot be read: No such file or directory\n"
    )
    result = smok_fast_command("cert", "new", "--device-id", "a", "--environment", "moon")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


# --- cert -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("local", Environment.LOCAL_DEVELOPMENT),
        ("staging", Environment.STAGING),
        ("production", Environment.PRODUCTION),
    ],
)
def test_a_new_certificate_is_for_the_device_and_the_environment(
    tmp_path: Path, name: str, expected: Environment
) -> None:
    out = tmp_path / "certs"
    output = run("cert", "new", "--device-id", "boiler-1", "--environment", name, "--out", out)
    assert f"device boiler-1 ({name})" in output
    with Credentials(out / "device.crt", out / "device.key") as credentials:
        assert (credentials.device_id, credentials.environment) == ("boiler-1", expected)
    assert stat.S_IMODE((out / "device.key").stat().st_mode) == 0o600
    assert expected.name in run("cert", "show", out / "device.crt")


def test_a_certificate_is_local_unless_told_and_overwritten_only_if_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = run("cert", "new", "--device-id", "a")
    for name in ("certs/device.crt", "certs/device.key", "certs/ca.crt"):
        assert name in output
        assert Path(name).exists()
    assert "certs/device.key exists already" in refusal("cert", "new", "--device-id", "b")
    assert "LOCAL_DEVELOPMENT" in run("cert", "show", "certs/device.crt")
    run("cert", "new", "--device-id", "b", "--overwrite")
    assert re.search(r"device ID +b\b", run("cert", "show", "certs/device.crt"))


def test_a_server_certificate_is_for_its_hosts(tmp_path: Path) -> None:
    run("cert", "server", "--host", "plant.local", "--host", "10.0.0.1", "--out", tmp_path)
    certificate = x509.load_pem_x509_certificate((tmp_path / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["plant.local"]
    assert "server.key exists already" in refusal("cert", "server", "--out", tmp_path)


def test_certificates_that_cannot_be_made_are_refused_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    new = ("cert", "new", "--device-id")
    assert refusal(*new, "", "--out", tmp_path) == "a device ID is 1 to 64 bytes of printable text"
    assert refusal(*new, "a", "--out", file) == f"{file}: File exists"
    assert refusal(*new, "a", "--out", file / "certs") == f"{file / 'certs'}: Not a directory"
    assert refusal("cert", "server", "--out", file) == f"{file}: File exists"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ca.crt").write_bytes(b"garbage")
    assert refusal(*new, "a", "--out", broken) == (
        f"CA certificate {broken / 'ca.crt'}: is not in PEM"
    )
    assert "--days" in run(*new, "a", "--days", "0", status=2)
    assert "--device-id" in run("cert", "new", status=2)


def test_a_certificate_is_shown(tmp_path: Path) -> None:
    files = create_development_certificates(tmp_path, "żora-7", Environment.STAGING, days=90)
    result = smok_fast_command("cert", "show", str(files.cert))
    assert (result.returncode, result.stderr) == (0, "")
    rows = dict(re.findall(r"^(\S[^\n]*?\S) {2,}(\S[^\n]*?) *$", result.stdout, re.MULTILINE))
    assert rows["device ID"] == "żora-7"
    assert rows["environment"] == "STAGING"
    assert rows["subject"] == "CN=żora-7"
    assert rows["issuer"] == "CN=smok-fast development CA"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", rows["valid from"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC, 89 days left", rows["valid until"])
    der = ssl.PEM_cert_to_DER_cert(files.cert.read_text())
    shown = re.sub(r"[:\s]", "", result.stdout.partition("SHA-256")[2])
    assert shown == hashlib.sha256(der).hexdigest().upper()
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_what_is_no_certificate_is_not_shown(tmp_path: Path) -> None:
    files = create_development_certificates(tmp_path, "a")
    garbage = tmp_path / "garbage"
    garbage.write_bytes(bytes(range(256)))
    assert refusal("cert", "show", files.key) == (
        f"certificate {files.key}: holds a private key, not a certificate"
    )
    assert refusal("cert", "show", garbage) == f"certificate {garbage}: is not in PEM"
    assert refusal("cert", "show", tmp_path) == (
        f"certificate {tmp_path}: cannot be read: Is a directory"
    )


def test_a_certificate_of_another_kind_is_shown_and_said_to_be_none_of_smok(
    tmp_path: Path,
) -> None:
    files = create_development_certificates(tmp_path, "a")
    output = run("cert", "show", files.ca_cert)
    assert "none: not a SMOK device certificate" in output
    assert "CN=smok-fast development CA" in output


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (-400, -34, "expired 34 days ago"),
        (-400, -1.5, "expired 1 day ago"),
        (-400, 1.5, "1 day left"),
        (3, 10, "not valid yet"),
    ],
)
def test_the_validity_of_a_certificate_is_shown_whatever_it_is(
    tmp_path: Path, start: float, end: float, expected: str
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "\x1b[31mred\n[bold]not markup")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=start))
        .not_valid_after(now + datetime.timedelta(days=end))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "other.crt"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    output = run("cert", "show", file)
    assert expected in output
    assert "CN=\ufffd[31mred\ufffd[bold]not markup" in output


# --- server ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(cwd: Path, *options: str) -> Iterator[str]:
    """Run the server on a free port, end it by Ctrl-C, and see that it ends well.

    :return: its URL
    """
    with (cwd / "errors").open("w+") as errors_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "smok_fast", "server", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=errors_file,
            text=True,
            cwd=cwd,
            env=environment(),
        )
        with process:
            try:
                assert process.stdout is not None
                first = process.stdout.readline()
                found = re.fullmatch(r"SMOK server at (\S+)\n", first)
                assert found is not None, first
                yield found[1]
                process.send_signal(signal.SIGINT)
                output = process.stdout.read()
                process.wait(LONG)
            finally:
                process.kill()
        errors_file.seek(0)
        errors = errors_file.read()
    assert process.returncode == 0, errors
    assert f"SMOK_BASE_URL={found[1]}" in output
    assert output.endswith("Stopped.\n")
    assert "Traceback" not in errors


def test_the_server_serves_until_ctrl_c_and_keeps_its_data(tmp_path: Path) -> None:
    files = create_development_certificates(tmp_path, "boiler-1")
    with Credentials(files.cert, files.key) as credentials:
        with server(tmp_path, "--database", "smok.db") as url:
            api = RequestsAPI(url, credentials)
            assert api.get("/v1/device")["device_id"] == "boiler-1"
            api.put("/v1/device/metadata/plain/a", json={"value": "7"})
            api.close()
        with server(tmp_path, "--database", "smok.db", "--quiet") as url:
            api = RequestsAPI(url, credentials)
            assert api.get("/v1/device/metadata/plain/a")["value"] == "7"
            api.close()


def test_the_server_speaks_tls_with_certificates_of_the_development_ca(tmp_path: Path) -> None:
    run("cert", "new", "--device-id", "a", "--environment", "production", "--out", tmp_path)
    run("cert", "server", "--out", tmp_path)
    options = ("--certificate", "server.crt", "--key", "server.key", "--ca-file", "ca.crt")
    with (
        Credentials(tmp_path / "device.crt", tmp_path / "device.key") as credentials,
        server(tmp_path, *options) as url,
    ):
        assert url.startswith("https://")
        api = RequestsAPI(url, credentials, ca_certs=tmp_path / "ca.crt")
        assert api.get("/v1/device")["device_id"] == "a"
        api.close()


def test_the_server_pushes_orders_over_ngtt(tmp_path: Path) -> None:
    run("cert", "new", "--device-id", "a", "--out", tmp_path)
    run("cert", "server", "--out", tmp_path)
    options = ("--certificate", "server.crt", "--key", "server.key", "--ca-file", "ca.crt")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = threading.Event()

    def on_new_order(order: Order) -> None:
        assert order.data == [{"orders": []}]
        order.acknowledge()
        done.set()

    with (
        server(tmp_path, *options, "--ngtt-port", str(port)) as url,
        Admin(url, verify=str(tmp_path / "ca.crt")) as admin,
    ):
        connection = NGTTConnection(
            tmp_path / "device.crt",
            tmp_path / "device.key",
            on_new_order,
            address=f"127.0.0.1:{port}",
            ca_certs=tmp_path / "ca.crt",
        )
        admin.queue_orders("a", [{"orders": []}])
        assert done.wait(LONG)
        wait_until(lambda: admin.ngtt("a").confirmed == 1, LONG)
        connection.close()


def test_a_server_that_cannot_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    device = create_development_certificates(tmp_path, "a")
    run("cert", "server", "--out", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refusal("server", "--port", port) == (
            f"cannot listen at 127.0.0.1:{port}: Address already in use"
        )
        tls = ("--certificate", tmp_path / "server.crt", "--key", tmp_path / "server.key")
        ngtt = ("--port", 0, *tls, "--ca-file", device.ca_cert, "--ngtt-port", port)
        assert refusal("server", *ngtt) == (
            f"cannot listen at 127.0.0.1:{port}: Address already in use"
        )
    server_of_its_own = ("server", "--port", 0)
    assert refusal(*server_of_its_own, "--ngtt-port", 0) == (
        "NGTT needs a certificate for the server, and the CA file of its devices"
    )
    assert "a private key" in refusal(*server_of_its_own, "--key", device.key)
    options = ("--certificate", tmp_path / "server.crt", "--key", device.key)
    assert refusal(*server_of_its_own, *options).startswith(
        "TLS refuses the certificate, its key or the CA:"
    )
    assert "nosuch" in refusal(*server_of_its_own, "--database", "nosuch://database")
    missing = tmp_path / "missing" / "smok.db"
    assert refusal(*server_of_its_own, "--database", missing) == (
        f"cannot use the database sqlite:///{missing}: unable to open database file"
    )
    assert "file is not a database" in refusal(*server_of_its_own, "--database", device.ca_key)
    assert "missing.crt" in run("server", "--certificate", "missing.crt", status=2)
    assert "--port" in run("server", "--port", 70000, status=2)


def test_without_the_extra_server_the_user_is_told_what_to_install() -> None:
    program = (
        "import sys; sys.modules['uvicorn'] = None; import smok_fast.cli;"
        "sys.argv = ['smok-fast', 'server']; smok_fast.cli.main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "smok-fast: smok_fast.server needs uvicorn: pip install 'smok-fast[server]'\n"
    )
