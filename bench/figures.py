"""What was measured, what it was to be, and how both are written."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES = "\N{MULTIPLICATION SIGN}"
"""The unit of ratios."""

_WHOLE = 100
"""From here on, digits after the point say nothing."""

_CLOSE = 2
"""Below this, ratios are told apart by their third digit after the point."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure has to be at most, or at least."""

    limit: float
    unit: str
    at_least: bool = False

    def margin(self, value: float) -> float:
        """How many times better than the limit a value is; below 1 it misses the goal."""
        better, worse = (value, self.limit) if self.at_least else (self.limit, value)
        return better / worse if worse else float("inf")

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {number(self.limit)} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A figure that has a goal.

    Attributes:
        name: What it is.
        goal: What it has to be.
        samples: What was measured, in the goal's unit.
        compared: What it is to be seen beside, and how it was measured.
        short: What it is called where there is little room.
    """

    name: str
    short: str
    goal: Goal
    samples: Sequence[float]
    compared: str = ""

    @property
    def median(self) -> float:
        """The middle of the samples."""
        return statistics.median(self.samples)

    @property
    def margin(self) -> float:
        """How many times better than the goal the median is."""
        return self.goal.margin(self.median)

    @property
    def reached(self) -> bool:
        """Whether the median reaches the goal."""
        return self.margin >= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WayFigures:
    """What one way of running a command took, in milliseconds."""

    name: str
    note: str
    samples: Sequence[float]
    ours: bool = False

    @property
    def median(self) -> float:
        """The middle of the samples."""
        return statistics.median(self.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The ways of running a command, each with what it took."""

    title: str
    explanation: str
    ways: Sequence[WayFigures]

    def way(self, name: str) -> WayFigures:
        """The way with this name."""
        return next(each for each in self.ways if each.name == name)


@dataclass(frozen=True, slots=True)
class Section:
    """What one part of the benchmark has found."""

    findings: list[Finding] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """What a quarter of the samples is below, and above."""
    if len(samples) == 1:
        return samples[0], samples[0]
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, high


def percentile(samples: Sequence[float], percent: int) -> float:
    """What so many per cent of the samples are below."""
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratios of samples that were taken in turns."""
    return [one / other for one, other in zip(above, below, strict=True)]


def number(value: float, unit: str = "") -> str:
    """A number with as many digits as mean something."""
    if abs(value) >= _WHOLE:
        return f"{value:,.0f}"
    if unit == TIMES and abs(value) < _CLOSE:
        return f"{value:.3f}"
    return f"{value:.3g}"


def amount(value: float, unit: str) -> str:
    """A number and its unit."""
    return f"{number(value, unit)} {unit}"


def spread(samples: Sequence[float], unit: str) -> str:
    """Median and quartiles in a few words, for what has no row of its own."""
    low, high = quartiles(samples)
    middle = amount(statistics.median(samples), unit)
    return f"{middle} ({number(low, unit)} to {number(high, unit)})"
