"""Being told once when files grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asyncinotify import Event, Mask

from support.daemon import DEADLINE
from support.growth import is_watched
from wsclean_workerd.growth import GrowthWatch


@pytest.fixture
async def growth() -> AsyncIterator[GrowthWatch]:
    growth = GrowthWatch()
    yield growth
    await growth.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


def write(path: Path, text: str = "x") -> None:
    path.write_text(text, encoding="ascii")


def remove(path: Path) -> None:
    path.unlink()


async def told(wake: asyncio.Event) -> None:
    await asyncio.wait_for(wake.wait(), DEADLINE)
    wake.clear()


async def test_who_asked_is_told_once_and_may_ask_again(growth: GrowthWatch, file: Path) -> None:
    wake = asyncio.Event()
    for text in ("once", "again"):
        growth.once(str(file), wake)
        write(file, text)
        await told(wake)
        assert not is_watched(growth, file)
        assert growth._wakes == {}


async def test_all_who_asked_are_told_and_nobody_else(
    growth: GrowthWatch, file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write(other)
    wakes, apart = [asyncio.Event() for _ in range(3)], asyncio.Event()
    growth.once(str(other), apart)
    for wake in wakes:
        growth.once(str(file), wake)
    write(file)
    for wake in wakes:
        await told(wake)
    # By the time that this is told, the kernel has told all about the first file.
    growth.once(str(file), wakes[0])
    write(file)
    await told(wakes[0])
    assert not apart.is_set()
    assert is_watched(growth, other)


async def test_who_has_gone_is_not_told_and_the_last_one_ends_the_watch(
    growth: GrowthWatch, file: Path
) -> None:
    first, last = asyncio.Event(), asyncio.Event()
    growth.once(str(file), first)
    growth.once(str(file), last)
    growth.forget(first)
    assert is_watched(growth, file)
    write(file)
    await told(last)
    assert not first.is_set()
    growth.once(str(file), last)
    growth.forget(last)
    assert not is_watched(growth, file)
    assert growth._wakes == {}


async def test_when_the_kernel_has_lost_count_all_are_told(
    growth: GrowthWatch, file: Path, tmp_path: Path
) -> None:
    wakes = [asyncio.Event(), asyncio.Event()]
    growth.once(str(file), wakes[0])
    growth.once(str(tmp_path), wakes[1])
    growth._take(Event(watch=None, mask=Mask.Q_OVERFLOW, cookie=0, name=None))
    assert all(wake.is_set() for wake in wakes)
    # They ask again, and are told again.
    wakes[0].clear()
    growth.once(str(file), wakes[0])
    write(file)
    await told(wakes[0])


async def test_a_file_that_is_removed_is_watched_no_longer(growth: GrowthWatch, file: Path) -> None:
    wake = asyncio.Event()
    growth.once(str(file), wake)
    remove(file)
    await told(wake)
    growth.forget(wake)
    assert growth._wakes == {}
