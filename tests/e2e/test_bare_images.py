"""Jobs in images that lack what they are usually started with."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from support.bare_images import busybox_image, image_without
from support.daemon import DEADLINE, until
from support.docker_daemon import DockerDaemon
from support.strays import STRAY, look
from wsclean_client import JobCancelled, JobState

OTHER = "12345:23456"


@dataclass(frozen=True)
class Bare:
    """An image that lacks something, and whom jobs run as in it.

    Attributes:
        make: Makes it.
        user: The user and group.
        lacks: What the condition of the runtime says.
    """

    make: Callable[[str], None]
    user: str
    lacks: tuple[str, ...]


BARE = {
    "busybox": Bare(busybox_image, OTHER, ("setpriv", "--fork", "no supplementary groups")),
    "busybox, one user": Bare(busybox_image, "0:0", ("--fork",)),
    "no setpriv": Bare(
        partial(image_without, programs=["setpriv"]), OTHER, ("setpriv", "no supplementary groups")
    ),
    "no setpriv, no setsid": Bare(
        partial(image_without, programs=["setpriv", "setsid"]), OTHER, ("setpriv", "setsid")
    ),
    "no setsid, one user": Bare(partial(image_without, programs=["setsid"]), "0:0", ("setsid",)),
}


@pytest.fixture(params=BARE, scope="module")
def bare(request: pytest.FixtureRequest) -> Bare:
    return BARE[request.param]


@pytest.fixture(scope="module")
def image(bare: Bare) -> Iterator[str]:
    """The image by name."""
    name = f"wsclean-workerd/test-bare-{uuid.uuid4().hex[:8]}:latest"
    bare.make(name)
    yield name
    subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


@pytest.fixture
def daemon(idle_daemon: DockerDaemon, bare: Bare, image: str) -> DockerDaemon:
    """A daemon with such an image."""
    idle_daemon.docker("tag", image, idle_daemon.use_image())
    idle_daemon.values["run_as"] = bare.user
    idle_daemon.start()
    idle_daemon.data.chmod(0o777)
    return idle_daemon


def test_jobs_are_their_users_and_no_others(daemon: DockerDaemon, bare: Bare) -> None:
    with daemon.client() as client:
        condition = client.status().runtime.condition
        assert condition is not None
        assert condition.code == "NO_RUNNER"
        assert [each for each in bare.lacks if each not in condition.message] == []
        assert ("groups" in condition.message) == (bare.user == OTHER)
        script = "id -u; id -g; id -G; echo x >made; grep -E 'Cap(Eff|Prm|Inh)' /proc/self/status"
        lines = client.run(["sh", "-c", script], cwd=daemon.data).stdout.splitlines()
        uid, gid = bare.user.split(":")
        assert lines[:3] == [uid, gid, gid]
        if uid != "0":
            assert {int(line.split()[1], 16) for line in lines[3:]} == {0}
    made = (daemon.data / "made").stat()
    assert (made.st_uid, made.st_gid) == (int(uid), int(gid))
    # Who asks the storage is that user, too.
    assert "cannot tell whether the storage" not in daemon.log


def test_output_and_status_are_those_of_the_command(daemon: DockerDaemon) -> None:
    with daemon.client() as client:
        script = "echo out; echo err >&2; exit 7"
        done = client.run(["sh", "-c", script], check=False, cwd=daemon.data)
        assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
        for script, status in (("exit 0", 0), ("exec no-such", 127), ("kill -KILL $$", 137)):
            done = client.run(["sh", "-c", script], check=False, cwd=daemon.data)
            assert done.returncode == status
    # Root's alone, so that no job can say how it ended.
    exits = [each.stat() for each in daemon.spool.glob("jobs/*/exit")]
    assert {(each.st_uid, each.st_mode & 0o777) for each in exits} == {(0, 0o600)}


def test_nothing_is_left_of_a_tree_that_was_cancelled(daemon: DockerDaemon) -> None:
    escapee = "(sh -c 'trap : TERM; echo up; while :; do sleep 1; done' &)"
    with daemon.client() as client:
        job = client.submit(
            ["sh", "-c", f"{escapee}; trap : TERM; while :; do sleep 1; done"], cwd=daemon.data
        )
        daemon.await_output(job.id, "up")
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result()
        polite = daemon.begin(client, "trap 'exit 9' TERM; while :; do sleep 0.1; done")
        polite.cancel()
        assert polite.wait(DEADLINE).exit_status == 9
    assert not [each for each in daemon.processes() if "trap" in each]


def test_a_job_outlives_the_daemon_and_can_be_cancelled_by_the_next(daemon: DockerDaemon) -> None:
    with daemon.client() as client:
        gate = daemon.gate()
        job = daemon.begin(client, f"{gate.wait}; echo end; exit 3")
        other = daemon.begin(client, "exec sleep 600")
        daemon.kill()
        daemon.start()
        gate.open()
        done = job.result(check=False)
        assert (done.returncode, done.stdout) == (3, "up\nend\n")
        other.cancel()
        ended = other.wait(DEADLINE)
        assert (ended.state, ended.exit_status) == (JobState.CANCELLED, 143)


def test_what_a_job_has_left_is_found_and_ended(daemon: DockerDaemon) -> None:
    script = STRAY.replace("setsid sh", "sh")
    with daemon.client() as client:
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
        assert job.wait(DEADLINE).state is JobState.SUCCEEDED
        assert [each for each in daemon.processes() if "trap" in each]
        daemon.kill()
        daemon.start()
        until(job.refresh, lambda info: not info.lingering)
        assert look(client, daemon.data) == "gone"


def test_a_job_that_signals_its_own_process_group_ends_nothing_else(daemon: DockerDaemon) -> None:
    with daemon.client() as client:
        script = "trap 'exit 7' TERM; kill -TERM 0; exit 1"
        done = client.run(["sh", "-c", script], check=False, cwd=daemon.data)
        assert done.returncode == 7
