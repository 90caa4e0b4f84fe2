"""Processes that leave their job by all means but its environment, and outlive it."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from support.daemon import DEADLINE, DaemonProcess
from wsclean_client import JobCancelled, JobState, WSCleanClient

# Times of files are those of the kernel's tick.
_TICK = timedelta(seconds=0.02)

# Forked twice, in a session of its own, with nothing open, and deaf to TERM.
_LOOP = "exec <&- >&- 2>&- 9>&-; trap '' TERM HUP; echo \\$\\$ >up; while :; do sleep 1; done"

STRAY = f'mkfifo up; (setsid sh -c "{_LOOP}" &); '
STRAY += "read -r pid <up; rm up; echo $pid >stray; "
"""The beginning of a script that leaves one and writes its process id to `stray`."""

LOOK = "read -r pid <stray; read -r size rest 2>/dev/null </proc/$pid/statm; "
LOOK += "[ ${size:-0} != 0 ] && echo lives || echo gone"
"""A script that says whether that process lives."""

WHEN_KILLED = ("before its end", "after its end")
"""When the daemon is killed whose job has left something."""


def look(client: WSCleanClient, folder: Path) -> str:
    """What the next job sees of what the last one has left."""
    return client.run(["sh", "-c", LOOK], cwd=folder).stdout.strip()


def see_the_slot_kept(daemon: DaemonProcess, grace: float) -> None:
    """See a job keep the only slot until what it has left is killed.

    Args:
        daemon: One that runs one job at a time.
        grace: How many seconds it leaves to what jobs leave.
    """
    with daemon.client() as client:
        first = client.submit(["sh", "-c", f"{STRAY}exit 3"], cwd=daemon.data)
        second = client.submit(["sh", "-c", LOOK], cwd=daemon.data)
        done = first.wait(DEADLINE)
        assert (done.state, done.exit_status) == (JobState.FAILED, 3)
        assert second.result().stdout == "gone\n"
        started = second.refresh().started_at
        assert started is not None
        assert done.ended_at is not None
        assert started - done.ended_at >= timedelta(seconds=grace) - _TICK


def see_the_cancelled_job_outlived(daemon: DaemonProcess) -> None:
    """See what ignores TERM gone when the next job runs after a cancelled one."""
    script = f"{STRAY}trap 'exit 9' TERM; echo left; while :; do sleep 0.1; done"
    with daemon.client() as client:
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
        daemon.await_output(job.id, "left")
        job.cancel()
        with pytest.raises(JobCancelled) as caught:
            job.result()
        assert caught.value.job.exit_status == 9
        assert look(client, daemon.data) == "gone"


def see_it_ended_by_the_next_daemon(
    daemon: DaemonProcess, when: str, lives: Callable[[], object]
) -> None:
    """See what a job has left ended by a daemon that is started after one that was killed.

    Args:
        daemon: One that runs one job at a time.
        when: One of `WHEN_KILLED`.
        lives: Says whether what was left is there, while no daemon is.
    """
    gate = daemon.gate()
    with daemon.client() as client:
        job = client.submit(["sh", "-c", f"{STRAY}echo left; {gate.wait}"], cwd=daemon.data)
        daemon.await_output(job.id, "left")
        alive = os.open(daemon.spool / "jobs" / job.id / "alive", os.O_RDONLY)
        if when == "before its end":
            daemon.kill()
        gate.open()
        while os.read(alive, 100):
            pass
        os.close(alive)
        if when == "after its end":
            job.wait(DEADLINE)
            daemon.kill()
        assert lives()
        daemon.start()
        assert job.result().returncode == 0
        assert look(client, daemon.data) == "gone"


def stray(folder: Path) -> int:
    """The process id of what a job has left, as the job sees it."""
    return int((folder / "stray").read_text(encoding="ascii"))


def lives(folder: Path) -> bool:
    """Whether what a job has left on this host lives."""
    try:
        # One that has ended has no memory, even while nobody has taken note of its end.
        return Path(f"/proc/{stray(folder)}/statm").read_text(encoding="ascii")[0] != "0"
    except FileNotFoundError:
        return False
