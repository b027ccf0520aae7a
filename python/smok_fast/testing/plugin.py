"""The pytest fixtures of smok_fast; pytest finds them by itself once smok_fast is installed.

They need the extra ``server``: a test that asks for a server without it is skipped, and its reason
says what to install. Nothing but pytest is imported before a test asks for a fixture.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from smok_fast.basics import Environment

if TYPE_CHECKING:
    from smok_fast.client.certificate import DevelopmentCertificates
    from smok_fast.server import LocalServer

__all__ = ["device_certificate", "smok_ngtt_server", "smok_server"]


@pytest.fixture
def smok_server() -> Iterator[LocalServer]:
    """A SMOK server in memory, on a free port of this machine, for one test."""
    with _server_module().LocalServer() as running:
        yield running


@pytest.fixture
def smok_ngtt_server(
    device_certificate: Callable[..., DevelopmentCertificates],
) -> Iterator[LocalServer]:
    """The same over TLS, which also pushes orders over NGTT.

    Devices need ``ca_certs`` and the server's ``ngtt_address``::

        certificate = device_certificate()
        SMOKDevice(
            str(certificate.cert), str(certificate.key), "state", use_ngtt=True,
            url=smok_ngtt_server.url, ngtt=smok_ngtt_server.ngtt_address,
            ca_certs=certificate.ca_cert,
        )
    """
    server = _server_module()
    authority = device_certificate().ca_cert
    made = importlib.import_module("smok_fast.client.certificate").create_server_certificate(
        authority.parent
    )
    with server.LocalServer(
        certificate=made.cert, key=made.key, ca_file=authority, ngtt_port=0
    ) as running:
        yield running


def _server_module() -> Any:
    return pytest.importorskip(
        "smok_fast.server",
        reason="SMOK servers for tests need: pip install 'smok-fast[server]'",
        exc_type=ImportError,
    )


@pytest.fixture
def device_certificate(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., DevelopmentCertificates]:
    """Makes device certificates: ``device_certificate(device_id="1", environment=…)``.

    What it returns has the paths ``cert`` and ``key``, and those of the CA, ``ca_cert`` and
    ``ca_key``; within a test all devices have the same CA.
    """
    directory = tmp_path_factory.mktemp("certificates")
    made: dict[tuple[str, Environment], DevelopmentCertificates] = {}

    def make(
        device_id: str = "1", environment: Environment = Environment.LOCAL_DEVELOPMENT
    ) -> DevelopmentCertificates:
        if (device_id, environment) not in made:
            place = directory / str(len(made))
            place.mkdir()
            for earlier in list(made.values())[:1]:
                shutil.copy(earlier.ca_cert, place)
                shutil.copy(earlier.ca_key, place)
            module = importlib.import_module("smok_fast.client.certificate")
            made[device_id, environment] = module.create_development_certificates(
                place, device_id, environment
            )
        return made[device_id, environment]

    return make
