"""Slave devices: what the device tells the server about each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smok_fast._urls import segment
from smok_fast.exceptions import ResponseError

if TYPE_CHECKING:
    from smok_fast.basics import SlaveDeviceInfo
    from smok_fast.client import SMOKDevice

__all__ = ["SlaveDevice"]

#: How many times a write is tried while the server does not answer.
TRIES = 3


class SlaveDevice:
    """A device attached to this one. For user threads.

    The first read of a property asks the server, the next ones do not.

    :param sd: the device
    :param data: what the server knows about the slave
    :ivar device_id: its device ID
    :ivar configuration: its configuration, in whatever format its service uses
    :ivar responsible_service: the service that runs it, mostly ``rapid``
    :ivar master_controller: device ID of its master
    """

    __slots__ = (
        "_instrumentation",
        "_linkstate",
        "configuration",
        "device_id",
        "master_controller",
        "responsible_service",
        "sd",
    )

    def __init__(self, sd: SMOKDevice, data: SlaveDeviceInfo) -> None:
        self.sd = sd
        self.device_id = data.device_id
        self.configuration = data.configuration
        self.responsible_service = data.responsible_service
        self.master_controller = data.master_controller
        self._linkstate: dict[str, Any] | None = None
        self._instrumentation: str | None = None

    @property
    def linkstate(self) -> dict[str, Any]:
        """State of the link to it: ``status`` (bool), and maybe ``failed_devices`` (addresses).

        Empty if nobody has set it. Assign to set it.

        :raises ResponseError: the server refused, or did not answer
        :raises ValueError: assigned without ``status``
        """
        if self._linkstate is None:
            self._download()
        return self._linkstate or {}

    @linkstate.setter
    def linkstate(self, v: dict[str, Any]) -> None:
        if "status" not in v:
            raise ValueError("a linkstate needs a status")
        self._patch({"linkstate": json.dumps(v)})
        self._linkstate = v

    @property
    def instrumentation(self) -> str:
        """Its condition, as a text of any format. Assign to set it.

        :raises ResponseError: the server refused, or did not answer
        """
        if self._instrumentation is None:
            self._download()
        return self._instrumentation or ""

    @instrumentation.setter
    def instrumentation(self, v: str) -> None:
        self._patch({"instrumentation": v})
        self._instrumentation = v

    @property
    def _path(self) -> str:
        return f"/v1/device/instrumentation/{segment(self.device_id)}"

    def _download(self) -> None:
        """Fill in what was neither downloaded nor set."""
        answer = self.sd.api.get(self._path)
        fields = answer if isinstance(answer, Mapping) else {}
        if self._linkstate is None:
            self._linkstate = _parse_linkstate(fields.get("linkstate"))
        if self._instrumentation is None:
            instrumentation = fields.get("instrumentation")
            self._instrumentation = instrumentation if isinstance(instrumentation, str) else ""

    def _patch(self, fields: dict[str, str]) -> None:
        for tries_left in reversed(range(TRIES)):
            try:
                self.sd.api.patch(self._path, json=fields)
            except ResponseError as error:
                if error.is_clients_fault() or not tries_left:
                    raise
            else:
                return


def _parse_linkstate(text: object) -> dict[str, Any]:
    """A linkstate from its JSON; empty if it is none."""
    try:
        linkstate = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return {}
    return linkstate if isinstance(linkstate, dict) else {}
