"""Draws what was found: the ways of running a command, and how near the goals are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator

from figures import number, quartiles
from report import CHART

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from figures import Comparison, Finding
    from report import Results

mpl.use("Agg")

_OURS, _THEIRS = "#c1440e", "#8a9ba8"
_REACHED, _MISSED = "#2e7d4f", "#c62828"
_ROW_INCHES, _FRAME_INCHES = 0.36, 1.3


def draw(results: Results, folder: Path) -> None:
    """Draw one panel for each comparison, and one for the goals."""
    parts: list[Comparison | list[Finding]] = [*results.comparisons]
    if results.findings:
        parts.append(results.findings)
    if not parts:
        return
    rows = [len(part) if isinstance(part, list) else len(part.ways) for part in parts]
    heights = [_FRAME_INCHES + _ROW_INCHES * count for count in rows]
    figure, panels = plt.subplots(
        len(parts),
        figsize=(9.5, sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for axes, part in zip(panels[:, 0], parts, strict=True):
        if isinstance(part, list):
            _goals(axes, part)
        else:
            _ways(axes, part)
    figure.savefig(folder / CHART, dpi=120)
    plt.close(figure)


def _ways(axes: Any, comparison: Comparison) -> None:
    """Medians as bars on a logarithmic scale, quartiles as whiskers."""
    ways = sorted(comparison.ways, key=lambda each: each.median)
    medians = [each.median for each in ways]
    spreads = [quartiles(each.samples) for each in ways]
    axes.barh(
        [each.name for each in ways],
        medians,
        xerr=(
            [median - low for median, (low, _) in zip(medians, spreads, strict=True)],
            [high - median for median, (_, high) in zip(medians, spreads, strict=True)],
        ),
        color=[_OURS if each.ours else _THEIRS for each in ways],
        error_kw={"ecolor": "#222222", "elinewidth": 1.2, "capsize": 3},
    )
    _label(axes, [high for _, high in spreads], [f"{number(each)} ms" for each in medians])
    # Whole decades, so that panels and runs look alike.
    _logarithmic(axes, 10 ** math.floor(math.log10(min(medians) / 1.5)), max(medians) * 3)
    axes.set_xlabel("milliseconds, median and quartiles")
    axes.set_title(f"{comparison.title} (through the daemon in red)")


def _goals(axes: Any, findings: Sequence[Finding]) -> None:
    """How many times better than its goal each figure is; to the left of 1 it misses it."""
    margins = [each.margin for each in findings]
    axes.barh(
        [each.short for each in findings],
        [margin - 1 for margin in margins],
        left=1,
        color=[_REACHED if each.reached else _MISSED for each in findings],
    )
    axes.axvline(1, color="#222222", linewidth=1.2)
    unit = [each.goal.unit for each in findings]
    texts = [
        f"{number(each.median, unit)} {unit}  (goal {each.goal})"
        for each, unit in zip(findings, unit, strict=True)
    ]
    _label(axes, [max(1, margin) for margin in margins], texts)
    _logarithmic(axes, min(0.5, min(margins) / 1.5), max(2, *margins) * 100)
    axes.set_xlabel("times better than its goal; red and left of 1: missed")
    axes.set_title("Every figure that has a goal")


def _label(axes: Any, ends: Sequence[float], texts: Sequence[str]) -> None:
    for row, (end, text) in enumerate(zip(ends, texts, strict=True)):
        axes.annotate(text, (end, row), xytext=(6, 0), textcoords="offset points", va="center")


def _logarithmic(axes: Any, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
