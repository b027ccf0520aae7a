"""A gateway from end to end over real sockets: a pymodbus server, the device, the local server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_support import (
    DEVICE_ID,
    PATIENCE,
    Gateway,
    check_server_holds_what_was_read,
    held,
    settle,
)
from smok_fast.basics import StorageLevel
from smok_fast.modbus import TcpClient
from smok_fast.pathpoint import Pathpoint
from smok_fast.server import LocalServer
from smok_fast.testing import Admin, wait_until
from test_modbus_pymodbus import PymodbusServer

REGISTERS = ["W1r7", "W1r8", "w1r9", "B1f0", "B1f3", "B1d1", "f1l100"]


@pytest.fixture
def peer() -> Iterator[PymodbusServer]:
    with PymodbusServer() as server:
        yield server


@pytest.fixture
def gateway(
    peer: PymodbusServer, device_certificate: Callable[..., Any]
) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways in front of the MODBUS server."""
    with contextlib.ExitStack() as stack:

        def make(url: str, **options: Any) -> Gateway:
            client = TcpClient("127.0.0.1", peer.port, reconnect_delay=0.05)
            stack.enter_context(client)
            certificate = device_certificate(DEVICE_ID)
            return stack.enter_context(Gateway(certificate, url, client, **options))

        yield make


def wait_for_more(count: Callable[[], int], more: int) -> None:
    """Wait until a count has grown by that much."""
    enough = count() + more
    wait_until(lambda: count() >= enough, PATIENCE)


def test_registers_are_archived_and_the_server_holds_exactly_what_was_read(
    smok_server: LocalServer, gateway: Callable[..., Gateway]
) -> None:
    admin = smok_server.admin
    archives = [
        {"interval": 0.02, "pathpoints": REGISTERS[:3]},
        {"interval": 0.1, "pathpoints": REGISTERS[3:]},
    ]
    admin.set_archives(DEVICE_ID, archives)
    device = gateway(smok_server.url)
    wait_until(lambda: all(len(device.readings[name]) >= 10 for name in REGISTERS), PATIENCE)
    settle(device)
    check_server_holds_what_was_read(device, admin)
    values = {name: {value for _, value in readings} for name, readings in held(admin).items()}
    assert values == {
        "W1r7": {7},
        "W1r8": {8},
        "w1r9": {9},
        "B1f0": {1},
        "B1f3": {0},
        "B1d1": {1},
        "f1l100": {61.5},
    }


def test_an_illegal_address_is_an_invalid_failure_and_costs_its_neighbours_nothing(
    smok_server: LocalServer, gateway: Callable[..., Gateway]
) -> None:
    admin = smok_server.admin
    names = ["W1r198", "W1r199", "W1r200"]
    admin.set_archives(DEVICE_ID, [{"interval": 0.05, "pathpoints": names}])
    device = gateway(smok_server.url)
    wait_until(lambda: all(len(device.readings[name]) >= 3 for name in names), PATIENCE)
    settle(device)
    check_server_holds_what_was_read(device, admin)
    said = {name: {what for _, what in readings} for name, readings in held(admin).items()}
    assert said == {"W1r198": {198}, "W1r199": {199}, "W1r200": {"invalid"}}


def test_orders_from_the_server_write_registers_and_read_them_back(
    smok_server: LocalServer, gateway: Callable[..., Gateway]
) -> None:
    admin = smok_server.admin
    writes = {"W1r20": 60000, "w1r21": -5, "B1f2": 0, "f1r30": -2.5}
    admin.queue_orders(
        DEVICE_ID,
        [
            {
                "orders": [
                    {"type": "write", "path": name, "value": value}
                    for name, value in writes.items()
                ],
                "disposition": 1,
            },
            {"orders": [{"type": "read", "path": name} for name in writes], "disposition": 1},
        ],
    )
    device = gateway(smok_server.url)
    wait_until(lambda: device.readings.keys() == writes.keys(), PATIENCE)
    settle(device)
    check_server_holds_what_was_read(device, admin)
    assert {name: [value for _, value in found] for name, found in held(admin).items()} == {
        name: [value] for name, value in writes.items()
    }


