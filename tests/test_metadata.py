"""Plain metadata against the local server."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import DEVICE_ID, ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.extras import (
    BaseMetadataDatabase,
    InMemoryMetadataDatabase,
    PicklingMetadataDatabase,
)
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


# --- The next run of the program ------------------------------------------------------------------


class Own(BaseMetadataDatabase):
    """A database of a user's: no more than the abstract methods, and nothing outlives it."""

    def __init__(self) -> None:
        self.plain: dict[str, tuple[str, float]] = {}

    def put_plain(self, key: str, value: str, timestamp: float | None = None) -> None:
        self.plain[key] = (value, timestamp or 0.0)

    def get_plain(self, key: str) -> str:
        return self.plain[key][0]

    def update_plain(self, key: str, value: str, timestamp: float) -> None:
        self.plain[key] = (value, timestamp)

    def delete_plain(self, key: str) -> None:
        self.plain.pop(key, None)

    def get_all_plain(self) -> Iterator[tuple[str, str, float]]:
        return iter([(key, *rest) for key, rest in self.plain.items()])


def waiting(state: Path) -> list[tuple[str, str | None, float]]:
    """What another process finds in the file."""
    with closing(sqlite3.connect(state)) as connection:
        return connection.execute("SELECT * FROM metadata_writes ORDER BY rowid").fetchall()


def timestamp(device: SMOKDevice, key: str) -> float:
    return float(device.api.get(PATH + key)["timestamp"])


@pytest.mark.parametrize("database", ["state file", "pickle", "user's"])
def test_what_was_written_without_a_link_is_sent_by_the_next_run(
    database: str,
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    smok_server: LocalServer,
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"

    def start() -> SMOKDevice:
        own: BaseMetadataDatabase | None = None
        if database != "state file":
            own = Own() if database == "user's" else PicklingMetadataDatabase(tmp_path / "pickle")
        return make_device(evt_database=state, meta_database=own)

    admin.set_metadata("1", "gone", "theirs", timestamp=1.0)
    admin.set_metadata("1", "newer", "theirs", timestamp=1e12)
    smok_server.stop()
    device = start()
    device.metadata["name"] = "first"
    device.metadata["name"] = "second"
    device.metadata["newer"] = "mine"
    del device.metadata["gone"]
    with pytest.raises(ResponseError):
        MetadataTask(device).run()
    written = {key: when for key, _, when in waiting(state)}
    device.close()

    device = start()  # without a link again
    assert device.metadata["name"] == "second"
    assert device.metadata.get("gone", "gone") == "gone"
    device.metadata["later"] = "third"
    device.close()

    smok_server.start()
    calls = admin.fault(PATH, delay=0.001, times=None)
    device = start()
    MetadataTask(device).run()
    assert admin.fault_hits(calls) == 4
    assert admin.metadata("1") == {"name": "second", "newer": "theirs", "later": "third"}
    assert timestamp(device, "name") == written["name"]
    assert waiting(state) == []
    device.close()

    device = start()
    assert device.metadata.try_update() is False
    assert device.metadata["newer"] == "theirs"


def test_a_write_whose_answer_was_lost_is_sent_again_by_the_next_run(
    make_device: Callable[..., SMOKDevice], admin: Admin, tmp_path: Path
) -> None:
    device = make_device(evt_database=tmp_path / "state")
    device.metadata["name"] = "mine"
    lost = admin.fault(PATH, drop=True, handled=True)
    with pytest.raises(ResponseError):
        device.metadata.try_update()
    assert (admin.metadata("1"), admin.fault_hits(lost)) == ({"name": "mine"}, 1)
    device.close()
    calls = admin.fault(PATH, delay=0.001, times=None)
    device = make_device(evt_database=tmp_path / "state")
    device.metadata.try_update()
    assert (admin.metadata("1"), admin.fault_hits(calls)) == ({"name": "mine"}, 1)
    assert waiting(tmp_path / "state") == []


def test_a_write_that_the_server_rejects_waits_in_the_next_run_too(
    make_device: Callable[..., SMOKDevice], admin: Admin, tmp_path: Path
) -> None:
    rejected = admin.fault(PATH + "bad", status=413, times=2)
    for value in ("first", "first", None):
        device = make_device(evt_database=tmp_path / "state")
        if value is not None:
            device.metadata["bad"] = value
        device.metadata.try_update()
        device.close()
    assert admin.fault_hits(rejected) == 2
    assert admin.metadata("1") == {"bad": "first"}


#: Writes, and kills itself: at once, or between the server's answer and what comes after it.
VICTIM = """
import os, signal, sys
from smok_fast.client import SMOKDevice

cert, key, state, url, when = sys.argv[1:]
device = SMOKDevice(cert, key, state, url=url, delayed_boot=True)

def killed_after(call):
    def answered(*args, **options):
        call(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    return answered

if when == "before":
    device.metadata["name"] = "first"
    device.metadata["name"] = "second"
    device.metadata.updater.add_update("stamped", "third", 1000.5)
    del device.metadata["gone"]
    os.kill(os.getpid(), signal.SIGKILL)
device.api.put = killed_after(device.api.put)
device.metadata.try_update()
"""


def test_kill_9_loses_no_write_and_sends_again_what_may_not_have_arrived(
    make_device: Callable[..., SMOKDevice],
    device_certificate: Callable[..., Any],
    admin: Admin,
    smok_server: LocalServer,
    tmp_path: Path,
) -> None:
    made, state = device_certificate(DEVICE_ID), tmp_path / "state"
    admin.set_metadata("1", "gone", "theirs", timestamp=1.0)
    smok_server.stop()
    for when in ("before", "after"):
        victim = [sys.executable, "-c", VICTIM, made.cert, made.key, state, smok_server.url, when]
        run = subprocess.run(victim, check=False, timeout=60)
        assert run.returncode == -signal.SIGKILL
        assert [row[:2] for row in waiting(state)] == [
            ("name", "second"), ("stamped", "third"), ("gone", None),
        ]  # fmt: skip
        if when == "before":
            smok_server.start()
    assert admin.metadata("1") == {"name": "second", "gone": "theirs"}

    calls = admin.fault(PATH, delay=0.001, times=None)
    device = make_device(evt_database=state)
    device.metadata.try_update()
    assert admin.fault_hits(calls) == 3
    assert admin.metadata("1") == {"name": "second", "stamped": "third"}
    assert timestamp(device, "stamped") == 1000.5
    assert waiting(state) == []


def test_rows_of_writes_that_make_no_sense_stop_no_other_one(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = make_device(evt_database=tmp_path / "state")
    device.metadata["name"] = "mine"
    device.close()
    with closing(sqlite3.connect(tmp_path / "state", isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO metadata_writes VALUES ('..', 'x', 1), ('a', 5, 'x'), ('b', x'00', 1),"
            "(CAST(x'ff' AS TEXT), 'x', 1), ('c', 'x', 9e999)"
        )
    device = make_device(evt_database=tmp_path / "state")
    assert len([text for text in caplog.messages if "makes no sense" in text]) == 5
    device.metadata.try_update()
    assert admin.metadata("1") == {"name": "mine"}
