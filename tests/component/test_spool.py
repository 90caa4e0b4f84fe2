"""Job folders, and the scripts that run in the container, run here by the host's shell."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from support.daemon import DEADLINE, await_line, daemon_folder, holders
from support.jobs import make_job
from wsclean_workerd.alive import AliveWatch
from wsclean_workerd.model import Job, JobId, User
from wsclean_workerd.runtime.launching import kill_command, wrapper_command
from wsclean_workerd.spool import KILLER, NOTHING, WRAPPER, JobFolder, Spool

ME = User(uid=os.geteuid(), gid=os.getegid())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", str(tmp_path / "spool"))
    spool.prepare()
    return spool


@pytest.fixture
def folder(spool: Spool) -> JobFolder:
    return spool.job(JobId(7))


def wrapper(spool: Spool, folder: JobFolder, launch: int = 1) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            "sh",
            spool.script_inside(WRAPPER),
            "one",
            folder.path.parent,
            folder.path.name,
            str(launch),
        ]
    )


def run(spool: Spool, folder: JobFolder, script: str, launch: int = 1) -> int | None:
    folder.prepare(f"exec >>stdout 2>>stderr\n{script}\n", ME)
    assert wrapper(spool, folder, launch).wait(DEADLINE) == 0
    return folder.look(launch).status


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$", 137), ("exec no-such-program", 127)],
)
def test_the_wrapper_writes_the_exit_status(
    spool: Spool,
    folder: JobFolder,
    script: str,
    status: int,
) -> None:
    assert run(spool, folder, script) == status


def test_the_wrapper_leaves_signals_as_a_program_expects_them(
    spool: Spool,
    folder: JobFolder,
) -> None:
    run(spool, folder, "grep -E 'Sig(Ign|Blk)' /proc/self/status")
    lines = (folder.path / "stdout").read_text().splitlines()
    # Of the signals with names; what is above belongs to the C library.
    named = (1 << 31) - 1
    assert [int(line.split()[1], 16) & named for line in lines] == [0, 0]


def test_a_job_that_the_daemon_has_claimed_never_runs(spool: Spool, folder: JobFolder) -> None:
    folder.prepare("touch ran", ME)
    assert folder.claim(1)
    assert wrapper(spool, folder).wait(DEADLINE) == 0
    assert not (folder.path / "ran").exists()
    assert not folder.look(1).claimed
    # A daemon that was killed right after claiming learns that it has won.
    assert folder.claim(1)


def test_a_job_that_has_run_cannot_be_claimed(spool: Spool, folder: JobFolder) -> None:
    run(spool, folder, "exit 0")
    assert not folder.claim(1)
    assert folder.look(1).claimed


def test_of_many_that_want_a_start_one_gets_it(spool: Spool, folder: JobFolder) -> None:
    for launch in range(1, 11):
        folder.prepare("echo ran >>stdout", ME)
        wrappers = [wrapper(spool, folder, launch) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            claims = list(pool.map(folder.claim, [launch] * 4))
        for each in wrappers:
            each.wait(DEADLINE)
        assert len(set(claims)) == 1
        lines = (folder.path / "stdout").read_text().splitlines()
        assert len(lines) == (not claims[0])
        (folder.path / "stdout").unlink()


@pytest.mark.parametrize("content", ["", "\0\0", "x", "137 x", "137 oom 3", "0 alone x"])
def test_a_damaged_exit_status_is_none(spool: Spool, folder: JobFolder, content: str) -> None:
    run(spool, folder, "exit 0")
    (folder.path / "exit").write_text(content)
    look = folder.look(1)
    assert (look.claimed, look.status) == (True, None)


@pytest.mark.parametrize(
    ("content", "kills"),
    [("137 oom 3 5\n", (3, 5)), ("137 alone oom 3 5  \n", (3, 5)), ("137 \n", None)],
)
def test_what_the_kernel_has_killed_is_read_with_the_status(
    spool: Spool, folder: JobFolder, content: str, kills: tuple[int, int] | None
) -> None:
    run(spool, folder, "exit 0")
    (folder.path / "exit").write_text(content)
    look = folder.look(1)
    assert (look.status, look.oom_kills, look.alone) == (137, kills, "alone" in content)


def test_the_kernels_kills_are_counted_when_kill_has_ended_a_job_and_only_then(
    spool: Spool, folder: JobFolder
) -> None:
    run(spool, folder, "exit 1")
    assert folder.look(1).oom_kills is None
    folder.remove()
    run(spool, folder, "kill -KILL $$")
    kills = folder.look(1).oom_kills
    assert kills is not None
    assert kills[0] == kills[1]


def test_a_start_can_be_claimed_before_its_folder_is_made(spool: Spool, folder: JobFolder) -> None:
    assert folder.claim(1)
    folder.prepare("touch ran", ME)
    assert wrapper(spool, folder).wait(DEADLINE) == 0
    assert not (folder.path / "ran").exists()


def test_the_highest_number_that_has_a_folder_is_known(spool: Spool) -> None:
    assert spool.last_id() == 0
    for number in (9, 10):
        spool.job(JobId(number)).prepare("", ME)
    assert spool.last_id() == 10


def test_preparing_again_keeps_the_output(folder: JobFolder) -> None:
    folder.prepare("one", ME)
    (folder.path / "stdout").write_text("kept")
    folder.prepare("two", ME)
    assert (folder.path / "stdout").read_text() == "kept"
    assert (folder.path / "command").read_text() == "two"


def test_preparing_again_keeps_the_status(spool: Spool, folder: JobFolder) -> None:
    folder.prepare("exit 3", ME)
    assert wrapper(spool, folder).wait(DEADLINE) == 0
    folder.prepare("exit 4", ME)
    assert folder.look(1).status == 3


def test_output_behind_a_link_is_not_read(folder: JobFolder, tmp_path: Path) -> None:
    folder.prepare("", ME)
    (tmp_path / "secret").write_text("x")
    (folder.path / "stdout").unlink()
    (folder.path / "stdout").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        folder.open_output("stdout")


async def test_alive_says_when_the_last_process_is_gone(spool: Spool, folder: JobFolder) -> None:
    folder.prepare("setsid sh -c 'echo $$ >>stdout; exec sleep 600' & exit 5", ME)
    with AliveWatch(folder.open_alive()) as watch:
        watch.begin(begun=False)
        process = wrapper(spool, folder)
        await asyncio.to_thread(process.wait, DEADLINE)
        while folder.look(1).status is None:
            assert await asyncio.wait_for(watch.news(), DEADLINE)
        (left,) = holders(folder.path / "alive")
        os.kill(left, signal.SIGKILL)
        while await asyncio.wait_for(watch.news(), DEADLINE):
            pass
    assert holders(folder.path / "alive") == set()


async def test_alive_of_a_job_that_has_not_begun_says_nothing(folder: JobFolder) -> None:
    folder.prepare("", ME)
    with AliveWatch(folder.open_alive()) as watch:
        watch.begin(begun=False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.news(), 0.2)


async def test_alive_of_a_dead_job_says_so_at_once(spool: Spool, folder: JobFolder) -> None:
    run(spool, folder, "exit 0")
    with AliveWatch(folder.open_alive()) as watch:
        watch.begin(begun=True)
        assert await asyncio.wait_for(watch.news(), DEADLINE) is False


async def test_what_a_job_writes_to_alive_wakes_and_harms_nothing(
    spool: Spool,
    folder: JobFolder,
) -> None:
    folder.prepare("head -c 1000000 /dev/zero >&9; exit 3", ME)
    with AliveWatch(folder.open_alive()) as watch:
        watch.begin(begun=False)
        process = wrapper(spool, folder)
        while await asyncio.wait_for(watch.news(), DEADLINE):
            pass
        assert process.wait(DEADLINE) == 0
    assert folder.look(1).status == 3


@pytest.mark.parametrize(
    "escape",
    [
        "exec sleep 600",
        "setsid sleep 600 & wait",
        # Twice forked, out of the session, and nothing of the job open any more.
        "(setsid sh -c 'exec 9>&- sleep 600' &) ; sleep 600",
        # Without the mark, but with what the job's life hangs on.
        "env -i setsid sleep 600 & wait",
        "kill -STOP $$",
        "trap : TERM INT HUP; while :; do sleep 1; done",
    ],
)
def test_the_killer_finds_every_process_and_spares_the_wrapper(
    spool: Spool,
    folder: JobFolder,
    escape: str,
) -> None:
    mark = "WSCLEAN_WORKERD_MARK=test/7/1/"
    folder.prepare(f"export {mark}\nexec >>stdout\necho up\n{escape}\n", ME)
    process = wrapper(spool, folder)
    await_line(folder.path / "stdout", "up")
    for signal_name in ("TERM", "KILL"):
        subprocess.run(
            ["sh", spool.script_inside(KILLER), folder.path, mark, signal_name],
            check=True,
            timeout=DEADLINE,
        )
    assert process.wait(DEADLINE) == 0
    assert folder.look(1).status in {128 + signal.SIGKILL, 128 + signal.SIGTERM}
    assert marked(mark) == set()
    assert holders(folder.path / "alive") == set()


def marked(mark: str) -> set[int]:
    """The processes of this host that carry a mark and are no zombies."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.add(int(path.parts[2]))
        except OSError:
            continue
    return found