def test_an_order_for_an_illegal_address_is_a_failure_and_later_orders_are_executed(
    smok_server: LocalServer, gateway: Callable[..., Gateway]
) -> None:
    admin = smok_server.admin
    orders = [
        {"type": "write", "path": "W1r9999", "value": 1},
        {"type": "read", "path": "W1r9999", "advise": 0},
        {"type": "read", "path": "no such name"},
        {"type": "read", "path": "W1r5"},
    ]
    admin.queue_orders(DEVICE_ID, [{"orders": orders, "disposition": 0}])
    device = gateway(smok_server.url)
    wait_until(lambda: {"W1r9999", "W1r5"} <= device.readings.keys(), PATIENCE)
    settle(device)
    check_server_holds_what_was_read(device, admin)
    assert {what for _, what in device.readings["W1r9999"]} == {"invalid"}
    assert [what for _, what in device.readings["W1r5"]] == [5]


def test_a_modbus_server_that_is_killed_gives_timeouts_and_then_values_again(
    smok_server: LocalServer, gateway: Callable[..., Gateway], peer: PymodbusServer
) -> None:
    admin = smok_server.admin
    admin.set_archives(DEVICE_ID, [{"interval": 0.05, "pathpoints": REGISTERS}])
    device = gateway(smok_server.url)

    def last_is(what: Callable[[Any], bool]) -> bool:
        return all(
            device.readings[name] and what(device.readings[name][-1][1]) for name in REGISTERS
        )

    wait_until(lambda: last_is(lambda value: value != "timeout"), PATIENCE)
    peer.kill()
    wait_until(lambda: last_is(lambda value: value == "timeout"), PATIENCE)
    peer.start()
    wait_until(lambda: last_is(lambda value: value != "timeout"), PATIENCE)
    settle(device)
    check_server_holds_what_was_read(device, admin)
    whats = {what for readings in device.readings.values() for _, what in readings}
    assert whats == {7, 8, 9, 0, 1, 61.5, "timeout"}


def test_a_smok_server_that_is_killed_loses_nothing_and_gets_nothing_twice_as_different_data(
    tmp_path: Path, gateway: Callable[..., Gateway], peer: PymodbusServer
) -> None:
    with LocalServer(tmp_path / "server.sqlite") as server:
        server.admin.set_archives(DEVICE_ID, [{"interval": 0.02, "pathpoints": REGISTERS}])
        device = gateway(server.url)
        wait_until(lambda: device.pp_database.buffer.statistics()["acknowledged"] > 50, PATIENCE)
        for _ in range(2):
            server.kill()
            wait_for_more(lambda: device.failed_syncs, 1)
            wait_for_more(lambda: device.pp_database.buffer.statistics()["recorded"], 50)
            server.start()
            wait_until(lambda: device.link_is_up, PATIENCE)
        settle(device)
        with Admin(server.url) as admin:
            check_server_holds_what_was_read(device, admin)
            assert admin.samples_count(DEVICE_ID) == sum(map(len, device.readings.values()))
        assert device.pp_database.buffer.statistics()["dropped"] == 0


def test_an_answer_that_is_lost_after_the_server_stored_the_batch_leaves_no_trace(
    smok_server: LocalServer, gateway: Callable[..., Gateway]
) -> None:
    admin = smok_server.admin
    lost = admin.fault("/v1/device/pathpoints", method="POST", drop=True, handled=True, times=2)
    admin.set_archives(DEVICE_ID, [{"interval": 0.02, "pathpoints": REGISTERS}])
    device = gateway(smok_server.url)
    wait_until(lambda: admin.fault_hits(lost) == 2, PATIENCE)
    settle(device)
    check_server_holds_what_was_read(device, admin)
    assert admin.counts(DEVICE_ID).duplicates > 0


