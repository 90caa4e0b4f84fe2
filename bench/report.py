"""Writes what was found as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from figures import Comparison, Finding, Section, number, quartiles
from ways import DOCKER_EXEC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

TABLE = "results.md"
CHART = "results.png"

_EXPLANATION = (
    "Written by `make bench`: one run, every daemon in it started for it with folders and a "
    "container of its own, jobs running as a user without privileges. Medians; quartiles are those "
    "of repetitions. What is compared takes turns. Absolute figures are those of this machine; "
    "compare the ratios."
)


@dataclass(frozen=True, slots=True)
class Results:
    """All that a run has found.

    Attributes:
        sections: What its parts have found.
        machine: What that depends on.
        failures: What could not be measured, and why.
        quick: Whether the counts were too small for the figures to mean anything.
    """

    sections: Sequence[Section]
    machine: Mapping[str, str]
    failures: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False

    @property
    def findings(self) -> list[Finding]:
        """The figures that have goals."""
        return [each for section in self.sections for each in section.findings]

    @property
    def comparisons(self) -> list[Comparison]:
        """The ways of running a command."""
        return [each for section in self.sections for each in section.comparisons]


def write(results: Results, folder: Path) -> None:
    """Write the report."""
    (folder / TABLE).write_text("\n".join(_lines(results)), encoding="utf-8")


def summary(finding: Finding) -> str:
    """A finding on one line of a terminal."""
    mark = "yes" if finding.reached else "NO"
    measured = f"{number(finding.median, finding.goal.unit)} {finding.goal.unit}"
    return f"{finding.short:<36} {measured:>16}   goal {finding.goal!s:<16} reached: {mark}"


def _lines(results: Results) -> Iterator[str]:
    yield from ["# What wsclean-workerd achieves", ""]
    if results.quick:
        yield from ["**Counts too small for figures: this run only shows that all works.**", ""]
    yield from [_EXPLANATION, ""]
    if results.findings:
        reached = sum(each.reached for each in results.findings)
        yield from [f"{reached} of {len(results.findings)} goals are reached.", ""]
        yield from _table(
            ["figure", "goal", "median", "quartiles", "compared with", "reached"],
            ["---", "---", "---:", "---:", "---", "---"],
            (_goal_row(each) for each in results.findings),
        )
        yield from [f"![The same as a picture]({CHART})", ""]
    for comparison in results.comparisons:
        yield from _comparison(comparison)
    if results.failures:
        yield from ["## Not measured", ""]
        yield from (f"- {name}: {reason}" for name, reason in results.failures.items())
        yield ""
    yield from ["## Measured on", ""]
    yield from (f"- {name}: {value}" for name, value in results.machine.items())
    yield ""


def _goal_row(finding: Finding) -> list[str]:
    unit = finding.goal.unit
    low, high = quartiles(finding.samples)
    return [
        finding.name,
        str(finding.goal),
        f"{number(finding.median, unit)} {unit}",
        f"{number(low, unit)} to {number(high, unit)}",
        finding.compared,
        "yes" if finding.reached else "**no**",
    ]


def _comparison(comparison: Comparison) -> Iterator[str]:
    baseline = comparison.way(DOCKER_EXEC).median
    runs = len(comparison.ways[0].samples)
    yield from [f"## {comparison.title}", ""]
    yield from [f"Milliseconds, {runs} runs of each. {comparison.explanation}", ""]
    rows = (
        [
            f"**{each.name}**" if each.ours else each.name,
            each.note,
            number(each.median),
            " to ".join(number(value) for value in quartiles(each.samples)),
            number(min(each.samples)),
            f"{each.median / baseline:.3f}",
        ]
        for each in comparison.ways
    )
    yield from _table(
        ["way", "what is counted", "median", "quartiles", "least", f"ratio to `{DOCKER_EXEC}`"],
        ["---", "---", "---:", "---:", "---:", "---:"],
        rows,
    )


def _table(
    heads: Sequence[str],
    alignment: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> Iterator[str]:
    for row in (heads, alignment, *rows):
        yield f"| {' | '.join(row)} |"
    yield ""
