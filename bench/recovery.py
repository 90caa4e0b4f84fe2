"""How soon a daemon that was killed has its running jobs again."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from figures import Finding, Goal, Section, spread
from instance import SECONDS, BenchFailed
from wsclean_client import JobState

if TYPE_CHECKING:
    from instance import Bench, Instance
    from wsclean_client import JobHandle, WSCleanClient

_STATUS = 7
_WAITS = f'read -r line <"$0"; exit {_STATUS}'
"""What the one job does that is to end: it waits for a line, so its end is at a known time."""


def measure(bench: Bench) -> Section:
    """Kill the daemon again and again while jobs run."""
    running, rounds = bench.count(100, 5), bench.count(5, 2)
    starts, samples = [], []
    with bench.instance(slots=running) as instance:
        instance.start()
        with instance.client() as client:
            sleepers = [client.submit(["sleep", "infinity"], cwd="/") for _ in range(running - 1)]
            for sleeper in sleepers:
                _await_running(sleeper)
        for turn in range(rounds):
            started, seconds = _round(instance, f"go-{turn}", running)
            starts.append(started)
            samples.append(seconds)
    finding = Finding(
        name=f"Re-attaching {running} running jobs after SIGKILL of the daemon: from READY until a "
        "client has seen all of them RUNNING and has got the exit status of one",
        short=f"re-attaching {running} jobs",
        goal=Goal(1, "s"),
        samples=samples,
        compared=f"start of the daemon before that, to READY: {spread(starts, 's')}",
    )
    return Section([finding])


def _round(instance: Instance, fifo: str, running: int) -> tuple[float, float]:
    """One death; return the seconds of the start, and those from then to the exit status."""
    path = instance.data / fifo
    os.mkfifo(path)
    path.chmod(0o666)
    with instance.client() as client:
        waiting = client.submit(["sh", "-c", _WAITS, path], cwd=instance.data)
        _await_running(waiting)
    instance.end(signal.SIGKILL)
    before, ready = instance.start(container=False)
    with instance.client() as client:
        _await_all_running(client, running)
        path.write_text("go\n", encoding="ascii")
        info = client.job(waiting.id).wait(SECONDS)
    done = time.perf_counter()
    if info.exit_status != _STATUS:
        raise BenchFailed(f"job {info.id} is {info.state}, its exit status {info.exit_status}")
    return ready - before, done - ready


def _await_running(job: JobHandle) -> None:
    for info in job.watch(SECONDS):
        if info.state is JobState.RUNNING:
            return
    raise BenchFailed(f"job {job.id} has ended: it is {job.info.state}")


def _await_all_running(client: WSCleanClient, running: int) -> None:
    deadline = time.monotonic() + SECONDS
    while len(list(client.list(states=[JobState.RUNNING]))) < running:
        if time.monotonic() > deadline:
            raise BenchFailed(f"not all of {running} jobs run after the death of the daemon")
