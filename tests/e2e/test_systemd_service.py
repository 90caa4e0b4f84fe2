"""What an operator does to the service while jobs run: reload, restart, stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.daemon import COUNTING, DEADLINE, until
from support.proxy import EngineProxy
from support.systemd_host import UNIT, SystemdHost, UnitDaemon
from wsclean_client import CompletedJob, JobHandle, JobState, WSCleanClient

pytestmark = pytest.mark.timeout(240)


QUICK = 5.0
"""Seconds that a stop or a restart may take, whatever runs and whatever hangs."""


@pytest.fixture
def host(systemd_host: SystemdHost) -> SystemdHost:
    """A host on which the service was put in place."""
    systemd_host.install()
    return systemd_host


def change(daemon: UnitDaemon, old: str, new: str) -> None:
    text = daemon.config.read_text(encoding="utf-8")
    assert old in text
    daemon.config.write_text(text.replace(old, new), encoding="utf-8")


def test_reloading_changes_what_it_can_and_fails_if_the_configuration_is_invalid(
    host: SystemdHost,
) -> None:
    daemon = host.daemon()
    daemon.start()
    before = daemon.main_pid
    with daemon.client() as client:
        job = daemon.begin(client, "sleep 600")
        change(daemon, "slots = 4", "slots = 5")
        host.systemctl("reload", UNIT)
        until(lambda: client.status().slots, lambda slots: slots == 5)
        assert host.show(UNIT, "ActiveState", "SubState", "ReloadResult") == {
            "ActiveState": "active",
            "SubState": "running",
            "ReloadResult": "success",
        }
        (told,) = [line for line in daemon.log.splitlines() if line.startswith("reloaded: ")]
        assert told == "reloaded: slots is 5, was 4"

        change(daemon, "slots = 5", "slots = 0")
        failed = host.run("systemctl", "reload", UNIT, check=False)
        assert failed.returncode != 0
        errors = [entry["MESSAGE"] for entry in host.journal("-u", UNIT, "-p", "err")]
        # By the daemon, which goes on, and by what systemctl waited for.
        assert len([line for line in errors if "slots: expected" in line]) == 2
        daemon.await_status("what held before goes on to hold")
        assert host.show(UNIT, "ActiveState", "SubState") == {
            "ActiveState": "active",
            "SubState": "running",
        }
        assert client.status().slots == 5
        assert job.refresh().state is JobState.RUNNING
        assert daemon.main_pid == before
        job.cancel()


# -- while other things hang -----------------------------------------------------


@pytest.fixture
def proxy(host: SystemdHost, engine_url: str) -> Iterator[EngineProxy]:
    """What the daemon takes for the engine."""
    proxy = EngineProxy(host.folder / "engine.sock", engine_url)
    proxy.start()
    yield proxy
    proxy.stop()


@contextmanager
def following(client: WSCleanClient, job: JobHandle) -> Iterator[list[bytes]]:
    """Follow the output of a job until it has ended; what comes is in the list."""
    chunks: list[bytes] = []

    def follow() -> None:
        chunks.extend(chunk.data for chunk in client.job(job.id).logs(follow=True))

    thread = threading.Thread(target=follow)
    thread.start()
    yield chunks
    thread.join(DEADLINE)
    assert not thread.is_alive()


def assert_continuous(ended: CompletedJob) -> None:
    """See that a job counted to its end."""
    assert ended.returncode == 7
    up, *numbers = ended.stdout.splitlines()
    assert up == "up"
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def quickly(host: SystemdHost, verb: str) -> None:
    began = time.monotonic()
    host.systemctl(verb, UNIT)
    assert time.monotonic() - began < QUICK


def test_stop_and_restart_are_quick_while_the_engine_hangs_and_somebody_follows(
    host: SystemdHost, proxy: EngineProxy
) -> None:
    daemon = host.daemon(url=proxy.url)
    daemon.start()
    with daemon.client() as client:
        job = daemon.begin(client, COUNTING)
        container = daemon.container()
        with following(client, job) as chunks:
            until(lambda: chunks, bool)
            # A call hangs for the 15 s that it may take, at both times.
            proxy.stop()
            proxy.start(silent=True)
            assert proxy.asked.wait(DEADLINE)
            quickly(host, "restart")
            proxy.asked.clear()
            assert proxy.asked.wait(DEADLINE)
            quickly(host, "stop")
            proxy.stop()
            proxy.start()
            host.systemctl("start", UNIT)
            (daemon.data / "gate").touch()
        ended = job.result(check=False)
    assert b"".join(chunks) == ended.stdout_bytes
    assert_continuous(ended)
    assert daemon.container() == container
    assert host.show(UNIT, "Result", "NRestarts") == {"Result": "success", "NRestarts": "0"}


def test_jobs_on_the_host_itself_survive_stop_and_restart(systemd_host: SystemdHost) -> None:
    systemd_host.install("--native")
    daemon = systemd_host.daemon()
    daemon.native = True
    daemon.start()
    with daemon.client() as client:
        job = daemon.begin(client, COUNTING)
        quickly(systemd_host, "restart")
        daemon.await_health()
        quickly(systemd_host, "stop")
        # It goes on while there is no daemon.
        written = daemon.spool / "jobs" / job.id / "stdout"
        size = written.stat().st_size
        until(written.stat, lambda found: found.st_size > size)
        systemd_host.systemctl("start", UNIT)
        (daemon.data / "gate").touch()
        ended = job.result(check=False)
    assert_continuous(ended)


# -- the end of the service ------------------------------------------------------


def await_inactive(host: SystemdHost) -> None:
    """Wait until the service has ended as it should, and see that it is not started again."""
    until(lambda: host.show(UNIT, "ActiveState")["ActiveState"], lambda now: now == "inactive")
    # Systemd would do so at once: the unit would be activating in between.
    assert host.show(UNIT, "Result", "NRestarts") == {"Result": "success", "NRestarts": "0"}


def containers(daemon: UnitDaemon) -> str:
    return daemon.docker("ps", "--all", "--quiet", "--filter", f"name={daemon.name}")


@pytest.mark.parametrize("now", [False, True])
def test_a_shutdown_removes_the_container_and_what_waits_runs_after_the_next_start(
    host: SystemdHost, now: bool
) -> None:
    daemon = host.daemon()
    daemon.start()
    change(daemon, "slots = 4", "slots = 1")
    host.systemctl("reload", UNIT)
    with daemon.client() as client:
        until(lambda: client.status().slots, lambda slots: slots == 1)
        running = daemon.begin(client, COUNTING)
        waiting = client.submit(["sh", "-c", "echo ran"], cwd=daemon.data)
    container = daemon.container()
    if now:
        said = host.ctl("shutdown", "--now").stdout
    else:
        (daemon.data / "gate").touch()
        said = host.ctl("shutdown").stdout
    assert said.endswith("shut down\n")
    assert containers(daemon) == ""
    await_inactive(host)
    refused = host.ctl("status", check=False)
    assert refused.returncode != 0

    host.systemctl("start", UNIT)
    daemon.await_health()
    assert daemon.container() != container
    with daemon.client() as client:
        assert client.job(waiting.id).result(timeout=DEADLINE).stdout == "ran\n"
        if now:
            ended = client.job(running.id).refresh()
            assert ended.state is JobState.CANCELLED
            assert ended.reason is not None
            assert ended.reason.code == "SHUTDOWN"
        else:
            assert_continuous(client.job(running.id).result(check=False))


def test_a_shutdown_ends_although_the_engine_hangs_and_says_what_is_left(
    host: SystemdHost, proxy: EngineProxy
) -> None:
    daemon = host.daemon(url=proxy.url, call_timeout=1)
    daemon.start()
    container = daemon.container()
    proxy.stop()
    proxy.start(silent=True)
    host.ctl("shutdown")
    await_inactive(host)
    (left,) = [line for line in daemon.log.splitlines() if "is left to the next start" in line]
    assert "did not answer within 1 s" in left
    proxy.stop()
    proxy.start()
    host.systemctl("start", UNIT)
    daemon.await_health()
    assert daemon.container() == container
