"""What a job leaves behind that has let go of everything, with a real daemon."""

from __future__ import annotations

import os
import select
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from support.daemon import DEADLINE, DaemonProcess
from support.strays import LOOK, STRAY, lives, stray
from wsclean_client import JobCancelled, JobState, WSCleanClient

GRACE = timedelta(seconds=0.5)
# Times of files are those of the kernel's tick.
TICK = timedelta(seconds=0.02)


@pytest.fixture
def idle_daemon(idle_daemon: DaemonProcess) -> DaemonProcess:
    """One that runs one job at a time."""
    idle_daemon.settings = idle_daemon.settings.replace("slots = 2", "slots = 1")
    return idle_daemon


def look(client: WSCleanClient, folder: Path) -> str:
    """What the next job sees of what the last one has left."""
    return client.run(["sh", "-c", LOOK], cwd=folder).stdout.strip()


def await_death(pid: int) -> None:
    with os.fdopen(os.pidfd_open(pid)) as process:
        assert select.select([process], [], [], DEADLINE)[0]


def test_a_job_keeps_its_slot_until_what_it_left_is_killed(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        first = client.submit(["sh", "-c", f"{STRAY}exit 3"], cwd=daemon.data)
        second = client.submit(["sh", "-c", LOOK], cwd=daemon.data)
        done = first.wait(DEADLINE)
        assert (done.state, done.exit_status) == (JobState.FAILED, 3)
        assert second.result().stdout == "gone\n"
        started = second.refresh().started_at
        assert started is not None
        assert done.ended_at is not None
        assert started - done.ended_at >= GRACE - TICK


def test_what_ignores_term_outlives_its_cancelled_job_for_the_grace_period_only(
    daemon: DaemonProcess,
) -> None:
    script = f"{STRAY}trap 'exit 9' TERM; echo left; while :; do sleep 0.1; done"
    with daemon.client() as client:
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
        daemon.await_output(job.id, "left")
        job.cancel()
        with pytest.raises(JobCancelled) as caught:
            job.result()
        assert caught.value.job.exit_status == 9
        assert look(client, daemon.data) == "gone"


@pytest.mark.parametrize("when", ["before its end", "after its end"])
def test_a_daemon_that_was_killed_ends_what_jobs_left(daemon: DaemonProcess, when: str) -> None:
    os.mkfifo(daemon.data / "gate")
    script = f"{STRAY}echo left; read line <gate"
    with daemon.client() as client:
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
        daemon.await_output(job.id, "left")
        alive = os.open(daemon.spool / "jobs" / job.id / "alive", os.O_RDONLY)
        if when == "before its end":
            daemon.kill()
        (daemon.data / "gate").write_text("go\n", encoding="ascii")
        while os.read(alive, 100):
            pass
        os.close(alive)
        if when == "after its end":
            job.wait(DEADLINE)
            daemon.kill()
        assert lives(daemon.data)
        daemon.start()
        assert job.result().returncode == 0
        assert look(client, daemon.data) == "gone"


def test_what_lets_go_of_everything_and_loses_its_wrapper_is_lost_and_ended(
    daemon: DaemonProcess,
) -> None:
    with daemon.client() as client:
        script = "exec 9>&-; echo $$ >stray; echo left; exec sleep 600"
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
        daemon.await_output(job.id, "left")
        folder = daemon.spool / "jobs" / job.id
        wrapper = int((folder / "wrapper").read_text(encoding="ascii").split()[0])
        os.kill(wrapper, signal.SIGKILL)
        ended = job.wait(DEADLINE)
        assert ended.state is JobState.LOST
        assert ended.reason is not None
        assert ended.reason.code == "PROCESSES_GONE"
        assert lives(daemon.data)
        await_death(stray(daemon.data))
        assert look(client, daemon.data) == "gone"
