from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from server_support import TIMEOUT, Device, new_device
from smok_fast.exceptions import ResponseError
from smok_fast.server import LocalServer, Store
from smok_fast.testing import Admin, Sample

#: A PostgreSQL database that the tests may write to, such as postgresql+psycopg://user@host/name.
POSTGRESQL = os.environ.get("SMOK_TEST_POSTGRESQL")

FOREGROUND = """
import sys
from smok_fast.server import run
run(port=0, database=sys.argv[1] if len(sys.argv) > 1 else None,
    announce=lambda url: print(url, flush=True))
print("stopped", flush=True)
"""


def fill(server: LocalServer, device: Device) -> None:
    """Store something of everything."""
    admin, device_id = server.admin, device.device_id
    admin.set_device(device_id, verbose_name="Boiler", slaves=[{"device_id": "s"}])
    admin.queue_orders(device_id, [{"orders": [{"type": "message", "uuid": "u"}]}])
    admin.set_archives(device_id, [{"interval": 5, "pathpoints": ["W1"]}])
    admin.set_sensors(device_id, [{"fqts": "a b", "path": "W1", "type": ""}])
    admin.set_predicates(device_id, [{"predicate_id": "p", "statistic": "s"}])
    admin.set_macros(device_id, [{"macro_id": "m", "commands": [], "occurrences": [1]}])
    admin.set_baob(device_id, "k", b"\x00\xff")
    admin.set_metadata(device_id, "k", "v", timestamp=1)
    device.upload("W1", [1, 1.5], [False, 2, "type"])
    device.upload("W1", [1, 2])
    device.post("/v1/device/macros/m/1")
    device.post(
        "/v1/device/alarms",
        [
            {
                "started_on": 1,
                "color": 0,
                "alarm_type": 1,
                "token": "",
                "group": "",
                "message": "",
                "metadata": {},
            }
        ],
    )
    device.put("/v1/device/device_logs", [{"service": "s", "when": 1, "message": "m", "level": 10}])
    device.put(
        "/v1/device/sensor/write_log",
        [
            {
                "timestamp": 1,
                "who": "",
                "hr_sensor": "",
                "hr_value": "",
                "fqts": "",
                "value": 1,
                "reason": "",
            }
        ],
    )


def everything(admin: Admin, device_id: str) -> list[object]:
    """All that the server tells about a device."""
    return [
        admin.devices(),
        admin.slaves(device_id),
        admin.pending_orders(device_id),
        admin.messages(device_id),
        admin.pathpoints(device_id),
        admin.values(device_id, "W1"),
        admin.conflicts(device_id),
        admin.counts(device_id),
        admin.events(device_id),
        admin.macros(device_id),
        admin.baobs(device_id),
        admin.baob(device_id, "k"),
        admin.metadata(device_id),
        admin.logs(device_id),
        admin.sensor_writes(device_id),
    ]


def test_a_file_keeps_everything_over_a_restart(tmp_path, device_certificate):
    database = tmp_path / "with space" / "smok.db"
    database.parent.mkdir()
    with LocalServer(database) as server, new_device(server, device_certificate) as device:
        fill(server, device)
        before = everything(server.admin, device.device_id)
    assert all(before)
    with LocalServer(str(database)) as server:
        assert everything(server.admin, device.device_id) == before


@pytest.mark.skipif(not POSTGRESQL, reason="SMOK_TEST_POSTGRESQL names no database to test with")
def test_postgresql_keeps_everything_over_a_restart(device_certificate):
    with LocalServer(POSTGRESQL) as server, new_device(server, device_certificate) as device:
        fill(server, device)
        before = everything(server.admin, device.device_id)
    assert all(before)
    with LocalServer(POSTGRESQL) as server:
        assert everything(server.admin, device.device_id) == before


def test_a_stopped_server_starts_again_on_its_port_with_what_it_held_in_memory(
    device_certificate,
):
    with LocalServer() as server, new_device(server, device_certificate) as device:
        port, url = server.port, server.url
        for round_number in range(3):
            assert device.upload("W1", [round_number, round_number]).status_code == 204
            server.stop()
            assert not server.is_running
            with pytest.raises(requests.ConnectionError):
                device.get("/v1/device")
            server.start()
            assert (server.port, server.url) == (port, url)
        assert len(server.admin.values(device.device_id, "W1")) == 3


def test_a_killed_server_gives_no_answers_and_has_stored_all_or_nothing_of_each(
    device_certificate,
):
    with LocalServer() as server, new_device(server, device_certificate) as device:
        answered: set[int] = set()
        sent: list[int] = []
        enough = threading.Event()

        def upload() -> None:
            for number in range(100_000):
                sent.append(number)
                values = [[number * 10 + step, step] for step in range(10)]
                try:
                    answer = device.upload("W1", *values)
                except requests.RequestException:
                    return
                assert answer.status_code == 204
                answered.add(number)
                if number == 20:
                    enough.set()

        with ThreadPoolExecutor(1) as pool:
            upload_loop = pool.submit(upload)
            assert enough.wait(TIMEOUT)
            server.kill()
            upload_loop.result(TIMEOUT)
        assert not server.is_running
        server.start()
        stored = {sample.timestamp for sample in server.admin.values(device.device_id, "W1")}
        whole = {number for number in sent if {number * 10 + step for step in range(10)} <= stored}
        assert len(stored) == 10 * len(whole)
        assert answered <= whole


