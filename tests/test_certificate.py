"""Device certificates: whose they are, what is refused and why, and what stays on disk."""

from __future__ import annotations

import base64
import datetime
import errno
import gc
import io
import re
import ssl
import stat
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from smok_fast.basics import Environment
from smok_fast.client.certificate import (
    DEVICE_ID,
    ENVIRONMENT,
    Credentials,
    DevelopmentCertificates,
    ca_cert_files,
    create_development_certificates,
    create_server_certificate,
    get_dev_ca_cert,
    get_device_info,
    get_rapid_ca_cert,
    get_root_cert,
    load_certificate,
)
from smok_fast.exceptions import InvalidCredentials, UnavailableError

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def certificate(
    extensions: list[tuple[x509.ObjectIdentifier, bytes]],
    start: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + DAY,
) -> bytes:
    """A self-signed certificate of KEY with those extensions, PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for oid, der in extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, der), False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def device_certificate(
    device_id: str = "0c0131", environment: str = "020102", **dates: datetime.datetime
) -> bytes:
    extensions = [(DEVICE_ID, bytes.fromhex(device_id)), (ENVIRONMENT, bytes.fromhex(environment))]
    return certificate(extensions, **dates)


def private_key(
    encryption: serialization.KeySerializationEncryption | None = None,
    encoding: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> bytes:
    return KEY.private_bytes(
        serialization.Encoding.PEM, encoding, encryption or serialization.NoEncryption()
    )


@pytest.fixture
def files(tmp_path: Path) -> DevelopmentCertificates:
    return create_development_certificates(tmp_path / "certs", "skylab", Environment.STAGING)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go during the test."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


# --- get_device_info ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device_id", "environment", "expected"),
    [
        ("0c0131", "020102", ("1", Environment.LOCAL_DEVELOPMENT)),
        ("0c06736b796c6162", "020100", ("skylab", Environment.PRODUCTION)),
        ("1306736b796c6162", "020101", ("skylab", Environment.STAGING)),
        ("0c05c5bc6f7261", "020101", ("żora", Environment.STAGING)),
        ("0c8180" + "61" * 128, "020102", ("a" * 128, Environment.LOCAL_DEVELOPMENT)),
        ("0c820100" + "61" * 256, "020102", ("a" * 256, Environment.LOCAL_DEVELOPMENT)),
    ],
)
def test_a_certificate_tells_its_device_and_environment(
    device_id: str, environment: str, expected: tuple[str, Environment]
) -> None:
    pem = device_certificate(device_id, environment)
    assert get_device_info(pem) == expected
    assert get_device_info(pem.replace(b"\n", b"\r\n")) == expected
    assert get_device_info(b"Subject: CN=test\n" + pem + certificate([])) == expected


@pytest.mark.parametrize(
    "device_id",
    [
        "",
        "0c",
        "0c00",
        "0c0231",
        "0c013131",
        "0c810131",
        "0c8000",
        "0c82008000",
        "0c01ff",
        "0c0100",
        "0c010a",
        "13017f",
        "1301c4",
        "160131",
        "020131",
        "2c030c0131",
        "0cff",
    ],
)
def test_a_malformed_device_id_is_refused(device_id: str) -> None:
    with pytest.raises(InvalidCredentials, match=r"device certificate: .* bad device ID"):
        get_device_info(device_certificate(device_id=device_id))


@pytest.mark.parametrize(
    "environment",
    ["", "02", "0200", "020103", "0201ff", "02020002", "02810102", "0a0102", "02010200", "0c0132"],
)
def test_a_malformed_environment_is_refused(environment: str) -> None:
    with pytest.raises(InvalidCredentials, match="bad environment: DER"):
        get_device_info(device_certificate(environment=environment))


def test_a_missing_extension_is_named() -> None:
    with pytest.raises(InvalidCredentials, match=r"device ID: missing .*55338\.0\.0"):
        get_device_info(certificate([]))
    with pytest.raises(InvalidCredentials, match=r"environment: missing .*55338\.0\.1"):
        get_device_info(certificate([(DEVICE_ID, b"\x0c\x011")]))


def test_a_certificate_with_an_extension_twice_is_refused() -> None:
    other = x509.ObjectIdentifier("1.3.6.1.4.1.55338.0.9")
    pem = certificate([(DEVICE_ID, b"\x0c\x011"), (other, b"\x0c\x012")])
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    oid = bytes.fromhex("060a2b0601040183b02a00")
    assert der.count(oid) == 2
    with pytest.raises(InvalidCredentials, match=r"(?i)duplicate"):
        get_device_info(as_pem(der.replace(oid + b"\x09", oid + b"\x00")))


def as_pem(der: bytes) -> bytes:
    lines = textwrap.fill(base64.b64encode(der).decode(), 64)
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n".encode()


@settings(deadline=None)
@given(st.binary())
def test_arbitrary_bytes_are_no_certificate(data: bytes) -> None:
    with pytest.raises(InvalidCredentials):
        get_device_info(data)
    with pytest.raises(InvalidCredentials):
        get_device_info(as_pem(data))


@settings(deadline=None)
@given(device_id=st.binary(max_size=300), environment=st.binary(max_size=10))
def test_arbitrary_extensions_are_read_or_refused(device_id: bytes, environment: bytes) -> None:
    pem = certificate([(DEVICE_ID, device_id), (ENVIRONMENT, environment)])
    try:
        name, where = get_device_info(pem)
    except InvalidCredentials:
        return
    assert device_id.endswith(name.encode())
    assert environment == bytes((2, 1, where))


@settings(deadline=None)
@given(name=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=70000))
def test_every_name_survives_the_way_through_a_certificate(name: str) -> None:
    content = name.encode()
    if len(content) < 0x80:
        length = bytes((len(content),))
    elif len(content) < 0x100:
        length = bytes((0x81, len(content)))
    else:
        length = b"\x82" + len(content).to_bytes(2, "big")
    pem = certificate([(DEVICE_ID, b"\x0c" + length + content), (ENVIRONMENT, b"\x02\x01\x00")])
    assert get_device_info(pem) == (name, Environment.PRODUCTION)


VALID_DER = x509.load_pem_x509_certificate(device_certificate()).public_bytes(
    serialization.Encoding.DER
)


# The library warns about some oddities of a certificate, and then reads it.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(deadline=None)
@given(
    position=st.integers(0, len(VALID_DER) - 1),
    removed=st.integers(0, 3),
    inserted=st.binary(max_size=3),
)
def test_a_damaged_certificate_is_read_or_refused(
    position: int, removed: int, inserted: bytes
) -> None:
    damaged = as_pem(VALID_DER[:position] + inserted + VALID_DER[position + removed :])
    for read in (get_device_info, lambda pem: Credentials(pem, private_key()).close()):
        try:
            read(damaged)
        except InvalidCredentials as e:
            assert "certificate" in str(e)


# --- Credentials ----------------------------------------------------------------------------------


def test_credentials_given_as_paths_are_used_in_place(
    files: DevelopmentCertificates, temporary: Path
) -> None:
    with Credentials(str(files.cert), files.key) as credentials:
        assert credentials.device_id == "skylab"
        assert credentials.environment is Environment.STAGING
        assert credentials.cert_data == files.cert.read_bytes()
        assert (credentials.cert_path, credentials.key_path) == (str(files.cert), str(files.key))
        assert credentials.cert_given_as_path
        assert credentials.key_given_as_path
        assert list(temporary.iterdir()) == []
    assert files.cert.exists()
    assert files.key.exists()


@pytest.mark.parametrize(
    "wrap", [bytes, io.BytesIO, lambda data: io.StringIO(data.decode())], ids=["bytes", "b", "t"]
)
def test_credentials_given_as_data_live_in_private_files_until_closed(
    files: DevelopmentCertificates, temporary: Path, wrap: Callable[[bytes], bytes | io.BytesIO]
) -> None:
    credentials = Credentials(wrap(files.cert.read_bytes()), wrap(files.key.read_bytes()))
    assert not credentials.cert_given_as_path
    assert not credentials.key_given_as_path
    assert {str(path) for path in temporary.iterdir()} == {
        credentials.cert_path,
        credentials.key_path,
    }
    for path, original in ((credentials.cert_path, files.cert), (credentials.key_path, files.key)):
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        assert Path(path).read_bytes() == original.read_bytes()
    ssl.create_default_context().load_cert_chain(credentials.cert_path, credentials.key_path)
    credentials.close()
    credentials.close()
    assert list(temporary.iterdir()) == []


def test_only_what_was_given_as_data_is_removed(
    files: DevelopmentCertificates, temporary: Path
) -> None:
    with Credentials(files.cert, files.key.read_bytes()) as credentials:
        assert len(list(temporary.iterdir())) == 1
        assert credentials.cert_given_as_path
        assert not credentials.key_given_as_path
    assert list(temporary.iterdir()) == []
    assert files.cert.exists()


def test_forgotten_credentials_leave_no_private_key_behind(
    files: DevelopmentCertificates, temporary: Path
) -> None:
    credentials = Credentials(files.cert.read_bytes(), files.key.read_bytes())
    assert len(list(temporary.iterdir())) == 2
    del credentials
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_closing_after_someone_removed_the_temporary_files_is_fine(
    files: DevelopmentCertificates, temporary: Path
) -> None:
    credentials = Credentials(files.cert.read_bytes(), files.key.read_bytes())
    for path in temporary.iterdir():
        path.unlink()
    credentials.close()


def test_a_failure_between_the_temporary_files_leaves_none(
    files: DevelopmentCertificates, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkstemp = tempfile.mkstemp

    def full_after_the_first(**options: str) -> tuple[int, str]:
        if list(temporary.iterdir()):
            raise OSError(errno.ENOSPC, "No space left on device")
        return mkstemp(**options)

    monkeypatch.setattr("tempfile.mkstemp", full_after_the_first)
    with pytest.raises(OSError, match="No space left") as caught:
        Credentials(files.cert.read_bytes(), files.key.read_bytes())
    assert list(temporary.iterdir()) == []
    assert caught.traceback  # keeps what was made alive up to here


def test_refused_credentials_leave_no_temporary_file(
    files: DevelopmentCertificates, temporary: Path
) -> None:
    with pytest.raises(InvalidCredentials):
        Credentials(files.cert.read_bytes(), io.BytesIO(private_key()))
    assert list(temporary.iterdir()) == []


def test_a_key_of_any_usual_form_is_accepted(tmp_path: Path) -> None:
    traditional = private_key(encoding=serialization.PrivateFormat.TraditionalOpenSSL)
    both = device_certificate() + traditional
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    for key in (traditional, parameters + traditional, both, both.replace(b"\n", b"\r\n")):
        with Credentials(device_certificate(), key) as credentials:
            assert credentials.device_id == "1"
            ssl.create_default_context().load_cert_chain(
                credentials.cert_path, credentials.key_path
            )


def refusal(cert: object, key: object) -> str:
    with pytest.raises(InvalidCredentials) as caught:
        Credentials(cert, key)  # type: ignore[arg-type]  # wrong types are the point of some tests
    return str(caught.value)


def test_swapped_files_are_recognised(files: DevelopmentCertificates) -> None:
    message = refusal(files.key, files.cert)
    assert "swapped" in message
    assert str(files.key) in message
    assert str(files.cert) in message
    assert refusal(files.key, files.key) == (
        f"certificate {files.key}: holds a private key, not a certificate"
    )
    assert refusal(files.cert, files.cert) == (
        f"private key {files.cert}: holds a certificate, not a private key"
    )


def test_a_key_of_another_certificate_is_refused(
    files: DevelopmentCertificates, tmp_path: Path
) -> None:
    other = create_server_certificate(files.cert.parent).key
    assert refusal(files.cert, other) == (
        f"private key {other}: does not belong to certificate {files.cert}"
    )
    ed25519_key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    assert "given private key: does not belong" in refusal(files.cert, ed25519_key)


def test_a_missing_or_unreadable_file_is_named_with_the_reason(
    files: DevelopmentCertificates, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.crt"
    assert refusal(missing, files.key) == (
        f"certificate {missing}: cannot be read: No such file or directory"
    )
    assert refusal(files.cert, tmp_path) == (
        f"private key {tmp_path}: cannot be read: Is a directory"
    )
    assert "cannot be read" in refusal("a\0b", files.key)
    closed = io.BytesIO()
    closed.close()
    assert refusal(closed, files.key).startswith("given certificate: cannot be read: ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\0" * 700, "is empty"),
        (b"\r\n", "is empty"),
        (VALID_DER, "is not in PEM"),
        (b"hello", "is not in PEM"),
        (b"x" * ((1 << 20) + 1), "is longer than 1048576 bytes"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA", "holds no valid certificate"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "holds"),
        (device_certificate()[:300], "holds no valid certificate"),
    ],
)
def test_what_is_no_certificate_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "device.crt"
    path.write_bytes(content)
    assert refusal(path, private_key()).startswith(f"certificate {path}: {reason}")
    assert refusal(content, private_key()).startswith(f"given certificate: {reason}")


def test_what_is_no_key_is_refused() -> None:
    for content, reason in (
        (b"", "is empty"),
        (private_key()[:100], "holds no valid private key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds no valid private"),
    ):
        assert refusal(device_certificate(), content).startswith(f"given private key: {reason}")


@pytest.mark.parametrize(
    "form",
    [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL],
    ids=["pkcs8", "traditional"],
)
def test_an_encrypted_key_is_refused_with_the_way_out(form: serialization.PrivateFormat) -> None:
    key = private_key(serialization.BestAvailableEncryption(b"secret"), form)
    message = refusal(device_certificate(), key)
    assert message.startswith("given private key: is encrypted")
    assert "openssl pkey" in message


def test_a_message_never_contains_the_private_key() -> None:
    text = private_key().decode()
    secret = text.splitlines()[1]
    assert secret not in refusal(device_certificate(), text)
    assert "a str must be a path" in refusal(device_certificate(), text)
    assert secret not in refusal(private_key(), device_certificate())


def test_an_expired_certificate_is_refused_with_its_dates(tmp_path: Path) -> None:
    path = tmp_path / "device.crt"
    path.write_bytes(
        device_certificate(
            start=datetime.datetime(2019, 3, 1, 12, 30, tzinfo=datetime.UTC),
            end=datetime.datetime(2020, 3, 1, 12, 30, tzinfo=datetime.UTC),
        )
    )
    message = refusal(path, private_key())
    assert message.startswith(
        f"certificate {path}: has expired (valid from 2019-03-01 12:30 to 2020-03-01 12:30, "
    )


def test_a_certificate_not_valid_yet_is_accepted_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pem = device_certificate(start=NOW + DAY, end=NOW + 2 * DAY)
    with Credentials(pem, private_key()) as credentials:
        assert credentials.device_id == "1"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert re.search(
        rf"given certificate: is not valid yet \(valid from {NOW + DAY:%F %R} ", caplog.text
    )


def test_any_certificate_can_be_loaded_by_itself(files: DevelopmentCertificates) -> None:
    certificate = load_certificate(files.ca_cert)
    assert certificate.subject.rfc4514_string() == "CN=smok-fast development CA"
    with pytest.raises(InvalidCredentials, match="private key, not a certificate"):
        load_certificate(files.key)


# --- SMOK's certificate authorities ---------------------------------------------------------------


@pytest.fixture
def ca_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SMOK_CA_CERTS", raising=False)
    place = tmp_path / "cas"
    place.mkdir()
    for name in ("root", "dev", "rapid"):
        (place / f"{name}.crt").write_bytes(name.encode())
    return place


def test_ca_certificates_come_from_the_given_directory(ca_directory: Path) -> None:
    assert get_root_cert(ca_directory) == b"root"
    assert get_dev_ca_cert(ca_directory) == b"dev"
    assert get_rapid_ca_cert(str(ca_directory)) == b"rapid"
    assert set(ca_cert_files(ca_directory)) == {"root", "dev", "rapid"}


def test_ca_certificates_come_from_the_environment_unless_given(
    ca_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOK_CA_CERTS", str(ca_directory))
    assert (get_root_cert(), get_dev_ca_cert(), get_rapid_ca_cert()) == (b"root", b"dev", b"rapid")
    other = tmp_path / "other.crt"
    other.write_bytes(b"all of them")
    assert get_root_cert(other) == get_dev_ca_cert(other) == get_rapid_ca_cert(other)
    assert get_root_cert(other) == b"all of them"


def test_ca_certificates_that_are_not_there_are_named(ca_directory: Path) -> None:
    assert ca_cert_files() == {}
    with pytest.raises(UnavailableError, match=r"not configured: .*SMOK_CA_CERTS .* root\.crt"):
        get_root_cert()
    (ca_directory / "rapid.crt").unlink()
    with pytest.raises(UnavailableError, match=rf"rapid\.crt is not in {ca_directory}"):
        get_rapid_ca_cert(ca_directory)
    with pytest.raises(UnavailableError, match="there is no /nowhere"):
        get_dev_ca_cert("/nowhere")


# --- Development certificates ---------------------------------------------------------------------


@pytest.mark.parametrize("environment", list(Environment))
def test_a_development_certificate_is_a_device_certificate(
    tmp_path: Path, environment: Environment
) -> None:
    files = create_development_certificates(tmp_path / "a" / "b", "żora-7", environment, days=30)
    with Credentials(files.cert, files.key) as credentials:
        assert (credentials.device_id, credentials.environment) == ("żora-7", environment)
    certificate = load_certificate(files.cert)
    remaining = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert 29 * DAY < remaining <= 30 * DAY
    certificate.verify_directly_issued_by(load_certificate(files.ca_cert))


def test_private_keys_are_for_their_owner_only_and_nothing_else_is_left(
    files: DevelopmentCertificates,
) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files.cert.parent.iterdir()}
    assert modes == {
        "ca.crt": 0o644,
        "ca.key": 0o600,
        "device.crt": 0o644,
        "device.key": 0o600,
    }


def test_a_certificate_authority_is_used_again(files: DevelopmentCertificates) -> None:
    before = files.ca_cert.read_bytes(), files.ca_key.read_bytes()
    again = create_development_certificates(files.cert.parent, "other", overwrite=True)
    assert (files.ca_cert.read_bytes(), files.ca_key.read_bytes()) == before
    assert get_device_info(again.cert.read_bytes()) == ("other", Environment.LOCAL_DEVELOPMENT)
    load_certificate(again.cert).verify_directly_issued_by(load_certificate(files.ca_cert))


def test_a_certificate_does_not_outlive_its_authority(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(certificate([], end=NOW + 5 * DAY))
    (tmp_path / "ca.key").write_bytes(private_key())
    for days, end in ((3, NOW + 3 * DAY), (30, NOW + 5 * DAY)):
        files = create_development_certificates(tmp_path, "a", days=days, overwrite=True)
        difference = load_certificate(files.cert).not_valid_after_utc - end
        assert abs(difference) < datetime.timedelta(hours=1)


def test_an_existing_device_key_is_not_overwritten(files: DevelopmentCertificates) -> None:
    before = files.cert.read_bytes(), files.key.read_bytes()
    with pytest.raises(FileExistsError, match=r"device\.key exists already"):
        create_development_certificates(files.cert.parent, "other")
    assert (files.cert.read_bytes(), files.key.read_bytes()) == before


def test_a_broken_certificate_authority_is_named(files: DevelopmentCertificates) -> None:
    def message() -> str:
        with pytest.raises(InvalidCredentials) as caught:
            create_development_certificates(files.cert.parent, "other", overwrite=True)
        return str(caught.value)

    device = files.cert.read_bytes(), files.key.read_bytes()
    key = files.ca_key.read_bytes()
    files.ca_key.write_bytes(device[1])
    assert message() == (
        f"CA private key {files.ca_key}: does not belong to CA certificate {files.ca_cert}"
    )
    files.ca_key.unlink()
    assert message() == f"CA private key {files.ca_key}: cannot be read: No such file or directory"
    files.ca_key.write_bytes(key)
    files.ca_cert.write_bytes(b"")
    assert message() == f"CA certificate {files.ca_cert}: is empty"
    assert (files.cert.read_bytes(), files.key.read_bytes()) == device


@pytest.mark.parametrize("device_id", ["", "a" * 65, "ż" * 33, "a\nb", "\0"])
def test_an_impossible_device_id_is_refused(tmp_path: Path, device_id: str) -> None:
    with pytest.raises(ValueError, match="a device ID is 1 to 64 bytes"):
        create_development_certificates(tmp_path, device_id)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("days", [0, -1, 36501])
def test_an_impossible_validity_is_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(ValueError, match="1 to 36500 days"):
        create_development_certificates(tmp_path, "a", days=days)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        create_development_certificates(tmp_path / "file" / "certs", "a")


def test_a_server_certificate_is_for_its_hosts(tmp_path: Path) -> None:
    files = create_server_certificate(tmp_path, ["smok.local", "10.0.0.1"])
    names = load_certificate(files.cert).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["smok.local"]
    assert [str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    with pytest.raises(ValueError, match="one host"):
        create_server_certificate(tmp_path, [])
    with pytest.raises(FileExistsError, match=r"server\.key"):
        create_server_certificate(tmp_path)
