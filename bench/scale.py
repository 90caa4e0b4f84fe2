"""What a long queue costs: submissions into it, a start over it, memory."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from figures import TIMES, Finding, Goal, Section, percentile, ratios, spread
from instance import BenchFailed
from wsclean_client import JobState
from wsclean_workerd.journal_db import JournalDb
from wsclean_workerd.model import JobId

if TYPE_CHECKING:
    from instance import Bench, Instance
    from wsclean_client import WSCleanClient

_P99 = 99


def measure(bench: Bench) -> Section:
    """Queue many jobs; start over them; submit to them and to an empty queue in turns."""
    queued, starts = bench.count(100_000, 500), bench.count(5, 2)
    with bench.instance(container=False) as full, bench.instance(container=False) as empty:
        _fill(full, queued)
        seconds, memory = _starts(full, starts)
        without, _ = _starts(empty, starts)
        _require_queued(full, queued)
        slow, fast = _submissions(bench, full, empty)
        after = full.memory()["Rss"]
    long_queue = f"{queued:,} jobs queued"
    return Section(
        [
            Finding(
                name=f"p99 of a submission with {long_queue}, against that with an empty queue",
                short=f"p99 of submissions, {queued:,} queued",
                goal=Goal(2, TIMES),
                samples=ratios(slow, fast),
                compared=f"p99 {spread(slow, 'ms')}, with an empty queue {spread(fast, 'ms')}",
            ),
            Finding(
                name=f"Start of the daemon with {long_queue}, from exec to READY",
                short=f"start over {queued:,} queued",
                goal=Goal(3, "s"),
                samples=seconds,
                compared=f"over an empty journal {spread(without, 's')}",
            ),
            Finding(
                name=f"Memory of the daemon (RSS) with {long_queue}",
                short=f"memory, {queued:,} queued",
                goal=Goal(200, "MB"),
                samples=[each["Rss"] for each in memory],
                compared=f"PSS {statistics.median(each['Pss'] for each in memory):.0f} MB, RSS "
                f"after the submissions above {after:.0f} MB",
            ),
        ],
    )


def idle_memory(bench: Bench) -> Section:
    """The memory of a daemon whose container is ready and that has nothing to do."""
    found = []
    with bench.instance() as instance:
        for _ in range(bench.count(3, 2)):
            instance.start()
            found.append(instance.memory())
            instance.end()
    pss = statistics.median(each["Pss"] for each in found)
    finding = Finding(
        name="Memory of the daemon (RSS), idle, container ready",
        short="memory, idle",
        goal=Goal(70, "MB"),
        samples=[each["Rss"] for each in found],
        compared=f"PSS {pss:.0f} MB",
    )
    return Section([finding])


def _fill(instance: Instance, count: int) -> None:
    """Queue copies of a job that the daemon itself has accepted, in its own journal."""
    instance.start(container=False)
    with instance.client() as client:
        client.submit(_imaging(instance), cwd=instance.data)
    instance.end()
    journal = JournalDb(instance.state / "journal.db")
    try:
        (job,) = journal.live()
        journal.begin()
        for number in range(job.id + 1, job.id + count):
            journal.insert(replace(job, id=JobId(number), request_id=f"{number:032x}"))
        journal.commit()
    finally:
        journal.close()


def _imaging(instance: Instance) -> list[str]:
    """A command as long as those of a pipeline are."""
    options = "-size 4096 4096 -scale 2asec -weight briggs 0 -niter 50000 -mgain 0.8 -auto-mask 3"
    name, measurement_set = instance.data / "image", instance.data / "observation.ms"
    return ["wsclean", *options.split(), "-name", str(name), str(measurement_set)]


def _starts(instance: Instance, count: int) -> tuple[list[float], list[dict[str, float]]]:
    """Start the daemon some times; the last time it goes on running."""
    seconds, memory = [], []
    for _ in range(count):
        instance.end()
        before, ready = instance.start(container=False)
        seconds.append(ready - before)
        memory.append(instance.memory())
    return seconds, memory


def _require_queued(instance: Instance, count: int) -> None:
    with instance.client() as client:
        found = client.status().jobs.get(JobState.QUEUED, 0)
    if found != count:
        raise BenchFailed(f"{found} jobs wait, and not {count}")


def _submissions(bench: Bench, full: Instance, empty: Instance) -> tuple[list[float], list[float]]:
    """The p99 of each round in milliseconds, with the full queue and with the empty one."""
    slow, fast = [], []
    with full.client() as to_full, empty.client() as to_empty:
        for client in (to_full, to_empty):
            for _ in range(bench.count(50, 2)):
                _submit(client)
        for _ in range(bench.count(5, 2)):
            one, other = _take_turns(to_full, to_empty, bench.count(300, 10))
            slow.append(percentile(one, _P99))
            fast.append(percentile(other, _P99))
    return slow, fast


def _take_turns(
    one: WSCleanClient, other: WSCleanClient, count: int
) -> tuple[list[float], list[float]]:
    """The milliseconds of submissions to each of two daemons, neither always first."""
    ours, theirs = [], []
    for turn in range(count):
        if turn % 2:
            theirs.append(_submit(other))
            ours.append(_submit(one))
        else:
            ours.append(_submit(one))
            theirs.append(_submit(other))
    return ours, theirs


def _submit(client: WSCleanClient) -> float:
    """Submit a job and take it back, so that an empty queue stays empty."""
    before = time.perf_counter()
    job = client.submit(["true"], cwd="/")
    seconds = time.perf_counter() - before
    job.cancel()
    return 1000 * seconds
