"""Which lanes a runner keeps for users who may have further jobs; nobody reads what it asks."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from support.jobs import make_job
from wsclean_workerd.disk import Disk
from wsclean_workerd.model import Launch, User
from wsclean_workerd.runtime.runner import Runner
from wsclean_workerd.spool import Spool


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[Runner]:
    spool = Spool(tmp_path / "spool", "/inside")
    spool.prepare()
    with ThreadPoolExecutor(1) as executor:
        runner = Runner(spool, "name", Disk(executor), User(uid=1, gid=1))
        alive: list[int] = []

        async def start_script(_command: list[str]) -> None:
            folder = spool.runner_folder / "name"
            alive.append(os.open(folder / "alive", os.O_RDWR))
            with (folder / "answers").open("w") as answers:
                answers.write("programs\nready\n")
            await asyncio.sleep(0)

        await runner.start(start_script)
        yield runner
        runner.close()
        os.close(*alive)


def lanes() -> set[str]:
    """The FIFOs of the lanes that are there, by which they get their jobs."""
    links = (str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink())
    return {link for link in links if re.search(r"/lane-\d+/jobs$", link)}


async def launch(runner: Runner, number: int, uid: int) -> Launch:
    job = make_job(number)
    job = replace(job, launch=1, order=replace(job.order, user=User(uid=uid, gid=uid)))
    await runner.launch(job)
    return job.last_launch


async def test_of_the_lanes_of_many_users_few_are_kept(runner: Runner) -> None:
    for uid in range(5000, 5030):
        runner.release(await launch(runner, uid, uid), reusable=True)
        assert len(lanes()) <= 16
    kept = lanes()
    assert len(kept) == 16
    # Those whose users have had a job last: they are used again.
    for uid in (5029, 5020, 5014):
        runner.release(await launch(runner, uid, uid), reusable=True)
    assert lanes() == kept
    # The one goes whose user has had none for longest, which is no longer that of 5014.
    runner.release(await launch(runner, 1, 5000), reusable=True)
    assert len(kept - lanes()) == 1
    before = lanes()
    runner.release(await launch(runner, 2, 5014), reusable=True)
    assert lanes() == before
    runner.release(await launch(runner, 3, 5015), reusable=True)
    assert lanes() != before


async def test_one_user_keeps_as_many_as_he_has_had_jobs(runner: Runner) -> None:
    for _ in range(2):
        launches = [await launch(runner, number, 5000) for number in range(40)]
        assert len(lanes()) == 40
        for each in launches:
            runner.release(each, reusable=True)
        assert len(lanes()) == 40
