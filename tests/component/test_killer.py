"""The script that finds the processes of a job, with all that it may have to work with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from wsclean_workerd.runtime.launching import NONE_LEFT, SOME_LEFT

KILLER = Path(str(resources.files("wsclean_workerd.runtime"))) / "kill.sh"
MARK = "WSCLEAN_WORKERD_MARK=i/7/1/"


@pytest.fixture(params=["sh", "busybox sh", "bash"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    return str(request.param).split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "alive")
    (tmp_path / "wrapper").write_text(" \n", encoding="ascii")
    return tmp_path


def kill(shell: list[str], folder: Path, verb: str, *answer: Path) -> int:
    command = [*shell, str(KILLER), str(folder), MARK, verb, *(str(each) for each in answer)]
    return subprocess.run(command, check=False, timeout=DEADLINE).returncode


@contextmanager
def process(
    mark: str | None = None, *, alive: Path | None = None, flags: int = os.O_RDWR
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with something before and behind the mark, or that has `alive` open."""
    marked = dict([mark.split("=")]) if mark else {}
    held = [] if alive is None else [os.open(alive, flags | os.O_NONBLOCK)]
    sleeper = subprocess.Popen(
        ["sleep", "600"], env={"A": "1\n2", **marked, "Z": "3"}, pass_fds=held
    )
    for each in held:
        os.close(each)
    try:
        yield sleeper
    finally:
        sleeper.kill()
        sleeper.wait()


def ended(sleeper: subprocess.Popen[bytes]) -> int:
    return sleeper.wait(DEADLINE)


def test_the_mark_is_found_and_only_that_of_the_job(shell: list[str], folder: Path) -> None:
    with process("WSCLEAN_WORKERD_MARK=i/7/11/"), process("WSCLEAN_WORKERD_MARK=i/17/1/"):
        assert kill(shell, folder, "FIND") == NONE_LEFT
        with process(MARK):
            assert kill(shell, folder, "FIND") == SOME_LEFT
        assert kill(shell, folder, "FIND") == NONE_LEFT


def test_signals_reach_all_that_is_the_jobs_and_nothing_else(
    shell: list[str], folder: Path
) -> None:
    with (
        process(MARK) as marked,
        process(alive=folder / "alive") as holding,
        process("WSCLEAN_WORKERD_MARK=i/7/11/") as other,
    ):
        assert kill(shell, folder, "TERM") == 0
        assert (ended(marked), ended(holding)) == (-15, -15)
        assert other.poll() is None


def test_who_reads_what_the_job_holds_is_not_the_jobs(shell: list[str], folder: Path) -> None:
    with (
        process(alive=folder / "alive", flags=os.O_RDONLY) as reading,
        process(alive=folder / "alive") as holding,
    ):
        assert kill(shell, folder, "KILL") == 0
        assert ended(holding) == -9
        assert reading.poll() is None


def test_the_wrapper_is_spared_but_not_who_has_its_number(shell: list[str], folder: Path) -> None:
    with process(MARK) as marked, process(MARK) as wrapper:
        stat = Path(f"/proc/{wrapper.pid}/stat").read_text(encoding="ascii")
        (folder / "wrapper").write_text(stat, encoding="ascii")
        assert kill(shell, folder, "KILL") == 0
        assert ended(marked) == -9
        assert wrapper.poll() is None
        words = stat.split()
        words[21] = "1"
        (folder / "wrapper").write_text(" ".join(words) + "\n", encoding="ascii")
        assert kill(shell, folder, "KILL") == 0
        assert ended(wrapper) == -9


def test_it_answers_by_a_fifo(shell: list[str], folder: Path) -> None:
    answer = folder / "answer"
    os.mkfifo(answer)
    descriptor = os.open(answer, os.O_RDWR | os.O_NONBLOCK)
    for verb, status in (("FIND", NONE_LEFT), ("TERM", 0), ("KILL", 0)):
        assert kill(shell, folder, verb, answer) == status
        assert os.read(descriptor, 100) == f"{status}\n".encode()
    os.close(descriptor)