def test_the_killer_leaves_other_jobs_alone(spool: Spool, folder: JobFolder) -> None:
    other = spool.job(JobId(70))
    processes = []
    for each, mark in ((folder, "test/7/1/"), (other, "test/70/1/")):
        each.prepare(f"export WSCLEAN_WORKERD_MARK={mark}\necho up >>stdout\nsleep 600", ME)
        processes.append(wrapper(spool, each))
        await_line(each.path / "stdout", "up")
    kill = ["sh", spool.script_inside(KILLER)]
    subprocess.run([*kill, folder.path, "WSCLEAN_WORKERD_MARK=test/7/1/", "KILL"], check=True)
    assert processes[0].wait(DEADLINE) == 0
    assert processes[1].poll() is None
    assert other.look(1).status is None
    subprocess.run([*kill, other.path, "WSCLEAN_WORKERD_MARK=test/70/1/", "KILL"], check=True)
    assert processes[1].wait(DEADLINE) == 0


ORDER = make_job().order


@pytest.fixture
def open_spool() -> Iterator[Spool]:
    """A spool that other users can reach, unlike what is below pytest's own folders."""
    with daemon_folder() as path:
        spool = Spool(path / "spool", str(path / "spool"))
        spool.prepare()
        yield spool


def test_what_a_killed_daemon_left_of_a_folder_is_made_whole(open_spool: Spool) -> None:
    folder = open_spool.job(JobId(7))
    folder.path.mkdir(mode=0o600)
    for name in ("stdout", "exit", "wrapper", "command"):
        (folder.path / name).touch(mode=0o600)
    os.mkfifo(folder.path / "alive", 0o600)
    user = replace(ME, uid=65534, gid=65534) if os.geteuid() == 0 else ME
    folder.prepare("exec >>stdout 2>>stderr\necho ran; exit 3\n", user)
    modes = {each.name: each.lstat().st_mode & 0o777 for each in folder.path.iterdir()}
    assert modes == {
        "alive": 0o660,
        "command": 0o400,
        "exit": 0o600,
        "stderr": 0o600,
        "stdout": 0o600,
        "wrapper": 0o644,
    }
    assert folder.path.stat().st_mode & 0o777 == 0o711
    owners = {each.name: each.lstat().st_uid for each in folder.path.iterdir()}
    assert {name for name, uid in owners.items() if uid == user.uid} >= {
        "alive",
        "command",
        "stdout",
        "stderr",
    }
    command = wrapper_command(open_spool, make_job(7, launch=1, order=replace(ORDER, user=user)))
    assert subprocess.run(command, check=True, timeout=DEADLINE).returncode == 0
    assert folder.look(1).status == 3
    assert (folder.path / "stdout").read_text(encoding="ascii") == "ran\n"


