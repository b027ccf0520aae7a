"""The programs in examples/, each run as a user runs it, against the local server."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_support import DEVICE_ID, held
from smok_fast.modbus import RegisterModel, TcpServer
from smok_fast.server import LocalServer
from smok_fast.testing import Admin, wait_until

EXAMPLES = Path(__file__).parents[1] / "examples"

#: Seconds after which a test that waits for something gives up: programs start slowly where others
#: are busy.
PATIENCE = 90
pytestmark = pytest.mark.timeout(4 * PATIENCE)


class Program:
    """An example that runs."""

    def __init__(self, folder: Path, *command: object, server: str) -> None:
        self._outputs = folder / "printed", folder / "logged"
        with self._outputs[0].open("w") as printed, self._outputs[1].open("w") as logged:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-W", "error", *map(str, command)],
                stdout=printed,
                stderr=logged,
                cwd=folder,
                env={**os.environ, "SMOK_BASE_URL": server},
            )

    @property
    def printed(self) -> str:
        return self._outputs[0].read_text(encoding="utf-8")

    @property
    def logged(self) -> str:
        return self._outputs[1].read_text(encoding="utf-8")

    def end(self) -> None:
        """Have it end as systemd does; it must do so well."""
        assert self.process.poll() is None, self.logged
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.logged
        assert not re.search(r"^(ERROR|CRITICAL)|Traceback", self.logged, re.MULTILINE), self.logged

    @property
    def warnings(self) -> list[str]:
        return re.findall(r"^WARNING:(.*)", self.logged, re.MULTILINE)


@pytest.fixture
def run(
    smok_server: LocalServer, device_certificate: Callable[..., Any], tmp_path: Path
) -> Callable[..., contextlib.AbstractContextManager[Program]]:
    """Runs an example, and ends it at the end of the block."""

    @contextlib.contextmanager
    def run(name: str, *arguments: object) -> Iterator[Program]:
        made = device_certificate(DEVICE_ID)
        command = EXAMPLES / name, made.cert, made.key, *arguments
        program = Program(tmp_path, *command, server=smok_server.url)
        try:
            yield program
            program.end()
        except Exception as error:
            program.process.send_signal(signal.SIGABRT)  # tells what its threads are at
            program.process.wait()
            error.add_note(f"{name} has logged:\n{program.logged}")
            raise
        finally:
            program.process.kill()
            program.process.wait()

    return run


def order(*orders: dict[str, Any], disposition: int = 0) -> dict[str, Any]:
    return {"orders": list(orders), "disposition": disposition}


def write(path: str, value: Any) -> dict[str, Any]:
    return {"type": "write", "path": path, "value": value, "advise": 1}


def read(path: str) -> dict[str, Any]:
    return {"type": "read", "path": path}


def values(admin: Admin, path: str) -> list[Any]:
    return [value for _, value in held(admin).get(path, [])]


def test_every_example_is_run_by_a_test_and_fits_on_three_screens() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    programs = sorted(EXAMPLES.glob("*.py"))
    assert len(programs) >= 5
    for program in programs:
        assert f'run("{program.name}"' in tests
        assert len(program.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("name", [program.name for program in sorted(EXAMPLES.glob("*.py"))])
def test_an_example_without_its_arguments_says_how_to_use_it(name: str, tmp_path: Path) -> None:
    for arguments in ([], ["device.crt"], ["device.crt", "device.key", "1", "2", "3"]):
        program = [sys.executable, str(EXAMPLES / name), *arguments]
        ended = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"usage: {name} [-h] certificate key")
    assert list(tmp_path.iterdir()) == []


def test_the_memory_device(run: Any, admin: Admin) -> None:
    admin.set_archives(DEVICE_ID, [{"interval": 0.1, "pathpoints": ["W1", "u_name"]}])
    admin.queue_orders(DEVICE_ID, [order(write("W1", 70_000), write("u_name", "boiler"))])
    with run("memory_device.py") as program:
        wait_until(lambda: 65535 in values(admin, "W1"), PATIENCE)
        wait_until(lambda: "boiler" in values(admin, "u_name"), PATIENCE)
    assert program.printed.startswith(f"device {DEVICE_ID} talks to http://127.0.0.1:")
    assert program.warnings == []


@pytest.mark.parametrize("answers", [True, False])
def test_the_first_program_of_the_readme(
    answers: bool,
    run: Any,
    admin: Admin,
    device_certificate: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    first = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert first is not None
    made = device_certificate(DEVICE_ID)
    (tmp_path / "certs").mkdir()
    shutil.copy(made.cert, tmp_path / "certs" / "device.crt")
    shutil.copy(made.key, tmp_path / "certs" / "device.key")
    admin.set_archives(DEVICE_ID, [{"interval": 0.1, "pathpoints": ["W1r4002"]}])
    with TcpServer(RegisterModel({"W1r4002": 55} if answers else {}), port=0) as plant:
        here = f'TcpClient("{plant.host}", {plant.port})'
        text, found = re.subn(r'TcpClient\(".*?"\)', here, first[1])
        assert found == 1
        program = tmp_path / "gateway.py"
        program.write_text(text, encoding="utf-8")
        monkeypatch.setenv("PYTHONUNBUFFERED", "1")
        with run(program) as running:
            wait_until(lambda: held(admin).get("W1r4002"), PATIENCE)
            wait_until(lambda: running.printed, PATIENCE)
    assert re.fullmatch(r"\(\d+, 55\)\n" if answers else "not read: timeout\n", running.printed)


def test_the_boiler_room_gateway(run: Any, admin: Admin) -> None:
    registers = RegisterModel({"w1r100": 655, "w1r101": 520, "B1f10": 1, "w2r1": -5})
    admin.set_archives(
        DEVICE_ID, [{"interval": 0.1, "pathpoints": ["w1r100", "w1r101", "B1f10", "w2r1"]}]
    )
    with (
        TcpServer(registers) as modbus,
        run("boiler_room_gateway.py", modbus.host, modbus.port) as program,
    ):
        wait_until(lambda: -5 in values(admin, "w2r1") and 655 in values(admin, "w1r100"), PATIENCE)
        admin.queue_orders(DEVICE_ID, [order(write("B1f10", 0))])
        wait_until(lambda: registers["B1f10"] == 0, PATIENCE)
        said = "The supply is 13.5 °C above the return"
        wait_until(lambda: said in program.logged, PATIENCE)
    assert program.warnings == []
    assert said in [record["message"] for record in admin.logs(DEVICE_ID)]


def test_the_boiler_room_gateway_without_a_boiler_room(run: Any, admin: Admin) -> None:
    with TcpServer(RegisterModel({})) as modbus:
        port = modbus.port
    with run("boiler_room_gateway.py", "127.0.0.1", port) as program:
        wait_until(lambda: "timeout" in values(admin, "w1r100"), PATIENCE)
        said = "root:The boiler does not answer: timeout"
        wait_until(lambda: said in program.warnings, PATIENCE)


def test_the_own_execution_loop(run: Any, admin: Admin) -> None:
    orders = [
        order(read("W2"), write("W1", 21), {"type": "message", "uuid": "m-1"}),
        order(read("W1"), read("W9"), {"type": "wait", "time": 0.01}, disposition=1),
        order(write("W1", 22)),
        order(read("W1"), disposition=1),
    ]
    admin.queue_orders(DEVICE_ID, orders)
    with run("own_execution_loop.py") as program:
        wait_until(lambda: values(admin, "W1")[-1:] == [22], PATIENCE)
        wait_until(lambda: admin.messages(DEVICE_ID)["m-1"] is not None, PATIENCE)
    assert program.warnings == []
    assert held(admin).keys() == {"W1", "W2", "W9"}
    assert values(admin, "W1") == [21, 22], "a section that cannot be joined waits"
    assert (values(admin, "W2"), values(admin, "W9")) == ([40], ["invalid"])


def test_the_alarms(run: Any, admin: Admin) -> None:
    admin.set_predicates(
        DEVICE_ID,
        [
            {
                "predicate_id": "1",
                "statistic": "threshold",
                "verbose_name": "Boiler",
                # It has no value at the first tick, and the next one comes after a minute.
                "configuration": {"pathpoint": "d_temperature", "high": 90, "failure_after": 0},
            },
            {
                "predicate_id": "2",
                "statistic": "frozen",
                "verbose_name": "Thermometer",
                "configuration": {"pathpoint": "d_temperature", "ticks": 10},
            },
        ],
    )
    with run("alarms.py") as program:
        wait_until(lambda: admin.events(DEVICE_ID), PATIENCE)
        wait_until(lambda: values(admin, "d_temperature"), PATIENCE)
    assert program.warnings == []
    (event,) = admin.events(DEVICE_ID)
    assert event["message"] == "Boiler: d_temperature cannot be read"
    assert all(70 <= value <= 100 for value in values(admin, "d_temperature"))


def test_the_offline_logger(run: Any, admin: Admin, tmp_path: Path) -> None:
    measured = tmp_path / "measured"
    measured.write_text("21.5\n")
    with run("offline_logger.py", measured) as program:
        wait_until(lambda: "Recording" in program.logged, PATIENCE)
        program.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: "Uploading: False" in program.logged, PATIENCE)
        assert admin.devices() == []
        program.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: 21.5 in values(admin, "d_measured"), PATIENCE)
        measured.write_text("22.5\n")
        wait_until(lambda: 22.5 in values(admin, "d_measured"), PATIENCE)
        measured.unlink()
        wait_until(lambda: "timeout" in values(admin, "d_measured"), PATIENCE)
        measured.write_text("hot")
        wait_until(lambda: "malformed" in values(admin, "d_measured"), PATIENCE)
    assert program.warnings == []
    assert "What is kept here goes back to (" in program.logged
