"""The device's certificate and private key: who the device is, and which SMOK it belongs to.

A device certificate is X.509 in PEM with two extensions of SMOK's own, each holding one DER value:
``1.3.6.1.4.1.55338.0.0`` the device ID (UTF8String or PrintableString) and
``1.3.6.1.4.1.55338.0.1`` the environment (INTEGER, the values of :class:`Environment`).

Invariants:

- Whatever is wrong with a certificate or a key is :class:`InvalidCredentials`, whose message names
  the file and the reason. It never contains what the file holds: that may be a private key.
- A private key is written only to files of mode 0600. A temporary one lasts until
  :meth:`Credentials.close`.
- A file written to be kept is complete under its name, or not there.
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import logging
import os
import re
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from smok_fast._files import write_file
from smok_fast.basics import Environment
from smok_fast.exceptions import InvalidCredentials, UnavailableError

__all__ = [
    "CA_CERTS_VARIABLE",
    "DEVICE_ID",
    "ENVIRONMENT",
    "Credentials",
    "DevelopmentCertificates",
    "PEMSource",
    "ca_cert_files",
    "create_development_certificates",
    "create_server_certificate",
    "get_dev_ca_cert",
    "get_device_info",
    "get_rapid_ca_cert",
    "get_root_cert",
    "load_certificate",
]

logger = logging.getLogger(__name__)

#: The certificate extension that holds the device ID.
DEVICE_ID = x509.ObjectIdentifier("1.3.6.1.4.1.55338.0.0")
#: The certificate extension that holds the environment.
ENVIRONMENT = x509.ObjectIdentifier("1.3.6.1.4.1.55338.0.1")
#: The environment variable that says where SMOK's CA certificates are.
CA_CERTS_VARIABLE = "SMOK_CA_CERTS"

_UTF8_STRING, _PRINTABLE_STRING, _INTEGER = 0x0C, 0x13, 0x02
_PEM_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
#: No certificate or key is longer; guards against a path to something endless.
_MAX_PEM_BYTES = 1 << 20


class _Readable(Protocol):
    """A file-like object, in text or binary mode."""

    def read(self) -> str | bytes: ...


#: How a certificate or a key may be given: a path, a file-like object, or the PEM itself as bytes.
PEMSource: TypeAlias = str | os.PathLike[str] | bytes | _Readable


# --- The two extensions ---------------------------------------------------------------------------


def _der(tag: int, content: bytes) -> bytes:
    """One DER value (X.690): tag, shortest form of the length, content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


_ENVIRONMENTS = {_der(_INTEGER, bytes((environment,))): environment for environment in Environment}


