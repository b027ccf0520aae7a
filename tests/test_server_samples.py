from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server_support import Device, new_device, status
from smok_fast.server import LocalServer
from smok_fast.testing import Sample

UPLOAD = "/v1/device/pathpoints"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


@pytest.fixture
def device(server, device_certificate) -> Iterator[Device]:
    with new_device(server, device_certificate) as connection:
        yield connection


def test_samples_are_read_back_with_their_types_in_order_of_time(server, device):
    answer = device.upload("W1", [3000, "7"], [1000, 7], [2000, 7.0], [4000, -1.5e-300])
    assert (answer.status_code, answer.content) == (204, b"")
    values = server.admin.values(device.device_id, "W1")
    assert values == [
        (1000, 7, None),
        (2000, 7.0, None),
        (3000, "7", None),
        (4000, -1.5e-300, None),
    ]
    assert [type(sample.value) for sample in values] == [int, float, str, float]


def test_values_at_the_edges_are_kept_exactly(server, device):
    edges = [2**63 - 1, -(2**63), 0.1, -0.0, 5e-324, 1.7976931348623157e308, "", "zażółć 🌡 \"'\\\n"]
    device.upload("d1", *[[position, value] for position, value in enumerate(edges)])
    kept = [sample.value for sample in server.admin.values(device.device_id, "d1")]
    assert list(map(repr, kept)) == list(map(repr, edges))


def test_values_that_json_lacks_are_kept(server, device):
    device.upload("f1", [1, math.nan], [2, math.inf], [3, -math.inf])
    kept = [sample.value for sample in server.admin.values(device.device_id, "f1")]
    assert math.isnan(kept[0])
    assert kept[1:] == [math.inf, -math.inf]


def test_a_boolean_is_kept_as_the_integer_that_it_is(server, device):
    device.upload("B1", [1, True], [2, False])
    device.upload("B1", [1, 1])
    assert server.admin.values(device.device_id, "B1") == [(1, 1, None), (2, 0, None)]
    assert server.admin.conflicts(device.device_id) == []


@pytest.mark.parametrize("code", ["malformed", "timeout", "invalid", "type"])
def test_a_failed_read_is_kept_with_its_error_code(server, device, code):
    device.upload("W1", [False, 5, code], [6, 1])
    assert server.admin.values(device.device_id, "W1") == [Sample(5, None, code), Sample(6, 1)]
    counts = server.admin.counts(device.device_id)
    assert (counts.samples, counts.failures) == (2, 1)


def test_the_same_samples_again_are_stored_once_and_counted_as_duplicates(server, device):
    for _ in range(3):
        assert device.upload("W1", [1, 10], [False, 2, "timeout"]).status_code == 204
    counts = server.admin.counts(device.device_id)
    assert (counts.samples, counts.duplicates, counts.conflicts) == (2, 4, 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([1, 10], [1, 11]),
        ([1, 10], [1, 10.0]),
        ([1, 10], [1, "10"]),
        ([1, 10], [False, 1, "timeout"]),
        ([False, 1, "timeout"], [1, 10]),
        ([False, 1, "timeout"], [False, 1, "invalid"]),
    ],
)
def test_other_content_for_a_timestamp_is_a_conflict_and_the_first_stays(
    server, device, first, second
):
    device.upload("W1", first)
    assert device.upload("W1", second, [2, 0]).status_code == 204
    admin = server.admin
    assert admin.values(device.device_id, "W1") == [Sample.from_json(first), Sample(2, 0)]
    assert admin.conflicts(device.device_id) == [
        {"path": "W1", "timestamp": 1, "stored": first, "received": second}
    ]
    assert admin.counts(device.device_id).duplicates == 0


def test_a_contradiction_within_one_upload_is_a_conflict(server, device):
    device.post(
        UPLOAD,
        [{"path": "W1", "values": [[1, 1], [1, 1]]}, {"path": "W1", "values": [[1, 2], [2, 2]]}],
    )
    counts = server.admin.counts(device.device_id)
    assert (counts.samples, counts.duplicates, counts.conflicts) == (2, 1, 1)


