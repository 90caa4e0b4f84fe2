"""What the daemon costs while jobs run and callers follow, and nothing happens."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from figures import Finding, Goal, Section
from instance import BenchFailed
from wsclean_client import ClientClosed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from instance import Bench, Instance
    from wsclean_client import JobHandle

JOBS = 10
_FIRST = "echo up; exec sleep infinity"


def measure(bench: Bench) -> Section:
    """Follow jobs that sleep, and count the daemon's processor time."""
    seconds = bench.count(20, 1)
    with bench.instance(slots=JOBS) as instance:
        instance.start()
        with _followed(instance):
            samples = [_load(instance, seconds) for _ in range(bench.count(3, 2))]
    finding = Finding(
        name=f"Processor time of the daemon with {JOBS} running `sleep` jobs and {JOBS} followers",
        short="CPU, 10 jobs followed",
        goal=Goal(0.5, "% of a core"),
        samples=samples,
        compared=f"each sample is over {seconds} s",
    )
    return Section([finding])


@contextlib.contextmanager
def _followed(instance: Instance) -> Iterator[None]:
    """Jobs that have written a line and sleep, each with a follower that has read it."""
    with contextlib.ExitStack() as stack:
        threads = []
        for _ in range(JOBS):
            # A connection for each, as processes of their own would have.
            client = stack.enter_context(instance.client())
            job = client.submit(["sh", "-c", _FIRST], cwd="/")
            read = threading.Event()
            thread = threading.Thread(target=_follow, args=(job, read))
            thread.start()
            threads.append((thread, read))
        try:
            for _, read in threads:
                if not read.wait(60):
                    raise BenchFailed("a job that is followed has not written its line")
            yield
            if not all(thread.is_alive() for thread, _ in threads):
                raise BenchFailed("a job that was to sleep has ended")
        finally:
            stack.close()
            for thread, _ in threads:
                thread.join()


def _follow(job: JobHandle, read: threading.Event) -> None:
    # It ends with its client.
    with contextlib.suppress(ClientClosed):
        for _ in job.logs(follow=True):
            read.set()


def _load(instance: Instance, seconds: float) -> float:
    """Per cent of a core over some time."""
    before, begin = instance.cpu_seconds(), time.monotonic()
    # Nothing is waited for: the time itself is what is measured over.
    time.sleep(seconds)
    return 100 * (instance.cpu_seconds() - before) / (time.monotonic() - begin)
