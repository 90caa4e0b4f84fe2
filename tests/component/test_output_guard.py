"""The limit on what a job writes."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from support.growth import is_watched
from support.jobs import make_job
from wsclean_workerd import growth as growth_module
from wsclean_workerd import output_guard
from wsclean_workerd.disk import Disk
from wsclean_workerd.events import Event, OutputExceeded
from wsclean_workerd.growth import GrowthWatch
from wsclean_workerd.model import JobId, User
from wsclean_workerd.output_guard import FASTEST, OutputGuard
from wsclean_workerd.spool import Spool

LIMIT = 1000
JOB = make_job(7)


class Guarded:
    """A job that writes while its guard waits, as a test says.

    Args:
        folder: Where its folder is made.
        growth: What tells when it has written.
        disk: Access to the disk.
    """

    def __init__(self, folder: Path, growth: GrowthWatch, disk: Disk) -> None:
        spool = Spool(folder / "spool", "/spool")
        spool.prepare()
        spool.job(JOB.id).prepare("", User(uid=os.geteuid(), gid=os.getegid()))
        self.stdout = spool.job(JOB.id).path / "stdout"
        self.told: list[tuple[JobId, Event]] = []
        self._guard = OutputGuard(
            LIMIT,
            spool=spool,
            disk=disk,
            growth=growth,
            tell=self._tell,
        )

    def _tell(self, job_id: JobId, /, *events: Event) -> None:
        self.told += [(job_id, event) for event in events]

    def write(self, size: int) -> None:
        """Write so many bytes."""
        with self.stdout.open("ab", 0) as output:
            output.write(bytes(size))

    async def watch(self) -> None:
        """Guard it until it has written too much."""
        await asyncio.wait_for(self._guard.watch(JOB), DEADLINE)


@pytest.fixture
async def growth() -> AsyncIterator[GrowthWatch]:
    growth = GrowthWatch()
    yield growth
    await growth.close()


@pytest.fixture
def job(tmp_path: Path, growth: GrowthWatch) -> Iterator[Guarded]:
    with ThreadPoolExecutor(1) as executor:
        yield Guarded(tmp_path, growth, Disk(executor))


async def test_an_output_is_watched_while_it_is_silent_and_looked_at_while_it_grows(
    job: Guarded, growth: GrowthWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[int] = []
    watched: list[bool] = []
    silences: list[int] = []

    def pause(room: int) -> float:
        rooms.append(room)
        watched.append(is_watched(growth, job.stdout))
        if len(rooms) < 5:
            job.write(1)
        return 0

    async def wait(grown: asyncio.Event, seconds: float | None) -> None:
        assert seconds is None
        assert is_watched(growth, job.stdout)
        silences.append(job.stdout.stat().st_size)
        job.write(1 if len(silences) == 1 else LIMIT)
        await grown.wait()

    monkeypatch.setattr(output_guard, "_pause", pause)
    monkeypatch.setattr(output_guard, "wait", wait)
    await job.watch()
    assert silences == [0, 5]
    assert rooms == [LIMIT - 1, LIMIT - 2, LIMIT - 3, LIMIT - 4, LIMIT - 5, -5]
    # What the kernel watches costs the job an event for every write.
    assert watched[1:5] == [False] * 4
    assert not is_watched(growth, job.stdout)
    ((job_id, event),) = job.told
    assert job_id == JOB.id
    assert isinstance(event, OutputExceeded)
    assert event.limit == LIMIT


async def test_a_kernel_that_tells_nothing_is_no_reason_to_miss_the_limit(
    job: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []

    def exhausted(**_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def wait(grown: asyncio.Event, seconds: float | None) -> None:
        assert not grown.is_set()
        waits.append(seconds)
        if len(waits) == 3:
            job.write(LIMIT + 1)

    monkeypatch.setattr(growth_module, "Inotify", exhausted)
    monkeypatch.setattr(output_guard, "wait", wait)
    await job.watch()
    assert len(waits) == 3
    assert None not in waits
    assert job.told


async def test_a_guard_that_is_cancelled_watches_nothing(
    job: Guarded, growth: GrowthWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def wait(grown: asyncio.Event, _: float | None) -> None:
        waiting.set()
        await grown.wait()

    monkeypatch.setattr(output_guard, "wait", wait)
    watching = asyncio.ensure_future(job.watch())
    await asyncio.wait_for(waiting.wait(), DEADLINE)
    assert is_watched(growth, job.stdout)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert not is_watched(growth, job.stdout)


@pytest.mark.parametrize("room", [-1, 0, 1, FASTEST // 100, FASTEST // 10, FASTEST, 9 * FASTEST])
def test_no_job_gets_far_beyond_the_limit_during_a_pause(room: int) -> None:
    pause = output_guard._pause(room)
    assert pause * FASTEST <= max(room, FASTEST / 20)
    # As late as may be.
    assert room < FASTEST or pause == 1
