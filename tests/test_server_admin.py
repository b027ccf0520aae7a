from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import requests

import smok_fast.server
from server_support import TIMEOUT, Device, new_device, status
from smok_fast import minijson
from smok_fast.exceptions import ResponseError
from smok_fast.server import LocalServer
from smok_fast.testing import Admin, wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


@pytest.fixture
def device(server, device_certificate) -> Iterator[Device]:
    with new_device(server, device_certificate) as connection:
        yield connection


def address_of_this_machine() -> str:
    """An address of this machine that is no loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the address is for documentation
        except OSError:
            pytest.skip("this machine has loopback only")
        return str(probe.getsockname()[0])


# Who may


def test_with_a_token_the_admin_api_answers_who_knows_it():
    with LocalServer(admin_token="sesame ż") as server:
        for headers in (
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic sesame"},
        ):
            answer = requests.get(server.url + "/admin", headers=headers, timeout=TIMEOUT)
            assert answer.status_code == 401
            assert "admin token" in status(answer)
    with LocalServer(admin_token="sesame") as server:
        assert server.admin.devices() == []
        with Admin(server.url, token="wrong") as admin, pytest.raises(ResponseError, match="401"):
            admin.devices()


def test_without_a_token_the_admin_api_answers_this_machine_only(device_certificate):
    address = address_of_this_machine()
    with LocalServer(host=address) as server, new_device(server, device_certificate) as device:
        assert device.get("/v1/device").status_code == 200
        answer = requests.get(
            server.url + "/admin", headers={"X-Forwarded-For": "127.0.0.1"}, timeout=TIMEOUT
        )
        assert answer.status_code == 403
        assert "this machine only" in status(answer)
    with LocalServer(host=address, admin_token="t") as server:
        assert server.admin.devices() == []


def test_a_page_in_a_browser_cannot_queue_orders(server, device):
    # What a form of another site can send without asking first.
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = requests.post(
            server.url + f"/admin/orders?device={device.device_id}",
            data=b"[{}]",
            headers={"Content-Type": content_type},
            timeout=TIMEOUT,
        )
        assert answer.status_code == 415
    assert server.admin.pending_orders(device.device_id) == []


# What there is


def test_the_index_names_and_explains_every_call(server):
    index = requests.get(server.url + "/admin", timeout=TIMEOUT).json()
    calls = {(call["method"], call["path"]) for call in index}
    assert len(calls) == len(index)
    assert ("POST", "/v1/device/orders") in calls
    assert all(call["summary"].endswith(".") for call in index)
    documented = smok_fast.server.__doc__ or ""
    missing = {path for _, path in calls if path.startswith("/admin") and path not in documented}
    assert not missing


def test_a_device_may_be_set_up_before_it_calls(server, device):
    server.admin.queue_orders(device.device_id, [{"orders": [], "disposition": 1}])
    assert device.device_id in server.admin.devices()
    assert device.post("/v1/device/orders").json() == [{"orders": [], "disposition": 1}]


def test_the_admin_api_speaks_minijson_too(server, device):
    answer = requests.put(
        server.url + f"/admin/archives?device={device.device_id}",
        data=minijson.dumps([{"interval": 5, "pathpoints": ["W1"]}]),
        headers={"Content-Type": "application/minijson"},
        timeout=TIMEOUT,
    )
    assert answer.status_code == 204
    answer = requests.get(
        server.url + f"/admin/archives?device={device.device_id}",
        headers={"Accept": "application/minijson"},
        timeout=TIMEOUT,
    )
    assert minijson.loads(answer.content) == [{"interval": 5, "pathpoints": ["W1"]}]


def test_lists_are_paged_to_their_end(server, device):
    sections = [{"n": n} for n in range(7)]
    server.admin.queue_orders(device.device_id, sections)
    found, after = [], 0
    while after is not None:
        page = device.get(f"/admin/orders?device={device.device_id}&limit=3&after={after}").json()
        assert len(page["items"]) <= 3
        found += page["items"]
        after = page["next"]
    assert found == sections


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("", "query lacks 'device'"),
        ("device=", "device is empty"),
        ("device=1%00", "device holds a NUL"),
        ("device=1", "query lacks 'path'"),
        ("device=1&path=W1&after=x", "after must be an integer"),
        ("device=1&path=W1&after=-1", "after must be between"),
        ("device=1&path=W1&after=99999999999999999999", "after must be between"),
        ("device=1&path=W1&limit=10001", "limit must be between"),
        ("device=1&path=W1&limit=" + "9" * 5000, "limit must be an integer"),
    ],
)
def test_a_wrong_query_is_refused(server, query, complaint):
    answer = requests.get(server.url + "/admin/values?" + query, timeout=TIMEOUT)
    assert answer.status_code == 400
    assert complaint in status(answer)


def test_no_items_are_asked_for_and_none_come(server, device):
    device.upload("W1", [1, 1])
    page = device.get(f"/admin/values?device={device.device_id}&path=W1&limit=0").json()
    assert page == {"items": [], "next": None}


def test_the_admin_client_tells_a_refusal_from_a_server_that_is_gone():
    with LocalServer() as server, Admin(server.url) as admin:
        with pytest.raises(ResponseError) as refused:
            admin.set_archives("1", [{}])
        assert refused.value.is_clients_fault()
        assert refused.value.status == "[0] lacks 'interval'"
        server.stop()
        with pytest.raises(ResponseError) as unreachable:
            admin.devices()
        assert unreachable.value.is_no_link()


def test_waiting_ends_when_the_condition_holds_or_the_time_is_over():
    answers = iter([0, "", True])
    wait_until(lambda: next(answers), interval=0)
    with pytest.raises(TimeoutError, match="within 0 s"):
        wait_until(lambda: False, timeout=0)


# Faults


@pytest.fixture
def faulty(server) -> Iterator[Admin]:
    """The admin API; faults are removed after the test."""
    yield server.admin
    server.admin.remove_faults()


def test_the_next_calls_are_refused_as_often_as_asked(faulty, device):
    fault = faulty.fault("/v1/device/pathpoints", status=503, times=2)
    assert device.post("/v1/device/orders").status_code == 200
    codes = [device.upload("W1", [n, n]).status_code for n in range(3)]
    assert codes == [503, 503, 204]
    assert faulty.fault_hits(fault) == 2
    assert [sample.timestamp for sample in faulty.values(device.device_id, "W1")] == [2]


def test_a_fault_has_a_status_and_a_body_of_choice(faulty, device):
    faulty.fault(status=418, body='{"status": "teapot"}')
    assert device.get("/v1/device").json() == {"status": "teapot"}
    faulty.fault(body=b"\xff\x00garbage", content_type="application/minijson")
    answer = device.get("/v1/device")
    assert (answer.status_code, answer.content) == (200, b"\xff\x00garbage")
    assert answer.headers["Content-Type"] == "application/minijson"
    faulty.fault(status=204)
    assert (device.get("/v1/device").status_code, device.get("/v1/device").status_code) == (
        204,
        200,
    )


def test_a_fault_may_concern_one_method_only(faulty, device):
    faulty.fault(method="post", status=500)
    assert device.get("/v1/device").status_code == 200
    assert device.post("/v1/device/orders").status_code == 500


def test_a_dropped_connection_has_no_answer(faulty, device):
    faulty.fault(drop=True)
    with pytest.raises(requests.ConnectionError):
        device.upload("W1", [1, 1])
    assert faulty.samples_count(device.device_id) == 0 if device.get("/v1/device").ok else None
    assert device.upload("W1", [2, 2]).status_code == 204


def test_the_answer_alone_may_be_lost(faulty, device):
    faulty.queue_orders(device.device_id, [{"orders": []}])
    faulty.fault("/v1/device/orders", drop=True, handled=True)
    with pytest.raises(requests.ConnectionError):
        device.post("/v1/device/orders")
    assert faulty.pending_orders(device.device_id) == []
    faulty.fault("/v1/device/pathpoints", status=502, handled=True)
    assert device.upload("W1", [1, 1]).status_code == 502
    assert device.upload("W1", [1, 1]).status_code == 204
    assert faulty.counts(device.device_id).duplicates == 1


def test_a_late_answer_comes_after_its_delay(faulty, device):
    faulty.fault(delay=3600)
    with pytest.raises(requests.ReadTimeout):
        device.session.get(device.url + "/v1/device", timeout=0.2)
    faulty.fault(delay=0.01)
    assert device.get("/v1/device").status_code == 200


def test_a_server_stops_although_an_answer_is_delayed(device_certificate, caplog):
    with LocalServer() as server, new_device(server, device_certificate) as device:
        fault = server.admin.fault(delay=3600)
        with pytest.raises(requests.ReadTimeout):
            device.session.get(device.url + "/v1/device", timeout=0.2)
        assert server.admin.fault_hits(fault) == 1
        server.stop()
        assert not server.is_running
    # Without a call cut short: uvicorn logs that as an error.
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_fault_lasts_until_it_is_removed(faulty, device):
    fault = faulty.fault(status=500, times=None)
    other = faulty.fault("/v1/elsewhere", status=500)
    assert [device.get("/v1/device").status_code for _ in range(4)] == [500] * 4
    assert faulty.fault_hits(fault) == 4
    faulty.remove_faults(fault)
    assert device.get("/v1/device").status_code == 200
    with pytest.raises(KeyError):
        faulty.fault_hits(fault)
    assert faulty.fault_hits(other) == 0
    with pytest.raises(ResponseError, match="404"):
        faulty.remove_faults(fault)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ([], "body must be an object"),
        ({}, "a fault needs a status, a delay or drop"),
        ({"status": 500, "speed": 1}, "a fault has no 'speed'"),
        ({"path": "/admin", "status": 500}, "path must begin with /v1/"),
        ({"status": 99}, "status must be between 200 and 599"),
        ({"status": 500, "drop": True}, "a dropped connection has no status"),
        ({"status": 500, "times": 0}, "times must be between 1 and"),
        ({"delay": -1}, "delay must be a finite number, at least 0"),
        ({"delay": 1e9}, "delay must be at most 3600 seconds"),
        ({"status": 500, "body_base64": "*"}, "body_base64"),
        ({"status": 500, "content_type": "a\r\nb"}, "content_type must be printable ASCII"),
        ({"drop": 1}, "drop must be a boolean"),
    ],
)
def test_a_wrong_fault_is_refused(server, device, fault, complaint):
    answer = requests.post(server.url + "/admin/faults", json=fault, timeout=TIMEOUT)
    assert answer.status_code == 400
    assert complaint in status(answer)
    assert device.get("/v1/device").status_code == 200


def test_a_body_given_as_text_is_sent_as_it_is(faulty, device):
    requests.post(
        faulty.url + "/admin/faults", json={"status": 400, "body": "żle"}, timeout=TIMEOUT
    ).raise_for_status()
    assert device.get("/v1/device").content == "żle".encode()
