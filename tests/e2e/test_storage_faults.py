"""Storage that hangs under one of two mounts, for real: a filesystem that does not answer."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import DEADLINE, until
from support.docker_daemon import DockerDaemon
from support.storage import HangingStorage, await_stuck, daemon_on, submit
from wsclean_client import JobHandle, JobState, WSCleanClient

RPC_SECONDS = 0.1
STOP_SECONDS = 5


@pytest.fixture
def host(storage: HangingStorage, idle_daemon: DockerDaemon) -> Iterator[DockerDaemon]:
    with daemon_on(storage, idle_daemon) as daemon:
        yield daemon


def await_condition(client: WSCleanClient, code: str | None) -> str:
    """Wait until the daemon says what is the matter, or that nothing is."""
    condition = until(
        lambda: client.status().runtime.condition,
        lambda found: (found.code if found else None) == code,
    )
    return condition.message if condition else ""


def cat(daemon: DockerDaemon, folder: Path) -> JobHandle:
    """Submit a job that reads a file of a folder."""
    return submit(daemon, "cat file", folder)


def test_jobs_on_storage_that_hangs_wait_and_others_pass(
    host: DockerDaemon, storage: HangingStorage
) -> None:
    for folder in (storage.behind, host.data):
        (folder / "file").write_text("read\n", encoding="utf-8")
    with host.client() as client:
        assert cat(host, storage.mount).result(timeout=DEADLINE).stdout == "read\n"
        storage.hang()
        # Until its last answer counts no longer.
        time.sleep(0.2)
        # By its working directory, and by a path only.
        stuck = [cat(host, storage.mount)]
        stuck.append(submit(host, 'cat "$0"', host.data, storage.mount / "file"))
        message = await_condition(client, "STORAGE_HUNG")
        assert str(storage.mount) in message
        for _ in range(3):
            assert cat(host, host.data).result(timeout=DEADLINE).stdout == "read\n"
        for job in stuck:
            shown = job.refresh()
            assert shown.state is JobState.QUEUED
            assert shown.reason is not None
            assert shown.reason.code == "STORAGE_HUNG"
        assert client.status().slots_used == 0
        took = []
        for _ in range(20):
            start = time.monotonic()
            client.status()
            client.list()
            stuck[0].refresh()
            took.append((time.monotonic() - start) / 3)
        assert statistics.median(took) < RPC_SECONDS
        storage.release()
        for job in stuck:
            assert job.result(timeout=DEADLINE).stdout == "read\n"
        await_condition(client, None)


def test_a_container_that_cannot_end_is_retired_and_gone_when_storage_is_back(
    host: DockerDaemon, storage: HangingStorage
) -> None:
    (storage.behind / "file").write_text("read\n", encoding="utf-8")
    with host.client() as client:
        # Opening cannot be ended; reading, which waits for a page only, can.
        job = submit(host, "echo up; while : <file; do :; done", storage.mount)
        host.await_output(job.id, "up")
        storage.hang()
        await_stuck(host, host.name)
        stuck = host.container()
        with pytest.raises(subprocess.CalledProcessError):
            host.docker("kill", host.name)
        # The engine says that it still runs.
        assert host.docker("inspect", "--format", "{{.State.Running}}", stuck) == "true"
        assert submit(host, "echo ran", host.data).result(timeout=DEADLINE).stdout == "ran\n"
        assert host.container() != stuck
        job.cancel()
        lost = job.wait(timeout=DEADLINE)
        assert lost.state is JobState.LOST
        assert lost.reason is not None
        assert lost.reason.code == "UNKILLABLE"
        assert job.refresh().lingering
        assert client.status().slots_used == 1
        begun = time.monotonic()
        assert host.stop() == 0
        assert time.monotonic() - begun < STOP_SECONDS
    # What could not be removed is removed by the next daemon.
    host.start()
    with host.client() as client:
        assert job.refresh().lingering
        assert stuck in host.docker("ps", "-aq", "--no-trunc")
        storage.release()
        until(lambda: host.docker("ps", "-aq", "--no-trunc"), lambda listed: stuck not in listed)
        until(lambda: client.status().slots_used, lambda used: not used)
        assert submit(host, "cat file", storage.mount).result(timeout=DEADLINE).stdout == "read\n"
