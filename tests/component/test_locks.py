"""Jobs with locks in a whole daemon with the native runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from component.conftest import SETTINGS
from support.daemon import DEADLINE, DaemonProcess, await_line, daemon_folder, until
from wsclean_client import JobHandle, JobState, RequestRefused, WSCleanClient


@pytest.fixture
def patient() -> Iterator[DaemonProcess]:
    """A daemon that lets what outlives its command go on, and has room for three jobs."""
    with daemon_folder() as folder:
        settings = SETTINGS.format(run_as='run_as = "0:0"', data=folder / "data")
        settings = settings.replace("kill_grace = 0.5", "kill_grace = 600")
        daemon = DaemonProcess(folder, settings.replace("slots = 2", "slots = 3"))
        daemon.start()
        yield daemon
        assert daemon.stop() == 0, daemon.log
        # It was the scheduler that kept them apart, and not the journal alone.
        assert "a defect" not in daemon.log


def submit(daemon: DaemonProcess, client: WSCleanClient, name: str, *locks: object) -> JobHandle:
    """Submit a job that says when it begins and ends, and waits for its gate if there is one."""
    wait = f"[ ! -e gate-{name} ] || read line <gate-{name}"
    script = f"echo begin {name} >>log; {wait}; echo end {name} >>log"
    return client.submit(["sh", "-c", script], cwd=daemon.data, locks=locks)  # type: ignore[arg-type]


def gate(daemon: DaemonProcess, name: str) -> Path:
    os.mkfifo(daemon.data / f"gate-{name}")
    return daemon.data / f"gate-{name}"


def written(daemon: DaemonProcess) -> list[str]:
    return (daemon.data / "log").read_text(encoding="utf-8").splitlines()


def held_by(job: JobHandle, lock: Path | str, holder: JobHandle) -> bool:
    reason = job.refresh().reason
    assert job.info.state is JobState.QUEUED
    told = f"waits for {lock}, held by job {holder.id}"
    return reason is not None and (reason.code, reason.message) == ("LOCK_HELD", told)


def test_two_jobs_with_one_lock_never_overlap_and_a_third_passes(patient: DaemonProcess) -> None:
    (patient.data / "a.ms").mkdir()
    (patient.data / "link.ms").symlink_to("a.ms")
    path = patient.data / "a.ms"
    opened = gate(patient, "first")
    with patient.client() as client:
        first = submit(patient, client, "first", path, "gpu")
        await_line(patient.data / "log", "begin first")
        second = submit(patient, client, "second", "./link.ms")
        third = submit(patient, client, "third", f"{path}/../a.ms/", "other")
        passing = submit(patient, client, "passing", path.with_name("b.ms"))
        assert passing.wait(DEADLINE).state is JobState.SUCCEEDED
        assert held_by(second, path, first)
        assert held_by(third, path, first)
        listed = {job.id: job for job in client.list()}
        assert listed[second.id].reason == second.info.reason
        assert listed[second.id].locks == (str(path),)
        assert listed[first.id].locks == (str(path), "gpu")
        opened.write_text("go\n")
        for job in (first, second, third):
            assert job.wait(DEADLINE).state is JobState.SUCCEEDED
    jobs = [["begin first", "begin passing", "end passing", "end first"]]
    jobs += [[f"begin {name}", f"end {name}"] for name in ("second", "third")]
    assert written(patient) == [line for lines in jobs for line in lines]


def test_a_lock_is_held_until_the_last_process_is_gone(patient: DaemonProcess) -> None:
    opened = gate(patient, "child")
    child = "read line <gate-child; echo child is gone >>log"
    # Its own session and no output of its parent's: nothing but `alive` ties it to the job.
    script = f"setsid sh -c '{child}' >child-log 2>&1 </dev/null & echo begin first >>log"
    with patient.client() as client:
        first = client.submit(["sh", "-c", script], cwd=patient.data, locks=["ms"])
        assert first.wait(DEADLINE).state is JobState.SUCCEEDED
        assert first.refresh().lingering
        second = submit(patient, client, "second", "ms")
        assert submit(patient, client, "passing").wait(DEADLINE).state is JobState.SUCCEEDED
        assert held_by(second, "ms", first)
        # Nor does a daemon forget that it is held.
        patient.kill()
        patient.start()
        assert held_by(second, "ms", first)
        assert submit(patient, client, "passing").wait(DEADLINE).state is JobState.SUCCEEDED
        assert held_by(second, "ms", first)
        opened.write_text("go\n")
        assert second.wait(DEADLINE).state is JobState.SUCCEEDED
        assert not first.refresh().lingering
    assert written(patient)[-3:] == ["child is gone", "begin second", "end second"]


def test_a_lock_is_still_held_after_the_daemon_was_killed(patient: DaemonProcess) -> None:
    opened = gate(patient, "first")
    with patient.client() as client:
        first = submit(patient, client, "first", "ms")
        second = submit(patient, client, "second", "ms")
        await_line(patient.data / "log", "begin first")
        patient.kill()
        patient.start()
        late = submit(patient, client, "late", "ms")
        passing = submit(patient, client, "passing", "other")
        assert passing.wait(DEADLINE).state is JobState.SUCCEEDED
        assert held_by(second, "ms", first)
        assert held_by(late, "ms", first)
        opened.write_text("go\n")
        assert late.wait(DEADLINE).state is JobState.SUCCEEDED
    second_and_late = [f"{what} {name}" for name in ("second", "late") for what in ("begin", "end")]
    assert written(patient)[-5:] == ["end first", *second_and_late]


def test_a_cancelled_job_gives_way_to_the_next(patient: DaemonProcess) -> None:
    gate(patient, "first")
    with patient.client() as client:
        first = submit(patient, client, "first", "ms")
        second = submit(patient, client, "second", "ms", "gpu")
        third = submit(patient, client, "third", "gpu")
        # The lock is free, and still not to be had: an older job waits for it.
        reason = until(third.refresh, lambda job: job.reason).reason
        assert reason is not None
        assert (reason.code, third.info.state) == ("LOCK_PROMISED", JobState.QUEUED)
        assert reason.message == f"waits for gpu, which job {second.id} is to have first"
        second.cancel()
        assert third.wait(DEADLINE).state is JobState.SUCCEEDED
        first.cancel()
        assert submit(patient, client, "last", "ms").wait(DEADLINE).state is JobState.SUCCEEDED


def test_what_cannot_be_locked_is_refused_by_name(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        with pytest.raises(RequestRefused, match=r"cannot lock 'a b': expected an absolute path"):
            submit(daemon, client, "first", "gpu", "a b")
        assert list(client.list()) == []


def test_locks_are_asked_for_and_shown_on_the_command_line(daemon: DaemonProcess) -> None:
    ctl: list[str | Path] = [
        Path(sys.executable).with_name("wsclean-ctl"),
        "--socket",
        daemon.socket,
    ]
    (daemon.data / "a.ms").mkdir()
    options: list[str | Path] = ["--lock", "./a.ms", "--lock", "gpu", "--cwd", daemon.data]
    run = [*ctl, "run", *options, "sh", "-c", "echo ran"]
    assert subprocess.run(run, check=True, capture_output=True).stdout == b"ran\n"
    shown = subprocess.run([*ctl, "show", "1"], check=True, capture_output=True, text=True).stdout
    assert f"locks       {daemon.data}/a.ms\n            gpu\n" in shown
