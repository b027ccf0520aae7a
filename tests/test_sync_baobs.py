"""BAOBs between a device and the local server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.server import LocalServer
from smok_fast.sync.baobs import BAOBsTask
from smok_fast.sync.base import MAX_REJECTED, REFUSED_FOR, REJECTED_FOR
from smok_fast.testing import Admin


class Listening(SMOKDevice):
    """Notes which BAOBs came."""

    updated: tuple[str, ...] = ()

    def on_baob_updated(self, baob_name: str) -> None:
        self.updated += (baob_name,)
        raise ZeroDivisionError("what it raises is logged")


@pytest.fixture
def device(make_device: Callable[..., SMOKDevice]) -> Listening:
    device = make_device(Listening)
    assert isinstance(device, Listening)
    return device


@pytest.fixture
def task(device: SMOKDevice) -> BAOBsTask:
    return BAOBsTask(device)


def test_the_first_synchronization_downloads_and_tells_nobody(
    device: Listening, task: BAOBsTask, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    admin.set_baob("1", "theirs", b"\x00\xff", version=7)
    assert not device.baobs_loaded
    task.run()
    assert device.baobs_loaded
    assert (device.get_baob("theirs").value, device.get_baob("theirs").version) == (b"\x00\xff", 7)
    assert device.updated == ()
    admin.set_baob("1", "theirs", b"new")
    task.run()
    assert (device.get_baob("theirs").value, device.get_baob("theirs").version) == (b"new", 8)
    assert device.updated == ("theirs",)
    assert "ZeroDivisionError" in caplog.text
    task.run()
    assert device.updated == ("theirs",)


@pytest.mark.parametrize("key", ["plain", "a/b", "../../etc/passwd", "ż ó%2F?#", "a+b", "..."])
def test_any_key_goes_there_and_back(
    device: Listening, task: BAOBsTask, admin: Admin, key: str
) -> None:
    device.get_baob(key).value = b"mine"
    task.run()
    assert admin.baobs("1") == {key: 0}
    assert admin.baob("1", key) == b"mine"
    admin.set_baob("1", key, b"theirs")
    task.run()
    assert device.get_baob(key).value == b"theirs"
    admin.delete_baob("1", key)
    task.run()
    assert list(device.baob_database.get_all_keys()) == []


def test_the_higher_version_wins(device: Listening, task: BAOBsTask, admin: Admin) -> None:
    admin.set_baob("1", "k", b"theirs", version=5)
    device.get_baob("k").value = b"mine"
    task.run()
    assert device.get_baob("k").value == b"theirs"
    device.get_baob("k").value = b"mine again"
    task.run()
    assert admin.baob("1", "k") == b"mine again"
    assert admin.baobs("1") == {"k": 6}


@pytest.mark.parametrize("theirs", [2, 9])
def test_a_write_during_the_download_is_the_last_one_and_wins(
    device: Listening, task: BAOBsTask, admin: Admin, theirs: int
) -> None:
    device.get_baob("k").value = b"old"
    task.run()
    admin.set_baob("1", "k", b"theirs", version=theirs)
    get = device.api.get

    def write_meanwhile(path: str, **options: object) -> object:
        answer = get(path, **options)
        device.get_baob("k").value = b"mine"
        return answer

    device.api.get = write_meanwhile
    task.run()
    assert device.get_baob("k").value == b"mine"
    assert task.is_due(0), "it is compared again"
    device.api.get = get
    task.run()
    assert admin.baob("1", "k") == b"mine"
    assert device.get_baob("k").value == b"mine"
    assert device.updated == ()


def test_a_write_during_a_deletion_survives_it(
    device: Listening, task: BAOBsTask, admin: Admin
) -> None:
    device.get_baob("k").value = b"old"
    task.run()
    admin.delete_baob("1", "k")
    post = device.api.post

    def write_meanwhile(path: str, **options: object) -> object:
        answer = post(path, **options)
        device.get_baob("k").value = b"mine"
        return answer

    device.api.post = write_meanwhile
    task.run()
    device.api.post = post
    task.run()
    assert admin.baob("1", "k") == b"mine"


def test_a_transfer_that_the_server_refuses_does_not_stop_the_others(
    device: Listening, task: BAOBsTask, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("a", "b"):
        admin.set_baob("1", f"down-{key}", b"theirs")
        device.get_baob(f"up-{key}").value = b"mine"
    admin.fault("/v1/device/baobs/down-a", status=404)
    admin.fault("/v1/device/baobs/up-a", status=413)
    task.run()
    assert device.get_baob("down-b").value == b"theirs"
    assert device.get_baob("down-a").version == -1
    assert admin.baob("1", "up-b") == b"mine"
    assert "up-a" not in admin.baobs("1")
    assert device.get_baob("up-a").value == b"mine"
    assert len(caplog.records) == 2
    task.run()
    assert device.get_baob("down-a").value == b"theirs"
    assert "up-a" in admin.baobs("1")


def test_a_link_that_breaks_in_the_middle_costs_nothing(
    device: Listening, task: BAOBsTask, admin: Admin, smok_server: LocalServer
) -> None:
    admin.set_baob("1", "a", b"1")
    admin.set_baob("1", "b", b"2")
    admin.fault("/v1/device/baobs/b", drop=True)
    with pytest.raises(ResponseError):
        task.run()
    assert not device.baobs_loaded and task.is_due(0)
    device.get_baob("mine").value = b"3"
    smok_server.stop()
    with pytest.raises(ResponseError):
        task.run()
    smok_server.start()
    task.run()
    assert device.baobs_loaded
    assert sorted(device.baob_database.get_all_keys()) == ["a", "b", "mine"]
    assert admin.baob("1", "mine") == b"3"
    assert device.updated == ()


@pytest.mark.parametrize(
    "answer",
    ["{}", "[]", "null", '{"should_delete": [], "should_download": [], "should_upload": null}'],
)
def test_an_answer_that_makes_no_sense_changes_nothing(
    device: Listening, task: BAOBsTask, admin: Admin, answer: str
) -> None:
    device.get_baob("k").value = b"mine"
    admin.fault("/v1/device/baobs", body=answer)
    assert task.run() is False
    assert not device.baobs_loaded
    assert list(device.baob_database.get_all_keys()) == ["k"]


def test_keys_that_make_no_sense_are_skipped(
    device: Listening, task: BAOBsTask, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    device.get_baob("k").value = b"mine"
    admin.fault(
        "/v1/device/baobs",
        body='{"should_delete": [5, "unknown"], "should_download": ["..", ""],'
        '"should_upload": [null, "unknown", "k"]}',
    )
    task.run()
    assert list(device.baob_database.get_all_keys()) == ["k"]
    assert admin.baob("1", "k") == b"mine"
    assert len(caplog.records) == 5


def test_a_download_without_a_version_is_skipped(
    device: Listening, task: BAOBsTask, admin: Admin
) -> None:
    admin.set_baob("1", "k", b"theirs")
    admin.fault("/v1/device/baobs/k", body="theirs")
    task.run()
    assert list(device.baob_database.get_all_keys()) == []


#: A key that the server has no place for.
BAD = "a\0b"


def test_a_key_that_the_server_rejects_does_not_stop_the_others(
    device: Listening, admin: Admin, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    task = BAOBsTask(device, clock=clock)
    for number in range(5):
        device.get_baob(f"ours {number}").value = b"mine"
        admin.set_baob("1", f"theirs {number}", b"theirs")
        admin.set_baob("1", f"gone {number}", b"theirs")
    task.run()
    for number in range(5):
        admin.delete_baob("1", f"gone {number}")
    downloads = admin.fault("/v1/device/baobs/", delay=0.001, times=None, method="GET")
    device.get_baob(BAD).value = b"ours alone"
    device.get_baob("new").value = b"mine"
    admin.set_baob("1", "theirs 3", b"newer")
    admin.set_baob("1", "theirs 5", b"new")
    task.run()
    assert sorted(device.updated) == ["theirs 3", "theirs 5"]
    assert admin.fault_hits(downloads) == 2
    assert device.get_baob("theirs 3").value == b"newer"
    assert admin.baob("1", "new") == b"mine"
    assert {*admin.baobs("1"), BAD} == set(device.baob_database.get_all_keys())
    rejected = [record for record in caplog.records if "rejects the key" in record.getMessage()]
    assert len(rejected) == 1

    calls = admin.fault("/v1/device/baobs", delay=0.001, times=None)
    task.run()
    assert admin.fault_hits(calls) == 1, "the key is not offered"
    clock.advance(REJECTED_FOR)
    task.run()
    assert admin.fault_hits(calls) > 2, "the key is offered again"
    assert device.get_baob(BAD).value == b"ours alone"
    assert [record for record in caplog.records if "rejects the key" in record.getMessage()] == (
        rejected
    )


def test_a_device_with_none_but_rejected_keys_gets_what_the_server_has(
    device: Listening, task: BAOBsTask, admin: Admin
) -> None:
    admin.set_baob("1", "k", b"theirs")
    device.get_baob(BAD).value = b"mine"
    task.run()
    assert device.get_baob("k").value == b"theirs"
    admin.set_baob("1", "k", b"newer")
    task.run()
    assert device.get_baob("k").value == b"newer"


def test_many_rejected_keys_are_found_by_and_by(
    device: Listening, admin: Admin, clock: ManualClock
) -> None:
    task = BAOBsTask(device, clock=clock)
    admin.set_baob("1", "k", b"theirs")
    for number in range(MAX_REJECTED + 1):
        device.get_baob(f"\0{number}").value = b"mine"
    with pytest.raises(ResponseError):
        task.run()
    assert not task.is_due(clock()), "the server has to bear no more of that now"
    clock.advance(REFUSED_FOR)
    assert task.is_due(clock())
    task.run()
    assert device.get_baob("k").value == b"theirs"
