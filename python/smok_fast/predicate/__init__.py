"""Predicates: statistics that watch over the device, and the events that they raise."""

from smok_fast.predicate.base import BaseStatistic, DisabledTime, Time
from smok_fast.predicate.event import Color, Event

__all__ = ["BaseStatistic", "Color", "DisabledTime", "Event", "Time"]
