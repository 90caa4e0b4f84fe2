"""What is left of a command that takes too long: by Docker alone, and by the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from support.bare_docker import Attempt, Call, both_ways, table
from support.daemon import DEADLINE, await_line, until
from support.docker_daemon import DockerDaemon
from support.storage import HangingStorage, await_stuck, daemon_on, submit
from wsclean_client import JobHandle, JobState, JobTimedOut, WSCleanClient

OURS = "wsclean-workerd"
AFTER = "caller goes on after"

# -- a command that writes -----------------------------------------------------------

SHORT_LIMIT = 1
WRITES = "exec >>{log}; echo up; while :; do echo more; sleep 0.02; done"
LINES = 20


def await_growth(log: Path) -> None:
    """Wait until somebody has written some more lines to a file."""
    wanted = log.stat().st_size + len("more\n") * LINES
    until(lambda: log.stat().st_size, lambda size: size >= wanted)


def test_a_command_out_of_time_goes_on_by_docker_and_is_ended_as_a_job(
    daemon: DockerDaemon, tell: Callable[[str], None]
) -> None:
    rows = [("", AFTER, "the command", "its file", "what ends it")]
    with both_ways(daemon, daemon.data) as ways, daemon.client() as client:
        logs = [daemon.data / way.container for way in ways]
        for way, log in zip(ways, logs, strict=True):
            with closing(Call(way, WRITES.format(log=log.name), log)) as call:
                took = call.time_out(SHORT_LIMIT)
            assert way.processes(log.name)
            await_growth(log)
            rows.append((way.name, f"{took:.1f} s", "runs", "grows", "the end of its container"))
        own = daemon.data / "job"
        own.touch()
        job = client.submit(
            ["sh", "-c", WRITES.format(log=own.name)], cwd=daemon.data, timeout=SHORT_LIMIT
        )
        await_line(own, "up")
        begun = time.monotonic()
        with pytest.raises(JobTimedOut):
            job.result(timeout=DEADLINE)
        took = time.monotonic() - begun
        until(lambda: client.status().slots_used, lambda used: not used)
        assert not [each for each in daemon.processes() if own.name in each]
        size = own.stat().st_size
        for log in logs:
            await_growth(log)
        assert own.stat().st_size == size
        rows.append((OURS, f"{took:.1f} s", "has ended", "stays as it is", "its time"))
        for way in ways:
            assert way.is_there
            assert not way.attempt("rm", "-f").error
    tell(table(f"a command that writes, and has {SHORT_LIMIT} s for it", *rows))


# -- storage that hangs --------------------------------------------------------------

LONG_LIMIT = 10
"""Seconds that are not over before the storage hangs."""

OPENS = "echo up >>{name}; while : <{name}; do :; done"
"""Opens a file again and again, since reading could be ended: that waits for a page only."""
LOCK = "what-it-works-on"


@pytest.fixture
def host(storage: HangingStorage, idle_daemon: DockerDaemon) -> Iterator[DockerDaemon]:
    with daemon_on(storage, idle_daemon) as daemon:
        yield daemon


def give_up(call: Call) -> tuple[float, Attempt, Attempt]:
    """Have a caller run out of patience, and an operator try to end what is left."""
    took = call.time_out(LONG_LIMIT)
    return took, call.way.attempt("stop", "--time", "1"), call.way.attempt("rm", "-f")


def begin_job(host: DockerDaemon, storage: HangingStorage) -> JobHandle:
    """Begin a job that does the same as what is called by Docker."""
    log = storage.behind / "job"
    log.touch()
    script = OPENS.format(name=log.name)
    job = submit(host, script, storage.mount, seconds=LONG_LIMIT, locks=[LOCK])
    await_line(log, "up")
    return job


def slowest(client: WSCleanClient, job: JobHandle) -> float:
    """The most seconds that a question to the daemon takes."""
    took = []
    for ask in (client.status, client.list, job.refresh) * 10:
        begun = time.monotonic()
        ask()
        took.append(time.monotonic() - begun)
    return max(took)


def await_reason(job: JobHandle, code: str) -> None:
    """Wait until a job waits for something."""
    shown = until(job.refresh, lambda info: info.reason is not None and info.reason.code == code)
    assert shown.state is JobState.QUEUED


def see_others(
    host: DockerDaemon, storage: HangingStorage, client: WSCleanClient
) -> list[JobHandle]:
    """See jobs run while one is stuck, but for those that need what it has; return these."""
    waiting = [
        submit(host, "cat job", storage.mount),
        submit(host, "echo up", host.data, locks=[LOCK]),
    ]
    for job, code in zip(waiting, ("STORAGE_HUNG", "LOCK_HELD"), strict=True):
        await_reason(job, code)
    for _ in range(3):
        assert client.run(["sh", "-c", "echo ran"], cwd=host.data).stdout == "ran\n"
    assert client.status().slots_used == 1
    return waiting


@pytest.mark.timeout(240)
def test_storage_that_hangs_blocks_docker_and_only_the_jobs_on_it(
    host: DockerDaemon, storage: HangingStorage, tell: Callable[[str], None]
) -> None:
    rows = [("", AFTER, "its process", "docker stop", "docker rm -f")]
    with (
        both_ways(host, storage.mount) as ways,
        host.client() as client,
        ThreadPoolExecutor(len(ways)) as operators,
        ExitStack() as callers,
    ):
        calls = []
        for way in ways:
            call = Call(way, OPENS.format(name=way.container), storage.behind / way.container)
            calls.append(callers.enter_context(closing(call)))
        stuck = begin_job(host, storage)
        begun = time.monotonic()
        with storage.hanging():
            for way in ways:
                await_stuck(host, way.container)
            given_up = [operators.submit(give_up, call) for call in calls]
            lost = stuck.wait(timeout=DEADLINE)
            took = time.monotonic() - begun
            assert lost.state is JobState.LOST
            assert lost.reason is not None
            assert lost.reason.code == "UNKILLABLE"
            waiting = see_others(host, storage, client)
            asked = slowest(client, stuck)
            for way, future in zip(ways, given_up, strict=True):
                after, stop, remove = future.result(DEADLINE)
                assert stop.error
                assert remove.error
                await_stuck(host, way.container)
                rows.append((way.name, f"{after:.1f} s", "stuck", str(stop), str(remove)))
            assert stuck.refresh().lingering
        for job in waiting:
            assert job.result(timeout=DEADLINE).stdout == "up\n"
        assert not stuck.refresh().lingering
    rows.append((OURS, f"{took:.1f} s", "stuck, the job LOST", "not needed", "not needed"))
    told = table(f"storage hangs under a command that has {LONG_LIMIT} s", *rows)
    told += f"\n{OURS} meanwhile: the lost job keeps its slot and lock, who needs that lock or"
    told += f"\nstorage waits, others run, and each call is answered within {1000 * asked:.0f} ms"
    tell(told)
