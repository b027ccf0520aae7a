"""What the tests of the local server have in common: a device that speaks bare HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from smok_fast import minijson
from smok_fast.server import LocalServer

CERTIFICATE_HEADER = "X-SSL-Client-Certificate"
TIMEOUT = 60


class Device:
    """A device as the server sees it: a session that carries a certificate."""

    device_id = ""

    def __init__(self, url: str, certificate: Path | None = None) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        if certificate is not None:
            pem = certificate.read_text().replace("\n", "\t")
            self.session.headers[CERTIFICATE_HEADER] = pem

    def call(self, method: str, path: str, body: Any = ..., **kwargs: Any) -> requests.Response:
        """Call the server; a body goes as MiniJSON."""
        if body is not ...:
            kwargs["data"] = minijson.dumps(body)
            kwargs["headers"] = {"Content-Type": "application/minijson"}
        return self.session.request(method, self.url + path, timeout=TIMEOUT, **kwargs)

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return self.call("GET", path, **kwargs)

    def post(self, path: str, body: Any = ..., **kwargs: Any) -> requests.Response:
        return self.call("POST", path, body, **kwargs)

    def put(self, path: str, body: Any = ..., **kwargs: Any) -> requests.Response:
        return self.call("PUT", path, body, **kwargs)

    def patch(self, path: str, body: Any = ...) -> requests.Response:
        return self.call("PATCH", path, body)

    def delete(self, path: str) -> requests.Response:
        return self.call("DELETE", path)

    def upload(self, path: str, *values: Any) -> requests.Response:
        """Upload samples of one pathpoint."""
        return self.post("/v1/device/pathpoints", [{"path": path, "values": list(values)}])


@contextmanager
def new_device(server: LocalServer, device_certificate: Any) -> Iterator[Device]:
    """A device that this server has never seen, so that tests may share a server."""
    device_id = f"device {uuid4().hex[:8]}"
    device = Device(server.url, device_certificate(device_id).cert)
    device.device_id = device_id
    with device.session:
        yield device


def status(response: requests.Response) -> str:
    """What the server says about a refusal."""
    return str(response.json()["status"])
