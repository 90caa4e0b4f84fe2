"""The runner of a real daemon: its death, its silence, and doing without it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.daemon import DEADLINE, DaemonProcess, holders, until
from wsclean_client import JobCancelled, JobState, WSCleanClient


def runner(daemon: DaemonProcess) -> int:
    """The process id of the daemon's runner: who holds its `alive`."""
    (pid,) = {pid for fifo in daemon.spool.glob("runner/*/alive") for pid in holders(fifo)}
    return pid


def await_readable(descriptor: int) -> None:
    """Wait for the end of the process that a descriptor stands for, and close it."""
    with os.fdopen(descriptor) as process:
        assert select.select([process], [], [], DEADLINE)[0]


def await_end(pid: int) -> None:
    """Wait until a process has ended."""
    with suppress(ProcessLookupError):
        await_readable(os.pidfd_open(pid))


@contextmanager
def gate(daemon: DaemonProcess, name: str) -> Iterator[Path]:
    """A FIFO on which jobs wait until it is opened for writing."""
    path = daemon.data / name
    os.mkfifo(path)
    yield path
    path.unlink()


def test_a_runner_that_is_killed_is_replaced_and_its_jobs_live_on(daemon: DaemonProcess) -> None:
    with daemon.client() as client, gate(daemon, "gate") as path:
        job = daemon.begin(client, f"read line <{path}; exit 5")
        before = runner(daemon)
        os.kill(before, signal.SIGKILL)
        # The next one cannot run before there is another runner, or without one.
        assert client.run(["sh", "-c", "echo on"]).stdout == "on\n"
        path.write_text("go\n", encoding="utf-8")
        assert job.result(check=False).returncode == 5
        for _ in range(3):
            client.run(["sh", "-c", "exit 0"])
        daemon.await_health()
        assert runner(daemon) != before


def test_a_runner_that_stands_still_is_given_up(daemon: DaemonProcess) -> None:
    with daemon.client() as client, gate(daemon, "gate") as path:
        # The one lane there is has a job, so the next one needs the runner.
        client.run(["sh", "-c", "exit 0"])
        busy = client.submit(["sh", "-c", f"read line <{path}"])
        before = runner(daemon)
        os.kill(before, signal.SIGSTOP)
        try:
            assert client.run(["sh", "-c", "echo on"]).stdout == "on\n"
            path.write_text("go\n", encoding="utf-8")
            assert busy.wait(DEADLINE).state is JobState.SUCCEEDED
        finally:
            os.kill(before, signal.SIGKILL)


def test_a_signal_that_a_runner_takes_and_does_not_send_is_sent_without_it(
    idle_daemon: DaemonProcess,
) -> None:
    idle_daemon.settings = idle_daemon.settings.replace("kill_grace = 0.5", "kill_grace = 60")
    idle_daemon.start()
    with idle_daemon.client() as client:
        job = idle_daemon.begin(client, "trap 'exit 9' TERM; while :; do sleep 0.1; done")
        standing = runner(idle_daemon)
        os.kill(standing, signal.SIGSTOP)
        job.cancel()
        os.kill(standing, signal.SIGKILL)
        # Long before it would have been given up for not answering.
        assert job.wait(10).exit_status == 9


def test_a_lane_that_is_killed_loses_the_job_that_it_ran_and_no_other(
    daemon: DaemonProcess,
) -> None:
    with daemon.client() as client:
        job = daemon.begin(client, "exec sleep 600")
        folder = daemon.spool / "jobs" / job.id
        wrapper = int((folder / "wrapper").read_text(encoding="ascii").split()[0])
        # The wrapper first, which would say how the job has ended.
        for pid in (wrapper, *(holders(folder / "alive") - {wrapper})):
            os.kill(pid, signal.SIGKILL)
        ended = job.wait(DEADLINE)
        assert ended.state is JobState.LOST
        assert ended.reason is not None
        assert ended.reason.code == "PROCESSES_GONE"
        assert client.run(["sh", "-c", "echo on"]).stdout == "on\n"


def starter(daemon: DaemonProcess) -> int:
    """The process that starts the jobs of the one lane there is."""

    def found() -> set[int]:
        return {pid for fifo in daemon.spool.glob("runner/*/*/said") for pid in holders(fifo)}

    # The child that waits for the next job holds it too for a moment.
    (pid,) = until(found, lambda pids: len(pids) == 1)
    return pid


