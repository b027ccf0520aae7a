"""The code sample that users are shown first, and what it says about reads, writes and orders."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from pathpoint_support import SOON, TIMEOUT, Scripted, ended, values
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import NotReadedError, OperationFailedError, OperationFailedReason
from smok_fast.pathpoint import AdviseLevel, Pathpoint, PathpointValueType


@pytest.fixture(autouse=True)
def files_of_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device_certificate: Callable[..., Any]
) -> None:
    certificate = device_certificate()
    shutil.copy(certificate.cert, tmp_path / "path to cert file")
    shutil.copy(certificate.key, tmp_path / "path to key file")
    monkeypatch.chdir(tmp_path)
    # Nobody listens there: the sample needs no server.
    monkeypatch.setenv("SMOK_BASE_URL", "http://127.0.0.1:9")


class MyDevice(SMOKDevice):
    def __init__(self) -> None:
        super().__init__("path to cert file", "path to key file", "path to pickle for predicates")


@pytest.fixture
def sd() -> Iterator[MyDevice]:
    with MyDevice() as device:
        yield device


@pytest.fixture
def pp(sd: MyDevice) -> Scripted:
    pathpoint = Scripted("W1", StorageLevel.TREND)
    sd.register_pathpoint(pathpoint)
    return pathpoint


def test_the_sample_runs_as_it_is_printed() -> None:
    class MyModbusRegister(Pathpoint):
        def on_read(advise: AdviseLevel) -> Future: ...  # noqa: N805 - as it is printed

        def on_write(value: PathpointValueType, advise: AdviseLevel) -> Future: ...  # noqa: N805

    sd = MyDevice()
    pp = MyModbusRegister("W1", StorageLevel.TREND)
    sd.register_pathpoint(pp)
    sd.close()
    assert sd.pathpoints == {"W1": pp}
    assert (pp.name, pp.storage_level, pp.device) == ("W1", StorageLevel.TREND, sd)


@pytest.mark.parametrize("reading", [7, lambda: ended(7)], ids=["value", "future"])
def test_what_on_read_gives_is_the_pathpoints_value(
    sd: MyDevice, pp: Scripted, reading: Any
) -> None:
    pp.reading = reading
    read_order = sd.execute(pp.read())
    assert read_order.result(SOON) is None
    assert pp.get()[1] == 7


@pytest.mark.parametrize("reading", [TIMEOUT, lambda: ended(TIMEOUT)], ids=["raised", "future"])
def test_a_failure_of_on_read_is_the_pathpoints_value(
    sd: MyDevice, pp: Scripted, reading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smok_fast.threads.execution.FIRST_PAUSE", 0.0)
    pp.reading = reading
    sd.execute(pp.read()).result(SOON)
    with pytest.raises(OperationFailedError) as raised:
        pp.get()
    assert raised.value.reason is OperationFailedReason.TIMEOUT
    assert values(pp) == [OperationFailedReason.TIMEOUT] * 3


@pytest.mark.parametrize("reading", [None, lambda: ended(None)], ids=["value", "future"])
def test_none_from_on_read_means_that_nothing_was_read(
    sd: MyDevice, pp: Scripted, reading: Any
) -> None:
    pp.reading = reading
    sd.execute(pp.read()).result(SOON)
    assert pp.log == [("read", "W1")]
    with pytest.raises(NotReadedError):
        pp.get()


@pytest.mark.parametrize(
    "writing",
    [None, lambda: ended(None), TIMEOUT, lambda: ended(TIMEOUT)],
    ids=["none", "future", "raised", "failing future"],
)
def test_a_write_ends_with_its_section_however_it_went(
    sd: MyDevice, pp: Scripted, writing: Any
) -> None:
    pp.writing = writing
    sd.execute(pp.write(5)).result(SOON)
    assert pp.log == [("write", "W1", 5)]


def test_a_section_can_be_cancelled_until_it_begins(sd: MyDevice, pp: Scripted) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> int:
        entered.set()
        assert go_on.wait(SOON)
        return 1

    pp.reading = hold
    running = sd.execute(pp.read())
    assert entered.wait(SOON)
    waiting = sd.execute(pp.write(1))
    assert running.cancel() is False
    assert waiting.cancel() is True
    go_on.set()
    assert running.result(SOON) is None
    sd.execute(pp.read()).result(SOON)
    assert ("write", "W1", 1) not in pp.log
    with pytest.raises(CancelledError):
        waiting.result(0)


def test_a_pathpoint_that_nobody_provides_is_skipped(sd: MyDevice, pp: Scripted) -> None:
    with pytest.raises(KeyError):
        sd.get_pathpoint("W2")
    section = Pathpoint("W2", StorageLevel.TREND).read()
    section += pp.read()
    sd.execute(section).result(SOON)
    assert pp.get()[1] == 1
