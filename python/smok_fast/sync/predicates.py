"""Keeps the device's predicates as the server wants them, and lets them work.

Invariants: no exception of a user's statistic reaches another one; a predicate is deleted only if
the server's list was understood in whole and does not have it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smok_fast.pathpoint import reports
from smok_fast.predicate import BaseStatistic, DisabledTime
from smok_fast.predicate.undefined import UndefinedStatistic
from smok_fast.sync.base import SyncTask, logger, parse_each, text

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["PredicatesTask", "TicksTask"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Definition:
    """A predicate as the server defines it."""

    predicate_id: str
    online: bool
    statistic: str
    configuration: Any
    verbose_name: str
    group: str
    silencing: list[DisabledTime]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> _Definition:
        if not isinstance(entry["online"], bool):
            raise TypeError("online must be true or false")
        return cls(
            predicate_id=text(entry, "predicate_id"),
            online=entry["online"],
            statistic=text(entry, "statistic"),
            configuration=entry.get("configuration"),
            verbose_name=text(entry, "verbose_name"),
            group=text(entry, "group"),
            silencing=parse_each(entry.get("silencing") or [], DisabledTime.from_json, "silencing"),
        )


class PredicatesTask(SyncTask):
    """Creates, changes, and deletes predicates. Run by CommunicatorThread."""

    name = "predicates"
    interval = 300.0

    def exchange(self) -> bool:
        """Fetch the definitions and apply them."""
        answer = self._call(self.device.api.get, "/v1/device/predicates")
        definitions = parse_each(answer, _Definition.from_json, "predicate")
        for definition in definitions:
            self._apply(definition)
        if len(definitions) == len(answer):
            known = {definition.predicate_id for definition in definitions}
            for predicate_id in self.device.predicates.keys() - known:
                self._take_offline(predicate_id)
                self.device.evt_database.on_predicate_deleted(predicate_id)
        self._keep()
        return False

    def _keep(self) -> None:
        kept = []
        for predicate_id, predicate in list(self.device.predicates.items()):
            try:
                kept.append(predicate.to_kwargs())
            except Exception as error:
                reports.statistic_raised(predicate_id, "to_kwargs", error)
        if kept != self.device.pred_database.get_all_predicates():
            self.device.pred_database.set_new_predicates(kept)

    def _apply(self, definition: _Definition) -> None:
        predicate = self.device.predicates.get(definition.predicate_id)
        if predicate is not None and (
            not definition.online or predicate.statistic != definition.statistic
        ):
            self._take_offline(definition.predicate_id)
            predicate = None
        if not definition.online:
            return
        if predicate is None:
            fields = {
                field.name: getattr(definition, field.name)
                for field in dataclasses.fields(definition)
                if field.name != "online"
            }
            self.device.predicates[definition.predicate_id] = _make(self.device, fields)
            return
        for attribute, method in (
            ("configuration", "on_configuration_changed"),
            ("silencing", "on_silencing_changed"),
            ("verbose_name", "on_verbose_name_changed"),
            ("group", "on_group_changed"),
        ):
            wanted = getattr(definition, attribute)
            if getattr(predicate, attribute) != wanted:
                _call(predicate, method, wanted)

    def _take_offline(self, predicate_id: str) -> None:
        predicate = self.device.predicates.pop(predicate_id, None)
        if predicate is not None:
            # A placeholder's class has to know too: it may have opened events in the last run
            _call(_defined(predicate), "on_offline")


class TicksTask(SyncTask):
    """Lets predicates work, and keeps their state. Run by CommunicatorThread, link or no link."""

    name = "predicate ticks"
    needs_link = False
    interval = 60.0

    def exchange(self) -> bool:
        """Find classes for predicates that have none, and tick all of them."""
        for predicate_id, predicate in list(self.device.predicates.items()):
            try:
                self._tick(self._define(predicate))
            except Exception as error:
                reports.statistic_raised(predicate_id, "tick", error)
        self.device.evt_database.checkpoint()
        return False

    def _tick(self, predicate: BaseStatistic) -> None:
        kept = predicate.to_kwargs()
        _call(predicate, "on_tick")
        now = predicate.to_kwargs()
        if now != kept:
            self.device.pred_database.update_predicate(now)

    def _define(self, predicate: BaseStatistic) -> BaseStatistic:
        """The predicate; in a placeholder's place the real one, if its class was registered."""
        defined = _defined(predicate)
        if defined is not predicate:
            predicate_id = defined.predicate_id
            logger.info("Predicate %s got its statistic %r", predicate_id, defined.statistic)
            self.device.predicates[predicate_id] = defined
        return defined


def _defined(predicate: BaseStatistic) -> BaseStatistic:
    """The predicate itself; for a placeholder an instance of its class, if that was registered."""
    if not isinstance(predicate, UndefinedStatistic):
        return predicate
    defined = _make(predicate.device, predicate.to_kwargs())
    return predicate if isinstance(defined, UndefinedStatistic) else defined


def _make(device: SMOKDevice, kwargs: dict[str, Any]) -> BaseStatistic:
    """A predicate of the class that is registered for it, or a placeholder."""
    name, configuration = kwargs["statistic"], kwargs["configuration"]
    registered = device.statistic_registration.try_match(name, configuration)
    if registered is not None:
        try:
            return registered(device=device, **kwargs)
        except Exception as error:
            reports.statistic_raised(kwargs["predicate_id"], "__init__", error)
    return UndefinedStatistic(device=device, **kwargs)


def _call(predicate: BaseStatistic, method: str, *args: Any) -> None:
    """Call a method of a user's statistic; log what it raises."""
    try:
        predicate._call_method(method, *args)
    except Exception as error:
        if not predicate.device.closed:  # which would be why
            reports.statistic_raised(predicate.predicate_id, method, error)