def test_the_same_timestamp_of_other_pathpoints_and_devices_is_no_conflict(
    server, device, device_certificate
):
    device.upload("W1", [1, 1])
    device.upload("W2", [1, 2])
    with new_device(server, device_certificate) as other:
        other.upload("W1", [1, 3])
    assert server.admin.values(other.device_id, "W1") == [Sample(1, 3)]
    assert server.admin.values(device.device_id, "W1") == [Sample(1, 1)]
    assert server.admin.conflicts(device.device_id) == []
    assert server.admin.conflicts(other.device_id) == []


def test_json_bodies_are_accepted_too(server, device):
    answer = device.post(UPLOAD, json=[{"path": "W1", "values": [[1, 2.5]]}])
    assert answer.status_code == 204
    assert server.admin.values(device.device_id, "W1") == [Sample(1, 2.5)]


def test_a_pathpoint_that_sends_samples_becomes_known(server, device):
    device.upload("rW{W1}/{W2}~", [1, 2])
    assert server.admin.pathpoints(device.device_id) == {"rW{W1}/{W2}~": 1}
    assert server.admin.samples_count(device.device_id) == 1


def test_long_series_are_read_back_whole_page_by_page(server, device):
    expected = [[timestamp, timestamp * 3] for timestamp in range(25_000)]
    device.upload("W1", *expected)
    assert server.admin.values(device.device_id, "W1") == list(map(Sample.from_json, expected))
    assert server.admin.values(device.device_id, "W1", after=24_997) == [
        (24_998, 74_994, None),
        (24_999, 74_997, None),
    ]
    page = device.get(f"/admin/values?device={device.device_id}&path=W1&limit=2&after=5").json()
    assert page == {"items": [[6, 18], [7, 21]], "next": 7}
    last = device.get(
        f"/admin/values?device={device.device_id}&path=W1&limit=10&after=24995"
    ).json()
    assert last["next"] is None


def test_a_large_upload_that_comes_again_with_one_change_gives_one_conflict(server, device):
    batch = [
        {"path": f"W{unit}", "values": [[1000 * step, unit * step] for step in range(200)]}
        for unit in range(1, 101)
    ]
    assert device.post(UPLOAD, batch).status_code == 204
    batch[49]["values"][199] = [199_000, -1]
    assert device.post(UPLOAD, batch).status_code == 204
    counts = server.admin.counts(device.device_id)
    assert (counts.samples, counts.duplicates, counts.conflicts) == (20_000, 19_999, 1)
    assert server.admin.conflicts(device.device_id)[0]["received"] == [199_000, -1]
    assert counts.pathpoints == {f"W{unit}": 200 for unit in range(1, 101)}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "body must be a list, not an object"),
        (None, "body must be a list, not null"),
        ([5], "[0] must be an object, not int 5"),
        ([{"values": []}], "[0] lacks 'path'"),
        ([{"path": "W1"}], "[0] lacks 'values'"),
        ([{"path": 1, "values": []}], "[0].path must be a text, not int 1"),
        ([{"path": "", "values": []}], "[0].path is empty"),
        ([{"path": "x1", "values": []}], "[0].path: 'x1' begins with none of the types"),
        ([{"path": "r", "values": []}], "[0].path: 'r' begins with none of the types"),
        ([{"path": "W" * 1001, "values": []}], "[0].path is longer than 1000 bytes"),
        ([{"path": "W\0", "values": []}], "[0].path holds a NUL character"),
        ([{"path": "W1", "values": {}}], "[0].values must be a list, not an object"),
        ([{"path": "W1", "values": [[1, 1], 5]}], "[0].values[1] must be a list, not int 5"),
        ([{"path": "W1", "values": [[1]]}], "[0].values[0] must be [timestamp, value] or"),
        ([{"path": "W1", "values": [[1, 2, 3]]}], "[0].values[0] must be [timestamp, value] or"),
        ([{"path": "W1", "values": [["1", 2]]}], "[0].values[0][0] must be an integer"),
        ([{"path": "W1", "values": [[1.5, 2]]}], "[0].values[0][0] must be an integer"),
        ([{"path": "W1", "values": [[True, 2]]}], "[0].values[0][0] must be an integer"),
        ([{"path": "W1", "values": [[-1, 2]]}], "[0].values[0][0] must be between 0 and"),
        ([{"path": "W1", "values": [[2**63, 2]]}], "[0].values[0][0] must be between 0 and"),
        ([{"path": "W1", "values": [[1, None]]}], "[0].values[0][1] must be an integer, a float"),
        ([{"path": "W1", "values": [[1, [2]]]}], "[0].values[0][1] must be an integer, a float"),
        ([{"path": "W1", "values": [[1, 2**63]]}], "[0].values[0][1] must be between"),
        ([{"path": "W1", "values": [[1, b"2"]]}], "[0].values[0][1] must be an integer, a float"),
        ([{"path": "W1", "values": [[False, 1, "?"]]}], "[0].values[0][2]: '?' is none of"),
        ([{"path": "W1", "values": [[False, 1, 1]]}], "[0].values[0][2] must be a text"),
    ],
)
def test_a_wrong_upload_is_refused_whole_and_says_what_is_wrong(server, device, body, complaint):
    good = {"path": "W9", "values": [[1, 1]]}
    answer = device.post(UPLOAD, [good, *body] if isinstance(body, list) else body)
    assert answer.status_code == 400
    assert complaint.replace("[0]", "[1]", 1) in status(answer)
    assert server.admin.samples_count(device.device_id) == 0


