"""What a job leaves behind in the container that has let go of everything."""

from __future__ import annotations

import pytest

from support import strays
from support.daemon import DEADLINE
from support.docker_daemon import DockerDaemon

GRACE = 1.0
SCRIPTS = "/wsclean-workerd/spool/runner"


@pytest.fixture(params=["0:0", "12345:23456"])
def daemon(idle_daemon: DockerDaemon, request: pytest.FixtureRequest) -> DockerDaemon:
    """One that runs one job at a time, as its own user or as another."""
    idle_daemon.values |= {"slots": 1, "run_as": request.param}
    idle_daemon.start()
    idle_daemon.data.chmod(0o777)
    return idle_daemon


def left(daemon: DockerDaemon) -> list[str]:
    """What jobs have left in the container."""
    return [each for each in daemon.processes() if "trap" in each]


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
        client.run(["sh", "-c", strays.STRAY], cwd=daemon.data)
        assert strays.look(client, daemon.data) == "gone"
        assert verbs(daemon) == ["FIND", "KILL", "FIND"]


def test_a_job_keeps_its_slot_until_what_it_left_is_killed(daemon: DockerDaemon) -> None:
    strays.see_the_slot_kept(daemon, GRACE)
    assert not left(daemon)


def test_what_ignores_term_outlives_its_cancelled_job_for_the_grace_period_only(
    daemon: DockerDaemon,
) -> None:
    strays.see_the_cancelled_job_outlived(daemon)


@pytest.mark.parametrize("when", strays.WHEN_KILLED)
def test_a_daemon_that_was_killed_ends_what_jobs_left(daemon: DockerDaemon, when: str) -> None:
    strays.see_it_ended_by_the_next_daemon(daemon, when, lambda: left(daemon))


@pytest.mark.parametrize("command", ["kill", "rm -f"])
def test_nothing_is_left_of_a_job_whose_container_is_gone(
    daemon: DockerDaemon, command: str
) -> None:
    with daemon.client() as client:
        client.submit(["sh", "-c", strays.STRAY], cwd=daemon.data).wait(DEADLINE)
        daemon.kill()
        daemon.docker(*command.split(), daemon.container())
        daemon.start()
        assert client.run(["sh", "-c", "echo next"], cwd=daemon.data).stdout == "next\n"
