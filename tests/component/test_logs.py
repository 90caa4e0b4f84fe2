"""Output that is followed while it grows."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from wsclean_workerd import logs
from wsclean_workerd.disk import Disk
from wsclean_workerd.logs import GrowthWatch, Output, OutputReader
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

    monkeypatch.setattr(logs, "Inotify", exhausted)
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
