"""What a job leaves behind in the container that has let go of everything."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from support.docker_daemon import DockerDaemon
from support.strays import LOOK, STRAY
from wsclean_client import JobCancelled, JobState, WSCleanClient

GRACE = timedelta(seconds=1)
# Times of files are those of the kernel's tick.
TICK = timedelta(seconds=0.02)
SCRIPTS = "/wsclean-workerd/spool/runner"


@pytest.fixture(params=["0:0", "12345:23456"])
def daemon(idle_daemon: DockerDaemon, request: pytest.FixtureRequest) -> DockerDaemon:
    """One that runs one job at a time, as its own user or as another."""
    idle_daemon.values |= {"slots": 1, "run_as": request.param}
    idle_daemon.start()
    idle_daemon.data.chmod(0o777)
    return idle_daemon


def look(client: WSCleanClient, folder: Path) -> str:
    """What the next job sees of what the last one has left."""
    return client.run(["sh", "-c", LOOK], cwd=folder).stdout.strip()


def note_verbs(daemon: DockerDaemon) -> None:
    """Have it noted what the killer is told, in `verbs` among the data."""
    scripts = daemon.spool / "runner"
    (scripts / "kill.sh").rename(scripts / "really-kill.sh")
    noting = f'echo "$3" >>/data/verbs\nexec sh {SCRIPTS}/really-kill.sh "$@"\n'
    (scripts / "kill.sh").write_text(noting, encoding="ascii")


def verbs(daemon: DockerDaemon) -> list[str]:
    path = daemon.data / "verbs"
    return path.read_text(encoding="ascii").split() if path.exists() else []


def test_an_ordinary_job_is_not_searched_for_and_one_that_leaves_something_is(
    daemon: DockerDaemon,
) -> None:
    note_verbs(daemon)
    with daemon.client() as client:
        for script in ("exit 0", "sleep 0.01 & wait", "true | sh -c 'exit 3'", "kill -KILL $$"):
            client.run(["sh", "-c", script], check=False, cwd=daemon.data)
        # When the next one runs, what is to be done for the one before has been.
        client.run(["sh", "-c", "exit 0"], cwd=daemon.data)
        assert verbs(daemon) == []
        client.run(["sh", "-c", STRAY], cwd=daemon.data)
        assert look(client, daemon.data) == "gone"
        assert verbs(daemon) == ["FIND", "KILL", "FIND"]


def test_a_job_keeps_its_slot_until_what_it_left_is_killed(daemon: DockerDaemon) -> None:
    idle = daemon.processes()
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
    assert daemon.processes() == idle


def test_what_ignores_term_outlives_its_cancelled_job_for_the_grace_period_only(
    daemon: DockerDaemon,
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
def test_a_daemon_that_was_killed_ends_what_jobs_left(daemon: DockerDaemon, when: str) -> None:
    script = f"{STRAY}echo left; read line <gate"
    os.mkfifo(daemon.data / "gate")
    (daemon.data / "gate").chmod(0o666)
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
        assert [each for each in daemon.processes() if "trap" in each]
        daemon.start()
        assert job.result().returncode == 0
        assert look(client, daemon.data) == "gone"


@pytest.mark.parametrize("command", ["kill", "rm -f"])
def test_nothing_is_left_of_a_job_whose_container_is_gone(
    daemon: DockerDaemon, command: str
) -> None:
    with daemon.client() as client:
        client.submit(["sh", "-c", STRAY], cwd=daemon.data).wait(DEADLINE)
        daemon.kill()
        daemon.docker(*command.split(), daemon.container())
        daemon.start()
        assert client.run(["sh", "-c", "echo next"], cwd=daemon.data).stdout == "next\n"
