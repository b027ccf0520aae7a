from __future__ import annotations

import base64
import gzip
import json
import time
import uuid
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from server_support import Device, new_device, status
from smok_fast import minijson
from smok_fast.basics import DeviceInfo, StorageLevel
from smok_fast.exceptions import ResponseError
from smok_fast.server import LocalServer

#: Keys that are hard to put into a URL.
AWKWARD_KEYS = ["plain", "with space", "a/b/c", "/", "ends/", "100%", "a+b", "?q=1&x#y", "ż/🌡"]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


@pytest.fixture
def device(server, device_certificate) -> Iterator[Device]:
    with new_device(server, device_certificate) as connection:
        yield connection


def event(**changes: object) -> dict[str, object]:
    return {
        "started_on": 1700000000,
        "color": 2,
        "alarm_type": 0,
        "token": "t",
        "group": "g",
        "message": "m",
        "metadata": {"a": "b"},
        **changes,
    }


# Device


def test_a_new_device_is_known_from_its_first_call_on(server, device):
    assert device.device_id not in server.admin.devices()
    answer = device.get("/v1/device")
    assert answer.status_code == 200
    assert answer.json() == {
        "device_id": device.device_id,
        "verbose_name": device.device_id,
        "facets": [],
        "culture_context": {"timezone": "UTC", "units": "metric", "language": "en"},
        "slave_devices": [],
    }
    assert device.device_id in server.admin.devices()


def test_a_device_learns_how_it_was_described(server, device):
    admin = server.admin
    admin.set_device(device.device_id, verbose_name="Boiler", timezone="Europe/Warsaw")
    admin.set_device(
        device.device_id,
        units="imperial",
        language="pl",
        facets=["web", "sms"],
        slaves=[{"device_id": "s/1", "configuration": "{}"}, {"device_id": "s2"}],
    )
    info = DeviceInfo.from_json(device.get("/v1/device").json())
    assert (info.verbose_name, info.timezone) == ("Boiler", "Europe/Warsaw")
    assert (info.units, info.language, info.facets) == ("imperial", "pl", {"web", "sms"})
    assert [slave.to_json() for slave in info.slaves] == [
        {
            "device_id": slave_id,
            "master_controller": device.device_id,
            "responsible_service": "rapid",
            "configuration": configuration,
        }
        for slave_id, configuration in [("s/1", "{}"), ("s2", "")]
    ]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"colour": "red"}, "a device has no 'colour'"),
        ({"verbose_name": 5}, "verbose_name must be a text"),
        ({"facets": "web"}, "facets must be a list"),
        ({"slaves": [{}]}, "slaves[0] lacks 'device_id'"),
        ({"slaves": [{"device_id": "1"}, {"device_id": "1"}]}, "the same device_id twice"),
    ],
)
def test_a_wrong_description_is_refused(server, device, fields, complaint):
    with pytest.raises(ResponseError) as refused:
        server.admin.set_device(device.device_id, **fields)
    assert refused.value.status_code == 400
    assert complaint in refused.value.status


def test_instrumentation_of_a_slave_is_kept_while_the_list_of_slaves_changes(server, device):
    url = f"/v1/device/instrumentation/{quote('s/1', safe='')}"
    server.admin.set_device(device.device_id, slaves=[{"device_id": "s/1"}])
    assert device.get(url).json() == {"linkstate": "{}", "instrumentation": ""}
    linkstate = json.dumps({"status": False, "failed_devices": [3]})
    assert device.patch(url, {"linkstate": linkstate}).status_code == 204
    assert device.patch(url, {"instrumentation": "hot"}).status_code == 204
    server.admin.set_device(device.device_id, slaves=[{"device_id": "0"}, {"device_id": "s/1"}])
    assert device.get(url).json() == {"linkstate": linkstate, "instrumentation": "hot"}
    slaves = server.admin.slaves(device.device_id)
    assert [(s["device_id"], s["instrumentation"]) for s in slaves] == [("0", ""), ("s/1", "hot")]