def test_stopping_and_killing_twice_is_fine():
    server = LocalServer()
    with pytest.raises(RuntimeError, match="no port before its first start"):
        assert server.url
    server.stop()
    server.kill()
    server.start()
    with pytest.raises(RuntimeError, match="running already"):
        server.start()
    server.kill()
    server.kill()
    server.stop()
    server.close()
    server.close()


def test_a_port_that_is_taken_is_an_error_at_the_start():
    with LocalServer() as server:
        other = LocalServer(port=server.port)
        with pytest.raises(OSError, match="in use"):
            other.start()
        with pytest.raises(OSError, match="in use"), other:
            pass
        assert not other.is_running


@pytest.mark.parametrize(
    ("host", "reachable"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
    ],
)
def test_the_url_is_one_at_which_the_server_can_be_reached(host, reachable):
    if host == "::" and not socket.has_ipv6:
        pytest.skip("no IPv6")
    with LocalServer(host=host) as server:
        assert server.url == f"http://{reachable}:{server.port}"
        assert server.admin.devices() == []


def test_devices_that_upload_at_once_get_all_they_sent_and_nothing_of_each_other(
    tmp_path, device_certificate
):
    with LocalServer(tmp_path / "smok.db") as server:

        def work(certificate: Path, number: int) -> list[object]:
            device = Device(server.url, certificate)
            with device.session:
                for batch in range(20):
                    values = [[batch * 50 + step, number * step] for step in range(50)]
                    assert device.upload("W1", *values).status_code == 204
                    server_orders = device.post("/v1/device/orders").json()
                return server_orders

        devices = [f"device {number}" for number in range(4)]
        certificates = [device_certificate(device_id).cert for device_id in devices]
        with ThreadPoolExecutor(8) as pool:
            # Each device twice, as when a retry overtakes the first try.
            numbers = [*range(4), *range(4)]
            list(pool.map(lambda number: work(certificates[number], number), numbers))
        for number, device_id in enumerate(devices):
            expected = [Sample(t, number * (t % 50)) for t in range(1000)]
            assert server.admin.values(device_id, "W1") == expected
            counts = server.admin.counts(device_id)
            assert (counts.samples, counts.duplicates, counts.conflicts) == (1000, 1000, 0)


def test_orders_are_handed_out_once_however_many_ask(device_certificate):
    with LocalServer() as server:
        certificate = device_certificate("7").cert
        server.admin.queue_orders("7", [{"n": n} for n in range(200)])
        start = threading.Barrier(8)

        def fetch(_: int) -> list[int]:
            device = Device(server.url, certificate)
            with device.session:
                start.wait(TIMEOUT)
                return [section["n"] for section in device.post("/v1/device/orders").json()]

        with ThreadPoolExecutor(8) as pool:
            fetched = [n for batch in pool.map(fetch, range(8)) for n in batch]
        assert fetched == list(range(200))


