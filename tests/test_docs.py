"""The snippets of docs/device.md, each run as it is printed, against the local server."""

from __future__ import annotations

import logging
import re
import runpy
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_support import DEVICE_ID, PATIENCE, Recorder
from pathpoint_support import Scripted, scripted
from smok_fast.server import LocalServer
from smok_fast.testing import Admin, wait_until

DOCS = Path(__file__).parents[1] / "docs"


def snippets() -> dict[str, list[str]]:
    """The Python of each section, by its title."""
    found: dict[str, list[str]] = defaultdict(list)
    for section in (DOCS / "device.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        title = section.splitlines()[0]
        found[title] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return found


@pytest.fixture
def device(smok_server: LocalServer, device_certificate: Callable[..., Any]) -> Iterator[Recorder]:
    certificate = device_certificate(DEVICE_ID)
    with Recorder(certificate, smok_server.url, delayed_boot=True) as device:
        yield device


@pytest.fixture
def run(device: Recorder, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a snippet of a section; gives what it has defined."""

    def run(title: str, number: int = 0) -> dict[str, Any]:
        if not device.boot_completed:
            device.continue_boot()
        program = tmp_path / "snippet.py"
        program.write_text(snippets()[title][number], encoding="utf-8")
        return runpy.run_path(str(program), {"device": device})

    return run


def test_every_section_has_a_snippet_that_is_run_here() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    for title, programs in snippets().items():
        assert programs
        for number in range(len(programs)):
            assert f'run("{title}"' + (f", {number})" if number else ")") in tests


def test_sensors(
    run: Any, device: Recorder, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    class Remembering(Scripted):
        def on_write(self, value: Any, advise: Any) -> None:
            self.reading = value

    admin.set_sensors(DEVICE_ID, [{"fqts": "temp boiler", "path": "W1", "type": "std.Number10"}])
    pathpoint = Remembering(device, "W1")
    pathpoint.reading = 217
    run("Sensors")
    assert capsys.readouterr().out == "21.7\n21.7\n"
    assert pathpoint.reading == 225
    wait_until(lambda: admin.sensor_writes(DEVICE_ID), PATIENCE)
    (write,) = admin.sensor_writes(DEVICE_ID)
    assert (write["who"], write["reason"], write["value"]) == ("anna", "it was cold", "22.5")


def test_events(run: Any, admin: Admin) -> None:
    defined = run("Events and predicates")
    wait_until(lambda: len(admin.events(DEVICE_ID)) == 2, PATIENCE)
    wait_until(lambda: all(e.get("ended_on") for e in admin.events(DEVICE_ID)), PATIENCE)
    events = {event["token"]: event for event in admin.events(DEVICE_ID)}
    assert events["door"]["message"] == "The door is open"
    assert events["start"]["alarm_type"] == 1
    assert defined["event"].uuid == events["door"]["uuid"]


def test_baobs(
    run: Any,
    admin: Admin,
    smok_server: LocalServer,
    device_certificate: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("BAOBs")
    assert capsys.readouterr().out == "0 b'{}'\n"
    wait_until(lambda: admin.baobs(DEVICE_ID) == {"settings": 0}, PATIENCE)
    gateway = run("BAOBs", 1)["Gateway"]
    certificate = device_certificate(DEVICE_ID)
    files = str(certificate.cert), str(certificate.key), tmp_path / "state"
    with gateway(*files, url=smok_server.url) as device:
        wait_until(lambda: device.baobs_loaded, PATIENCE)
        admin.set_baob(DEVICE_ID, "settings", b"[]")
        device.request_baob_sync()
        printed = []
        wait_until(lambda: printed.append(capsys.readouterr().out) or any(printed), PATIENCE)
    assert "".join(printed) == "settings b'[]'\n"


def test_metadata(run: Any, admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    admin.set_metadata(DEVICE_ID, "location", "attic")
    run("Metadata")
    assert capsys.readouterr().out == "cellar\nunknown\n"
    wait_until(lambda: admin.metadata(DEVICE_ID) == {}, PATIENCE)


def test_slave_devices(run: Any, admin: Admin) -> None:
    admin.set_device(DEVICE_ID, slaves=[{"device_id": "meters"}])
    run("Slave devices")
    (slave,) = admin.slaves(DEVICE_ID)
    assert slave["linkstate"] == '{"status": false, "failed_devices": [3]}'
    assert slave["instrumentation"] == "2 of 3 meters answer"


def test_macros(
    run: Any, device: Recorder, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    later = int(time.time()) + 3600
    macro = {"macro_id": "m", "commands": [{"path": "W1", "value": 7}], "occurrences": [later]}
    admin.set_macros(DEVICE_ID, [macro])
    scripted(device, "W1")
    device.continue_boot()
    wait_until(lambda: list(device.macros_database.get_macros()), PATIENCE)
    run("Macros")
    assert capsys.readouterr().out == f"m {{'W1': 7}} [{later}]\n"


def test_logs(run: Any, admin: Admin) -> None:
    handlers = list(logging.getLogger().handlers)
    run("Logs")
    assert logging.getLogger().handlers == handlers
    messages = [record["message"] for record in admin.logs(DEVICE_ID)]
    assert "The pump runs dry" in messages
