"""The admin API of the local SMOK server, for tests and demonstrations."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import requests

from smok_fast.exceptions import NO_LINK, ResponseError

__all__ = ["Admin", "Counts", "NGTTState", "Sample", "wait_until"]

_TIMEOUT = 60.0
_PAGE = 10_000


class Sample(NamedTuple):
    """A sample as the server keeps it: with a value, or with the error code of a failed read.

    :ivar timestamp: milliseconds since the epoch
    :ivar value: the value, None for a failed read
    :ivar error_code: ``malformed``, ``timeout``, ``invalid`` or ``type``; None for a value
    """

    timestamp: int
    value: int | float | str | None
    error_code: str | None = None

    @classmethod
    def from_json(cls, sample: Sequence[Any]) -> Sample:
        """From the form in which samples are uploaded."""
        if len(sample) == 3:
            return cls(sample[1], None, sample[2])
        return cls(sample[0], sample[1])


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How much the server holds for a device.

    :ivar samples: samples, failed reads among them
    :ivar failures: failed reads
    :ivar duplicates: samples that came again with the same content
    :ivar conflicts: samples that came again with another content, and were not stored
    :ivar events: events
    :ivar sensor_writes: sensor writes
    :ivar logs: log records
    :ivar logs_out_of_order: log records whose ``when`` did not rise
    :ivar pathpoints: samples by pathpoint, for those that have any
    """

    samples: int
    failures: int
    duplicates: int
    conflicts: int
    events: int
    sensor_writes: int
    logs: int
    logs_out_of_order: int
    pathpoints: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class NGTTState:
    """How a device is doing over NGTT.

    :ivar connected: whether it is connected
    :ivar under_way: orders that were pushed and not answered yet
    :ivar confirmed: orders that it has confirmed since the server was made
    :ivar rejected: orders that it has rejected
    """

    connected: bool
    under_way: int
    confirmed: int
    rejected: int


