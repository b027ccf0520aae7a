"""Which device is calling: from the certificate of its TLS connection, else from the header that
carries one.

A certificate that came by TLS was verified by TLS. One in the header is taken at its word unless
the server has a CA file, as on SMOK's own testing installations, where a proxy has verified it;
then a CA in that file must have issued it. Whatever way it came, it must name a device and be
within its dates.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from starlette.requests import HTTPConnection

from smok_fast.basics import Environment
from smok_fast.client.certificate import get_device_info
from smok_fast.exceptions import InvalidCredentials
from smok_fast.server import checks
from smok_fast.server.checks import ApiError

__all__ = ["CERTIFICATE_HEADER", "Caller", "Identifier"]

CERTIFICATE_HEADER = "X-SSL-Client-Certificate"


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who a certificate belongs to.

    :ivar device_id: device ID
    :ivar environment: the environment that the certificate is valid for
    :ivar not_before: when it begins to be valid
    :ivar not_after: when it expires
    """

    device_id: str
    environment: Environment
    not_before: datetime.datetime
    not_after: datetime.datetime


class Identifier:
    """Tells callers by their certificates.

    :param ca_file: PEM file of the CAs whose certificates are accepted in the header; None accepts
        any
    :raises OSError: the CA file cannot be read
    :raises ValueError: it holds no certificates
    """

    def __init__(self, ca_file: str | os.PathLike[str] | None = None) -> None:
        self._authorities: list[x509.Certificate] | None = None
        if ca_file is not None:
            self._authorities = x509.load_pem_x509_certificates(Path(ca_file).read_bytes())
        # A device sends the same certificate with every call.
        self._read = functools.lru_cache(maxsize=256)(self._read_certificate)

    def device_id(self, connection: HTTPConnection) -> str:
        """The ID of the device that sent this request.

        :raises ApiError: 401, no certificate, or one that cannot be accepted; the status says why
        """
        der: bytes | None = getattr(connection.state, "peer_certificate", None)
        if der is not None:
            return self.device_id_of(der)
        header = connection.headers.get(CERTIFICATE_HEADER)
        if not header:
            raise ApiError(
                401, f"no client certificate, neither by TLS nor in {CERTIFICATE_HEADER}"
            )
        return self._check(header.replace("\t", "\n"), verify=self._authorities is not None)

    def device_id_of(self, der: bytes) -> str:
        """The ID of the device whose certificate TLS has verified.

        :param der: the certificate
        :raises ApiError: 401, it cannot be accepted; the status says why
        """
        return self._check(ssl.DER_cert_to_PEM_cert(der), verify=False)

    def _check(self, pem: str, *, verify: bool) -> str:
        try:
            caller = self._read(pem, verify=verify)
        except InvalidCredentials as error:
            raise ApiError(401, f"{error}") from None
        now = datetime.datetime.now(datetime.UTC)
        if now < caller.not_before:
            raise ApiError(401, f"client certificate: not valid before {caller.not_before}")
        if now > caller.not_after:
            raise ApiError(401, f"client certificate: expired on {caller.not_after}")
        return caller.device_id

    def _read_certificate(self, pem: str, *, verify: bool) -> Caller:
        content = pem.encode("latin-1", errors="replace")
        device_id, environment = get_device_info(content)
        try:
            checks.key(device_id, "device ID")
        except ApiError as error:
            raise InvalidCredentials(error.status) from None
        certificate = x509.load_pem_x509_certificate(content)
        if verify and not self._is_trusted(certificate):
            raise InvalidCredentials("not issued by any CA that this server knows")
        return Caller(
            device_id,
            environment,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )

    def _is_trusted(self, certificate: x509.Certificate) -> bool:
        return any(_issued(authority, certificate) for authority in self._authorities or ())


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
