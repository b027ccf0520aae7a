"""A simulated boiler room, served as MODBUS registers: two boilers, four heating circuits, hot
water.

What is behind it is simple heat flow (each temperature approaches what drives it, exponentially),
enough for set-points and pumps to have visible consequences. Temperatures are in tenths of a
degree, as in most controllers.
"""

from __future__ import annotations

import dataclasses
import math
import random
import threading
import time
from typing import Self

from smok_fast.modbus import RegisterModel

__all__ = ["BoilerRoom"]

#: Seconds between two steps of the simulation.
STEP = 0.1

ROOM_TEMPERATURE = 20.0


@dataclasses.dataclass(frozen=True)
class Point:
    """One register of the boiler room.

    :ivar name: name of the pathpoint
    :ivar label: what it is, for people
    :ivar interval: how often it is worth archiving, in seconds
    :ivar initial: its first value, as in the register
    """

    name: str
    label: str
    interval: float
    initial: float


def _boiler(number: int) -> list[Point]:
    base = 100 * number
    return [
        Point(f"w1r{base}", f"boiler {number} temperature", 0.1, 550),
        Point(f"w1r{base + 1}", f"boiler {number} return", 0.25, 450),
        Point(f"w1r{base + 2}", f"boiler {number} set-point", 1.0, 650),
        Point(f"W1r{base + 3}", f"boiler {number} power, %", 0.1, 0),
        Point(f"w1r{base + 4}", f"boiler {number} flue gas", 0.25, 800),
        Point(f"W1r{base + 5}", f"boiler {number} starts", 1.0, 0),
        Point(f"B1f{base}", f"boiler {number} enabled", 0.5, 1),
        Point(f"B1f{base + 1}", f"boiler {number} burner", 0.1, 0),
    ]


def _circuit(number: int) -> list[Point]:
    base = 1000 + 100 * number
    return [
        Point(f"w1r{base}", f"circuit {number} supply", 0.25, 400),
        Point(f"w1r{base + 1}", f"circuit {number} return", 0.5, 350),
        Point(f"w1r{base + 2}", f"circuit {number} set-point", 1.0, 420 + 10 * number),
        Point(f"W1r{base + 3}", f"circuit {number} valve, %", 0.25, 50),
        Point(f"W1r{base + 4}", f"circuit {number} pump speed, rpm", 0.1, 2400),
        Point(f"w1r{base + 5}", f"circuit {number} pressure, mbar", 0.1, 1500),
        Point(f"B1f{base}", f"circuit {number} pump", 0.25, 1),
    ]


POINTS: list[Point] = [
    Point("w1r10", "outdoor temperature", 1.0, 20),
    Point("w1r11", "hot water temperature", 0.5, 480),
    Point("w1r12", "hot water set-point", 1.0, 520),
    Point("W1r13", "system pressure, mbar", 0.1, 1650),
    Point("B1f10", "hot water pump", 0.25, 1),
    Point("B1d0", "gas alarm", 0.25, 0),
    Point("f1l200", "heat meter, kW", 0.25, 0.0),
    Point("f1l202", "gas meter, m3", 0.5, 1234.5),
    *_boiler(1),
    *_boiler(2),
    *(point for number in range(1, 5) for point in _circuit(number)),
]


class BoilerRoom:
    """The simulation: step by step, or in a thread of its own as a context manager.

    :param seed: of the measurement noise
    :ivar registers: what a MODBUS server is to serve
    """

    def __init__(self, seed: int = 1) -> None:
        self.registers = RegisterModel({point.name: point.initial for point in POINTS})
        self._random = random.Random(seed)
        self._state = {
            point.name: float(point.initial) for point in POINTS if point.name[0] in "wWf"
        }
        self._time = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="BoilerRoom", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopping.wait(STEP):
            now = time.monotonic()
            self.step(now - last)
            last = now

    def step(self, seconds: float) -> None:
        """Let time pass.

        :param seconds: how much
        """
        self._time += seconds
        outdoor = 20 + 30 * math.sin(self._time / 60)
        self._measure("w1r10", outdoor, noise=1)
        heat = sum(self._boiler(number, seconds) for number in (1, 2))
        hottest = max(self._state["w1r100"], self._state["w1r200"])
        for number in range(1, 5):
            self._circuit(number, hottest, seconds)
        self._hot_water(hottest, seconds)
        self._measure("W1r13", 1650 + hottest / 10, noise=4)
        self._measure("f1l200", heat, noise=0.2)
        self._state["f1l202"] += heat * seconds / 36_000
        self.registers["f1l202"] = round(self._state["f1l202"], 3)

    def _boiler(self, number: int, seconds: float) -> float:
        """Simulate a boiler; returns its heat output in kW."""
        base = 100 * number
        burner = bool(self.registers[f"B1f{base + 1}"])
        missing = self.registers[f"w1r{base + 2}"] - self._state[f"w1r{base}"]
        wanted = bool(self.registers[f"B1f{base}"]) and missing > (-20 if burner else 20)
        if wanted and not burner:
            self.registers[f"W1r{base + 5}"] = min(self.registers[f"W1r{base + 5}"] + 1, 65535)
        self.registers[f"B1f{base + 1}"] = wanted
        power = min(max(missing / 2 + 30, 20), 100) if wanted else 0
        self.registers[f"W1r{base + 3}"] = round(power)
        self._approach(f"w1r{base}", 400 + 5 * power, 20, seconds, noise=1)
        self._approach(f"w1r{base + 1}", self._state[f"w1r{base}"] - 100, 15, seconds, noise=1)
        self._approach(f"w1r{base + 4}", 500 + 10 * power, 5, seconds, noise=3)
        return power * 0.8

    def _circuit(self, number: int, source: float, seconds: float) -> None:
        base = 1000 + 100 * number
        pump = bool(self.registers[f"B1f{base}"])
        set_point = self.registers[f"w1r{base + 2}"]
        supply = min(set_point, source) if pump else 10 * ROOM_TEMPERATURE
        self._approach(f"w1r{base}", supply, 8, seconds, noise=1)
        back = self._state[f"w1r{base}"] - (60 if pump else 0)
        self._approach(f"w1r{base + 1}", back, 12, seconds, noise=1)
        opening = 100 * set_point / max(source, 1.0) if pump else 0
        self._approach(f"W1r{base + 3}", min(opening, 100), 4, seconds, noise=0)
        self._approach(f"W1r{base + 4}", 2400 if pump else 0, 0.5, seconds, noise=6 if pump else 0)
        self._approach(f"w1r{base + 5}", 1800 if pump else 1500, 0.5, seconds, noise=5)

    def _hot_water(self, source: float, seconds: float) -> None:
        missing = self.registers["w1r12"] - self._state["w1r11"]
        pump = missing > 0
        self.registers["B1f10"] = pump
        self._approach("w1r11", source if pump else 400, 60, seconds, noise=1)

    def _approach(
        self, name: str, target: float, time_constant: float, seconds: float, noise: float
    ) -> None:
        """Move a quantity towards a target, as heat does."""
        share = 1 - math.exp(-seconds / time_constant)
        self._measure(name, self._state[name] + share * (target - self._state[name]), noise)

    def _measure(self, name: str, value: float, noise: float) -> None:
        self._state[name] = value
        measured = value + self._random.uniform(-noise, noise)
        self.registers[name] = round(measured, 1) if name.startswith("f") else round(measured)
