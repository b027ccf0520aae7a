"""What tests of the Python layer share: devices whose threads are not started, and a clock."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from smok_fast.client import SMOKDevice
from smok_fast.extras import InMemoryEventDatabase
from smok_fast.pathpoint import reports
from smok_fast.server import LocalServer
from smok_fast.testing import Admin

DEVICE_ID = "1"

# What decides whether a change lands must not depend on luck; developers' own runs search on.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


# A shell that starts the tests in the background has them ignore Ctrl-C, and the programs that they
# start inherit that: some of them are interrupted by a test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class ManualClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def fresh_reports(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    """Nothing that an earlier test has logged keeps this one from being logged."""
    monkeypatch.setattr(reports, "_episodes", reports.Episodes(clock))


@pytest.fixture
def make_offline_device(
    device_certificate: Callable[..., Any],
) -> Iterator[Callable[..., SMOKDevice]]:
    """Makes devices that run, but talk to no server."""
    made: list[SMOKDevice] = []

    def make(cls: type[SMOKDevice] = SMOKDevice, **options: Any) -> SMOKDevice:
        certificate = device_certificate(DEVICE_ID)
        options.setdefault("evt_database", InMemoryEventDatabase())
        options.setdefault("allow_sync", False)
        device = cls(str(certificate.cert), str(certificate.key), **options)
        made.append(device)
        return device

    yield make
    for device in made:
        device.close()


@pytest.fixture
def offline_device(make_offline_device: Callable[..., SMOKDevice]) -> SMOKDevice:
    return make_offline_device()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only who may mount a disk can have one that is full")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def admin(smok_server: LocalServer) -> Admin:
    return smok_server.admin


@pytest.fixture
def make_device(
    smok_server: LocalServer, device_certificate: Callable[..., Any]
) -> Iterator[Callable[..., SMOKDevice]]:
    """Makes devices of the local server that do nothing by themselves: their boot is delayed."""
    made: list[SMOKDevice] = []

    def make(cls: type[SMOKDevice] = SMOKDevice, **options: Any) -> SMOKDevice:
        certificate = device_certificate(DEVICE_ID)
        options.setdefault("evt_database", InMemoryEventDatabase())
        options.setdefault("url", smok_server.url)
        device = cls(str(certificate.cert), str(certificate.key), delayed_boot=True, **options)
        made.append(device)
        return device

    yield make
    for device in made:
        device.close()


@pytest.fixture
def device(make_device: Callable[..., SMOKDevice]) -> SMOKDevice:
    return make_device()
