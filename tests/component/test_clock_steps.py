"""The wall clock of a host may step at any time. Only people look at it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from support.daemon import DEADLINE, DaemonProcess, until
from support.wedges import OFFSET, arm_by_path, wedge
from wsclean_client import JobState

HOUR = 3600
LIMIT = 3.0
"""Seconds that jobs may run or wait here."""


@pytest.fixture
def stepped(idle_daemon: DaemonProcess) -> Iterator[DaemonProcess]:
    """A daemon whose wall clock, and no other clock, can be made to step."""
    idle_daemon.environment = arm_by_path(idle_daemon.folder / "wedges")
    step(idle_daemon, 0)
    idle_daemon.start()
    wedge(idle_daemon.folder / "wedges", "wall-clock", until)
    yield idle_daemon
    if idle_daemon.process is not None:
        idle_daemon.kill()


def step(daemon: DaemonProcess, seconds: float) -> None:
    new = daemon.folder / "wedges" / "new"
    new.write_text(f"{seconds}\n")
    # At once, so that it is never read half.
    new.rename(daemon.folder / "wedges" / OFFSET)


@pytest.mark.parametrize("steps", [[HOUR], [-HOUR], [HOUR, -HOUR], [-HOUR, HOUR]])
def test_a_step_of_the_wall_clock_changes_no_timeout(
    stepped: DaemonProcess, steps: list[int]
) -> None:
    with stepped.client() as client:
        began = time.monotonic()
        # One that ends by TERM, and one that needs the grace period to be over.
        scripts = ("sleep 600", "trap : TERM; while :; do sleep 0.1; done")
        jobs = [
            client.submit(["sh", "-c", each], cwd=stepped.data, timeout=LIMIT) for each in scripts
        ]
        jobs.append(client.submit(["sh", "-c", "true"], cwd=stepped.data, queue_timeout=LIMIT))
        for job in jobs[:2]:
            until(job.refresh, lambda found: found.state is JobState.RUNNING)
        for seconds in steps:
            step(stepped, seconds)
            # People are told of the new time.
            stamp = client.submit(["sh", "-c", "true"], cwd=stepped.data).info.submitted_at
            assert abs(stamp.timestamp() - time.time() - seconds) < DEADLINE
        for job in jobs:
            assert job.wait(DEADLINE).state is JobState.TIMED_OUT
            assert LIMIT <= time.monotonic() - began < DEADLINE
        client.job("4").wait(DEADLINE)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_nor_does_one_while_there_is_no_daemon(stepped: DaemonProcess, seconds: int) -> None:
    with stepped.client() as client:
        began = time.monotonic()
        job = client.submit(["sh", "-c", "sleep 600"], cwd=stepped.data, timeout=LIMIT)
        until(job.refresh, lambda found: found.state is JobState.RUNNING)
        stepped.kill()
        step(stepped, seconds)
        # Before it begins to look at the clock.
        (stepped.folder / "wedges" / "wall-clock").touch()
        stepped.start()
        assert job.wait(DEADLINE).state is JobState.TIMED_OUT
        assert LIMIT <= time.monotonic() - began < DEADLINE