@pytest.mark.parametrize(
    ("content", "content_type", "code", "complaint"),
    [
        (b"", "application/minijson", 400, "malformed MiniJSON"),
        (b"\xff\xff", "application/minijson", 400, "malformed MiniJSON"),
        (b"[", "application/json", 400, "malformed JSON"),
        (b"\xff", "application/json", 400, "malformed JSON"),
        (b"[" * 100_000, "application/json", 400, "malformed JSON: nested too deep"),
        (b"7" * 5000, "application/json", 400, "malformed JSON"),
        (rb'[{"path": "W\ud800", "values": []}]', "application/json", 400, "not valid Unicode"),
        (b"[]", "text/plain", 415, "not text/plain"),
        (b"[]", "", 415, "not untyped"),
    ],
)
def test_a_malformed_body_is_refused(device, content, content_type, code, complaint):
    answer = device.post(UPLOAD, data=content, headers={"Content-Type": content_type})
    assert answer.status_code == code
    assert complaint in status(answer)


def test_a_body_beyond_the_limit_is_refused_and_the_connection_goes_on(device_certificate):
    with (
        LocalServer(max_body=1000) as server,
        new_device(server, device_certificate) as device,
    ):
        assert device.upload("W1", [1, "x" * 900]).status_code == 204
        answer = device.upload("W1", [2, "x" * 3_000_000])
        assert answer.status_code == 413
        assert status(answer) == "the body is longer than 1000 bytes"

        def parts():
            yield from [b"x" * 600] * 2

        assert device.post(UPLOAD, data=parts()).status_code == 413
        assert device.upload("W1", [3, 3]).status_code == 204
        assert [sample.timestamp for sample in server.admin.values(device.device_id, "W1")] == [
            1,
            3,
        ]


NUMBERS = itertools.count()
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
SAMPLES = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 5), st.one_of(st.integers(0, 2), st.floats(0, 1), TEXTS)),
        st.tuples(st.just(False), st.integers(0, 5), st.sampled_from(["timeout", "type"])),
    ),
    max_size=8,
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(uploads=st.lists(SAMPLES, max_size=4))
def test_whatever_is_uploaded_the_first_of_each_timestamp_stays_and_all_are_accounted_for(
    server, device, uploads
):
    path = f"u{next(NUMBERS)}"
    before = server.admin.counts(device.device_id)
    first: dict[int, Sample] = {}
    duplicates = conflicts = 0
    for upload in uploads:
        samples = [Sample.from_json(sample) for sample in upload]
        sent = [list(sample) for sample in upload]
        assert device.upload(path, *sent).status_code == 204
        for sample in samples:
            kept = first.setdefault(sample.timestamp, sample)
            if kept is not sample:
                same = json.dumps(kept) == json.dumps(sample)
                duplicates, conflicts = duplicates + same, conflicts + (not same)
    after = server.admin.counts(device.device_id)
    assert after.samples - before.samples == len(first)
    assert after.duplicates - before.duplicates == duplicates
    assert after.conflicts - before.conflicts == conflicts
    assert server.admin.values(device.device_id, path) == sorted(first.values())
