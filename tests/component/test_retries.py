"""Jobs that are lost and may run again, with a real daemon and real processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import DEADLINE, DaemonProcess, until
from support.strays import LOOK, STRAY
from wsclean_client import (
    JobCancelled,
    JobFailed,
    JobHandle,
    JobInfo,
    JobLost,
    JobState,
    RequestRefused,
    WSCleanClient,
)

# Each run waits at a gate of its own, and what it prints is its number.
RUN = "n=$(($(cat runs 2>/dev/null || echo 0) + 1)); echo $n >runs; echo run $n; "
WAIT = RUN + "exec cat gate-$n"


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[WSCleanClient]:
    for number in range(1, 4):
        os.mkfifo(daemon.data / f"gate-{number}")
    with daemon.client() as client:
        yield client


def submit(
    client: WSCleanClient, daemon: DaemonProcess, script: str = WAIT, *, retries: int = 1
) -> JobHandle:
    return client.submit(["sh", "-c", script], cwd=daemon.data, retries=retries)


def open_gate(daemon: DaemonProcess, number: int) -> None:
    (daemon.data / f"gate-{number}").write_text("", encoding="ascii")


def attempt_folder(daemon: DaemonProcess, job_id: str, number: int) -> Path:
    folder = daemon.spool / "jobs" / job_id
    return folder if number == 1 else folder / f"attempt-{number}"


def kill_wrapper(daemon: DaemonProcess, job_id: str, number: int = 1) -> None:
    """End what would write the status of an attempt, whose command runs."""
    line = (attempt_folder(daemon, job_id, number) / "wrapper").read_text(encoding="ascii")
    os.kill(int(line.split()[0]), signal.SIGKILL)


def running(job: JobInfo) -> bool:
    return job.state is JobState.RUNNING


def runs(daemon: DaemonProcess) -> int:
    """How often the command has run, of all jobs."""
    return int((daemon.data / "runs").read_text(encoding="ascii"))


def lose(daemon: DaemonProcess, job_id: str, number: int = 1) -> None:
    """Have an attempt of the only job end without a status."""
    daemon.await_output(job_id, f"run {number}")
    kill_wrapper(daemon, job_id, number)
    open_gate(daemon, number)


def test_a_lost_job_runs_again_and_whoever_follows_it_notices_nothing(
    daemon: DaemonProcess, client: WSCleanClient
) -> None:
    job = submit(client, daemon)
    seen: list[bytes] = []

    def follow() -> None:
        seen.extend(chunk.data for chunk in client.job(job.id).logs(follow=True))

    follower = threading.Thread(target=follow)
    follower.start()
    lose(daemon, job.id)
    info = next(each for each in job.watch(DEADLINE) if running(each) and each.attempt == 2)
    assert info.exit_status is None
    assert info.last_loss is not None
    assert info.last_loss.code == "PROCESSES_GONE"
    open_gate(daemon, 2)
    done = job.result(timeout=DEADLINE)
    follower.join(DEADLINE)
    assert done.stdout == b"".join(seen).decode() == "run 1\nrun 2\n"
    assert (done.info.attempt, done.returncode) == (2, 0)
    states = [line for line in daemon.log.splitlines() if f"job {job.id} is QUEUED" in line]
    assert len(states) == 1
    assert "for attempt 2 of 2: its processes ended" in states[0]


def test_a_call_that_stays_with_its_job_stays_over_a_retry(
    daemon: DaemonProcess, client: WSCleanClient
) -> None:
    ended = []
    seen: list[bytes] = []

    def run() -> None:
        command = ["sh", "-c", WAIT]
        ended.append(client.run(command, cwd=daemon.data, retries=1, tied=True, stdout=seen.append))

    caller = threading.Thread(target=run)
    caller.start()
    lose(daemon, "1")
    daemon.await_output("1", "run 2")
    open_gate(daemon, 2)
    caller.join(DEADLINE)
    (done,) = ended
    assert (done.info.attempt, done.stdout) == (2, "run 1\nrun 2\n")
    assert b"".join(seen) == b"run 1\nrun 2\n"


@pytest.mark.parametrize("retries", [0, 1])
def test_it_runs_as_often_as_was_allowed(
    daemon: DaemonProcess, client: WSCleanClient, retries: int
) -> None:
    job = submit(client, daemon, retries=retries)
    for number in range(1, 2 + retries):
        lose(daemon, job.id, number)
    with pytest.raises(JobLost) as caught:
        job.result(timeout=DEADLINE)
    assert caught.value.job.attempt == 1 + retries
    assert runs(daemon) == 1 + retries


def test_what_has_an_exit_status_runs_once(daemon: DaemonProcess, client: WSCleanClient) -> None:
    for script, status in (("exit 3", 3), ("kill -KILL $$", 137), ("exec no-such-program", 127)):
        job = submit(client, daemon, RUN + script, retries=5)
        with pytest.raises(JobFailed) as caught:
            job.result(timeout=DEADLINE)
        assert (caught.value.job.exit_status, caught.value.job.attempt) == (status, 1)
    assert runs(daemon) == 3


def test_what_was_cancelled_runs_once(daemon: DaemonProcess, client: WSCleanClient) -> None:
    script = RUN + "trap : TERM; while :; do sleep 0.05; done"
    job = submit(client, daemon, script, retries=5)
    daemon.await_output(job.id, "run 1")
    kill_wrapper(daemon, job.id)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=DEADLINE)
    assert job.refresh().attempt == 1
    assert runs(daemon) == 1


def test_a_daemon_that_was_killed_runs_again_what_was_lost_meanwhile_and_finds_it_again(
    daemon: DaemonProcess, client: WSCleanClient
) -> None:
    job = submit(client, daemon, RUN + "read line <gate-$n; exit $((n * 10))", retries=2)
    daemon.await_output(job.id, "run 1")
    daemon.kill()
    lose(daemon, job.id)
    daemon.start()
    daemon.await_output(job.id, "run 2")
    daemon.kill()
    open_gate(daemon, 2)
    status = attempt_folder(daemon, job.id, 2) / "exit"
    until(status.read_text, str.strip)
    daemon.start()
    with pytest.raises(JobFailed) as caught:
        job.result(timeout=DEADLINE)
    assert (caught.value.job.exit_status, caught.value.job.attempt) == (20, 2)


def test_what_an_attempt_has_left_is_ended_before_the_next_one(
    daemon: DaemonProcess, client: WSCleanClient
) -> None:
    script = f"if [ -e stray ]; then {LOOK}; exit; fi; {STRAY}{WAIT}"
    job = submit(client, daemon, script)
    lose(daemon, job.id)
    done = job.result(timeout=DEADLINE)
    assert (done.stdout, done.info.attempt) == ("run 1\ngone\n", 2)


def test_one_that_waits_to_run_again_says_why_and_can_be_cancelled(
    daemon: DaemonProcess, client: WSCleanClient
) -> None:
    jobs = []
    for number in (1, 2):
        jobs.append(submit(client, daemon))
        daemon.await_output(jobs[-1].id, f"run {number}")
    drained = client.drain()
    next(drained)
    watch = client.job(jobs[0].id).watch(DEADLINE)
    assert next(each for each in watch if running(each)).attempt == 1
    for job, number in zip(jobs, (1, 2), strict=True):
        kill_wrapper(daemon, job.id)
        open_gate(daemon, number)
    assert list(drained)[-1] == 0
    for info in (next(watch), jobs[0].refresh()):
        assert (info.state, info.attempt, info.started_at) == (JobState.QUEUED, 2, None)
        assert info.reason == info.last_loss
        assert info.reason is not None
        assert info.reason.code == "PROCESSES_GONE"
        assert info.queued_at is not None
        assert info.queued_at > info.submitted_at
    jobs[1].cancel()
    client.resume()
    open_gate(daemon, 3)
    assert jobs[0].result(timeout=DEADLINE).returncode == 0
    with pytest.raises(JobCancelled):
        jobs[1].result(timeout=DEADLINE)
    assert runs(daemon) == 3


def test_a_lock_goes_to_the_attempt_before_it_goes_to_younger_jobs(
    daemon: DaemonProcess, client: WSCleanClient
) -> None:
    first, second = (
        client.submit(["sh", "-c", script], cwd=daemon.data, locks=["a"], retries=1)
        for script in (WAIT, RUN)
    )
    lose(daemon, first.id)
    daemon.await_output(first.id, "run 2")
    waiting = second.refresh()
    assert waiting.reason is not None
    assert (waiting.state, waiting.reason.code) == (JobState.QUEUED, "LOCK_HELD")
    open_gate(daemon, 2)
    assert second.result(timeout=DEADLINE).stdout == "run 3\n"


def test_more_retries_than_make_sense_are_refused(
    daemon: DaemonProcess, client: WSCleanClient
) -> None:
    with pytest.raises(RequestRefused, match="101 retries: expected at most 100") as caught:
        submit(client, daemon, retries=101)
    assert caught.value.reason == "INVALID_RETRIES"
