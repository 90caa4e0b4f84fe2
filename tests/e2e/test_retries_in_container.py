"""Jobs that run again after the real engine, or somebody else, has taken their container."""

from __future__ import annotations

import pytest

from support.daemon import DEADLINE
from support.docker_daemon import DockerDaemon
from wsclean_client import JobFailed, JobHandle, JobLost, WSCleanClient

ONCE = "if [ -e ran ]; then echo again; exit 0; fi; echo up; touch ran; "
# The kernel is made to choose the main process.
USE_UP = "echo 1000 >/proc/1/oom_score_adj; for n in 1 2 3 4; do tail /dev/zero & done; wait"


def begin(daemon: DockerDaemon, client: WSCleanClient, script: str) -> JobHandle:
    job = client.submit(["sh", "-c", ONCE + script], cwd=daemon.data, retries=1)
    daemon.await_output(job.id, "up")
    return job


def check_ran_twice(job: JobHandle, *codes: str) -> str:
    """Whether it succeeded when it ran again; return where that was."""
    done = job.result(timeout=DEADLINE)
    assert (done.stdout, done.info.attempt) == ("up\nagain\n", 2)
    assert done.info.last_loss is not None
    assert done.info.last_loss.code in codes
    return done.info.container_id


@pytest.mark.parametrize("command", ["kill", "rm"])
def test_a_job_whose_container_is_gone_runs_again_in_the_new_one(
    daemon: DockerDaemon, command: str
) -> None:
    before = daemon.container()
    with daemon.client() as client:
        job = begin(daemon, client, "exec sleep 600")
        daemon.docker(*(["rm", "-f"] if command == "rm" else ["kill"]), before)
        where = check_ran_twice(job, "CONTAINER_DIED", "CONTAINER_REMOVED")
    assert where == daemon.container() != before


def test_a_job_whose_container_ran_out_of_memory_runs_again(idle_daemon: DockerDaemon) -> None:
    idle_daemon.values["memory"] = "64MiB"
    idle_daemon.start()
    before = idle_daemon.container()
    with idle_daemon.client() as client:
        job = begin(idle_daemon, client, USE_UP)
        assert check_ran_twice(job, "CONTAINER_DIED") != before


def test_a_job_that_ran_out_of_memory_itself_does_not(idle_daemon: DockerDaemon) -> None:
    idle_daemon.values["memory"] = "64MiB"
    idle_daemon.start()
    with idle_daemon.client() as client, pytest.raises(JobFailed) as caught:
        begin(idle_daemon, client, "exec tail /dev/zero").result(timeout=DEADLINE)
    job = caught.value.job
    assert (job.exit_status, job.attempt) == (137, 1)
    assert job.reason is not None
    assert job.reason.code == "OOM_KILLED"


def test_a_job_runs_again_whose_container_died_with_the_daemon_away(daemon: DockerDaemon) -> None:
    before = daemon.container()
    with daemon.client() as client:
        job = begin(daemon, client, "exec sleep 600")
        daemon.kill()
        daemon.docker("kill", before)
        daemon.start()
        assert check_ran_twice(job, "CONTAINER_DIED") != before


def test_a_job_whose_wrapper_is_killed_runs_again_beside_nothing_of_itself(
    daemon: DockerDaemon,
) -> None:
    before, idle = daemon.container(), daemon.processes()
    with daemon.client() as client:
        # Without the FIFO that tells of its end, so that it has to be searched for.
        job = begin(daemon, client, "exec 9>&-; exec sleep 600")
        wrapper = (daemon.spool / "jobs" / job.id / "wrapper").read_text().split()[0]
        daemon.docker("exec", before, "sh", "-c", f"kill -KILL {wrapper}")
        assert check_ran_twice(job, "PROCESSES_GONE") == before
    assert daemon.processes() == idle


def test_every_attempt_can_be_lost(daemon: DockerDaemon) -> None:
    with daemon.client() as client:
        script = "echo up >>ups; echo up $(wc -l <ups); exec sleep 600"
        job = client.submit(["sh", "-c", script], cwd=daemon.data, retries=1)
        for number in (1, 2):
            daemon.await_output(job.id, f"up {number}")
            daemon.docker("kill", daemon.container())
        with pytest.raises(JobLost) as caught:
            job.result(timeout=DEADLINE)
        assert caught.value.job.attempt == 2
        assert client.run(["sh", "-c", "wc -l <ups"], cwd=daemon.data).stdout == "2\n"
