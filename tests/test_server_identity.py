from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server_support import CERTIFICATE_HEADER, TIMEOUT, Device, status
from smok_fast.basics import Environment
from smok_fast.client.certificate import create_server_certificate
from smok_fast.server import LocalServer
from smok_fast.testing import Admin

DEVICE_ID = x509.ObjectIdentifier("1.3.6.1.4.1.55338.0.0")
ENVIRONMENT = x509.ObjectIdentifier("1.3.6.1.4.1.55338.0.1")
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


@pytest.fixture
def make_certificate(tmp_path) -> Callable[..., Path]:
    """Certificates as no good CA would make them."""

    def make(
        device_id: bytes | None = b"\x0c\x011",
        environment: bytes | None = b"\x02\x01\x02",
        start: datetime.datetime = NOW - DAY,
        end: datetime.datetime = NOW + DAY,
    ) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )
        for oid, value in ((DEVICE_ID, device_id), (ENVIRONMENT, environment)):
            if value is not None:
                builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), False)
        path = tmp_path / "device.crt"
        certificate = builder.sign(key, hashes.SHA256())
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    return make


def who(url: str, certificate: Path | None) -> requests.Response:
    device = Device(url, certificate)
    with device.session:
        return device.get("/v1/device")


@pytest.mark.parametrize("environment", list(Environment))
def test_the_certificate_in_the_header_tells_which_device_calls(
    server, device_certificate, environment
):
    for device_id in ("skylab", "ż/% 🌡"):
        answer = who(server.url, device_certificate(device_id, environment).cert)
        assert (answer.status_code, answer.json()["device_id"]) == (200, device_id)


def test_a_printable_string_is_a_device_id_too(server, make_certificate):
    answer = who(server.url, make_certificate(device_id=b"\x13\x06skylab"))
    assert answer.json()["device_id"] == "skylab"


def test_a_call_without_a_certificate_is_unauthorized(server):
    answer = who(server.url, None)
    assert answer.status_code == 401
    assert "no client certificate" in status(answer)


@pytest.mark.parametrize(
    "fields",
    [
        {"device_id": None},
        {"device_id": b"\x02\x01\x01"},
        {"device_id": b"\x0c\x02\xff\xff"},
        {"device_id": b"\x0c\x05a"},
        {"device_id": b"\x0c\x00"},
        {"device_id": b""},
        {"environment": None},
        {"environment": b"\x02\x01\x03"},
        {"environment": b"\x0c\x011"},
    ],
)
def test_a_certificate_that_names_no_device_is_unauthorized(server, make_certificate, fields):
    answer = who(server.url, make_certificate(**fields))
    assert answer.status_code == 401
    assert "not a SMOK device certificate" in status(answer)


@pytest.mark.parametrize(
    ("start", "end", "complaint"),
    [(NOW - 2 * DAY, NOW - DAY, "expired on"), (NOW + DAY, NOW + 2 * DAY, "not valid before")],
)
def test_a_certificate_outside_its_dates_is_unauthorized(
    server, make_certificate, start, end, complaint
):
    # The second call meets the server's memory of the first.
    for _ in range(2):
        answer = who(server.url, make_certificate(start=start, end=end))
        assert answer.status_code == 401
        assert complaint in status(answer)


@pytest.mark.parametrize("header", ["nonsense", "-----BEGIN CERTIFICATE-----", "\xff\xfe"])
def test_a_header_without_a_certificate_is_unauthorized(server, header):
    answer = requests.get(
        server.url + "/v1/device",
        headers={CERTIFICATE_HEADER: header.encode("latin-1")},
        timeout=TIMEOUT,
    )
    assert answer.status_code == 401
    assert status(answer)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_certificate_never_breaks_the_server(server, device_certificate, data):
    certificate = x509.load_pem_x509_certificate(device_certificate().cert.read_bytes())
    content = bytearray(certificate.public_bytes(serialization.Encoding.DER))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    header = ssl.DER_cert_to_PEM_cert(bytes(content)).replace("\n", "\t")
    answer = requests.get(
        server.url + "/v1/device", headers={CERTIFICATE_HEADER: header}, timeout=TIMEOUT
    )
    assert answer.status_code in (200, 401)