def _decode_string(der: bytes) -> str:
    """The text of a DER UTF8String or PrintableString.

    :raises ValueError: it is neither
    """
    if len(der) < 2 or der[0] not in (_UTF8_STRING, _PRINTABLE_STRING):
        raise ValueError("neither a UTF8String nor a PrintableString")
    content = der[2:] if der[1] < 0x80 else der[2 + (der[1] & 0x7F) :]
    if _der(der[0], content) != der:  # in DER a value has one encoding only
        raise ValueError("its length is wrong")
    return content.decode("utf-8" if der[0] == _UTF8_STRING else "ascii")


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes:
    """The DER value in one of SMOK's extensions.

    :raises ValueError: it is missing, or the extensions cannot be read
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        raise ValueError(f"missing (no extension {oid.dotted_string})") from None
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as e:
        raise ValueError(str(e)) from e
    return extension.public_bytes()


def _device_info(pem: _PEM, certificate: x509.Certificate) -> tuple[str, Environment]:
    """What :func:`get_device_info` returns, from a parsed certificate."""
    try:
        device_id = _decode_string(_extension(certificate, DEVICE_ID))
        if not device_id or not device_id.isprintable():
            raise ValueError(f"{device_id!r} is no name")
    except ValueError as e:
        raise pem.error(f"not a SMOK device certificate: bad device ID: {e}") from e
    try:
        der = _extension(certificate, ENVIRONMENT)
        if der not in _ENVIRONMENTS:
            raise ValueError(f"DER {der[:16].hex()} is not the INTEGER 0, 1 or 2")
    except ValueError as e:
        raise pem.error(f"not a SMOK device certificate: bad environment: {e}") from e
    return device_id, _ENVIRONMENTS[der]


def get_device_info(cert_data: bytes) -> tuple[str, Environment]:
    """Tell whose a device certificate is.

    :param cert_data: the certificate in PEM; of several, the first
    :return: device ID and environment
    :raises InvalidCredentials: it is no certificate, or an extension is missing or malformed
    """
    pem = _PEM("device certificate", cert_data)
    return _device_info(pem, _parse_certificate(pem))


# --- Files ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _PEM:
    """What a certificate or key file holds, its name in messages, and its path if it has one."""

    name: str
    data: bytes
    path: str | None = None

    def holds(self, kind: bytes) -> bool:
        """Whether there is a PEM block whose label ends with that."""
        return any(label.endswith(kind) for label in _PEM_LABEL.findall(self.data))

    def error(self, reason: str) -> InvalidCredentials:
        return InvalidCredentials(f"{self.name}: {reason}")


def _read_pem(what: str, source: PEMSource) -> _PEM:
    """Read a certificate or a key.

    :param what: ``certificate`` or ``private key``, for messages
    :raises InvalidCredentials: it cannot be read, or is no PEM
    """
    if not (isinstance(source, str | os.PathLike | bytes) or hasattr(source, "read")):
        raise InvalidCredentials(f"{what}: a path, a file or bytes are needed, not {source!r:.100}")
    if isinstance(source, str) and "-----BEGIN" in source:
        raise InvalidCredentials(f"{what}: a str must be a path; give the PEM itself as bytes")
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    name = f"given {what}" if path is None else f"{what} {path}"
    try:
        if isinstance(source, str | os.PathLike):
            with Path(source).open("rb") as file:
                content: str | bytes = file.read(_MAX_PEM_BYTES + 1)
        else:
            content = source if isinstance(source, bytes) else source.read()
    except (OSError, ValueError) as e:  # ValueError: a closed file, a path with a NUL, bad UTF-8
        reason = e.strerror if isinstance(e, OSError) and e.strerror else e
        raise InvalidCredentials(f"{name}: cannot be read: {reason}") from e
    pem = _PEM(name, content.encode() if isinstance(content, str) else content, path)
    if not pem.data.strip(b"\0 \t\r\n"):  # what a power cut may leave of a file
        raise pem.error("is empty")
    if len(pem.data) > _MAX_PEM_BYTES:
        raise pem.error(f"is longer than {_MAX_PEM_BYTES} bytes")
    if not pem.holds(b""):
        raise pem.error("is not in PEM")
    return pem


def _parse_certificate(pem: _PEM) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.data)
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as e:
        raise pem.error(f"holds no valid certificate: {e}") from e


def _parse_key(pem: _PEM) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem.data, password=None)
    except TypeError as e:
        raise pem.error(
            "is encrypted; a device starts unattended, so decrypt it first (openssl pkey)"
        ) from e
    except (ValueError, UnsupportedAlgorithm) as e:
        raise pem.error(f"holds no valid private key: {e}") from e


def load_certificate(source: PEMSource) -> x509.Certificate:
    """Read a certificate, of any kind.

    :param source: a path, a file-like object, or the PEM itself as bytes
    :raises InvalidCredentials: it cannot be read, or holds no certificate
    """
    pem = _read_pem("certificate", source)
    if pem.holds(b"PRIVATE KEY") and not pem.holds(b"CERTIFICATE"):
        raise pem.error("holds a private key, not a certificate")
    return _parse_certificate(pem)


def _load_pair(cert: _PEM, key: _PEM) -> tuple[x509.Certificate, PrivateKeyTypes]:
    """Parse a certificate and its private key.

    :raises InvalidCredentials: they are swapped or malformed, or do not belong together
    """
    cert_is_key = cert.holds(b"PRIVATE KEY") and not cert.holds(b"CERTIFICATE")
    key_is_cert = key.holds(b"CERTIFICATE") and not key.holds(b"PRIVATE KEY")
    if cert_is_key and key_is_cert:
        raise InvalidCredentials(
            f"{cert.name} and {key.name} are swapped: the first holds a private key, "
            f"the second a certificate"
        )
    if cert_is_key:
        raise cert.error("holds a private key, not a certificate")
    if key_is_cert:
        raise key.error("holds a certificate, not a private key")
    certificate, private_key = _parse_certificate(cert), _parse_key(key)
    try:
        public_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as e:
        raise cert.error(f"has an unusable public key: {e}") from e
    if private_key.public_key() != public_key:
        raise key.error(f"does not belong to {cert.name}")
    return certificate, private_key


def _check_validity(pem: _PEM, certificate: x509.Certificate) -> None:
    """Refuse an expired certificate; of one not yet valid, only warn.

    The clock of a gateway without a battery starts in the past after a power cut, so "not yet
    valid" mostly means that the time has not been fetched yet. "Expired" cannot come from that.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    now = datetime.datetime.now(datetime.UTC)
    when = f"valid from {start:%F %R} to {end:%F %R}, the clock says {now:%F %R} UTC"
    if now > end:
        raise pem.error(f"has expired ({when})")
    if now < start:
        logger.warning("%s: is not valid yet (%s): is the clock right?", pem.name, when)


