"""``smok-fast demo``, and the boiler room behind it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway_support import PATIENCE
from smok_fast.cli import demo as module
from smok_fast.cli.app import app
from smok_fast.cli.boiler_room import POINTS, BoilerRoom
from smok_fast.testing import Admin

SETTING = "w1r1102"  # supply set-point of the first heating circuit
SUPPLY = "w1r1100"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("smok-fast")), *arguments],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        env={**os.environ, "COLUMNS": "80", "SMOK_BASE_URL": "http://127.0.0.1:9"},
    )


def test_the_demo_ends_well_and_fits_80_columns() -> None:
    outcome = run("demo", "--seconds", "3")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert outcome.stderr == ""
    lines = outcome.stdout.splitlines()
    table = lines[: next(number for number, line in enumerate(lines) if line.startswith("OK"))]
    assert max(map(len, table)) <= 80
    for name in module.SHOWN:
        assert any(name in line for line in table)
    (verdict,) = [line for line in lines if line.startswith("OK")]
    found = re.search(r"exactly the (\d+) samples of (\d+) registers", verdict)
    assert found is not None
    assert int(found[1]) > 500
    assert int(found[2]) >= 50


def spoil(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Have the server hold something else than what was read."""
    original = Admin.values

    def values(self: Admin, device_id: str, path: str, after: int = -1) -> Any:
        return change(path, original(self, device_id, path, after))

    monkeypatch.setattr(Admin, "values", values)


def test_the_demo_fails_if_the_server_holds_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoilt = {
        "w1r100": lambda samples: samples[1:],
        "w1r101": lambda samples: [*samples, samples[-1]],
        "w1r102": lambda samples: [samples[0]._replace(value=0), *samples[1:]],
        "w1r104": lambda samples: [samples[0]._replace(timestamp=0), *samples[1:]],
    }
    spoil(monkeypatch, lambda path, samples: spoilt.get(path, list)(samples))
    outcome = CliRunner().invoke(app, ["demo", "--seconds", "2"])
    assert outcome.exit_code == 1
    assert set(re.findall(r"wrong: (\w+):", outcome.output)) == spoilt.keys()
    assert "OK" not in outcome.output


def test_the_demo_fails_if_an_order_was_not_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admin, "queue_orders", lambda self, device_id, sections: None)
    outcome = CliRunner().invoke(app, ["demo", "--seconds", "2"])
    assert outcome.exit_code == 1
    assert f"wrong: {SETTING} was ordered to be 480" in outcome.output


def test_a_real_device_that_is_away_gives_failures_and_nothing_is_written_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queued: list[Any] = []
    held: list[Any] = []
    monkeypatch.setattr(Admin, "queue_orders", lambda *arguments: queued.append(arguments))
    spoil(monkeypatch, lambda path, samples: held.extend(samples) or samples)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = CliRunner().invoke(app, ["demo", "--seconds", "2", "--modbus", f"127.0.0.1:{port}"])
    assert outcome.exit_code == 0, outcome.output
    assert "OK" in outcome.output
    assert queued == []
    assert {sample.error_code for sample in held} == {"timeout"}


@pytest.mark.parametrize("place", ["nowhere", "host:port", ":502", "127.0.0.1:"])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    outcome = CliRunner().invoke(app, ["demo", "--modbus", place])
    assert outcome.exit_code != 0
    assert "HOST:PORT" in outcome.output


# --- The boiler room ------------------------------------------------------------------------------


def let_pass(room: BoilerRoom, seconds: int) -> dict[str, Any]:
    for _ in range(seconds * 10):
        room.step(0.1)
    return {point.name: room.registers[point.name] for point in POINTS}


def test_the_boiler_room_has_at_least_50_registers() -> None:
    names = {point.name for point in POINTS}
    assert len(names) == len(POINTS) >= 50
    assert all(0.1 <= point.interval <= 1 for point in POINTS)
    room = BoilerRoom()
    assert {name: room.registers[name] for name in names} == {
        point.name: pytest.approx(point.initial) for point in POINTS
    }


def test_its_steps_are_the_same_each_time() -> None:
    first, second = let_pass(BoilerRoom(seed=7), 60), let_pass(BoilerRoom(seed=7), 60)
    assert first == second
    assert first != let_pass(BoilerRoom(seed=8), 60)
    assert first != let_pass(BoilerRoom(seed=7), 61)


def test_a_set_point_moves_the_supply_temperature() -> None:
    room = BoilerRoom()
    before = let_pass(room, 120)
    room.registers[SETTING] = 300
    after = let_pass(room, 120)
    assert before[SUPPLY] == pytest.approx(430, abs=15)
    assert after[SUPPLY] == pytest.approx(300, abs=15)
    assert after["w1r1200"] == pytest.approx(before["w1r1200"], abs=15)


def test_a_pump_that_is_switched_off_stands_still_and_its_circuit_gets_cold() -> None:
    room = BoilerRoom()
    before = let_pass(room, 60)
    assert before["W1r1104"] == pytest.approx(2400, abs=20)
    room.registers["B1f1100"] = False
    after = let_pass(room, 120)
    assert after["W1r1104"] == 0
    assert after["w1r1100"] == pytest.approx(200, abs=15)
    assert after["w1r1105"] < before["w1r1105"] - 200
    assert after["W1r1204"] == pytest.approx(2400, abs=20)


def test_a_boiler_that_is_disabled_goes_out_and_gets_cold() -> None:
    room = BoilerRoom()
    before = let_pass(room, 60)
    for number in (1, 2):
        room.registers[f"B1f{number}00"] = False
    after = let_pass(room, 200)
    for number in (1, 2):
        assert after[f"B1f{number}01"] == 0
        assert after[f"W1r{number}03"] == 0
        assert after[f"w1r{number}00"] < before[f"w1r{number}00"] - 100
    assert after["f1l200"] == pytest.approx(0, abs=0.3)