def attempt(spool: Spool, number: int) -> JobFolder:
    return spool.attempt(make_job(7, attempt=number, launch=number))


def test_a_further_attempt_has_all_of_its_own_but_the_output(spool: Spool) -> None:
    first, second = attempt(spool, 1), attempt(spool, 2)
    assert first == spool.job(JobId(7))
    first.prepare("exec >>stdout\necho one; exit 0\n", ME)
    job = make_job(7)
    assert subprocess.run(wrapper_command(spool, with_me(job)), check=False).returncode == 0
    assert first.look(1).status == 0
    second.prepare(f"exec >>{second.outputs}stdout\necho two; exit 3\n", ME)
    assert second.look(2) == NOTHING
    again = with_me(replace(job, attempt=2, launch=2))
    assert subprocess.run(wrapper_command(spool, again), check=False).returncode == 0
    assert (second.look(2).status, first.look(1).status) == (3, 0)
    assert (first.path / "stdout").read_text() == "one\ntwo\n"
    assert first.output_size() == 8


def with_me(job: Job) -> Job:
    return replace(job, launch=job.attempt, order=replace(job.order, user=ME))


def test_a_further_attempt_does_without_the_folder_of_the_one_before(spool: Spool) -> None:
    assert attempt(spool, 3).claim(5)
    attempt(spool, 3).remove()
    attempt(spool, 1).remove()
    attempt(spool, 3).prepare("exit 0\n", ME)
    assert (spool.job(JobId(7)).path / "stdout").exists()


