"""How long a command takes that does nothing, by each way of running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ways
from figures import TIMES, Comparison, Finding, Goal, Section, amount, ratios

if TYPE_CHECKING:
    from instance import Bench

NOTHING = ways.Command(["true"], on_host=True)
VERSION = ways.Command(["wsclean", "--version"], expected="WSClean version")

_NATIVE = (
    "The ways take turns in shuffled order. A turn begins when the processors are at rest, with a "
    "run that does not count; the others of it follow one another, as whoever has many commands "
    "has them, except in the rows that say so. The rows of fork and exec are native speed: no "
    "engine, no queue and no journal has a part in them."
)


def measure(bench: Bench) -> Section:
    """Let all ways take turns at `true`, then at `wsclean --version`."""
    rounds, series = bench.count(5, 2), bench.count(20, 2)
    with bench.instance() as instance:
        instance.start()
        with ways.all_ways(instance, NOTHING) as each:
            nothing = ways.take_turns(each, rounds=rounds, series=series)
        with ways.all_ways(instance, VERSION) as each:
            version = ways.take_turns(each, rounds=rounds, series=bench.count(5, 1))
    true = Comparison(title="How long `true` takes", explanation=_NATIVE, ways=nothing)
    wsclean = Comparison(
        title="How long `wsclean --version` takes",
        explanation=f"{_NATIVE} The host has no `wsclean` of its own.",
        ways=version,
    )
    return Section(_findings(true), [true, wsclean])


def _findings(true: Comparison) -> list[Finding]:
    ours, execute, run = (
        true.way(name) for name in (ways.CLIENT, ways.DOCKER_EXEC, ways.DOCKER_RUN)
    )
    peers = (ways.HOST, ways.INSIDE, ways.SPOOLER, ways.NQ)
    return [
        Finding(
            name="`true` through a connected Python client, from submission to exit status",
            short="`true`, to its exit status",
            goal=Goal(5, "ms"),
            samples=ours.samples,
            compared=", ".join(f"{name} {amount(true.way(name).median, 'ms')}" for name in peers),
        ),
        Finding(
            name="How many times as long `docker exec` takes for `true`",
            short="faster than docker exec",
            goal=Goal(12, TIMES, at_least=True),
            samples=ratios(execute.samples, ours.samples),
            compared=f"{ways.DOCKER_EXEC} {amount(execute.median, 'ms')}, the same rounds",
        ),
        Finding(
            name="How many times as long `docker run --rm` takes for `true`",
            short="faster than docker run",
            goal=Goal(60, TIMES, at_least=True),
            samples=ratios(run.samples, ours.samples),
            compared=f"{ways.DOCKER_RUN} {amount(run.median, 'ms')}, the same rounds",
        ),
    ]
