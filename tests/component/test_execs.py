"""Jobs that two processes start together, where an engine starts both, one or none."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, cast

import pytest

from support.daemon import DEADLINE, daemon_folder
from support.jobs import make_job
from wsclean_workerd.alive import AliveWatch
from wsclean_workerd.disk import Disk
from wsclean_workerd.errors import LaunchRefused, RuntimeUnavailable
from wsclean_workerd.model import Job, User
from wsclean_workerd.runtime import execs
from wsclean_workerd.runtime.engine import Engine
from wsclean_workerd.runtime.execs import Execs
from wsclean_workerd.spool import Spool

OTHER = User(uid=12345, gid=23456)
WRAPPER, STARTER = "wrapper.sh", "become.sh"


@dataclass
class HostEngine:
    """Executes on this host what an engine would in a container, but for scripted faults.

    Attributes:
        faults: What becomes of a script: "refused", "lost" if nobody ever does it, or
            "late" if it is done when `do_late` is called.
        processes: What was started.
        started: Set when something was.
    """

    faults: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)
    late: list[Callable[[], None]] = field(default_factory=list)

    async def call(self, work: Callable[[Any], None]) -> None:
        await asyncio.to_thread(work, self)

    def exec_create(self, _container: str, command: list[str], **options: Any) -> dict[str, Any]:
        return {"Id": (command, options["user"])}

    def exec_start(self, what: tuple[list[str], str], **_: Any) -> None:
        command, user = what
        uid, gid = (int(each) for each in user.split(":"))

        def start() -> None:
            self.processes.append(
                subprocess.Popen(
                    command,
                    user=uid,
                    group=gid,
                    extra_groups=[],
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                )
            )
            self.started.set()

        match self.faults.get(Path(command[1]).name):
            case "refused":
                raise RuntimeUnavailable("ENGINE_SILENT", "the engine did not answer")
            case "late":
                self.late.append(start)
            case None:
                start()

    def do_late(self) -> None:
        for each in self.late:
            each()

    def await_end(self) -> list[int]:
        """Wait until all that was started has ended, which nothing ends from outside."""
        return [each.wait(DEADLINE) for each in self.processes]


@dataclass
class Parts:
    engine: HostEngine
    execs: Execs
    spool: Spool

    def prepare(self, script: str) -> Job:
        job = make_job(7, launch=1, container="c")
        job = changed(job, order=changed(job.order, user=OTHER))
        text = f"exec >>stdout 2>>stderr\nexec \"$@\" sh -c '{script}'\n"
        self.spool.job(job.id).prepare(text, OTHER)
        return job

    def meetings(self) -> list[Path]:
        return list(self.spool.runner_folder.glob("meeting-*"))


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    assert os.geteuid() == 0, "only root can run jobs as another user: run the tests as root"
    with daemon_folder() as folder, ThreadPoolExecutor(2) as executor:
        spool = Spool(folder / "spool", str(folder / "spool"))
        spool.prepare()
        engine = HostEngine()
        yield Parts(engine, Execs(cast("Engine", engine), spool, Disk(executor)), spool)
        assert all(each.poll() is not None for each in engine.processes)


async def test_a_job_runs_as_its_user_and_root_writes_how_it_ended(parts: Parts) -> None:
    job = parts.prepare("id -u; id -g; id -G; exit 5")
    folder = parts.spool.job(job.id)
    with AliveWatch(folder.open_alive()) as alive:
        alive.begin(begun=False)
        await parts.execs.launch_pair(job)
        async with asyncio.timeout(DEADLINE):
            while await alive.news():
                pass
    look = folder.look(1)
    assert (look.claimed, look.status) == (True, 5)
    assert (folder.path / "stdout").read_text().split() == ["12345", "23456", "23456"]
    assert parts.engine.await_end() == [0, 0]
    assert parts.meetings() == []


@pytest.mark.parametrize("fault", ["refused", "lost", "late"])
@pytest.mark.parametrize("script", [WRAPPER, STARTER])
async def test_half_a_start_never_happens_and_leaves_nothing(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, script: str, fault: str
) -> None:
    monkeypatch.setattr(execs, "_ANSWER_SECONDS", 0.5)
    parts.engine.faults = {script: fault}
    job = parts.prepare("echo ran")
    with pytest.raises(RuntimeUnavailable if fault == "refused" else LaunchRefused):
        await parts.execs.launch_pair(job)
    parts.engine.do_late()
    await asyncio.to_thread(parts.engine.await_end)
    folder = parts.spool.job(job.id)
    assert not folder.look(1).claimed
    assert folder.claim(1)
    assert parts.meetings() == []


@pytest.mark.parametrize("script", [WRAPPER, STARTER])
async def test_half_a_start_ends_with_the_daemon(parts: Parts, script: str) -> None:
    parts.engine.faults = {script: "lost"}
    job = parts.prepare("echo ran")
    launch = asyncio.create_task(parts.execs.launch_pair(job))
    assert await asyncio.to_thread(parts.engine.started.wait, DEADLINE)
    (process,) = parts.engine.processes
    with pytest.raises(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, 0.2)
    # All that is known of the daemon's death is that its FIFOs are closed.
    launch.cancel()
    await asyncio.gather(launch, return_exceptions=True)
    await asyncio.to_thread(parts.engine.await_end)
    assert not parts.spool.job(job.id).look(1).claimed


async def test_a_start_that_the_daemon_has_claimed_does_not_happen(parts: Parts) -> None:
    job = parts.prepare("echo ran")
    folder = parts.spool.job(job.id)
    assert folder.claim(1)
    await parts.execs.launch_pair(job)
    await asyncio.to_thread(parts.engine.await_end)
    assert (folder.path / "stdout").read_text() == ""
    assert folder.look(1).status is None


async def test_a_job_whose_starter_is_killed_leaves_no_status(parts: Parts) -> None:
    job = parts.prepare("kill -KILL $PPID; exit 0")
    await parts.execs.launch_pair(job)
    await asyncio.to_thread(parts.engine.await_end)
    look = parts.spool.job(job.id).look(1)
    assert (look.claimed, look.status) == (True, None)