def test_pathpoints_are_registered_with_their_storage_levels(
    smok_server: LocalServer, gateway: Callable[..., Gateway]
) -> None:
    device = gateway(smok_server.url)
    device.get_pathpoint("W1r7", StorageLevel.PERMANENT)
    device.get_pathpoint("W1r8", StorageLevel.TREND)
    expected = {"W1r7": StorageLevel.PERMANENT, "W1r8": StorageLevel.TREND}
    wait_until(lambda: smok_server.admin.pathpoints(DEVICE_ID) == expected, PATIENCE)


def test_a_storage_level_changed_on_the_server_reaches_the_pathpoint(
    smok_server: LocalServer, gateway: Callable[..., Gateway]
) -> None:
    levels: list[StorageLevel] = []

    class Level(Pathpoint):
        def on_new_storage_level(self, new_storage_level: StorageLevel) -> None:
            super().on_new_storage_level(new_storage_level)
            levels.append(new_storage_level)

    smok_server.admin.set_pathpoints(DEVICE_ID, {"W1": StorageLevel.PERMANENT})
    device = gateway(smok_server.url)
    pathpoint = Level(device, "W1", StorageLevel.TREND)
    wait_until(lambda: levels, PATIENCE)
    assert pathpoint.storage_level is StorageLevel.PERMANENT
    smok_server.admin.set_pathpoints(DEVICE_ID, {"W1": StorageLevel.TREND})
    device.get_pathpoint("W1r7")  # the server tells the levels of all when it is told about one
    wait_until(lambda: len(levels) == 2, PATIENCE)
    assert levels == [StorageLevel.PERMANENT, StorageLevel.TREND]
    assert pathpoint.storage_level is StorageLevel.TREND


def test_archives_changed_on_the_server_take_effect_at_the_next_fetch(
    smok_server: LocalServer, gateway: Callable[..., Gateway]
) -> None:
    admin = smok_server.admin
    admin.set_archives(DEVICE_ID, [{"interval": 0.02, "pathpoints": ["W1r7"]}])
    device = gateway(smok_server.url, archives_interval=0.1)
    wait_until(lambda: len(device.readings["W1r7"]) > 2, PATIENCE)
    assert "W1r8" not in device.readings
    admin.set_archives(DEVICE_ID, [{"interval": 0.02, "pathpoints": ["W1r8"]}])
    wait_until(lambda: len(device.readings["W1r8"]) > 2, PATIENCE)
    count = len(device.readings["W1r7"])
    more = len(device.readings["W1r8"]) + 5
    wait_until(lambda: len(device.readings["W1r8"]) > more, PATIENCE)
    assert len(device.readings["W1r7"]) - count <= 1  # one may have been under way


@pytest.mark.parametrize(
    "bad",
    [
        {"interval": 10**400, "pathpoints": ["W1r8"]},
        {"interval": 0, "pathpoints": ["W1r8"]},
        {"interval": "1", "pathpoints": ["W1r8"]},
        {"interval": True, "pathpoints": ["W1r8"]},
        {"interval": 1, "pathpoints": "W1r8"},
        {"interval": 1, "pathpoints": [8]},
        {"interval": 1},
        "W1r8",
        None,
    ],
)
def test_a_malformed_archive_entry_is_skipped_and_the_others_are_archived(
    bad: Any, smok_server: LocalServer, gateway: Callable[..., Gateway]
) -> None:
    good = {"interval": 1e-9, "pathpoints": ["W1r7", "unknown"]}
    body = json.dumps([bad, good])
    smok_server.admin.fault("/v1/device/pathpoints/archived", body=body, times=None)
    device = gateway(smok_server.url)
    wait_until(lambda: len(device.readings["W1r7"]) > 1, PATIENCE)
    assert "W1r8" not in device.readings