def test_instrumentation_of_an_unknown_slave_is_not_found(device):
    answers = [
        device.get("/v1/device/instrumentation/s9"),
        device.patch("/v1/device/instrumentation/s9", {"instrumentation": ""}),
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert status(answers[0]) == "there is no slave 's9'"


@pytest.mark.parametrize(
    "body",
    [[], {}, {"linkstate": {}}, {"linkstate": "{"}, {"linkstate": "[]"}, {"instrumentation": 1}],
)
def test_wrong_instrumentation_is_refused(server, device, body):
    server.admin.set_device(device.device_id, slaves=[{"device_id": "1"}])
    assert device.patch("/v1/device/instrumentation/1", body).status_code == 400


# Orders


def test_orders_are_handed_out_once_in_their_order(server, device, device_certificate):
    sections = [
        {"orders": [{"type": "write", "path": "W1", "value": n}], "disposition": n % 2}
        for n in range(5)
    ]
    server.admin.queue_orders(device.device_id, sections[:2])
    server.admin.queue_orders(device.device_id, sections[2:])
    assert server.admin.pending_orders(device.device_id) == sections
    with new_device(server, device_certificate) as other:
        assert other.post("/v1/device/orders").json() == []
    assert device.post("/v1/device/orders").json() == sections
    assert device.post("/v1/device/orders").json() == []
    assert server.admin.pending_orders(device.device_id) == []


def test_anything_can_be_queued_as_an_order(server, device):
    odd = [None, 5, {}, {"orders": 7}, {"orders": [None, {"type": "nonsense"}], "disposition": "x"}]
    server.admin.queue_orders(device.device_id, odd)
    assert device.post("/v1/device/orders", []).json() == odd


def test_a_message_is_confirmed_and_may_be_confirmed_again(server, device):
    message = str(uuid.uuid4())
    server.admin.queue_orders(
        device.device_id, [{"orders": [{"type": "message", "uuid": message}], "disposition": 0}]
    )
    assert server.admin.messages(device.device_id) == {message: None}
    before = time.time()
    for _ in range(2):
        answer = device.post(f"/v1/device/orders/message/{message}")
        assert (answer.status_code, answer.content) == (204, b"")
    confirmed = server.admin.messages(device.device_id)[message]
    assert confirmed is not None
    assert before <= confirmed <= time.time()


def test_an_unknown_message_is_not_found(device):
    answer = device.post("/v1/device/orders/message/nope")
    assert (answer.status_code, status(answer)) == (404, "there is no message 'nope'")


# Pathpoints, archives, sensors


def test_registering_pathpoints_answers_with_all_that_the_server_knows(server, device):
    server.admin.set_archives(device.device_id, [{"interval": 0.5, "pathpoints": ["rW{W1}", "W9"]}])
    answer = device.put("/v1/device/pathpoints", [{"path": "W1", "storage_level": 0}])
    assert answer.status_code == 200
    assert answer.json() == [
        {"path": "rW{W1}", "storage_level": 1},
        {"path": "W9", "storage_level": 1},
        {"path": "W1", "storage_level": 0},
    ]
    assert device.put("/v1/device/pathpoints", []).json() == answer.json()


def test_a_device_may_change_a_storage_level_unless_an_administrator_has_set_it(server, device):
    def register(level: StorageLevel) -> int:
        body = [{"path": "W1", "storage_level": level}]
        return device.put("/v1/device/pathpoints", body).json()[0]["storage_level"]

    assert register(StorageLevel.TREND) == StorageLevel.TREND
    assert register(StorageLevel.PERMANENT) == StorageLevel.PERMANENT
    server.admin.set_pathpoints(device.device_id, {"W1": StorageLevel.TREND})
    assert register(StorageLevel.PERMANENT) == StorageLevel.TREND
    assert server.admin.pathpoints(device.device_id) == {"W1": StorageLevel.TREND}


@pytest.mark.parametrize(
    "body",
    [
        {},
        [{"path": "W1"}],
        [{"path": "W1", "storage_level": 2}],
        [{"path": "W1", "storage_level": "1"}],
        [{"path": "Q", "storage_level": 1}],
        [{"path": "", "storage_level": 1}],
    ],
)
def test_wrong_pathpoints_are_refused(server, device, body):
    assert device.put("/v1/device/pathpoints", body).status_code == 400
    assert server.admin.pathpoints(device.device_id) == {}


def test_archives_are_what_was_set_last(server, device):
    assert device.get("/v1/device/pathpoints/archived").json() == []
    archives = [{"interval": 60, "pathpoints": ["W1", "W2"]}, {"interval": 0.1, "pathpoints": []}]
    server.admin.set_archives(device.device_id, [{"interval": 1, "pathpoints": ["f3"]}])
    server.admin.set_archives(device.device_id, archives)
    assert device.get("/v1/device/pathpoints/archived").json() == archives


@pytest.mark.parametrize("interval", [0, -1, "1", None, True])
def test_an_archive_with_a_wrong_interval_is_refused(server, device, interval):
    with pytest.raises(ResponseError, match="400"):
        server.admin.set_archives(device.device_id, [{"interval": interval, "pathpoints": []}])


def test_sensors_have_their_tags_in_order(server, device):
    server.admin.set_sensors(
        device.device_id,
        [{"fqts": " temperature  boiler 1 ", "path": "W1~W2", "type": "std.Number10"}],
    )
    assert device.get("/v1/device/sensors").json() == [
        {"fqts": "1 boiler temperature", "path": "W1~W2", "type": "std.Number10"}
    ]


def test_the_answer_comes_in_minijson_for_who_asks_for_it(server, device):
    server.admin.set_archives(device.device_id, [{"interval": 1.5, "pathpoints": ["W1"]}])
    answer = device.get(
        "/v1/device/pathpoints/archived", headers={"Accept": "application/minijson"}
    )
    assert answer.headers["Content-Type"] == "application/minijson"
    assert minijson.loads(answer.content) == [{"interval": 1.5, "pathpoints": ["W1"]}]
    refusal = device.get("/v1/device/baobs/x", headers={"Accept": "application/minijson"})
    assert minijson.loads(refusal.content) == {"status": "there is no BAOB 'x'"}


# Predicates and events


def test_predicates_are_completed_and_handed_out(server, device):
    silence = {
        "start": {"day": 1, "hour": 0, "minute": 0},
        "stop": {"day": 7, "hour": 23, "minute": 59},
    }
    server.admin.set_predicates(
        device.device_id,
        [
            {"predicate_id": "p1", "statistic": "over", "configuration": {"limit": 5.5}},
            {
                "predicate_id": "p2",
                "statistic": "s",
                "online": False,
                "verbose_name": "P",
                "group": "G",
                "silencing": [silence],
            },
        ],
    )
    assert device.get("/v1/device/predicates").json() == [
        {
            "predicate_id": "p1",
            "online": True,
            "statistic": "over",
            "configuration": {"limit": 5.5},
            "verbose_name": "p1",
            "group": "",
            "silencing": [],
        },
        {
            "predicate_id": "p2",
            "online": False,
            "statistic": "s",
            "configuration": {},
            "verbose_name": "P",
            "group": "G",
            "silencing": [silence],
        },
    ]


@pytest.mark.parametrize(
    "predicate",
    [
        {"statistic": "s"},
        {"predicate_id": "p"},
        {"predicate_id": "p", "statistic": "s", "online": 1},
        {"predicate_id": "p", "statistic": "s", "silencing": [{"start": {}}]},
        {
            "predicate_id": "p",
            "statistic": "s",
            "silencing": [{"start": {"day": 0, "hour": 0, "minute": 0}, "stop": {}}],
        },
    ],
)
def test_a_wrong_predicate_is_refused(server, device, predicate):
    with pytest.raises(ResponseError, match="400"):
        server.admin.set_predicates(device.device_id, [predicate])


def test_events_get_uuids_in_their_order(server, device):
    answer = device.post("/v1/device/alarms", [event(token="a"), event(token="b")])
    uuids = [row["uuid"] for row in answer.json()]
    assert len({uuid.UUID(text) for text in uuids}) == 2
    kept = server.admin.events(device.device_id)
    assert [(e["uuid"], e["token"]) for e in kept] == [(uuids[0], "a"), (uuids[1], "b")]
    assert kept[0] == event(token="a", uuid=uuids[0])


def test_an_event_that_comes_again_is_the_same_event_brought_up_to_date(server, device):
    known = device.post("/v1/device/alarms", [event(message="first")]).json()[0]["uuid"]
    changed = event(uuid=known, message="second", color=1, ended_on=1700000100, handled_by="me")
    for _ in range(2):
        assert device.post("/v1/device/alarms", [changed]).json() == [{"uuid": known}]
    assert server.admin.events(device.device_id) == [changed]


def test_an_event_that_has_ended_is_not_opened_again_by_an_older_state_of_it(server, device):
    own = uuid.uuid4().hex
    device.post("/v1/device/alarms", [event(uuid=own, ended_on=5.5)])
    device.post("/v1/device/alarms", [event(uuid=own)])
    assert server.admin.events(device.device_id) == [event(uuid=own, ended_on=5.5)]


def test_an_event_is_known_by_its_provisional_uuid_too(server, device, device_certificate):
    def post(header, *events, by=device):
        by.session.headers["X-SMOK-Provisional-UUIDs"] = header
        return by.post("/v1/device/alarms", list(events))

    own = uuid.uuid4()
    first = post(own.hex, event()).json()
    # In another form, among others, and changed
    others = [event(uuid=str(uuid.uuid4())), event(token="new")]
    answer = post(f",{own}, ", others[0], event(ended_on=9), others[1]).json()
    assert answer[1:2] == first
    assert answer[0] == {"uuid": others[0]["uuid"]}
    kept = server.admin.events(device.device_id)
    assert kept == [
        event(uuid=first[0]["uuid"], ended_on=9),
        others[0],
        event(uuid=answer[2]["uuid"], token="new"),
    ]
    assert post("", event()).json() not in (first, answer)
    # The UUID in the body counts, and another device's events are others
    assert post(own.hex, event(uuid=others[0]["uuid"])).json() == answer[:1]
    with new_device(server, device_certificate) as other:
        assert post(own.hex, event(), by=other).json() != first


@pytest.mark.parametrize("header", ["x", ",", "00", "a" * 32 + "," + "b" * 32])
def test_provisional_uuids_that_make_no_sense_are_refused(server, device, header):
    device.session.headers["X-SMOK-Provisional-UUIDs"] = header
    refusal = device.post("/v1/device/alarms", [event()])
    assert refusal.status_code == 400
    assert "X-SMOK-Provisional-UUIDs" in status(refusal)
    assert server.admin.events(device.device_id) == []


def test_an_event_twice_in_one_call_is_one_event(server, device):
    own = str(uuid.uuid4())
    both = [event(uuid=own), event(uuid=own, ended_on=9)]
    assert device.post("/v1/device/alarms", both).json() == [{"uuid": own}] * 2
    assert server.admin.events(device.device_id) == [event(uuid=own, ended_on=9)]


@pytest.mark.parametrize(
    "changes",
    [
        {"color": 3},
        {"color": "RED"},
        {"alarm_type": 2},
        {"started_on": "now"},
        {"started_on": float("nan")},
        {"started_on": -1},
        {"ended_on": "later"},
        {"token": None},
        {"metadata": []},
        {"metadata": {1: b"bytes"}},
        {"uuid": "nonsense"},
        {"uuid": 5},
        {"handled_by": 5},
    ],
)
def test_a_wrong_event_is_refused(server, device, changes):
    answer = device.post("/v1/device/alarms", [event(), event(**changes)])
    assert answer.status_code == 400
    assert status(answer).startswith("[1].")
    assert server.admin.events(device.device_id) == []


# Macros


def test_macros_of_the_window_are_handed_out_and_reported_as_done(server, device):
    commands = [{"path": "W1", "value": 5}, {"path": "u1", "value": "x"}]
    server.admin.set_macros(
        device.device_id,
        [
            {"macro_id": "m/1", "commands": commands, "occurrences": [300, 100, 200.5]},
            {"macro_id": "late", "commands": [], "occurrences": [9999]},
        ],
    )
    url = "/v1/device/macro/occurrences/100-299"

    def window(*completed: bool) -> list[dict[str, object]]:
        occurrences = [
            {"timestamp": timestamp, "completed": done}
            for timestamp, done in zip((100, 200.5), completed, strict=True)
        ]
        return [{"macro_id": "m/1", "commands": commands, "occurrences": occurrences}]

    assert device.get(url).json() == window(False, False)
    for timestamp in ("100", "100.0", "200.5"):
        answer = device.post(f"/v1/device/macros/{quote('m/1', safe='')}/{timestamp}")
        assert (answer.status_code, answer.content) == (204, b"")
    assert device.get(url).json() == window(True, True)
    assert server.admin.done_macros(device.device_id) == [("m/1", 100), ("m/1", 200.5)]
    reports = [o["reports"] for o in server.admin.macros(device.device_id)[0]["occurrences"]]
    assert reports == [2, 1, 0]


def test_macros_that_are_set_again_keep_what_is_done(server, device):
    macro = {"macro_id": "m", "commands": [], "occurrences": [1, 2]}
    server.admin.set_macros(device.device_id, [macro])
    device.post("/v1/device/macros/m/1")
    server.admin.set_macros(device.device_id, [{**macro, "occurrences": [1, 3]}])
    assert server.admin.done_macros(device.device_id) == [("m", 1)]
    server.admin.set_macros(device.device_id, [])
    assert server.admin.macros(device.device_id) == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/v1/device/macros/none/1", 404),
        ("/v1/device/macros/m/2", 404),
        ("/v1/device/macros/m/soon", 400),
        ("/v1/device/macros/m/nan", 400),
        ("/v1/device/macros/m", 404),
    ],
)
def test_a_macro_that_does_not_occur_cannot_be_done(server, device, url, code):
    server.admin.set_macros(
        device.device_id, [{"macro_id": "m", "commands": [], "occurrences": [1]}]
    )
    assert device.post(url).status_code == code
    assert server.admin.done_macros(device.device_id) == []