def _remove(paths: Sequence[str]) -> None:
    """Remove temporary files; one that is gone already is fine."""
    for path in paths:
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as e:
            logger.warning("Cannot remove the temporary file %s: %s", path, e)


class Credentials:
    """The certificate and the private key of this device, checked, and on disk for TLS to read.

    What is not given as a path is written to temporary files (mode 0600), which :meth:`close`
    removes; so does the garbage collector, and the end of the program. Usable as a context manager.

    :param cert: the device certificate, PEM, perhaps followed by its chain: a path, a file-like
        object, or the PEM itself as bytes
    :param priv_key: its private key, PEM, not encrypted; likewise
    :raises InvalidCredentials: a file cannot be used; the message says which and why
    :raises OSError: a temporary file cannot be written
    :ivar cert_path: path to the certificate; temporary if it was not given as a path
    :ivar key_path: path to the private key; temporary if it was not given as a path
    :ivar cert_given_as_path: whether the user gave the certificate as a path
    :ivar key_given_as_path: whether the user gave the private key as a path
    :ivar cert_data: the certificate as given
    :ivar device_id: device ID in the certificate
    :ivar environment: environment in the certificate
    """

    def __init__(self, cert: PEMSource, priv_key: PEMSource) -> None:
        cert_pem = _read_pem("certificate", cert)
        key_pem = _read_pem("private key", priv_key)
        certificate, _ = _load_pair(cert_pem, key_pem)
        self.device_id, self.environment = _device_info(cert_pem, certificate)
        _check_validity(cert_pem, certificate)
        self.cert_data = cert_pem.data
        self.cert_given_as_path = cert_pem.path is not None
        self.key_given_as_path = key_pem.path is not None
        temporary: list[str] = []
        self._remove_temporary = weakref.finalize(self, _remove, temporary)
        try:
            self.cert_path = cert_pem.path or _write_temporary(cert_pem.data, temporary)
            self.key_path = key_pem.path or _write_temporary(key_pem.data, temporary)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the temporary files, if there are any. May be called many times."""
        self._remove_temporary()

    def __enter__(self) -> Credentials:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _write_temporary(data: bytes, written: list[str]) -> str:
    """Write a temporary file of mode 0600, noting its name in ``written`` once it exists."""
    descriptor, path = tempfile.mkstemp(prefix="smok-", suffix=".pem")
    written.append(path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path


# --- SMOK's certificate authorities ---------------------------------------------------------------


def ca_cert_files(ca_certs: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """Where SMOK's CA certificates are.

    They are configured as a directory with ``root.crt``, ``dev.crt`` and ``rapid.crt`` (PEM), or as
    one PEM file that is all of them: the way of a development CA.

    :param ca_certs: that directory or file; by default the environment variable ``SMOK_CA_CERTS``
    :return: paths under ``root``, ``dev`` and ``rapid``, those that exist; none if not configured
    :raises UnavailableError: what is configured does not exist
    """
    configured = ca_certs or os.environ.get(CA_CERTS_VARIABLE)
    if not configured:
        return {}
    place = Path(configured)
    if not place.exists():
        raise UnavailableError(f"SMOK's CA certificates: there is no {place}")
    names = ("root", "dev", "rapid")
    if place.is_dir():
        return {name: path for name in names if (path := place / f"{name}.crt").is_file()}
    return dict.fromkeys(names, place)


def _get_ca_cert(name: str, ca_certs: str | os.PathLike[str] | None) -> bytes:
    files = ca_cert_files(ca_certs)
    if name not in files:
        where = ca_certs or os.environ.get(CA_CERTS_VARIABLE)
        raise UnavailableError(
            f"SMOK's CA certificate {name}.crt is not in {where}"
            if where
            else f"SMOK's CA certificates are not configured: give ca_certs= or set "
            f"{CA_CERTS_VARIABLE} to the directory that holds {name}.crt"
        )
    try:
        return files[name].read_bytes()
    except OSError as e:
        raise UnavailableError(f"SMOK's CA certificate: {e}") from e


def get_root_cert(ca_certs: str | os.PathLike[str] | None = None) -> bytes:
    """SMOK's root CA certificate, PEM.

    :param ca_certs: where SMOK's CAs are, see :func:`ca_cert_files`
    :raises UnavailableError: it is not configured, or cannot be read
    """
    return _get_ca_cert("root", ca_certs)


def get_dev_ca_cert(ca_certs: str | os.PathLike[str] | None = None) -> bytes:
    """The CA certificate that signs SMOK's devices, PEM.

    :param ca_certs: where SMOK's CAs are, see :func:`ca_cert_files`
    :raises UnavailableError: it is not configured, or cannot be read
    """
    return _get_ca_cert("dev", ca_certs)


def get_rapid_ca_cert(ca_certs: str | os.PathLike[str] | None = None) -> bytes:
    """The CA certificate that signs RAPID hosts, PEM.

    :param ca_certs: where SMOK's CAs are, see :func:`ca_cert_files`
    :raises UnavailableError: it is not configured, or cannot be read
    """
    return _get_ca_cert("rapid", ca_certs)


# --- Development certificates ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class DevelopmentCertificates:
    """Paths of a certificate, its private key, and the development CA that signed it.

    :ivar ca_cert: the CA's certificate
    :ivar ca_key: the CA's private key
    :ivar cert: the certificate
    :ivar key: its private key
    """

    ca_cert: Path
    ca_key: Path
    cert: Path
    key: Path


def create_development_certificates(
    directory: str | os.PathLike[str],
    device_id: str,
    environment: Environment = Environment.LOCAL_DEVELOPMENT,
    *,
    days: int = 3650,
    overwrite: bool = False,
) -> DevelopmentCertificates:
    """Make a device certificate that a local server accepts, and a development CA if there is none.

    Real SMOK accepts only certificates that SMOK signed.

    :param directory: where ``ca.crt``, ``ca.key``, ``device.crt`` and ``device.key`` go; made if
        missing, and a CA found there is used again
    :param device_id: device ID, 1 to 64 bytes of UTF-8
    :param environment: environment the certificate names
    :param days: how long it is valid, 1 to 36500 days, but no longer than the CA
    :param overwrite: whether to replace a ``device.key`` that is there
    :raises FileExistsError: there is a ``device.key`` already
    :raises InvalidCredentials: the CA found there cannot be used
    :raises ValueError: the device ID or the number of days is out of range
    :raises OSError: a file cannot be written
    """
    if not 1 <= len(device_id.encode()) <= 64 or not device_id.isprintable():
        raise ValueError("a device ID is 1 to 64 bytes of printable text")
    extensions: list[x509.ExtensionType] = [
        x509.UnrecognizedExtension(DEVICE_ID, _der(_UTF8_STRING, device_id.encode())),
        x509.UnrecognizedExtension(ENVIRONMENT, _der(_INTEGER, bytes((environment,)))),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
    ]
    return _create(Path(directory), "device", device_id, extensions, days, overwrite)


def create_server_certificate(
    directory: str | os.PathLike[str],
    hosts: Sequence[str] = ("localhost", "127.0.0.1", "::1"),
    *,
    days: int = 3650,
    overwrite: bool = False,
) -> DevelopmentCertificates:
    """Make the certificate of a local server, signed by the same development CA as its devices.

    :param directory: where ``server.crt`` and ``server.key`` go, and the CA is or goes
    :param hosts: host names and IP addresses of the server, the first one its subject
    :param days: how long it is valid, 1 to 36500 days, but no longer than the CA
    :param overwrite: whether to replace a ``server.key`` that is there
    :raises FileExistsError: there is a ``server.key`` already
    :raises InvalidCredentials: the CA found there cannot be used
    :raises ValueError: there is no host, or the number of days is out of range
    :raises OSError: a file cannot be written
    """
    if not hosts:
        raise ValueError("a server certificate is for one host at least")
    extensions: list[x509.ExtensionType] = [
        x509.SubjectAlternativeName([_general_name(host) for host in hosts]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    ]
    return _create(Path(directory), "server", hosts[0], extensions, days, overwrite)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _create(
    directory: Path,
    name: str,
    subject: str,
    extensions: Sequence[x509.ExtensionType],
    days: int,
    overwrite: bool,
) -> DevelopmentCertificates:
    """Make ``name.crt`` and ``name.key``, signed by the CA in the directory."""
    if not 1 <= days <= 36500:
        raise ValueError("a certificate is valid for 1 to 36500 days")
    paths = DevelopmentCertificates(
        ca_cert=directory / "ca.crt",
        ca_key=directory / "ca.key",
        cert=directory / f"{name}.crt",
        key=directory / f"{name}.key",
    )
    if paths.key.exists() and not overwrite:
        raise FileExistsError(
            f"{paths.key} exists already; give overwrite to replace it, or take another folder"
        )
    directory.mkdir(parents=True, exist_ok=True)
    ca, ca_key = _development_ca(paths)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, ca.subject, key, ca_key.public_key(), days, ca.not_valid_after_utc)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_key_usage(ca=False), True)
    for extension in extensions:
        builder = builder.add_extension(extension, False)
    _write_pair(paths.cert, builder.sign(ca_key, hashes.SHA256()), paths.key, key)
    return paths


def _development_ca(
    paths: DevelopmentCertificates,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The CA in the directory, made if there is none."""
    if not paths.ca_cert.exists() and not paths.ca_key.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = "smok-fast development CA"
        builder = _builder(name, _name(name), key, key.public_key(), days=36500)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(_key_usage(ca=True), True)
        certificate = builder.sign(key, hashes.SHA256())
        _write_pair(paths.ca_cert, certificate, paths.ca_key, key)
        return certificate, key
    cert_pem = _read_pem("CA certificate", paths.ca_cert)
    key_pem = _read_pem("CA private key", paths.ca_key)
    certificate, found_key = _load_pair(cert_pem, key_pem)
    _check_validity(cert_pem, certificate)
    if not isinstance(found_key, ec.EllipticCurvePrivateKey):
        raise key_pem.error("is no elliptic-curve key, so no development CA of smok-fast")
    return certificate, found_key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePublicKey,
    days: int,
    latest_end: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    """What all certificates of a development CA have in common."""
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A device whose clock is a little slow may use it at once.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(end if latest_end is None else min(end, latest_end))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False)
    )


def _write_pair(
    cert_path: Path, certificate: x509.Certificate, key_path: Path, key: ec.EllipticCurvePrivateKey
) -> None:
    """Write a certificate and its key, the key first: there is never a certificate without one."""
    pem = serialization.Encoding.PEM
    key_data = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_file(key_path, key_data, mode=0o600)
    write_file(cert_path, certificate.public_bytes(pem), mode=0o644)
