"""A state disk that is full for a while, and a host that was restarted."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import DEADLINE, until
from support.docker_daemon import DockerDaemon
from wsclean_client import JobHandle, JobLost, JobState, RequestRefused

DISK = "24m"


@pytest.fixture
def small_disk(idle_daemon: DockerDaemon) -> Iterator[Path]:
    """The state folder, which is a small disk of its own."""
    state = idle_daemon.folder / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", state], check=True)
    try:
        yield state
        if idle_daemon.process is not None:
            assert idle_daemon.stop() == 0, idle_daemon.log
    finally:
        if idle_daemon.process is not None:
            idle_daemon.kill()
        idle_daemon.remove_containers()
        subprocess.run(["umount", state], check=True)


def fill(disk: Path) -> Path:
    """Use up all room of a disk; return what does."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_state_disk_loses_nothing_and_needs_no_restart(
    idle_daemon: DockerDaemon, small_disk: Path
) -> None:
    idle_daemon.values["slots"] = 1
    idle_daemon.start()
    with idle_daemon.client() as client:
        gate = idle_daemon.gate()
        running = idle_daemon.begin(client, f"{gate.wait}; echo end; exit 3")
        waiting = [
            client.submit(["sh", "-c", f"echo {n} >>order"], cwd=idle_daemon.data) for n in (1, 2)
        ]
        filler = fill(small_disk)
        accepted: list[JobHandle] = []
        # There is room in the journal's log for some.
        with pytest.raises(RequestRefused, match="journal") as caught:
            while True:
                command = ["sh", "-c", f"echo {len(accepted)} >>more", "x" * 100_000]
                accepted.append(client.submit(command, cwd=idle_daemon.data))
        assert caught.value.reason == "JOURNAL_UNAVAILABLE"
        assert client.status().refusing is not None
        gate.open()
        # Its processes end although its status cannot go into the journal.
        until((small_disk / "spool/jobs" / running.id / "exit").read_text, str.strip)
        filler.unlink()
        done = running.result(check=False, timeout=DEADLINE)
        assert (done.returncode, done.stdout.splitlines()[0]) == (3, "up")
        for job in [*waiting, *accepted]:
            assert job.result(timeout=DEADLINE).returncode == 0
        assert (idle_daemon.data / "order").read_text() == "1\n2\n"
        more = (idle_daemon.data / "more").read_text().splitlines()
        assert more == [str(number) for number in range(len(accepted))]
        assert client.status().refusing is None
        assert client.run(["sh", "-c", "echo on"], cwd=idle_daemon.data).stdout == "on\n"
        assert client.status().slots_used == 0


def test_after_a_restart_of_the_host_what_waited_runs_and_what_ran_is_lost_or_runs_again(
    idle_daemon: DockerDaemon,
) -> None:
    idle_daemon.values["slots"] = 3
    idle_daemon.start()
    script = "[ ! -e up ] || exec echo again; touch up; echo up; exec sleep 600"
    with idle_daemon.client() as client:
        again = client.submit(["sh", "-c", script], cwd=idle_daemon.data, retries=1)
        idle_daemon.await_output(again.id, "up")
        running = [idle_daemon.begin(client, "sleep 600") for _ in range(2)]
        waiting = client.submit(["sh", "-c", "echo ran"], cwd=idle_daemon.data)
    idle_daemon.kill()
    idle_daemon.remove_containers()
    shutil.rmtree(idle_daemon.folder / "run")
    boot_id = idle_daemon.folder / "boot_id"
    boot_id.write_text("00000000-0000-4000-8000-000000000000\n")
    script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    idle_daemon.program = ("unshare", "-m", "sh", "-c", script, boot_id, *idle_daemon.program)
    idle_daemon.start()
    with idle_daemon.client() as client:
        assert client.job(waiting.id).result(timeout=DEADLINE).stdout == "ran\n"
        for job in running:
            with pytest.raises(JobLost) as caught:
                client.job(job.id).result(timeout=DEADLINE)
            assert caught.value.job.reason is not None
            assert caught.value.job.reason.code == "HOST_RESTARTED"
        done = client.job(again.id).result(timeout=DEADLINE)
        assert (done.stdout, done.info.attempt) == ("up\nagain\n", 2)
        assert done.info.last_loss is not None
        assert done.info.last_loss.code == "HOST_RESTARTED"
        assert client.status().slots_used == 0
        assert client.job(waiting.id).refresh().state is JobState.SUCCEEDED