def test_what_is_left_of_an_attempt_keeps_the_next_one_from_being_prepared(spool: Spool) -> None:
    first, second = attempt(spool, 1), attempt(spool, 2)
    first.prepare("exit 0\n", ME)
    # As what had been told to become the job, and comes only now.
    reading = first.open_alive()
    late = os.open(first.path / "alive", os.O_WRONLY)
    os.write(late, b"started\n")
    with pytest.raises(OSError, match="of the attempt before is still there") as caught:
        second.prepare("exit 0\n", ME)
    assert caught.value.errno == errno.EBUSY
    # It finds nothing that it could begin.
    assert not (first.path / "command").exists()
    os.close(late)
    second.prepare("exit 0\n", ME)
    os.close(reading)


def test_a_signal_to_an_attempt_spares_the_next_one(spool: Spool) -> None:
    job = with_me(make_job(7))
    first, second = attempt(spool, 1), attempt(spool, 2)
    first.prepare("exit 0\n", ME)
    assert subprocess.run(wrapper_command(spool, job), check=False).returncode == 0
    again = with_me(replace(job, attempt=2))
    script = "trap 'exit 5' TERM; echo up; for n in $(seq 400); do sleep 0.05; done"
    # Known by what it holds alone, which is what both attempts might be known by.
    second.prepare(f"exec >>../stdout\nexec sh -c {shlex.quote(script)}\n", ME)
    with subprocess.Popen(wrapper_command(spool, again)) as running:
        await_line(first.path / "stdout", "up")
        for target, verb in ((job, "KILL"), (again, "TERM")):
            subprocess.run(kill_command(spool, "me", target, verb), check=True)
            if target is job:
                assert running.poll() is None
        assert running.wait(DEADLINE) == 0
    assert second.look(2).status == 5
