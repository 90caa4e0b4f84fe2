"""What is opened for a runner is closed, however its start ends."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from wsclean_workerd.disk import Disk
from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.model import User
from wsclean_workerd.runtime.fifos import close_all, first_words, make_fifos, open_fifos
from wsclean_workerd.runtime.runner import Runner
from wsclean_workerd.spool import Spool


def fifos_open(below: Path) -> list[str]:
    """The FIFOs below a folder that this process has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(str(below)):
            found.append(target)
    return found


@pytest.fixture
def disk() -> Iterator[Disk]:
    with ThreadPoolExecutor(1) as executor:
        yield Disk(executor)


@pytest.fixture
async def runner(tmp_path: Path, disk: Disk) -> Runner:
    spool = Spool(tmp_path / "spool", str(tmp_path / "spool"))
    spool.prepare()
    return Runner(spool, "abc", disk, User(uid=os.geteuid(), gid=os.getegid()))


def test_fifos_are_opened_all_or_none(tmp_path: Path) -> None:
    make_fifos(tmp_path / "fifos", "one", "two")
    ends = (("one", os.O_RDWR), ("two", os.O_RDONLY))
    opened = open_fifos(tmp_path / "fifos", *ends)
    assert len(fifos_open(tmp_path)) == 2
    close_all(opened)
    (tmp_path / "fifos" / "two").unlink()
    with pytest.raises(FileNotFoundError, match="two"):
        open_fifos(tmp_path / "fifos", *ends)
    assert fifos_open(tmp_path) == []


async def test_a_runner_whose_script_does_not_start_leaves_nothing_open(
    tmp_path: Path, runner: Runner
) -> None:
    async def fails(_: list[str]) -> None:
        assert len(fifos_open(tmp_path)) == 3
        # Before what watches the runner has had its turn.
        runner.close()
        raise RuntimeUnavailable("CANNOT_SPAWN", "the host starts no processes")

    with pytest.raises(RuntimeUnavailable):
        await runner.start(fails)
    await asyncio.sleep(0)
    assert fifos_open(tmp_path) == []


async def test_a_runner_that_is_not_wanted_any_more_leaves_nothing_open(
    tmp_path: Path, runner: Runner, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, begun, go_on = Runner._prepare, threading.Event(), threading.Event()

    def slowly(runner: Runner) -> tuple[int, ...]:
        begun.set()
        assert go_on.wait(DEADLINE)
        return prepare(runner)

    async def start_script(_: list[str]) -> None:
        raise AssertionError("it was cancelled before")

    monkeypatch.setattr(Runner, "_prepare", slowly)
    start = asyncio.create_task(runner.start(start_script))
    assert await asyncio.to_thread(begun.wait, DEADLINE)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    runner.close()
    go_on.set()
    # When the thread is free again, what it opened has been handed over.
    await disk.run(int)
    await asyncio.sleep(0)
    assert fifos_open(tmp_path) == []


async def test_the_first_words_are_told_and_that_there_are_none(tmp_path: Path) -> None:
    make_fifos(tmp_path / "fifos", "one")
    for words in (b"hello\n", b""):
        (end,) = open_fifos(tmp_path / "fifos", ("one", os.O_RDONLY))
        heard = asyncio.create_task(first_words(end))
        await asyncio.sleep(0)
        assert not heard.done()
        with (tmp_path / "fifos" / "one").open("wb") as other:
            other.write(words)
        assert await asyncio.wait_for(heard, DEADLINE) == words
        os.close(end)