def test_with_a_ca_file_the_header_needs_a_certificate_of_that_ca(
    device_certificate, make_certificate
):
    trusted = device_certificate("7")
    with LocalServer(ca_file=trusted.ca_cert) as server:
        assert who(server.url, trusted.cert).json()["device_id"] == "7"
        answer = who(server.url, make_certificate())
        assert answer.status_code == 401
        assert "not issued by any CA that this server knows" in status(answer)


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_ca_file_that_cannot_be_used_is_refused_at_the_start(tmp_path, content):
    if content is not None:
        (tmp_path / "ca.crt").write_bytes(content)
    with pytest.raises((OSError, ValueError)):
        LocalServer(ca_file=tmp_path / "ca.crt")


@pytest.fixture
def tls_server(device_certificate) -> Iterator[LocalServer]:
    """A server that speaks TLS and knows the CA of the devices."""
    directory = device_certificate("7").ca_cert.parent
    own = create_server_certificate(directory)
    with LocalServer(certificate=own.cert, key=own.key, ca_file=own.ca_cert) as running:
        yield running


def test_the_tls_certificate_tells_which_device_calls(tls_server, device_certificate):
    assert tls_server.url.startswith("https://")
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(device_certificate("7").ca_cert)
        for device_id in ("7", "8"):
            made = device_certificate(device_id)
            session.cert = (str(made.cert), str(made.key))
            answer = session.get(tls_server.url + "/v1/device", timeout=TIMEOUT)
            assert (answer.status_code, answer.json()["device_id"]) == (200, device_id)
            session.close()
    assert tls_server.admin.devices() == ["7", "8"]


def test_the_tls_certificate_wins_over_the_header(tls_server, device_certificate):
    device = Device(tls_server.url, device_certificate("8").cert)
    with device.session:
        made = device_certificate("7")
        device.session.verify = str(made.ca_cert)
        device.session.cert = (str(made.cert), str(made.key))
        assert device.get("/v1/device").json()["device_id"] == "7"


def test_over_tls_without_a_client_certificate_the_header_counts(tls_server, device_certificate):
    device = Device(tls_server.url, device_certificate("8").cert)
    with device.session:
        device.session.verify = str(device_certificate("7").ca_cert)
        assert device.get("/v1/device").json()["device_id"] == "8"
        del device.session.headers[CERTIFICATE_HEADER]
        assert device.get("/v1/device").status_code == 401


def test_a_client_certificate_of_another_ca_gets_no_connection(
    tls_server, device_certificate, tmp_path_factory
):
    from smok_fast.client.certificate import create_development_certificates

    stranger = create_development_certificates(tmp_path_factory.mktemp("other"), "7")
    with requests.Session() as session:
        session.verify = str(device_certificate("7").ca_cert)
        session.cert = (str(stranger.cert), str(stranger.key))
        with pytest.raises(requests.ConnectionError):
            session.get(tls_server.url + "/v1/device", timeout=TIMEOUT)


def test_a_server_that_speaks_tls_stops_although_a_client_keeps_its_connection(
    tls_server, device_certificate
):
    with Admin(tls_server.url, verify=str(device_certificate("7").ca_cert)) as admin:
        assert admin.devices() == []
        tls_server.stop()
    assert not tls_server.is_running


def test_a_key_without_a_certificate_is_refused(tmp_path):
    with pytest.raises(ValueError, match="without a certificate"):
        LocalServer(key=tmp_path / "key")


def test_files_for_tls_that_cannot_be_used_are_refused_at_the_start(tmp_path):
    server = LocalServer(certificate=tmp_path / "none.crt")
    with pytest.raises(OSError, match="No such file"):
        server.start()
    server.close()