def test_a_lane_gets_another_starter_if_that_is_killed(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        client.run(["sh", "-c", "exit 0"])
        before = starter(daemon)
        os.kill(before, signal.SIGKILL)
        await_end(before)
        assert client.run(["sh", "-c", "exit 7"], check=False).returncode == 7
        assert starter(daemon) != before


def test_a_job_without_its_starter_is_lost_when_it_is_gone(daemon: DaemonProcess) -> None:
    with daemon.client() as client, gate(daemon, "gate") as path:
        job = daemon.begin(client, f"read line <{path}; exit 0")
        starting = starter(daemon)
        os.kill(starting, signal.SIGKILL)
        await_end(starting)
        # Its output may be there before its start is told.
        until(job.refresh, lambda found: found.state is JobState.RUNNING)
        path.write_text("go\n", encoding="utf-8")
        ended = job.wait(DEADLINE)
        assert (ended.state, ended.reason and ended.reason.code) == (
            JobState.LOST,
            "PROCESSES_GONE",
        )
        assert client.run(["sh", "-c", "exit 7"], check=False).returncode == 7


def test_without_the_runner_jobs_are_started_one_by_one(idle_daemon: DaemonProcess) -> None:
    # A setsid that cannot leave its caller is one that the runner cannot use.
    folder = idle_daemon.folder / "bin"
    folder.mkdir()
    script = '#!/bin/sh\nif [ "$1" = --fork ] && [ "$2" = true ]; then exit 1; fi\n'
    (folder / "setsid").write_text(script + 'exec /usr/bin/setsid "$@"\n', encoding="ascii")
    (folder / "setsid").chmod(0o755)
    idle_daemon.environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    idle_daemon.start()
    with idle_daemon.client() as client:
        condition = client.status().runtime.condition
        assert condition is not None
        assert (condition.code, "setsid" in condition.message) == ("NO_RUNNER", True)
        assert client.run(["sh", "-c", "echo on; exit 3"], check=False).returncode == 3
        job = client.submit(["sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 1; done"])
        idle_daemon.await_output(job.id, "up")
        job.cancel()
        ended = job.wait(DEADLINE)
        assert (ended.state, ended.exit_status) == (JobState.CANCELLED, 9)


def test_idle_lanes_and_the_runner_end_with_the_daemon(idle_daemon: DaemonProcess) -> None:
    idle_daemon.start()
    with idle_daemon.client() as client:
        client.run(["sh", "-c", "exit 0"])
    fifos = [*idle_daemon.spool.glob("runner/*/alive"), *idle_daemon.spool.glob("runner/*/*/said")]
    assert len(fifos) == 2
    held = {fifo: holders(fifo) for fifo in fifos}
    assert all(held.values())
    watched = [os.pidfd_open(pid) for pids in held.values() for pid in pids]
    idle_daemon.kill()
    for descriptor in watched:
        await_readable(descriptor)


@pytest.mark.parametrize("number", ["INT", "QUIT", "PIPE", "TERM", "HUP"])
def test_signals_mean_to_a_job_what_they_mean_to_any_program(
    daemon: DaemonProcess, number: str
) -> None:
    with daemon.client() as client:
        for _ in range(2):
            done = client.run(
                ["sh", "-c", f"trap 'exit 42' {number}; kill -{number} $$"], check=False
            )
            assert done.returncode == 42


def test_every_job_has_a_session_and_nothing_open_of_others(daemon: DaemonProcess) -> None:
    script = 'read -r stat </proc/self/stat; set -- $stat; echo "$1 $6"; ls /proc/$$/fd'
    with daemon.client() as client:
        seen = set()
        for _ in range(3):
            first, *descriptors = client.run(["sh", "-c", script]).stdout.split("\n")
            pid, session = first.split()
            assert pid == session
            seen.add(session)
            # Its own three, and `alive`.
            assert set(descriptors) - {""} == {"0", "1", "2", "9"}
        assert len(seen) == 3


TIED = """
import sys
from wsclean_client import WSCleanClient
with WSCleanClient(sys.argv[1]) as client:
    client.run(["sh", "-c", "echo $$; trap 'exit 9' TERM; while :; do sleep 1; done"],
               tied=True, stdout=lambda piece: print(piece.decode(), end="", flush=True))
"""


def tied_client(daemon: DaemonProcess) -> subprocess.Popen[str]:
    caller = subprocess.Popen(
        [sys.executable, "-c", TIED, daemon.socket], stdout=subprocess.PIPE, text=True
    )
    assert caller.stdout is not None
    assert caller.stdout.readline().strip().isdecimal()
    return caller


def only_job(client: WSCleanClient) -> str:
    (info,) = client.list(limit=2)
    return info.id


def test_a_tied_job_ends_with_its_caller_however_that_ends(daemon: DaemonProcess) -> None:
    caller = tied_client(daemon)
    with daemon.client() as client:
        job = client.job(only_job(client))
        assert not job.refresh().ended
        caller.kill()
        caller.communicate()
        ended = job.wait(DEADLINE)
        assert ended.state is JobState.CANCELLED
        assert ended.reason is not None
        assert ended.reason.code == "CLIENT_GONE"


def test_a_tied_job_outlives_the_daemon_with_its_caller(daemon: DaemonProcess) -> None:
    caller = tied_client(daemon)
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        job = client.job(only_job(client))
        daemon.stop()
        daemon.start()
        assert not job.refresh().ended
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result()
    caller.communicate(timeout=DEADLINE)
    assert caller.returncode == 1
