"""BAOBs as the user sees them, and who wins when the server writes too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smok_fast.baob import BAOB, replace_unless_changed, value_and_version
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import UnavailableError
from smok_fast.extras import InMemoryBAOBDatabase


def test_a_baob_comes_to_life_when_it_is_written_and_each_write_is_a_version(
    device: SMOKDevice,
) -> None:
    baob = BAOB(device, "config")
    assert baob.version == -1
    with pytest.raises(KeyError):
        _ = baob.value
    baob.value = b"one"
    assert (baob.version, baob.value) == (0, b"one")
    baob.value = b"two"
    assert (device.get_baob("config").version, device.get_baob("config").value) == (1, b"two")


def test_a_device_without_baobs_reads_them_but_does_not_write(
    make_device: Callable[..., SMOKDevice],
) -> None:
    database = InMemoryBAOBDatabase()
    database.set_baob_value("k", b"1", 3)
    baob = BAOB(make_device(baob_database=database, dont_do_baobs=True), "k")
    assert (baob.version, baob.value) == (3, b"1")
    with pytest.raises(UnavailableError):
        baob.value = b"2"
    assert baob.value == b"1"


@pytest.mark.parametrize("value", ["text", 5, None, [1]])
def test_what_is_not_bytes_is_refused(device: SMOKDevice, value: Any) -> None:
    baob = BAOB(device, "config")
    baob.value = b"one"
    with pytest.raises(TypeError, match="is bytes, not"):
        baob.value = value
    assert (baob.version, baob.value) == (0, b"one")


@pytest.mark.parametrize("key", ["", ".", ".."])
def test_a_key_that_no_url_can_hold_is_refused(device: SMOKDevice, key: str) -> None:
    with pytest.raises(ValueError, match="part of a URL"):
        BAOB(device, key).value = b"1"
    assert list(device.baob_database.get_all_keys()) == []


def test_a_key_that_is_no_text_is_refused(device: SMOKDevice) -> None:
    for key in (5, None):
        with pytest.raises(TypeError, match=f"is a text, not {key}"):
            BAOB(device, key).value = b"1"
        with pytest.raises(TypeError, match=f"is a text, not {key}"):
            device.metadata[key] = "1"
    assert list(device.baob_database.get_all_keys()) == []


def test_what_the_server_has_is_taken_over_if_nothing_was_written_meanwhile() -> None:
    database = InMemoryBAOBDatabase()
    assert replace_unless_changed(database, "k", -1, b"new", 4)
    assert value_and_version(database, "k") == (b"new", 4)
    assert replace_unless_changed(database, "k", 4, None, -1)
    assert list(database.get_all_keys()) == []
    assert replace_unless_changed(database, "k", -1, None, -1)


def test_what_the_device_wrote_meanwhile_stays_and_gets_a_version_above_the_servers() -> None:
    database = InMemoryBAOBDatabase()
    database.set_baob_value("k", b"mine", 2)
    assert not replace_unless_changed(database, "k", 1, b"theirs", 7)
    assert value_and_version(database, "k") == (b"mine", 8)
    assert not replace_unless_changed(database, "k", 1, b"theirs", 3)
    assert value_and_version(database, "k") == (b"mine", 8)
    assert not replace_unless_changed(database, "k", 1, None, -1)
    assert value_and_version(database, "k") == (b"mine", 8)


def test_what_was_deleted_meanwhile_does_not_come_back() -> None:
    database = InMemoryBAOBDatabase()
    assert not replace_unless_changed(database, "k", 1, b"theirs", 7)
    with pytest.raises(KeyError):
        value_and_version(database, "k")
