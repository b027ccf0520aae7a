"""Orders over a network that delays, cuts, truncates and duplicates what goes through it."""

from __future__ import annotations

import collections
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from chaos_support import ChaosProxy
from gateway_support import QUICK
from ngtt_support import quick
from pathpoint_support import Scripted
from smok_fast._backoff import Backoff
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.extras import InMemoryEventDatabase
from smok_fast.pathpoint import Pathpoint
from smok_fast.server import LocalServer
from smok_fast.testing import wait_until

PATIENCE = 60
ORDERS = 300
LOT = 10
EVERYTHING = ("delay", "cut", "truncate", "duplicate")


class Device(SMOKDevice):
    """Notes what is written to its pathpoints."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.log: list[Any] = []
        super().__init__(*args, **options)

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        return Scripted(self, name, storage_level, log=self.log)

    @property
    def written(self) -> collections.Counter[Any]:
        return collections.Counter(value for kind, _, value in [*self.log])


@pytest.fixture
def device_id() -> str:
    return f"chaos {uuid.uuid4().hex[:8]}"


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[contextlib.ExitStack]:
    monkeypatch.setattr("smok_fast.ngtt.uplink.thread.Backoff", lambda *_, **__: quick())
    monkeypatch.setattr(Backoff.__init__, "__defaults__", (0.01, 0.02))
    with contextlib.ExitStack() as stack:
        yield stack


def give_orders(server: LocalServer, device_id: str, proxy: ChaosProxy) -> None:
    """Give orders little by little, each lot once the server has got rid of the one before."""
    misfortunes = proxy.left
    for start in range(0, ORDERS, LOT):
        sections = [
            {"orders": [{"type": "write", "path": "W1", "value": value, "advise": value % 2}]}
            for value in range(start, start + LOT)
        ]
        server.admin.queue_orders(device_id, sections)
        wait_until(lambda: not server.admin.pending_orders(device_id), PATIENCE)
    assert proxy.left <= misfortunes - 10


def check(device: Device) -> None:
    """See that everything was executed once, and that the device is alive and can be closed."""
    wait_until(lambda: len(device.written) == ORDERS, PATIENCE)
    assert [thread.name for thread in device._threads() if not thread.is_alive()] == []
    started = time.monotonic()
    device.close()
    assert time.monotonic() - started <= 10
    assert device.written == collections.Counter(range(ORDERS))


@pytest.mark.parametrize("seed", [1, 2])
def test_pushed_orders_are_executed_once_whatever_the_network_does(
    smok_ngtt_server: LocalServer,
    device_certificate: Callable[..., Any],
    device_id: str,
    stack: contextlib.ExitStack,
    seed: int,
) -> None:
    server = smok_ngtt_server
    # Over HTTP a lost answer would be a lost order: there is nothing that could be repeated.
    fault = server.admin.fault("/v1/device/orders", status=503, times=None)
    stack.callback(server.admin.remove_faults, fault)
    host, port = server.ngtt_address.split(":")
    ngtt = stack.enter_context(
        ChaosProxy(host, int(port), seed=seed, to_server=EVERYTHING, to_device=EVERYTHING)
    )
    made = device_certificate(device_id)
    device = stack.enter_context(
        Device(
            str(made.cert), str(made.key), InMemoryEventDatabase(), url=server.url,
            use_ngtt=True, ngtt=ngtt.address, ca_certs=made.ca_cert, **QUICK,
        )
    )  # fmt: skip
    give_orders(server, device_id, ngtt)
    check(device)


@pytest.mark.parametrize("seed", [3])
def test_fetched_orders_are_executed_once_whatever_becomes_of_the_requests(
    smok_server: LocalServer,
    device_certificate: Callable[..., Any],
    device_id: str,
    stack: contextlib.ExitStack,
    seed: int,
) -> None:
    address = urlsplit(smok_server.url)
    assert address.hostname is not None
    assert address.port is not None
    http = stack.enter_context(
        ChaosProxy(
            address.hostname, address.port, seed=seed,
            to_server=("delay", "cut", "truncate"), to_device=("delay",),
        )
    )  # fmt: skip
    made = device_certificate(device_id)
    device = stack.enter_context(
        Device(
            str(made.cert), str(made.key), InMemoryEventDatabase(),
            url=f"http://{http.address}", ca_certs=made.ca_cert, **QUICK,
        )
    )  # fmt: skip
    give_orders(smok_server, device_id, http)
    check(device)
