"""The copies of the simulated Measurement Set that `make dev` hands out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from casacore import tables

import dev
from simulate_ms import Observation, simulate


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that copies are made in."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setattr(dev, "DATA", folder)
    return folder


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """What is copied: a stand-in with a sub-table."""
    folder = tmp_path / "demo.ms"
    (folder / "ANTENNA").mkdir(parents=True)
    (folder / "table.dat").write_text("main")
    (folder / "ANTENNA" / "table.dat").write_text("antennas")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_first_copy_is_whole_and_alone(data: Path, original: Path) -> None:
    before = snapshot(original)
    copy = dev._fresh_copy(original)
    assert copy == data / "demo-1.ms"
    assert snapshot(copy) == before == snapshot(original)
    assert names(data) == ["demo-1.ms"]


def test_a_copy_that_nobody_wrote_to_is_used_again(data: Path, original: Path) -> None:
    copy = dev._fresh_copy(original)
    (copy / "table.dat").read_text()
    before = copy.stat().st_ino, snapshot(copy)
    assert dev._fresh_copy(original) == copy
    assert (copy.stat().st_ino, snapshot(copy)) == before
    assert names(data) == ["demo-1.ms"]


def append(copy: Path) -> None:
    with (copy / "table.dat").open("a") as file:
        file.write("!")


def write_the_same_size(copy: Path) -> None:
    path = copy / "ANTENNA" / "table.dat"
    earlier = path.stat().st_mtime_ns
    path.write_text("ANTENNAS")
    # Whatever the resolution of the clock.
    os.utime(path, ns=(earlier + 1, earlier + 1))


def add(copy: Path) -> None:
    (copy / "ANTENNA" / "new").write_text("")


def remove(copy: Path) -> None:
    (copy / "ANTENNA" / "table.dat").unlink()


def rename(copy: Path) -> None:
    (copy / "table.dat").rename(copy / "table.old")


CHANGES = [append, write_the_same_size, add, remove, rename]


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_that_was_written_to_is_left_alone(
    data: Path,
    original: Path,
    change: Callable[[Path], None],
) -> None:
    used = dev._fresh_copy(original)
    change(used)
    before = snapshot(used)
    fresh = dev._fresh_copy(original)
    assert fresh == data / "demo-2.ms"
    assert snapshot(fresh) == snapshot(original)
    assert snapshot(used) == before
    # And that one again, for as long as nobody writes to it.
    assert dev._fresh_copy(original) == fresh
    append(fresh)
    assert dev._fresh_copy(original) == data / "demo-3.ms"
    assert names(data) == ["demo-1.ms", "demo-2.ms", "demo-3.ms"]


def test_a_gap_is_filled(data: Path, original: Path) -> None:
    for _ in range(2):
        append(dev._fresh_copy(original))
    shutil.rmtree(data / "demo-1.ms")
    assert dev._fresh_copy(original) == data / "demo-1.ms"
    assert names(data) == ["demo-1.ms", "demo-2.ms"]


def test_half_a_copy_is_never_there(
    data: Path,
    original: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "table.dat").write_text("ma")
        raise OSError(28, "No space left on device", str(source))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", fail)
        with pytest.raises(OSError, match="No space left"):
            dev._fresh_copy(original)
    assert names(data) == []
    assert snapshot(dev._fresh_copy(original)) == snapshot(original)


def test_a_measurement_set_with_a_new_column_is_one_that_was_written_to(
    data: Path,
    tmp_path: Path,
) -> None:
    original = tmp_path / "real.ms"
    simulate(original, Observation(antennas=4, times=1, channels=1))
    used = dev._fresh_copy(original)
    with tables.table(str(used), readonly=False, ack=False) as main:
        values = main.getcol("DATA")
        main.putcol("DATA", np.zeros_like(values))
    fresh = dev._fresh_copy(original)
    assert fresh == data / "demo-2.ms"
    with tables.table(str(fresh), ack=False) as main:
        assert np.array_equal(main.getcol("DATA"), values)
