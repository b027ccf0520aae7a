"""Plain metadata against the local server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.extras import InMemoryMetadataDatabase
from smok_fast.metadata import PlainMetadata, StorageDict
from smok_fast.server import LocalServer
from smok_fast.sync.metadata import MetadataTask
from smok_fast.testing import Admin

PATH = "/v1/device/metadata/plain/"


def test_a_value_is_asked_for_once_in_a_while(
    device: SMOKDevice, admin: Admin, clock: ManualClock
) -> None:
    metadata = PlainMetadata(device, clock=clock)
    admin.set_metadata("1", "name", "boiler")
    assert metadata["name"] == "boiler"
    admin.set_metadata("1", "name", "stove")
    clock.advance(device.cache_metadata_for)
    assert metadata["name"] == "boiler"
    clock.advance(0.1)
    assert metadata["name"] == "stove"


def test_what_does_not_exist_is_a_key_error_or_the_default(
    device: SMOKDevice, admin: Admin
) -> None:
    with pytest.raises(KeyError):
        _ = device.metadata["nothing"]
    assert device.metadata.get("nothing") is None
    assert device.metadata.get("nothing", 5) == 5
    admin.set_metadata("1", "something", "x")
    assert device.metadata.get("something") == "x"


def test_what_the_server_deleted_is_gone_offline_too(
    device: SMOKDevice, admin: Admin, clock: ManualClock, smok_server: LocalServer
) -> None:
    metadata = PlainMetadata(device, clock=clock)
    admin.set_metadata("1", "name", "boiler")
    assert metadata["name"] == "boiler"
    admin.delete_metadata("1", "name")
    clock.advance(61)
    assert metadata.get("name") is None
    smok_server.stop()
    assert metadata.get("name") is None


def test_without_a_link_the_database_answers(
    device: SMOKDevice, admin: Admin, clock: ManualClock, smok_server: LocalServer
) -> None:
    metadata = PlainMetadata(device, clock=clock)
    admin.set_metadata("1", "name", "boiler")
    assert metadata["name"] == "boiler"
    smok_server.stop()
    clock.advance(61)
    assert metadata["name"] == "boiler"
    with pytest.raises(KeyError):
        _ = metadata["other"]


def test_nobody_is_asked_while_synchronization_is_not_allowed(
    make_device: Callable[..., SMOKDevice], admin: Admin
) -> None:
    database = InMemoryMetadataDatabase()
    database.put_plain("kept", "here")
    device = make_device(meta_database=database, allow_sync=False)
    asked = admin.fault(PATH, status=500, times=None)
    assert device.metadata["kept"] == "here"
    assert device.metadata.get("unknown") is None
    device.metadata["kept"] = "changed"
    assert device.metadata.try_update() is False
    assert admin.fault_hits(asked) == 0
    admin.remove_faults()
    device.allow_sync = True
    assert device.metadata.try_update() is True
    assert admin.metadata("1") == {"kept": "changed"}


@pytest.mark.parametrize("key", ["a/b", "ż ó", "50%", "a+b", "?x=1#y", "..."])
def test_any_key_reaches_the_server_as_it_is(device: SMOKDevice, admin: Admin, key: str) -> None:
    device.metadata[key] = 21.5
    device.metadata.try_update()
    assert admin.metadata("1") == {key: "21.5"}
    admin.set_metadata("1", key, "theirs")
    assert PlainMetadata(device)[key] == "theirs"
    del device.metadata[key]
    device.metadata.try_update()
    assert admin.metadata("1") == {}


@pytest.mark.parametrize("key", ["", ".", ".."])
def test_a_key_that_no_url_can_hold_is_refused(device: SMOKDevice, key: str) -> None:
    with pytest.raises(ValueError, match="part of a URL"):
        device.metadata[key] = "x"
    with pytest.raises(ValueError, match="part of a URL"):
        del device.metadata[key]
    with pytest.raises(ValueError, match="part of a URL"):
        device.metadata.get(key)


def test_what_was_written_counts_until_the_server_has_it(
    device: SMOKDevice, admin: Admin, clock: ManualClock
) -> None:
    metadata = PlainMetadata(device, clock=clock)
    admin.set_metadata("1", "name", "theirs")
    admin.set_metadata("1", "other", "theirs")
    metadata["name"] = "mine"
    del metadata["other"]
    clock.advance(1000)
    assert metadata["name"] == "mine"
    with pytest.raises(KeyError):
        _ = metadata["other"]
    metadata.try_update()
    assert admin.metadata("1") == {"name": "mine"}
    clock.advance(1000)
    assert metadata["name"] == "mine"
    assert metadata.get("other") is None


def test_of_several_writes_under_a_key_the_last_one_is_sent(
    device: SMOKDevice, admin: Admin
) -> None:
    calls = admin.fault(PATH, delay=0.001, times=None)
    device.metadata["name"] = "one"
    device.metadata["name"] = "two"
    del device.metadata["name"]
    device.metadata["name"] = "three"
    device.metadata.try_update()
    device.metadata.try_update()
    assert admin.metadata("1") == {"name": "three"}
    assert admin.fault_hits(calls) == 1


def test_a_write_during_the_sending_of_another_is_sent_next(
    device: SMOKDevice, admin: Admin
) -> None:
    put = device.api.put

    def write_meanwhile(path: str, **options: object) -> object:
        device.metadata["name"] = "second"
        return put(path, **options)

    device.metadata["name"] = "first"
    device.api.put = write_meanwhile
    device.metadata.try_update()
    device.api.put = put
    assert admin.metadata("1") == {"name": "first"}
    assert device.metadata["name"] == "second"
    device.metadata.try_update()
    assert admin.metadata("1") == {"name": "second"}


def test_a_newer_write_of_somebody_else_wins(device: SMOKDevice, admin: Admin) -> None:
    admin.set_metadata("1", "name", "theirs", timestamp=2000.0)
    device.metadata.updater.add_update("name", "mine", timestamp=1000.0)
    device.metadata.try_update()
    assert admin.metadata("1") == {"name": "theirs"}


def test_writes_wait_while_there_is_no_link(
    device: SMOKDevice, admin: Admin, smok_server: LocalServer
) -> None:
    task = MetadataTask(device)
    device.metadata["a"] = "1"
    device.metadata["b"] = "2"
    smok_server.stop()
    with pytest.raises(ResponseError):
        task.run()
    smok_server.start()
    assert task.is_due(0)
    task.run()
    assert task.answered
    assert admin.metadata("1") == {"a": "1", "b": "2"}
    task.run()
    assert not task.answered


def test_a_write_that_the_server_rejects_is_kept_and_does_not_hold_up_the_others(
    device: SMOKDevice, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    rejected = admin.fault(PATH + "bad", status=413, times=None)
    device.metadata["bad"] = "1"
    device.metadata["good"] = "2"
    device.metadata["unsendable"] = "\udc80"
    for _ in range(3):
        device.metadata.try_update()
    assert admin.metadata("1") == {"good": "2"}
    assert admin.fault_hits(rejected) == 1
    assert device.metadata["bad"] == "1"
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    device.metadata["bad"] = "3"  # another one, so it is offered at once
    device.metadata.try_update()
    assert admin.fault_hits(rejected) == 2


def test_a_refusal_of_everything_is_told_to_the_caller(device: SMOKDevice, admin: Admin) -> None:
    device.metadata["a"] = "1"
    admin.fault(PATH, status=401)
    with pytest.raises(ResponseError):
        device.metadata.try_update()
    device.metadata.try_update()
    assert admin.metadata("1") == {"a": "1"}


def test_deleting_what_the_server_does_not_have_is_done(device: SMOKDevice, admin: Admin) -> None:
    admin.fault(PATH, method="DELETE", status=404, times=None)
    del device.metadata["nothing"]
    assert device.metadata.try_update() is True
    assert device.metadata.try_update() is False


@pytest.mark.parametrize("answer", ["[]", "{}", '{"value": 5, "timestamp": 1}', '{"value": "x"}'])
def test_an_answer_that_makes_no_sense_is_no_answer(
    device: SMOKDevice, admin: Admin, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    device.meta_database.put_plain("name", "kept")
    admin.fault(PATH, body=answer)
    assert device.metadata["name"] == "kept"
    assert "Malformed metadata" in caplog.text


def test_a_download_does_not_undo_what_is_written_meanwhile(
    device: SMOKDevice, admin: Admin
) -> None:
    admin.set_metadata("1", "name", "theirs")
    metadata = device.metadata
    ask = device.api.get

    def write_while_asking(path: str) -> object:
        answer = ask(path)
        metadata["name"] = "mine"
        metadata.try_update()
        return answer

    device.api.get = write_while_asking
    assert metadata["name"] == "theirs"
    device.api.get = ask
    assert metadata["name"] == "mine"
    assert admin.metadata("1") == {"name": "mine"}


def test_one_write_can_be_sent_by_itself(device: SMOKDevice, admin: Admin) -> None:
    assert device.metadata.updater.try_update(("name", "x", 5.0)) is True
    assert admin.metadata("1") == {"name": "x"}


def test_a_storage_dict_never_leaves_the_device(device: SMOKDevice, admin: Admin) -> None:
    storage = StorageDict(device)
    storage["a"] = 5
    assert storage["a"] == "5"
    del storage["a"]
    with pytest.raises(KeyError):
        _ = storage["a"]
    assert device.metadata.try_update() is False
    assert admin.metadata("1") == {}
