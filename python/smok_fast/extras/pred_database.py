"""Predicates that the server has set up on this device."""

from __future__ import annotations

import abc
import contextlib
import threading
from typing import Any

from smok_fast.state.plain import Encoder, encode

__all__ = ["BasePredicateDatabase", "InMemoryPredicateDatabase"]


class BasePredicateDatabase(abc.ABC):
    """Keeps predicates, so that they work when the device starts offline.

    A predicate is kept as the dictionary that
    :meth:`BaseStatistic.to_kwargs <smok_fast.predicate.BaseStatistic.to_kwargs>` gives.
    Called by CommunicatorThread; :meth:`get_all_predicates` by the constructor of SMOKDevice.
    """

    @abc.abstractmethod
    def get_all_predicates(self) -> list[dict[str, Any]]:
        """All predicates kept."""

    @abc.abstractmethod
    def update_predicate(self, v: dict[str, Any]) -> None:
        """One predicate has changed; called only if it really has."""

    @abc.abstractmethod
    def set_new_predicates(self, v: list[dict[str, Any]]) -> None:
        """The server sent the predicates; these replace the ones kept."""


class InMemoryPredicateDatabase(BasePredicateDatabase):
    """Keeps predicates until the program ends. Called by CommunicatorThread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._predicates: dict[str, dict[str, Any]] = {}

    def get_all_predicates(self) -> list[dict[str, Any]]:
        """All predicates kept."""
        with self._lock:
            return list(self._predicates.values())

    def update_predicate(self, v: dict[str, Any]) -> None:
        """Replace one predicate."""
        with self._lock:
            self._predicates[v["predicate_id"]] = v

    def set_new_predicates(self, v: list[dict[str, Any]]) -> None:
        """Replace all predicates."""
        with self._lock:
            self._predicates = {predicate["predicate_id"]: predicate for predicate in v}


def encode_predicate(encoder: Encoder, predicate: dict[str, Any]) -> str | bytes | None:
    """A predicate as it is kept in a file: without its state, if that cannot be.

    :param encoder: encodes what can be kept
    :param predicate: the predicate
    :return: None if the rest cannot be kept either
    """
    with contextlib.suppress(ValueError):
        return encode(predicate, encoder.classes)
    return encoder.encode(predicate["predicate_id"], {**predicate, "state": None})
