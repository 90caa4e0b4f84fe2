"""How the benchmark judges what it has measured, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

import machine
import run
from figures import TIMES, Finding, Goal, Section, number, percentile, quartiles, ratios
from instance import Bench, BenchFailed
from report import Results, write


def finding(goal: Goal, *samples: float) -> Finding:
    return Finding(name="a figure", short="a", goal=goal, samples=samples, compared="another")


def written(results: Results, folder: Path) -> str:
    write(results, folder)
    return (folder / "results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("goal", "median", "margin"),
    [
        (Goal(5, "ms"), 4.0, 1.25),
        (Goal(5, "ms"), 5.0, 1.0),
        (Goal(5, "ms"), 10.0, 0.5),
        (Goal(300, "jobs/s", at_least=True), 600.0, 2.0),
        (Goal(300, "jobs/s", at_least=True), 150.0, 0.5),
    ],
)
def test_the_median_decides_whether_a_goal_is_reached(
    goal: Goal,
    median: float,
    margin: float,
) -> None:
    found = finding(goal, median / 100, median, median * 100)
    assert (found.margin, found.reached) == (margin, margin >= 1)


def test_a_missed_goal_is_said_in_the_report(tmp_path: Path) -> None:
    sections = [
        Section([finding(Goal(2, "s"), 1.0), finding(Goal(12, TIMES, at_least=True), 11.0, 11.5)]),
    ]
    lines = written(Results(sections, {"CPU": "one"}), tmp_path).splitlines()
    assert "1 of 2 goals are reached." in lines
    assert "| a figure | ≤ 2 s | 1 s | 1 to 1 | another | yes |" in lines
    assert f"| a figure | ≥ 12 {TIMES} | 11.2 {TIMES} | 11.1 to 11.4 | another | **no** |" in lines
    assert "- CPU: one" in lines


def test_what_fails_is_reported_and_the_rest_is_measured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(bench: Bench) -> Section:
        raise BenchFailed(f"not today, {bench.quick}")

    parts = {"bad": fails, "good": lambda _: Section([finding(Goal(2, "s"), 1.0)])}
    monkeypatch.setattr(run, "PARTS", parts)
    monkeypatch.setattr(machine, "describe", lambda *_: {})
    results = run._measure(Bench(tmp_path, "", quick=True, jobs=8), list(parts))
    report = written(results, tmp_path)
    assert results.failures == {"bad": "not today, True"}
    assert "- bad: not today, True" in report
    assert "1 of 1 goals" in report
    assert "only shows that all works" in report


def test_ratios_are_those_of_samples_that_were_taken_together() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_quartiles_and_percentiles_lie_between_the_samples() -> None:
    assert quartiles([3.0]) == (3.0, 3.0)
    assert quartiles([5.0, 1.0, 3.0]) == (2.0, 4.0)
    assert percentile([float(each) for each in range(101)], 99) == pytest.approx(99)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12345.6, "jobs/s", "12,346"),
        (99.96, "ms", "100"),
        (4.126, "ms", "4.13"),
        (1.0049, TIMES, "1.005"),
        (11.94, TIMES, "11.9"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text
