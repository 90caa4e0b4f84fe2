"""Output that is followed while it grows."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from support.growth import is_watched
from wsclean_workerd import growth as growth_module
from wsclean_workerd import logs
from wsclean_workerd.disk import Disk
from wsclean_workerd.growth import GrowthWatch
from wsclean_workerd.logs import BATCH, CHUNK_SIZE, Chunk, Output, OutputReader
from wsclean_workerd.model import User
from wsclean_workerd.spool import JobFolder

ME = User(uid=os.geteuid(), gid=os.getegid())


@pytest.fixture
async def growth() -> AsyncIterator[GrowthWatch]:
    growth = GrowthWatch()
    yield growth
    await growth.close()


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "7")
    folder.prepare("", ME)
    return folder


async def follow_growing(folder: JobFolder, growth: GrowthWatch) -> bytes:
    """Follow an output that is written to piece by piece, each once the last was seen."""
    wake, over, seen = asyncio.Event(), False, b""
    with ThreadPoolExecutor(2) as executor, (folder.path / "stdout").open("ab", 0) as output:
        reader = OutputReader(
            folder,
            {Output.STDOUT: 0, Output.STDERR: 0},
            disk=Disk(executor),
            growth=growth,
        )
        output.write(b"0")
        async with aclosing(reader.follow(wake, lambda: over)) as chunks:
            async for chunk in chunks:
                assert (chunk.output, chunk.offset) == (Output.STDOUT, len(seen))
                seen += chunk.data
                if len(seen) < 5:
                    output.write(str(len(seen)).encode())
                else:
                    over = True
                    wake.set()
    return seen


async def test_a_follower_gets_what_is_written(folder: JobFolder, growth: GrowthWatch) -> None:
    assert await asyncio.wait_for(follow_growing(folder, growth), DEADLINE) == b"01234"


async def test_a_kernel_that_tells_nothing_is_no_reason_to_miss_anything(
    folder: JobFolder,
    growth: GrowthWatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted(**_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(growth_module, "Inotify", exhausted)
    assert await asyncio.wait_for(follow_growing(folder, growth), DEADLINE) == b"01234"


async def test_followers_of_one_file_are_all_told_until_the_last_has_gone(
    folder: JobFolder,
    growth: GrowthWatch,
) -> None:
    results = await asyncio.gather(*(follow_one(folder, growth) for _ in range(3)))
    assert results == [b"x"] * 3
    assert growth._wakes == {}


async def follow_one(folder: JobFolder, growth: GrowthWatch) -> bytes:
    with ThreadPoolExecutor(1) as executor:
        reader = OutputReader(folder, {Output.STDOUT: 0}, disk=Disk(executor), growth=growth)
        async with aclosing(reader.follow(asyncio.Event(), lambda: False)) as chunks:
            waiting = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0)
            (folder.path / "stdout").write_bytes(b"x")
            return (await asyncio.wait_for(waiting, DEADLINE)).data


# -- the pace of followers ---------------------------------------------------------

LATE = 0.05
"""The most seconds after which a follower has what a job has written that writes little."""

FASTEST = 20e6
"""The most bytes a second that a follower reads while its job runs."""

FULL = BATCH * CHUNK_SIZE


@dataclass
class Follower:
    """Follows standard output; its waits end when a test says so.

    Attributes:
        reader: What reads.
        wake: What it waits for.
        over: Whether the job has ended.
        read: How many bytes it has read.
        full: Is set when that is a whole batch.
        waits: How long it wanted to wait, and how much it had read then.
    """

    reader: OutputReader
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    read: int = 0
    full: asyncio.Event = field(default_factory=asyncio.Event)
    waits: list[tuple[float | None, int]] = field(default_factory=list)

    async def follow(self) -> None:
        """Read to the end."""
        async with aclosing(self.reader.follow(self.wake, lambda: self.over)) as chunks:
            async for chunk in chunks:
                self.read += len(chunk.data)
                if self.read == FULL:
                    self.full.set()


@pytest.fixture
def follower(folder: JobFolder, growth: GrowthWatch) -> Iterator[Follower]:
    with ThreadPoolExecutor(1) as executor:
        reader = OutputReader(folder, {Output.STDOUT: 0}, disk=Disk(executor), growth=growth)
        yield Follower(reader)


async def test_a_follower_of_a_silent_job_is_woken_by_the_kernel_and_reads_at_once(
    folder: JobFolder,
    growth: GrowthWatch,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdout = folder.path / "stdout"

    async def wait(wake: asyncio.Event, seconds: float | None) -> None:
        follower.waits.append((seconds, follower.read))
        if seconds is None:
            assert is_watched(growth, stdout)
            if follower.read == 3:
                follower.over = True
                return
            with stdout.open("ab", 0) as output:
                output.write(b"x")
            await wake.wait()

    monkeypatch.setattr(logs, "wait", wait)
    await asyncio.wait_for(follower.follow(), DEADLINE)
    # Nothing else is waited for before what was written has been read, and so
    # late is what comes during a pause at most.
    pauses = [(each, read) for each, read in follower.waits if each is not None]
    silences = [read for each, read in follower.waits if each is None]
    assert silences == [0, 1, 2, 3]
    assert [read for _, read in pauses] == [1, 2, 3]
    assert all(each <= LATE for each, _ in pauses)


async def test_a_follower_of_a_job_that_writes_much_keeps_to_a_pace_until_it_has_ended(
    folder: JobFolder,
    growth: GrowthWatch,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdout = folder.path / "stdout"
    stdout.write_bytes(bytes(10 * FULL))
    watched = []

    async def wait(wake: asyncio.Event, seconds: float | None) -> None:
        del wake
        assert seconds is not None
        follower.waits.append((seconds, follower.read))
        watched.append(is_watched(growth, stdout))
        with stdout.open("ab", 0) as output:
            output.write(b"x")
        follower.over = len(follower.waits) == 5

    monkeypatch.setattr(logs, "wait", wait)
    await asyncio.wait_for(follower.follow(), DEADLINE)
    # One batch, one pause; and after the end no pause any more.
    assert [read for _, read in follower.waits] == [FULL * number for number in range(1, 6)]
    assert all(FULL / seconds <= FASTEST for seconds, _ in follower.waits if seconds)
    assert follower.read == 10 * FULL + 5
    # What the kernel watches costs the job an event for every write.
    assert watched[1:] == [False] * 4


async def test_the_end_of_a_job_ends_the_pause(
    folder: JobFolder, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "stdout").write_bytes(bytes(3 * FULL))
    monkeypatch.setattr(logs, "PACE_SECONDS", 100 * DEADLINE)
    following = asyncio.ensure_future(follower.follow())
    await asyncio.wait_for(follower.full.wait(), DEADLINE)
    follower.over = True
    follower.wake.set()
    await asyncio.wait_for(following, DEADLINE)
    assert follower.read == 3 * FULL


async def test_pieces_are_small_and_both_outputs_take_turns(
    folder: JobFolder, growth: GrowthWatch
) -> None:
    sizes = {Output.STDOUT: 2 * FULL + 1, Output.STDERR: CHUNK_SIZE}
    for output, size in sizes.items():
        (folder.path / output.value).write_bytes(bytes(size))
    with ThreadPoolExecutor(1) as executor:
        reader = OutputReader(folder, dict.fromkeys(sizes, 0), disk=Disk(executor), growth=growth)
        chunks = [chunk async for chunk in reader.read()]
    assert max(len(chunk.data) for chunk in chunks) == CHUNK_SIZE
    assert [chunk.output for chunk in chunks[:3]] == [Output.STDOUT, Output.STDERR, Output.STDOUT]
    for output, size in sizes.items():
        assert contiguous(chunk for chunk in chunks if chunk.output is output) == size


def contiguous(chunks: Iterable[Chunk]) -> int:
    """Where the last piece ends, if each begins where the one before it ends."""
    end = 0
    for chunk in chunks:
        assert chunk.offset == end
        end += len(chunk.data)
    return end
