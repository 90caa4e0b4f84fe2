"""What it costs a job to be followed while it writes much."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

from figures import TIMES, Finding, Goal, Section, ratios, spread
from instance import DATA_INSIDE, BenchFailed, job_user

if TYPE_CHECKING:
    from instance import Bench, Instance
    from wsclean_client import WSCleanClient

# The same script both times, and it takes its own time: no start has a part in it.
_SCRIPT = (
    'LC_ALL=C; before=$EPOCHREALTIME; head -c "$0" /dev/zero || exit; after=$EPOCHREALTIME; '
    "echo $((${after/./} - ${before/./})) >&2"
)


def measure(bench: Bench) -> Section:
    """Write through the daemon and natively in turns."""
    size, rounds = bench.count(2**30, 2**24), bench.count(5, 2)
    followed, complete, alone, native = [], [], [], []
    before, after, peaks = [], [], []
    with bench.instance() as instance:
        instance.start()
        container = instance.container_id()
        with instance.client() as client:
            # What a daemon takes once for the first output is no growth.
            _through_daemon(instance, client, size, follow=True)
            for _ in range(rounds):
                native.append(_native(instance, container, size))
                before.append(instance.memory()["Rss"])
                instance.forget_peak()
                own, all_read = _through_daemon(instance, client, size, follow=True)
                followed.append(own)
                complete.append(all_read)
                peaks.append(instance.memory()["Peak"])
                after.append(instance.memory()["Rss"])
                alone.append(_through_daemon(instance, client, size, follow=False)[0])
    return Section(
        [
            Finding(
                name=f"{size / 2**30:g} GiB written to stdout by one job while it is followed, "
                "against the same command writing to a file in the same container",
                short=f"{size / 2**30:.2g} GiB of output, followed",
                goal=Goal(1.05, TIMES),
                samples=ratios(followed, native),
                compared=f"{spread(followed, 's')}, to a file {spread(native, 's')}, "
                f"through the daemon without a follower {spread(alone, 's')}; the follower, which "
                f"is held back meanwhile, has all of it after {spread(complete, 's')}",
            ),
            Finding(
                name="Memory of the daemon (RSS) after each such job, against before it",
                short=f"memory after {size / 2**30:.2g} GiB",
                goal=Goal(1.1, TIMES),
                samples=ratios(after, before),
                compared=f"before {spread(before, 'MB')}, highest meanwhile "
                f"{statistics.median(peaks):.0f} MB, after {spread(after, 'MB')}",
            ),
        ],
    )


def _through_daemon(
    instance: Instance, client: WSCleanClient, size: int, *, follow: bool
) -> tuple[float, float]:
    """Run it as a job and read all of its output.

    Returns:
        The seconds that it took itself, and those from its submission until all was read.
    """
    os.sync()
    submitted = time.monotonic()
    job = client.submit(["bash", "-c", _SCRIPT, str(size)], cwd=instance.data)
    if not follow:
        job.wait()
    read = {"stdout": 0, "stderr": 0}
    seconds = b""
    for chunk in job.logs(follow=True):
        read[chunk.stream] += len(chunk.data)
        if chunk.stream == "stderr":
            seconds += chunk.data
    all_read = time.monotonic() - submitted
    info = job.wait()
    if info.exit_status != 0 or read["stdout"] != size:
        raise BenchFailed(f"job {job.id} is {info.state}, {read['stdout']} bytes of it were read")
    # Its room is needed for the next one.
    os.truncate(instance.state / "spool" / "jobs" / job.id / "stdout", 0)
    return int(seconds) / 1e6, all_read


def _native(instance: Instance, container: str, size: int) -> float:
    """Run it in the container without the daemon, its output in a file of the same disk."""
    os.sync()
    path = instance.data / "output"
    words = ["docker", "exec", "--user", job_user(), "--workdir", DATA_INSIDE, container]
    to_file = ["sh", "-c", 'exec "$@" >output', "sh", "bash", "-c", _SCRIPT, str(size)]
    done = subprocess.run([*words, *to_file], capture_output=True, text=True, check=True)
    if path.stat().st_size != size:
        raise BenchFailed(f"{path.stat().st_size} bytes were written to a file, and not {size}")
    path.unlink()
    return int(done.stderr) / 1e6
