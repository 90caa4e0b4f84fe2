"""The daemon with a real engine and the real image: the one container and its faults."""

from __future__ import annotations

import select
import subprocess
import threading
import time
from pathlib import Path

import docker
import pytest
from grpc_health.v1 import health_pb2

from support.daemon import DEADLINE
from support.docker_daemon import IMAGE, DockerDaemon
from support.proxy import EngineProxy
from wsclean_client import (
    JobCancelled,
    JobFailed,
    JobLost,
    JobState,
    JobTimedOut,
    RequestRefused,
    WSCleanClient,
)

RECOVERY_SECONDS = 10
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def condition(client: WSCleanClient) -> str:
    """The code of the condition that the runtime is in."""
    found = client.status().runtime.condition
    return "" if found is None else found.code


def test_all_jobs_run_in_one_container_and_host_paths_are_mapped(daemon: DockerDaemon) -> None:
    (daemon.data / "night 1").mkdir()
    (daemon.data / "night 1" / "a.txt").write_text("hello")
    with daemon.client() as client:
        before = daemon.container()
        for folder, seen in ((daemon.data / "night 1", "/data/night 1"), (Path("/"), "/tmp")):
            done = client.run(
                ["sh", "-c", 'pwd; cat "$0"', daemon.data / "night 1" / "a.txt"],
                cwd=folder,
            )
            assert done.stdout == f"{seen}\nhello"
        assert client.status().runtime.container_id == before == daemon.container()