@pytest.mark.parametrize("window", ["5-4", "5", "a-b", "1.5-2", "-5-5", "1-" + "9" * 400])
def test_a_wrong_window_is_refused(device, window):
    assert device.get(f"/v1/device/macro/occurrences/{window}").status_code == 400


# BAOBs


def upload_baob(device: Device, key: str, version: object, content: bytes) -> int:
    files = {"file": content, "data": json.dumps({"version": version}).encode()}
    url = f"/v1/device/baobs/{quote(key, safe='')}"
    return device.put(url, files=files).status_code


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_a_baob_under_any_key_comes_back_as_it_was_uploaded(server, device, key):
    content = bytes(range(256)) * 20
    assert upload_baob(device, key, 3, content) == 204
    answer = device.get(f"/v1/device/baobs/{quote(key, safe='')}")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["X-SMOK-BAOB-Version"] == "3"
    assert server.admin.baobs(device.device_id) == {key: 3}
    assert server.admin.baob(device.device_id, key) == content


def test_parts_of_an_upload_may_come_as_fields_too(server, device):
    boundary = (
        b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{"version": 1}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n\xff\x00\r\n\xfe\r\n--b--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert device.put("/v1/device/baobs/k", data=boundary, headers=headers).status_code == 204
    assert server.admin.baob(device.device_id, "k") == b"\xff\x00\r\n\xfe"


def test_a_large_baob_is_kept(server, device):
    content = b"\x00\xff\r\n" * 1_000_000
    assert upload_baob(device, "big", 0, content) == 204
    assert device.get("/v1/device/baobs/big").content == content


def test_only_a_newer_version_of_a_baob_is_taken(server, device):
    assert upload_baob(device, "k", 1, b"one") == 204
    assert upload_baob(device, "k", 1, b"one") == 204
    assert upload_baob(device, "k", 1, b"other") == 409
    assert upload_baob(device, "k", 0, b"older") == 409
    assert server.admin.baob(device.device_id, "k") == b"one"
    assert upload_baob(device, "k", 7, b"seven") == 204
    assert server.admin.baobs(device.device_id) == {"k": 7}


def test_versions_decide_what_is_deleted_downloaded_and_uploaded(server, device):
    admin = server.admin
    admin.set_baob(device.device_id, "server only", b"a")
    admin.set_baob(device.device_id, "server newer", b"b", version=5)
    admin.set_baob(device.device_id, "same", b"c", version=2)
    admin.set_baob(device.device_id, "device newer", b"d", version=3)
    for key in ("deleted", "deleted, then changed", "deleted here and there"):
        admin.set_baob(device.device_id, key, b"e", version=4)
        admin.delete_baob(device.device_id, key)
    held = {
        "server newer": 4,
        "same": 2,
        "device newer": 4,
        "deleted": 4,
        "deleted, then changed": 5,
        "device only": 0,
        "not there after all": -1,
    }
    answer = device.post(
        "/v1/device/baobs", [{"key": key, "version": version} for key, version in held.items()]
    )
    assert answer.json() == {
        "should_delete": ["deleted"],
        "should_download": ["server newer", "server only"],
        "should_upload": ["device newer", "deleted, then changed", "device only"],
    }


def test_a_deleted_baob_is_gone_until_a_newer_version_comes(server, device):
    upload_baob(device, "k", 2, b"two")
    server.admin.delete_baob(device.device_id, "k")
    assert device.get("/v1/device/baobs/k").status_code == 404
    assert upload_baob(device, "k", 2, b"two") == 409
    assert upload_baob(device, "k", 3, b"three") == 204
    assert device.get("/v1/device/baobs/k").content == b"three"
    with pytest.raises(ResponseError, match="404"):
        server.admin.delete_baob(device.device_id, "never there")


def test_a_baob_set_by_an_administrator_gets_the_next_version(server, device):
    versions = [server.admin.set_baob(device.device_id, "k", b"x") for _ in range(3)]
    assert versions == [0, 1, 2]
    server.admin.delete_baob(device.device_id, "k")
    assert server.admin.set_baob(device.device_id, "k", b"y") == 3


@pytest.mark.parametrize(
    ("data", "content_type", "code"),
    [
        (b"", "multipart/form-data", 400),
        (b"", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n", "multipart/form-data; boundary=b", 400),
        (b"\xff" * 100, "multipart/form-data; boundary=b", 400),
        (b"{}", "application/json", 415),
        (b"x", "", 415),
    ],
)
def test_a_malformed_upload_of_a_baob_is_refused(server, device, data, content_type, code):
    answer = device.put("/v1/device/baobs/k", data=data, headers={"Content-Type": content_type})
    assert answer.status_code == code
    assert server.admin.baobs(device.device_id) == {}


@pytest.mark.parametrize("version", [-1, "1", None, 1.5, True, 2**63])
def test_a_baob_with_a_wrong_version_is_refused(device, version):
    assert upload_baob(device, "k", version, b"") == 400


def test_an_upload_that_is_cut_short_is_refused(server, device):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{"version": 1}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhalf of it'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert device.put("/v1/device/baobs/k", data=body, headers=headers).status_code == 400
    assert server.admin.baobs(device.device_id) == {}


# Metadata


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_metadata_under_any_key_is_set_read_and_deleted(server, device, key):
    url = f"/v1/device/metadata/plain/{quote(key, safe='')}"
    assert device.get(url).status_code == 404
    assert device.put(url, {"value": "zażółć", "unless_timestamp_higher": 5.5}).status_code == 204
    assert device.get(url).json() == {"value": "zażółć", "timestamp": 5.5}
    assert server.admin.metadata(device.device_id) == {key: "zażółć"}
    assert device.delete(url).status_code == 204
    assert device.get(url).status_code == 404
    assert device.delete(url).status_code == 204


def test_newer_metadata_is_not_overwritten(server, device):
    url = "/v1/device/metadata/plain/k"
    server.admin.set_metadata(device.device_id, "k", "by admin", timestamp=100)
    assert device.put(url, {"value": "old", "unless_timestamp_higher": 99.9}).status_code == 204
    assert device.get(url).json() == {"value": "by admin", "timestamp": 100}
    device.put(url, {"value": "same time", "unless_timestamp_higher": 100})
    assert device.get(url).json()["value"] == "same time"
    device.put(url, {"value": "now"})
    assert device.get(url).json()["timestamp"] == pytest.approx(time.time(), abs=60)
    server.admin.delete_metadata(device.device_id, "k")
    assert device.get(url).status_code == 404


@pytest.mark.parametrize(
    "body",
    [[], {}, {"value": 5}, {"value": "x", "unless_timestamp_higher": "1"}, {"value": "\0"}],
)
def test_wrong_metadata_is_refused(server, device, body):
    assert device.put("/v1/device/metadata/plain/k", body).status_code == 400
    assert server.admin.metadata(device.device_id) == {}


# Logs


def log(when: int, message: object = "m", service: str = "s", **more: object) -> dict[str, object]:
    return {"service": service, "when": when, "message": message, "level": 20, **more}


def test_logs_are_kept_with_all_they_have(server, device):
    records = [log(1), log(2, exception_text="boom", exception_traceback="YQ==")]
    assert device.put("/v1/device/device_logs", records).status_code == 204
    kept = server.admin.logs(device.device_id)
    assert kept == [{**record, "in_order": True} for record in records]


def test_logs_that_come_again_are_kept_once(server, device):
    for batch in ([log(1), log(2)], [log(1), log(2), log(3)], [log(3)]):
        assert device.put("/v1/device/device_logs", batch).status_code == 204
    assert [record["when"] for record in server.admin.logs(device.device_id)] == [1, 2, 3]
    assert server.admin.counts(device.device_id).logs_out_of_order == 0


def test_logs_that_do_not_rise_within_their_service_are_kept_and_counted(server, device):
    device.put("/v1/device/device_logs", [log(5), log(5, "same time"), log(4), log(6)])
    device.put("/v1/device/device_logs", [log(3, service="other"), log(6, "late")])
    kept = [(r["when"], r["service"], r["in_order"]) for r in server.admin.logs(device.device_id)]
    assert kept == [
        (5, "s", True),
        (5, "s", False),
        (4, "s", False),
        (6, "s", True),
        (3, "other", True),
        (6, "s", False),
    ]
    counts = server.admin.counts(device.device_id)
    assert (counts.logs, counts.logs_out_of_order) == (6, 3)


def packed(content: bytes) -> dict[str, str]:
    return {
        "encoding": "base64-gzip",
        "content": base64.b64encode(gzip.compress(content)).decode(),
    }


def test_a_packed_message_is_unpacked(server, device):
    text = "zażółć " * 1000
    device.put("/v1/device/device_logs", [log(1, packed(text.encode()))])
    assert server.admin.logs(device.device_id)[0]["message"] == text


def test_messages_that_unpack_to_too_much_are_refused(server, device):
    bomb = packed(b"a" * 40_000_000)
    answer = device.put("/v1/device/device_logs", [log(1, bomb), log(2, bomb)])
    assert answer.status_code == 413
    assert server.admin.logs(device.device_id) == []


@pytest.mark.parametrize(
    "record",
    [
        5,
        {},
        log(-1),
        log(2**63),
        log(1.5),
        log(1, None),
        log(1, {}),
        log(1, {"encoding": "rot13", "content": "a"}),
        log(1, {"encoding": "base64-gzip"}),
        log(1, {"encoding": "base64-gzip", "content": "***"}),
        log(1, {"encoding": "base64-gzip", "content": "YWJj"}),
        log(1, {"encoding": "base64-gzip", "content": packed(b"abc" * 99)["content"][:-8]}),
        log(1, packed(b"\xff")),
        log(1, service=5),
        log(1, level="INFO"),
        log(1, extra=b"bytes"),
    ],
)
def test_a_wrong_log_record_is_refused(server, device, record):
    answer = device.put("/v1/device/device_logs", [log(1), record])
    assert answer.status_code == 400
    assert status(answer).startswith("[1]")
    assert server.admin.logs(device.device_id) == []


def test_sensor_writes_are_kept_once(server, device):
    write = {
        "timestamp": 1700000000000,
        "who": "me",
        "hr_sensor": "Set point",
        "hr_value": "5 °C",
        "fqts": "point set",
        "value": "5",
        "reason": "cold",
    }
    second = {**write, "value": 6}
    for batch in ([write], [write, second], []):
        assert device.put("/v1/device/sensor/write_log", batch).status_code == 204
    assert server.admin.sensor_writes(device.device_id) == [write, second]
    assert device.put("/v1/device/sensor/write_log", [{**write, "who": 5}]).status_code == 400
    del write["reason"]
    assert device.put("/v1/device/sensor/write_log", [write]).status_code == 400


# In general


@pytest.mark.parametrize(
    ("method", "url", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v1/device/", 404),
        ("GET", "/v1/device/nothing", 404),
        ("POST", "/v1/device", 405),
        ("DELETE", "/v1/device/baobs/k", 405),
    ],
)
def test_a_call_that_does_not_exist_is_refused_with_a_status(device, method, url, code):
    answer = device.call(method, url)
    assert answer.status_code == code
    assert url in status(answer)
