"""How many jobs per second go through the daemon, and how many it accepts."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from figures import Finding, Goal, Section, spread
from instance import BenchFailed, job_user
from load import CLIENTS, press
from wsclean_client import JobState

if TYPE_CHECKING:
    from instance import Bench, Instance

SLOTS = 4
_LOOP = 'for i in $(seq "$1"); do docker exec --user "$2" "$3" true || exit; done'


def jobs(bench: Bench) -> Section:
    """Jobs that do nothing, from many clients at once."""
    with bench.instance(slots=SLOTS) as instance:
        instance.start()
        press(instance, "run", CLIENTS)
        samples = [press(instance, "run", bench.jobs).rate for _ in range(bench.count(3, 2))]
        loops = [_docker_exec(instance, bench.count(25, 2)) for _ in range(bench.count(3, 2))]
    finding = Finding(
        name=f"{bench.jobs:,} `true` jobs from {CLIENTS} client processes, {SLOTS} slots",
        short="jobs through 4 slots",
        goal=Goal(300, "jobs/s", at_least=True),
        samples=samples,
        compared=f"`docker exec` in {SLOTS} loops at once {spread(loops, 'jobs/s')}",
    )
    return Section([finding])


def submissions(bench: Bench) -> Section:
    """Jobs that are accepted while none can start, since the image is not there."""
    count = bench.count(2000, 80)
    with bench.instance(container=False) as instance:
        instance.start(container=False)
        press(instance, "submit", CLIENTS)
        samples = [press(instance, "submit", count).rate for _ in range(bench.count(5, 2))]
        _require_all_queued(instance, len(samples) * count + CLIENTS)
    finding = Finding(
        name=f"Durable submissions from {CLIENTS} client processes while nothing can start",
        short="durable submissions",
        goal=Goal(1000, "jobs/s", at_least=True),
        samples=samples,
        compared=f"each rate is that of {count:,} jobs",
    )
    return Section([finding])


def _docker_exec(instance: Instance, count: int) -> float:
    """Jobs per second of `docker exec`, as many at once as there are slots."""
    words = ["sh", "-c", _LOOP, "sh", str(count), job_user(), instance.container_id()]
    before = time.perf_counter()
    loops = [subprocess.Popen(words) for _ in range(SLOTS)]
    statuses = [loop.wait() for loop in loops]
    if any(statuses):
        raise BenchFailed("`docker exec` has failed, see above")
    return SLOTS * count / (time.perf_counter() - before)


def _require_all_queued(instance: Instance, count: int) -> None:
    with instance.client() as client:
        found = client.status().jobs.get(JobState.QUEUED, 0)
    if found != count:
        raise BenchFailed(f"{found} jobs wait, {count} were submitted")
