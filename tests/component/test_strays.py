"""What a job leaves behind that has let go of everything, with a real daemon."""

from __future__ import annotations

import os
import select
import signal

import pytest

from support import strays
from support.daemon import DEADLINE, DaemonProcess
from wsclean_client import JobState

GRACE = 0.5


@pytest.fixture
def idle_daemon(idle_daemon: DaemonProcess) -> DaemonProcess:
    """One that runs one job at a time."""
    idle_daemon.settings = idle_daemon.settings.replace("slots = 2", "slots = 1")
    return idle_daemon


def await_death(pid: int) -> None:
    with os.fdopen(os.pidfd_open(pid)) as process:
        assert select.select([process], [], [], DEADLINE)[0]


def test_a_job_keeps_its_slot_until_what_it_left_is_killed(daemon: DaemonProcess) -> None:
    strays.see_the_slot_kept(daemon, GRACE)


def test_what_ignores_term_outlives_its_cancelled_job_for_the_grace_period_only(
    daemon: DaemonProcess,
) -> None:
    strays.see_the_cancelled_job_outlived(daemon)


@pytest.mark.parametrize("when", strays.WHEN_KILLED)
def test_a_daemon_that_was_killed_ends_what_jobs_left(daemon: DaemonProcess, when: str) -> None:
    strays.see_it_ended_by_the_next_daemon(daemon, when, lambda: strays.lives(daemon.data))


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
        assert strays.lives(daemon.data)
        await_death(strays.stray(daemon.data))
        assert strays.look(client, daemon.data) == "gone"
