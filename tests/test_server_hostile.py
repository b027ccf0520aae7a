"""Whatever comes, the server answers with a refusal at worst, and goes on."""

from __future__ import annotations

import base64
import copy
import gzip
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server_support import TIMEOUT, Device, new_device
from smok_fast import minijson
from smok_fast.server import LocalServer

EVENT = {
    "uuid": "6d1c8e9e-3c2b-4b8e-9d53-b5b0d9f7e001",
    "started_on": 1,
    "ended_on": 2,
    "color": 1,
    "alarm_type": 0,
    "token": "t",
    "group": "g",
    "message": "m",
    "metadata": {"a": "b"},
    "handled_by": "me",
}
WRITE = {
    "timestamp": 1,
    "who": "me",
    "hr_sensor": "s",
    "hr_value": "v",
    "fqts": "a b",
    "value": 1,
    "reason": "r",
}
MOMENT = {"day": 1, "hour": 2, "minute": 3}
#: A body that is right, for each call that takes one.
BODIES: dict[tuple[str, str], Any] = {
    ("PUT", "/v1/device/pathpoints"): [{"path": "W1", "storage_level": 1}],
    ("POST", "/v1/device/pathpoints"): [
        {"path": "W1", "values": [[1, 2], [3, 4.5], [5, "x"], [False, 6, "timeout"]]}
    ],
    ("POST", "/v1/device/alarms"): [EVENT],
    ("POST", "/v1/device/baobs"): [{"key": "k", "version": 1}],
    ("PATCH", "/v1/device/instrumentation/s"): {"linkstate": "{}", "instrumentation": ""},
    ("PUT", "/v1/device/metadata/plain/k"): {"value": "v", "unless_timestamp_higher": 1.5},
    ("PUT", "/v1/device/device_logs"): [
        {"service": "s", "when": 1, "message": "m", "level": 10},
        {
            "service": "s",
            "when": 2,
            "message": {
                "encoding": "base64-gzip",
                "content": base64.b64encode(gzip.compress(b"m")).decode(),
            },
            "level": 10,
        },
    ],
    ("PUT", "/v1/device/sensor/write_log"): [WRITE],
    ("PUT", "/admin/device"): {
        "verbose_name": "n",
        "facets": ["f"],
        "slaves": [{"device_id": "s", "configuration": ""}],
    },
    ("POST", "/admin/orders"): [{"orders": [{"type": "message", "uuid": "u"}], "disposition": 0}],
    ("PUT", "/admin/pathpoints"): [{"path": "W1", "storage_level": 1}],
    ("PUT", "/admin/archives"): [{"interval": 1, "pathpoints": ["W1"]}],
    ("PUT", "/admin/sensors"): [{"fqts": "a b", "path": "W1", "type": ""}],
    ("PUT", "/admin/predicates"): [
        {
            "predicate_id": "p",
            "statistic": "s",
            "configuration": {},
            "silencing": [{"start": MOMENT, "stop": MOMENT}],
        }
    ],
    ("PUT", "/admin/macros"): [
        {"macro_id": "m", "commands": [{"path": "W1", "value": 1}], "occurrences": [1, 2.5]}
    ],
    ("PUT", "/admin/metadata"): {"key": "k", "value": "v", "timestamp": 1},
    # A delay would work, and make the rest of the test wait.
    ("POST", "/admin/faults"): {"path": "/v1/none", "status": 500, "body_base64": "", "times": 1},
}
#: What shows all that is stored.
READABLE = [
    "v1/device",
    "v1/device/macro/occurrences/0-9",
    *(
        f"admin/{what}"
        for what in (
            "archives",
            "sensors",
            "predicates",
            "macros",
            "pathpoints",
            "slaves",
            "orders",
            "messages",
            "values",
            "conflicts",
            "events",
            "logs",
            "write_log",
            "baobs",
            "metadata",
            "faults",
        )
    ),
]
KEYS = sorted({"orders", "version", "delay", *EVENT, *WRITE, *MOMENT})
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**300, 10**600]),
    st.floats(),
    TEXTS,
    st.sampled_from(["\0", "W1", "r", "{}", "[", "NaN", "x" * 1001, "🌡" * 400]),
    st.binary(max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | TEXTS | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


@pytest.fixture
def device(server, device_certificate) -> Iterator[Device]:
    with new_device(server, device_certificate) as connection:
        yield connection


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a body there is something that could be something else."""
    yield above
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*above, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*above, index))


def replaced(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    body = copy.deepcopy(body)
    owner = body
    for step in place[:-1]:
        owner = owner[step]
    owner[place[-1]] = value
    return body


def read_all(device: Device) -> None:
    """Read back everything, in both encodings."""
    for what in READABLE:
        for accept in ("application/json", "application/minijson"):
            answer = device.get(
                f"/{what}",
                params={"device": device.device_id, "path": "W1"},
                headers={"Accept": accept},
            )
            assert answer.status_code == 200, answer.text


@pytest.fixture
def readable_device(device) -> Iterator[Device]:
    """A device of which everything can be read back after the test."""
    yield device
    read_all(device)


def test_the_bodies_below_are_right(server, device):
    server.admin.set_device(device.device_id, slaves=[{"device_id": "s"}])
    for (method, path), body in BODIES.items():
        answer = device.call(method, f"{path}?device={quote(device.device_id)}", body)
        assert answer.status_code < 300, (method, path, answer.text)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_body_with_anything_in_the_place_of_something_never_breaks_the_server(
    readable_device, data
):
    method, path = data.draw(st.sampled_from(sorted(BODIES)))
    place = data.draw(st.sampled_from(list(places(BODIES[method, path]))))
    body = replaced(BODIES[method, path], place, data.draw(VALUES))
    query = {"device": readable_device.device_id}
    try:
        answer = readable_device.call(method, path, body, params=query)
    except minijson.EncodingError:
        return
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code >= 400:
        assert answer.json()["status"]
    try:
        content = json.dumps(body)
    except TypeError:
        return
    headers = {"Content-Type": "application/json"}
    answer = readable_device.call(method, path, data=content, headers=headers, params=query)
    assert answer.status_code < 500, (content, answer.text)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=40), kind=st.sampled_from(["mini", "", "multipart"]))
def test_a_body_of_any_bytes_never_breaks_the_server(server, device, content, kind):
    content_type = {
        "mini": "application/minijson",
        "": "application/json",
        "multipart": "multipart/form-data; boundary=b",
    }[kind]
    method, path = (
        ("PUT", "/v1/device/baobs/k") if kind == "multipart" else ("POST", "/v1/device/alarms")
    )
    if kind == "multipart":
        content = b"--b\r\n" + content + b"\r\n\r\n" + content + b"\r\n--b--\r\n"
    answer = device.call(method, path, data=content, headers={"Content-Type": content_type})
    assert answer.status_code < 500


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_path_and_a_query_of_anything_never_break_the_server(server, device, data):
    index = requests.get(server.url + "/admin", timeout=TIMEOUT).json()
    call = data.draw(st.sampled_from(index))
    if call["path"] == "/admin/faults":
        return
    path = call["path"]
    for name in (
        "{key:path}",
        "{uuid:path}",
        "{slave_id:path}",
        "{macro_id:path}",
        "{timestamp}",
        "{window}",
    ):
        path = path.replace(name, quote(data.draw(TEXTS) or "x", safe=""))
    query = data.draw(
        st.dictionaries(
            st.sampled_from(["path", "after", "limit", "key", "version", "id"]), TEXTS, max_size=3
        )
    )
    query["device"] = device.device_id
    answer = device.call(call["method"], path, params=query)
    assert answer.status_code < 500, answer.text


def test_no_call_of_a_device_is_answered_without_a_certificate(server):
    index = requests.get(server.url + "/admin", timeout=TIMEOUT).json()
    calls = [call for call in index if call["path"].startswith("/v1/")]
    assert len(calls) >= 20
    for call in calls:
        path = call["path"].replace("{", "").replace("}", "")
        answer = requests.request(call["method"], server.url + path, timeout=TIMEOUT)
        assert answer.status_code == 401, call


def test_large_hostile_uploads_are_answered_in_bounded_time(server, device):
    write = {**WRITE, "reason": ""}
    answers = [
        device.put("/v1/device/sensor/write_log", [{**write, "value": n} for n in range(10_000)]),
        device.put(
            "/v1/device/device_logs",
            [{"service": "s", "when": 1, "message": str(n), "level": 1} for n in range(10_000)],
        ),
        device.post("/v1/device/alarms", [{**EVENT, "uuid": f"{n:032x}"} for n in range(10_000)]),
        device.upload("W1", *[[1, n] for n in range(10_000)]),
        device.put(
            "/v1/device/pathpoints", [{"path": f"W{n}", "storage_level": 0} for n in range(10_000)]
        ),
    ]
    assert [answer.status_code for answer in answers] == [204, 204, 200, 204, 200]
    assert max(answer.elapsed.total_seconds() for answer in answers) < TIMEOUT
    counts = server.admin.counts(device.device_id)
    assert (counts.sensor_writes, counts.logs, counts.events) == (10_000, 10_000, 10_000)
    assert (counts.samples, counts.conflicts) == (1, 9_999)


def test_base64_with_letters_beyond_ascii_is_refused(server, device):
    packed = {"encoding": "base64-gzip", "content": "ż"}
    log = [{"service": "s", "when": 1, "message": packed, "level": 10}]
    assert device.call("PUT", "/v1/device/device_logs", log).status_code == 400
    fault = {"path": "/v1/", "body_base64": "ż"}
    assert device.call("POST", "/admin/faults", fault).status_code == 400