class Admin:
    """The admin API of a local SMOK server. One thread at a time may use it; each call waits for
    its answer.

    All methods raise :class:`~smok_fast.exceptions.ResponseError` when the server refuses, or does
    not answer (its ``is_no_link()`` tells which).

    :param url: where the server is
    :param token: its admin token, where it has one
    :param verify: for TLS: a PEM file of what to trust, or True for what the system trusts
    """

    def __init__(self, url: str, token: str | None = None, verify: bool | str = True) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        # A proxy that the environment names has no business between a test and its server.
        self._session.trust_env = False
        self._session.verify = verify
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def __enter__(self) -> Admin:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Devices

    def devices(self) -> list[str]:
        """IDs of all devices that have called or were set up."""
        return list(self._json("GET", "devices"))

    def set_device(self, device_id: str, **fields: Any) -> None:
        """Describe a device.

        :param fields: any of ``verbose_name``, ``timezone``, ``units``, ``language``, ``facets`` (a
            list) and ``slaves`` (a list of objects with ``device_id`` and maybe ``configuration``,
            ``responsible_service``, ``master_controller``)
        """
        self._json("PUT", "device", device_id, fields)

    def slaves(self, device_id: str) -> list[dict[str, Any]]:
        """The slaves of a device, with the ``linkstate`` and ``instrumentation`` of each."""
        return list(self._json("GET", "slaves", device_id))

    # Orders

    def queue_orders(self, device_id: str, sections: Iterable[Any]) -> None:
        """Queue sections, ``{"orders": […], "disposition": 0}`` each, for the device to fetch.

        The server does not look into them, so that a test may queue anything.
        """
        self._json("POST", "orders", device_id, list(sections))

    def pending_orders(self, device_id: str) -> list[Any]:
        """The sections that the device has neither fetched nor confirmed yet."""
        return list(self._pages("orders", device_id))

    def ngtt(self, device_id: str) -> NGTTState:
        """How the device is doing over NGTT."""
        return NGTTState(**self._json("GET", "ngtt", device_id))

    def messages(self, device_id: str) -> dict[str, float | None]:
        """The UUIDs of queued message orders, and when each was confirmed (seconds), if it was."""
        found = self._json("GET", "messages", device_id)
        return {message["uuid"]: message["confirmed_on"] for message in found}

    # Pathpoints, archives, sensors

    def pathpoints(self, device_id: str) -> dict[str, int]:
        """The pathpoints that the server knows, and their storage levels."""
        found = self._json("GET", "pathpoints", device_id)
        return {pathpoint["path"]: pathpoint["storage_level"] for pathpoint in found}

    def set_pathpoints(self, device_id: str, levels: Mapping[str, int]) -> None:
        """Set the storage levels of pathpoints; they win over what the device registers."""
        body = [{"path": path, "storage_level": int(level)} for path, level in levels.items()]
        self._json("PUT", "pathpoints", device_id, body)

    def set_archives(self, device_id: str, archives: Iterable[Mapping[str, Any]]) -> None:
        """Set what is archived: ``{"interval": seconds, "pathpoints": [path, …]}`` each."""
        self._json("PUT", "archives", device_id, list(archives))

    def set_sensors(self, device_id: str, sensors: Iterable[Mapping[str, Any]]) -> None:
        """Set the sensors: ``{"fqts": …, "path": …, "type": …}`` each."""
        self._json("PUT", "sensors", device_id, list(sensors))

    def sensor_writes(self, device_id: str) -> list[dict[str, Any]]:
        """The sensor writes that the device has logged."""
        return list(self._pages("write_log", device_id))

    # Samples

    def values(self, device_id: str, path: str, after: int = -1) -> list[Sample]:
        """The samples of a pathpoint in order of time.

        :param after: only those later than this, in milliseconds since the epoch
        """
        found = self._pages("values", device_id, after=after, path=path)
        return [Sample.from_json(sample) for sample in found]

    def counts(self, device_id: str) -> Counts:
        """How much the server holds for a device."""
        return Counts(**self._json("GET", "counts", device_id))

    def samples_count(self, device_id: str) -> int:
        """How many samples the server holds for a device, failed reads among them."""
        return self.counts(device_id).samples

    def conflicts(self, device_id: str) -> list[dict[str, Any]]:
        """Samples whose timestamp held another content: path, timestamp, stored, received."""
        return list(self._pages("conflicts", device_id))

    # Predicates, events, macros

    def set_predicates(self, device_id: str, predicates: Iterable[Mapping[str, Any]]) -> None:
        """Set the predicates: ``{"predicate_id": …, "statistic": …, "configuration": …}`` each."""
        self._json("PUT", "predicates", device_id, list(predicates))

    def events(self, device_id: str) -> list[dict[str, Any]]:
        """The events that the device has sent, oldest first."""
        return list(self._pages("events", device_id))

    def set_macros(self, device_id: str, macros: Iterable[Mapping[str, Any]]) -> None:
        """Set the macros.

        :param macros: ``{"macro_id": …, "commands": [{"path": …, "value": …}], "occurrences":
            [seconds, …]}`` each
        """
        self._json("PUT", "macros", device_id, list(macros))

    def macros(self, device_id: str) -> list[dict[str, Any]]:
        """The macros; each occurrence is ``completed`` or not, by so many ``reports``."""
        return list(self._json("GET", "macros", device_id))

    def done_macros(self, device_id: str) -> list[tuple[str, float]]:
        """Macro ID and timestamp (seconds) of each occurrence that was reported as executed."""
        return [
            (macro["macro_id"], occurrence["timestamp"])
            for macro in self.macros(device_id)
            for occurrence in macro["occurrences"]
            if occurrence["completed"]
        ]

    # BAOBs, metadata, logs

    def baobs(self, device_id: str) -> dict[str, int]:
        """Keys and versions of the BAOBs that are not deleted."""
        found = self._json("GET", "baobs", device_id)
        return {baob["key"]: baob["version"] for baob in found if not baob["deleted"]}

    def baob(self, device_id: str, key: str) -> bytes:
        """Content of a BAOB."""
        return self._request("GET", "baob", {"device": device_id, "key": key}).content

    def set_baob(self, device_id: str, key: str, content: bytes, version: int | None = None) -> int:
        """Set the content of a BAOB.

        :param version: its version, None for the next
        :return: the version
        """
        query = {"device": device_id, "key": key}
        if version is not None:
            query["version"] = str(version)
        version_set: int = self._request("PUT", "baob", query, data=content).json()["version"]
        return version_set

    def delete_baob(self, device_id: str, key: str) -> None:
        """Delete a BAOB."""
        self._request("DELETE", "baob", {"device": device_id, "key": key})

    def metadata(self, device_id: str) -> dict[str, str]:
        """The plain metadata of a device."""
        return {row["key"]: row["value"] for row in self._json("GET", "metadata", device_id)}

    def set_metadata(
        self, device_id: str, key: str, value: str, timestamp: float | None = None
    ) -> None:
        """Set plain metadata, whatever is stored.

        :param timestamp: when it was set, in seconds; None for now
        """
        body = {"key": key, "value": value, "timestamp": timestamp}
        self._json("PUT", "metadata", device_id, body)

    def delete_metadata(self, device_id: str, key: str) -> None:
        """Delete plain metadata; there need not be any."""
        self._request("DELETE", "metadata", {"device": device_id, "key": key})

    def logs(self, device_id: str) -> list[dict[str, Any]]:
        """The log records, messages unpacked; ``in_order`` tells whether ``when`` had risen."""
        return list(self._pages("logs", device_id))

    # Faults

    def fault(
        self,
        path: str = "/v1/",
        *,
        status: int | None = None,
        body: bytes | str | None = None,
        content_type: str = "application/json",
        delay: float = 0.0,
        drop: bool = False,
        handled: bool = False,
        times: int | None = 1,
        method: str | None = None,
    ) -> int:
        """Make the next calls of the device API go wrong.

        :param path: beginning of the paths of these calls
        :param status: HTTP status to answer with; 200 when only a body is given
        :param body: body to answer with
        :param content_type: its type
        :param delay: seconds to wait first
        :param drop: drop the connection instead of answering
        :param handled: let the server do what it is asked, and spoil only its answer
        :param times: to how many calls this applies; None for all until it is removed
        :param method: HTTP method of these calls, None for any
        :return: the number of the fault, for :meth:`fault_hits` and :meth:`remove_faults`
        """
        what: dict[str, Any] = {
            "path": path,
            "method": method,
            "status": 200 if status is None and body is not None else status,
            "content_type": content_type,
            "delay": delay,
            "drop": drop,
            "handled": handled,
            "times": times,
        }
        if body is not None:
            content = body.encode() if isinstance(body, str) else body
            what["body_base64"] = base64.b64encode(content).decode()
        fault_id: int = self._json("POST", "faults", body=what)["id"]
        return fault_id

    def fault_hits(self, fault_id: int) -> int:
        """How often a fault was applied.

        :raises KeyError: there is no such fault
        """
        hits = {fault["id"]: fault["hits"] for fault in self._json("GET", "faults")}
        return int(hits[fault_id])

    def remove_faults(self, fault_id: int | None = None) -> None:
        """Remove a fault, or all faults."""
        self._request("DELETE", "faults", {} if fault_id is None else {"id": str(fault_id)})

    def _json(self, method: str, what: str, device_id: str | None = None, body: Any = None) -> Any:
        query = {} if device_id is None else {"device": device_id}
        content = {} if body is None else _encoded(body)
        response = self._request(method, what, query, **content)
        return response.json() if response.content else None

    def _pages(self, what: str, device_id: str, after: int = -1, **query: str) -> Iterator[Any]:
        position: int | None = after
        while position is not None:
            # Positions begin with 0, so -1 is before the first.
            start = {} if position < 0 else {"after": str(position)}
            page = self._request(
                "GET", what, {"device": device_id, "limit": str(_PAGE), **start, **query}
            ).json()
            yield from page["items"]
            position = page["next"]

    def _request(
        self, method: str, what: str, query: Mapping[str, str], **content: Any
    ) -> requests.Response:
        try:
            response = self._session.request(
                method, f"{self.url}/admin/{what}", params=query, timeout=_TIMEOUT, **content
            )
        except requests.RequestException as error:
            raise ResponseError(NO_LINK, str(error)) from error
        if not response.ok:
            raise ResponseError(response.status_code, _status(response))
        return response


def _encoded(body: Any) -> dict[str, Any]:
    # Not requests' own JSON, which refuses NaN and infinities: floats are floats here.
    return {"data": json.dumps(body), "headers": {"Content-Type": "application/json"}}


def _status(response: requests.Response) -> str:
    try:
        return str(response.json()["status"])
    except (ValueError, KeyError, TypeError):
        return response.text


def wait_until(condition: Callable[[], Any], timeout: float = 60.0, interval: float = 0.02) -> None:
    """Wait until a condition holds, asking again and again.

    For what has no event to wait for, such as the contents of a server.

    :param condition: called until it returns something true
    :param timeout: after how many seconds to give up
    :param interval: how many seconds to wait between two calls
    :raises TimeoutError: it did not hold in time
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition did not hold within {timeout:g} s")
        time.sleep(interval)
