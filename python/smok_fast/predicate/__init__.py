"""Predicates: statistics that watch over the device, and the events that they raise."""

from smok_fast.predicate.base import BaseStatistic, DisabledTime, Time
from smok_fast.predicate.event import Color, Event
from smok_fast.predicate.threshold import ThresholdStatistic

__all__ = ["BaseStatistic", "Color", "DisabledTime", "Event", "ThresholdStatistic", "Time"]