def test_a_call_that_breaks_off_in_the_middle_of_its_body_harms_nobody(device_certificate):
    with LocalServer() as server, new_device(server, device_certificate) as device:
        pem = device.session.headers["X-SSL-Client-Certificate"]
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as connection:
            connection.sendall(
                b"POST /v1/device/pathpoints HTTP/1.1\r\nHost: x\r\n"
                b"Content-Type: application/json\r\nContent-Length: 1000\r\n"
                b"X-SSL-Client-Certificate: " + str(pem).strip().encode() + b"\r\n\r\n[{"
            )
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as connection:
            connection.sendall(b"\x00\xffnonsense\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
        assert device.upload("W1", [1, 1]).status_code == 204


# The database


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.db").write_bytes(b"not a database" * 100)
    with pytest.raises(ValueError, match="not a database"):
        Store(tmp_path / "x.db")


def test_a_database_of_another_version_is_refused(tmp_path):
    Store(tmp_path / "x.db").close()
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("UPDATE schema SET version = 999")
    connection.close()
    with pytest.raises(ValueError, match=r"x\.db holds schema version 999, not 2"):
        Store(tmp_path / "x.db")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://root:secret@host/db", "SQLite or PostgreSQL, not mysql"),
        ("nonsense://", "SQLite or PostgreSQL, not nonsense"),
        ("://", "'://' is no database URL"),
        ("postgresql+nonsense://host/db", "postgresql\\+nonsense"),
        ("sqlite:///no/such/folder/x.db", "unable to open database file"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(url, complaint):
    with pytest.raises(ValueError, match=complaint):
        Store(url)


def test_a_store_does_not_show_its_password():
    store = Store("sqlite://")
    assert str(store) == "sqlite://"
    store.close()


def test_a_database_that_fails_is_not_the_callers_fault(tmp_path, device_certificate):
    database = tmp_path / "smok.db"
    with LocalServer(database) as server, new_device(server, device_certificate) as device:
        assert device.upload("W1", [1, 1]).status_code == 204
        with sqlite3.connect(database) as vandal:
            vandal.execute("ALTER TABLE samples RENAME TO gone")
            vandal.commit()
            answer = device.upload("W1", [2, 2])
            assert (answer.status_code, answer.json()) == (503, {"status": "the database failed"})
            vandal.execute("ALTER TABLE gone RENAME TO samples")
            vandal.commit()
        vandal.close()
        assert device.upload("W1", [2, 2]).status_code == 204
        assert server.admin.samples_count(device.device_id) == 2


# In the foreground


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_foreground_server_cleanly(tmp_path, device_certificate, sent):
    database = tmp_path / "smok.db"
    process = subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, str(database)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        device = Device(url, device_certificate("7").cert)
        with device.session:
            # The connection stays open over the end of the server.
            assert device.upload("W1", [1, 1]).status_code == 204
            process.send_signal(sent)
            output, errors = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, output, errors) == (0, "stopped\n", "")
    assert [path.name for path in tmp_path.iterdir() if "smok.db" in path.name] == ["smok.db"]
    with LocalServer(database) as server:
        assert server.admin.values("7", "W1") == [Sample(1, 1)]


def test_a_server_killed_by_the_system_has_kept_what_it_answered(tmp_path, device_certificate):
    database = tmp_path / "smok.db"
    process = subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, str(database)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        device = Device(process.stdout.readline().strip(), device_certificate("7").cert)
        with device.session:
            for number in range(20):
                assert device.upload("W1", [number, number]).status_code == 204
    finally:
        process.kill()
        process.communicate()
    with LocalServer(database) as server:
        assert len(server.admin.values("7", "W1")) == 20


def test_the_foreground_server_tells_that_its_port_is_taken():
    with LocalServer() as server:
        ended = subprocess.run(
            [
                sys.executable,
                "-c",
                f"from smok_fast.server import run; run(port={server.port})",
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr


# Without the extra


def without(module: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that lacks a module."""
    prelude = f"import sys; sys.modules[{module!r}] = None\n"
    return subprocess.run(
        [sys.executable, "-c", prelude + code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "sqlalchemy", "python_multipart"])
def test_without_the_extra_the_import_tells_what_to_install(module):
    ended = without(
        module,
        "try:\n import smok_fast.server\nexcept ImportError as e:\n print(type(e).__name__, e)",
    )
    assert ended.stderr == ""
    assert "pip install 'smok-fast[server]'" in ended.stdout


def test_without_the_extra_tests_that_need_the_server_are_skipped_and_tell_why(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it(smok_server): assert 0\n")
    arguments = ["-rs", "-p", "no:cacheprovider", str(tmp_path)]
    ended = without("starlette", f"import pytest; sys.exit(pytest.main({arguments!r}))")
    assert ended.returncode == 0, ended.stdout
    assert "1 skipped" in ended.stdout
    assert "pip install 'smok-fast[server]'" in ended.stdout


def test_the_plugin_imports_nothing_heavy():
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pytest, sys; before = set(sys.modules); import smok_fast.testing.plugin;"
            "print(sorted(name for name in set(sys.modules) - before))",
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    heavy = ("requests", "starlette", "sqlalchemy", "cryptography", "smok_fast._core")
    assert not [name for name in heavy if f"'{name}'" in ended.stdout]
    assert "smok_fast.testing.plugin" in ended.stdout


def test_nothing_that_runs_on_a_device_imports_the_server():
    package = Path(str(sys.modules["smok_fast"].__file__)).parent
    sources = {path.relative_to(package): path.read_text() for path in package.rglob("*.py")}
    assert Path("server/app.py") in sources
    guilty = [
        path
        for path, source in sources.items()
        # The CLI starts the server, and imports it when asked to.
        if path.parts[0] not in ("server", "testing", "cli")
        and ("smok_fast.server" in source or "smok_fast.testing" in source)
    ]
    assert guilty == []


def test_the_fixtures_give_each_test_a_server_and_certificates(smok_server, device_certificate):
    assert smok_server.admin.devices() == []
    first, second = device_certificate("1"), device_certificate("2")
    assert first == device_certificate("1")
    assert first.ca_cert.read_bytes() == second.ca_cert.read_bytes()
    for certificate in (first, second):
        device = Device(smok_server.url, certificate.cert)
        with device.session:
            assert device.get("/v1/device").status_code == 200
    with pytest.raises(ResponseError):
        smok_server.admin.baob("1", "none")