def test_the_container_can_do_as_little_as_possible(
    daemon: DockerDaemon,
    engine: docker.APIClient,
) -> None:
    found = engine.inspect_container(daemon.container())
    host = found["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["Privileged"] is False
    targets = {mount["Destination"] for mount in found["Mounts"]}
    assert targets == {"/data", "/wsclean-workerd/spool"}
    with daemon.client() as client:
        for path in ("/usr/x", "/etc/x", "/wsclean-workerd/x"):
            done = client.run(
                ["sh", "-c", f"echo x >container:{path}".replace("container:", "")],
                check=False,
                cwd=daemon.data,
            )
            assert done.returncode != 0
            assert "Read-only" in done.stderr
        assert client.run(["sh", "-c", "echo x >/tmp/x"], cwd=daemon.data).returncode == 0


def test_a_read_only_mount_is_one(idle_daemon: DockerDaemon) -> None:
    other = idle_daemon.folder / "catalogue"
    other.mkdir()
    (other / "a.txt").write_text("stars")
    idle_daemon.extra = f'[[mounts]]\nhost = "{other}"\nread_only = true\n'
    idle_daemon.start()
    with idle_daemon.client() as client:
        done = client.run(["sh", "-c", 'cat "$0"; echo x >"$0"', other / "a.txt"], check=False)
    assert (done.stdout, done.returncode) == ("stars", 2)
    assert (other / "a.txt").read_text() == "stars"


def test_jobs_run_as_the_configured_user(idle_daemon: DockerDaemon) -> None:
    idle_daemon.values["run_as"] = "12345:23456"
    idle_daemon.start()
    idle_daemon.data.chmod(0o777)
    with idle_daemon.client() as client:
        script = "id -u; id -g; id -G; echo x >made; grep -E 'Cap(Eff|Prm|Inh)' /proc/self/status"
        lines = client.run(["sh", "-c", script], cwd=idle_daemon.data).stdout.splitlines()
        assert lines[:3] == ["12345", "23456", "23456"]
        assert {int(line.split()[1], 16) for line in lines[3:]} == {0}
        made = (idle_daemon.data / "made").stat()
        assert (made.st_uid, made.st_gid) == (12345, 23456)
        job = idle_daemon.begin(client, "trap : TERM; while :; do sleep 1; done")
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result()
    assert not [each for each in idle_daemon.processes() if "trap" in each]


ESCAPEE = "(setsid sh -c 'trap : TERM; echo up; while :; do sleep 1; done' &)"


@pytest.mark.parametrize("end", ["timeout", "cancel"])
def test_the_whole_tree_of_a_job_is_really_gone(daemon: DockerDaemon, end: str) -> None:
    idle = daemon.processes()
    script = f"{ESCAPEE}; trap : TERM; while :; do sleep 1; done"
    timeout = 1 if end == "timeout" else None
    with daemon.client() as client:
        job = client.submit(["sh", "-c", script], cwd=daemon.data, timeout=timeout)
        daemon.await_output(job.id, "up")
        if end == "cancel":
            job.cancel()
        with pytest.raises(JobTimedOut if end == "timeout" else JobCancelled):
            job.result()
    assert daemon.processes() == idle


def test_killed_and_started_again_the_daemon_adopts_container_and_jobs(
    daemon: DockerDaemon,
) -> None:
    before = daemon.container()
    with daemon.client() as client:
        gate = daemon.gate()
        job = daemon.begin(client, f"{gate.wait}; echo end; exit 3")
        daemon.kill()
        daemon.start()
        gate.open()
        done = job.result(check=False)
    assert (done.returncode, done.stdout) == (3, "up\nend\n")
    assert daemon.container() == before


def test_stopping_the_daemon_leaves_the_container(daemon: DockerDaemon) -> None:
    before = daemon.container()
    assert daemon.stop() == 0
    assert daemon.container() == before
    daemon.start()
    assert daemon.container() == before


@pytest.mark.parametrize(
    ("command", "code"),
    [("kill", "CONTAINER_DIED"), ("rm", "CONTAINER_REMOVED")],
)
def test_a_container_that_died_loses_its_jobs_and_the_others_go_on_in_a_new_one(
    daemon: DockerDaemon,
    command: str,
    code: str,
) -> None:
    before = daemon.container()
    with daemon.client() as client:
        running = daemon.begin(client, "sleep 600")
        daemon.docker(*(["rm", "-f"] if command == "rm" else ["kill"]), before)
        since = time.monotonic()
        assert client.run(["sh", "-c", "echo next"], cwd=daemon.data).stdout == "next\n"
        assert time.monotonic() - since < RECOVERY_SECONDS
        assert daemon.container() != before
        with pytest.raises(JobLost) as caught:
            running.result()
    assert caught.value.job.reason is not None
    # Asked at once after `rm -f`, the engine may still know it as ended.
    assert caught.value.job.reason.code in {code, "CONTAINER_DIED"}
    assert before[:12] in caught.value.job.reason.message


def test_a_job_that_has_used_up_the_memory_fails_and_says_so(idle_daemon: DockerDaemon) -> None:
    idle_daemon.values["memory"] = "64MiB"
    idle_daemon.start()
    before = idle_daemon.container()
    with idle_daemon.client() as client:
        for script, code in (
            ("exec tail /dev/zero", "OOM_KILLED"),
            ("kill -KILL $$", "SIGNALLED"),
            ("exec tail /dev/zero", "OOM_KILLED"),
        ):
            with pytest.raises(JobFailed) as caught:
                client.run(["sh", "-c", script], cwd=idle_daemon.data)
            assert caught.value.returncode == 137
            assert caught.value.job.reason is not None
            assert caught.value.job.reason.code == code
    assert idle_daemon.container() == before


def test_a_container_whose_memory_is_used_up_loses_its_jobs_and_says_so(
    idle_daemon: DockerDaemon,
) -> None:
    idle_daemon.values["memory"] = "64MiB"
    idle_daemon.start()
    before = idle_daemon.container()
    with idle_daemon.client() as client:
        # The kernel is made to choose the main process.
        script = "echo 1000 >/proc/1/oom_score_adj; "
        script += "for n in 1 2 3 4; do tail /dev/zero & done; wait"
        with pytest.raises(JobLost) as caught:
            client.run(["sh", "-c", script], cwd=idle_daemon.data)
        assert caught.value.job.reason is not None
        assert caught.value.job.reason.code == "CONTAINER_DIED"
        assert "memory" in caught.value.job.reason.message
        assert client.run(["sh", "-c", "echo next"], cwd=idle_daemon.data).stdout == "next\n"
    assert idle_daemon.container() != before


def test_a_container_that_died_with_the_daemon_away_is_replaced(daemon: DockerDaemon) -> None:
    before = daemon.container()
    with daemon.client() as client:
        job = daemon.begin(client, "sleep 600")
        daemon.kill()
        daemon.docker("kill", before)
        daemon.start()
        with pytest.raises(JobLost):
            job.result()
    assert daemon.container() != before


def test_another_configuration_makes_a_new_container_once_it_is_idle(
    daemon: DockerDaemon,
) -> None:
    before = daemon.container()
    (daemon.folder / "more").mkdir()
    daemon.extra = f'[[mounts]]\nhost = "{daemon.folder}/more"\n'
    with daemon.client() as client:
        gate = daemon.gate()
        job = daemon.begin(client, gate.wait)
        assert daemon.stop() == 0
        daemon.start()
        assert condition(client) == "CONTAINER_OUTDATED"
        assert daemon.container() == before
        gate.open()
        assert job.result().returncode == 0
    daemon.stop()
    daemon.start()
    assert daemon.container() != before


def test_a_job_whose_wrapper_is_killed_is_lost_and_the_container_goes_on(
    daemon: DockerDaemon,
) -> None:
    before = daemon.container()
    with daemon.client() as client:
        job = daemon.begin(client, "exec sleep 600")
        # All that holds `alive`, the wrapper first, so that it writes no status.
        wrapper = (daemon.spool / "jobs" / job.id / "wrapper").read_text().split()[0]
        script = f"kill -KILL {wrapper}; for p in /proc/[0-9]*; do grep -qs WSCLEAN_WORKERD_MARK "
        script += "$p/environ && kill -KILL ${p#/proc/}; done; true"
        daemon.docker("exec", before, "sh", "-c", script)
        with pytest.raises(JobLost) as caught:
            job.result(timeout=DEADLINE)
        assert caught.value.job.reason is not None
        assert caught.value.job.reason.code == "PROCESSES_GONE"
        assert client.run(["sh", "-c", "echo next"], cwd=daemon.data).stdout == "next\n"
    assert daemon.container() == before


def test_a_running_container_is_kept_when_its_image_has_gone(idle_daemon: DockerDaemon) -> None:
    image = idle_daemon.use_image()
    idle_daemon.docker("tag", IMAGE, image)
    idle_daemon.start()
    before = idle_daemon.container()
    idle_daemon.docker("rmi", "-f", image)
    idle_daemon.stop()
    idle_daemon.start()
    with idle_daemon.client() as client:
        assert condition(client) == "IMAGE_MISSING"
        assert client.run(["sh", "-c", "echo ran"], cwd=idle_daemon.data).stdout == "ran\n"
    assert idle_daemon.container() == before


def test_what_an_earlier_daemon_could_not_remove_is_removed(daemon: DockerDaemon) -> None:
    label = daemon.docker(
        "inspect",
        "--format",
        '{{index .Config.Labels "wsclean-workerd.instance"}}',
        daemon.name,
    )
    daemon.stop()
    name = f"{daemon.name}-retired-by-test"
    label = f"wsclean-workerd.instance={label}"
    left = daemon.docker("run", "-d", "--name", name, "--label", label, IMAGE)
    with subprocess.Popen(
        ["docker", "events", "--filter", f"container={left}", "--filter", "event=destroy"],
        stdout=subprocess.PIPE,
    ) as events:
        daemon.start()
        assert events.stdout is not None
        assert select.select([events.stdout], [], [], DEADLINE)[0]
        events.kill()
    assert daemon.docker("ps", "-aq", "--filter", f"id={left}") == ""


def test_a_mount_that_is_missing_is_waited_for_and_never_made(idle_daemon: DockerDaemon) -> None:
    missing = idle_daemon.folder / "not-there"
    idle_daemon.extra = f'[[mounts]]\nhost = "{missing}"\n'
    idle_daemon.start(ready=False)
    idle_daemon.await_health(wanted=NOT_SERVING)
    with idle_daemon.client() as client:
        job = client.submit(["sh", "-c", "echo ran"], cwd=idle_daemon.data)
        assert condition(client) == "MOUNT_MISSING"
        assert str(missing) in str(client.status().runtime.condition)
        assert not missing.exists()
        missing.mkdir()
        assert job.result(timeout=DEADLINE).stdout == "ran\n"


def test_a_foreign_container_of_that_name_is_left_alone(idle_daemon: DockerDaemon) -> None:
    foreign = idle_daemon.docker("run", "-d", "--name", idle_daemon.name, IMAGE)
    idle_daemon.start(ready=False)
    idle_daemon.await_health(wanted=NOT_SERVING)
    with idle_daemon.client() as client:
        assert condition(client) == "CONTAINER_NAME_TAKEN"
        assert idle_daemon.container() == foreign
        idle_daemon.docker("rm", "-f", foreign)
        idle_daemon.await_health()
        assert client.run(["sh", "-c", "echo ran"], cwd=idle_daemon.data).stdout == "ran\n"


def test_an_engine_that_is_away_is_waited_for(
    idle_daemon: DockerDaemon,
    engine_url: str,
) -> None:
    proxy = EngineProxy(idle_daemon.folder / "docker.sock", engine_url)
    idle_daemon.values["url"] = proxy.url
    idle_daemon.start(ready=False)
    idle_daemon.await_health(wanted=NOT_SERVING)
    with idle_daemon.client() as client:
        job = client.submit(["sh", "-c", "echo ran"], cwd=idle_daemon.data)
        assert condition(client) == "ENGINE_UNREACHABLE"
        assert job.refresh().state is JobState.QUEUED
        proxy.start()
        assert job.result(timeout=DEADLINE).stdout == "ran\n"
        # And away again while a job runs: the job does not notice.
        before = idle_daemon.container()
        gate = idle_daemon.gate()
        job = idle_daemon.begin(client, f"{gate.wait}; exit 4")
        proxy.stop()
        idle_daemon.await_health(wanted=NOT_SERVING)
        gate.open()
        assert job.result(check=False, timeout=DEADLINE).returncode == 4
        proxy.start()
        idle_daemon.await_health()
        assert idle_daemon.container() == before
        proxy.stop()


def test_an_engine_that_does_not_answer_blocks_nothing(
    idle_daemon: DockerDaemon,
    engine_url: str,
) -> None:
    proxy = EngineProxy(idle_daemon.folder / "docker.sock", engine_url)
    idle_daemon.values |= {"url": proxy.url, "call_timeout": 1}
    proxy.start(silent=True)
    idle_daemon.start(ready=False)
    with idle_daemon.client() as client:
        assert proxy.asked.wait(DEADLINE)
        # While a call hangs, everything else is answered.
        job = client.submit(["sh", "-c", "echo ran"], cwd=idle_daemon.data)
        answered = threading.Thread(target=client.status)
        answered.start()
        answered.join(DEADLINE)
        assert job.refresh().state is JobState.QUEUED
        idle_daemon.await_health(wanted=NOT_SERVING)
        with pytest.raises(RequestRefused):
            client.submit(["no-such-program"], cwd=idle_daemon.data)
        proxy.stop()
        proxy.start()
        assert job.result(timeout=DEADLINE).stdout == "ran\n"
        assert idle_daemon.stop() == 0
        proxy.stop()


def test_no_mount_of_a_job_reaches_the_journal(daemon: DockerDaemon) -> None:
    with daemon.client() as client:
        listed = client.run(["sh", "-c", "ls /wsclean-workerd/spool; ls /data"], cwd=daemon.data)
    assert "journal.db" not in listed.stdout
    assert (Path(daemon.folder) / "state" / "journal.db").exists()
