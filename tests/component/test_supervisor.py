"""The daemon's inside with a runtime whose faults are scripted, and real processes."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from support.daemon import DEADLINE, until
from support.faults import AWAY, FaultyRuntime
from support.jobs import make_job
from support.strays import STRAY, lives
from wsclean_workerd import clock, supervisor
from wsclean_workerd.access import RunAs
from wsclean_workerd.admission import Admission
from wsclean_workerd.announcer import Announcer
from wsclean_workerd.attendant import Attendant
from wsclean_workerd.command import CommandRules
from wsclean_workerd.config import Config
from wsclean_workerd.disk import Disk
from wsclean_workerd.errors import (
    JournalUnavailable,
    LaunchRefused,
    NoSuchJob,
    RuntimeUnavailable,
    ShuttingDown,
)
from wsclean_workerd.events import KillDelivered, Signal
from wsclean_workerd.growth import GrowthWatch
from wsclean_workerd.journal import Journal
from wsclean_workerd.journal_db import JournalDb
from wsclean_workerd.keeper import RuntimeKeeper
from wsclean_workerd.model import (
    Instant,
    Job,
    JobId,
    JobSpec,
    JobState,
    Mount,
    Patience,
    Reason,
    RuntimeCondition,
    User,
)
from wsclean_workerd.output_guard import OutputGuard
from wsclean_workerd.paths import PathMapper
from wsclean_workerd.runtime.native import NativeRuntime
from wsclean_workerd.scheduler import WaitingLine
from wsclean_workerd.spool import NOTHING, JobFolder, Spool
from wsclean_workerd.storage import Storage
from wsclean_workerd.supervisor import Supervisor
from wsclean_workerd.watcher import Watcher

NO_STORAGE = Storage((), timeout=1, proof_age=1)
PATIENCE = Patience(start=0.5, grace=0.3, kill=0.5, rekill=0.5, refusals=2)
CANCEL = Reason("CANCELLED", "was cancelled")
LIMIT = 1000000
USER = User(uid=4711, gid=4711)


@dataclass
class Parts:
    folder: Path
    runtime: FaultyRuntime
    journal: Journal
    announcer: Announcer
    keeper: RuntimeKeeper
    admission: Admission
    supervisor: Supervisor
    spool: Spool

    async def submit(self, script: str, **fields: object) -> Job:
        spec = JobSpec(command=("sh", "-c", script), working_directory=str(self.folder))
        changed = replace(spec, **fields)  # type: ignore[arg-type]
        return await self.supervisor.submit(changed, None, USER)

    async def until(self, job: Job, wanted: Callable[[Job], bool]) -> Job:
        """Wait until a job is as wanted, told by announcements."""
        with self.announcer.subscribe({job.id}) as subscription:
            subscription.offer(await self.supervisor.get(job.id))
            async with asyncio.timeout(DEADLINE):
                while True:
                    for news in await subscription.next():
                        if wanted(news):
                            return news

    async def ended(self, job: Job) -> Job:
        return await self.until(job, lambda news: news.state.ended)

    def output(self, job: Job) -> str:
        return (self.spool.job(job.id).path / "stdout").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def reaper() -> Iterator[None]:
    """Has this process get what loses its parent, as the main one of a container does."""
    prctl, set_child_subreaper = ctypes.CDLL(None).prctl, 36
    assert prctl(set_child_subreaper, 1, 0, 0, 0) == 0
    yield
    # What ends later would be a false alarm of the next test's.
    until(children_left, lambda left: not left)
    assert prctl(set_child_subreaper, 0, 0, 0, 0) == 0


def children_left() -> bool:
    """Take note of all children that have ended; return whether there are others."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    user = Config.model_validate(
        {"runtime": "native", "jobs": {"run_as": "0:0"}, "mounts": [{"host": str(tmp_path)}]},
    ).user
    spool = Spool(tmp_path / "spool", str(tmp_path / "spool"))
    spool.prepare()
    journal = Journal(tmp_path / "journal.db")
    executor = ThreadPoolExecutor(4)
    disk = Disk(executor)
    native = NativeRuntime(
        instance=journal.instance, spool=spool, disk=disk, programs=["sh"], user=user
    )
    runtime = FaultyRuntime(native)
    announcer = Announcer()

    ready = asyncio.Event()

    def changed() -> None:
        supervisor.schedule()
        if keeper.condition.ready:
            ready.set()

    def lost() -> None:
        attendant.doubt()

    keeper = RuntimeKeeper(
        runtime, busy=lambda: False, lost=lost, changed=changed, longest=DEADLINE
    )
    admission = Admission(slots=2, storage=NO_STORAGE, unproven=lambda _: frozenset())
    supervisor = Supervisor(
        rules=CommandRules(
            programs=["sh"],
            mapper=PathMapper([Mount(str(tmp_path), str(tmp_path))]),
            elsewhere="/",
            run_as=RunAs(fixed=user),
            umask=0o022,
            run_timeout=None,
            queue_timeout=None,
        ),
        admission=admission,
        patience=PATIENCE,
        journal=journal,
        announcer=announcer,
        condition=lambda: keeper.condition,
        expect_holder=lambda _: None,
        changed=lambda: None,
    )
    growth = GrowthWatch()
    guard = OutputGuard(LIMIT, spool=spool, disk=disk, growth=growth, tell=supervisor.tell)
    watcher = Watcher(spool=spool, runtime=runtime, disk=disk, guard=guard, tell=supervisor.tell)
    attendant = Attendant(
        instance=journal.instance,
        spool=spool,
        runtime=runtime,
        watcher=watcher,
        disk=disk,
        tell=supervisor.tell,
        runtime_failed=keeper.failed,
    )
    await supervisor.start(attendant)
    task = asyncio.create_task(keeper.run())
    await asyncio.wait_for(ready.wait(), DEADLINE)
    yield Parts(tmp_path, runtime, journal, announcer, keeper, admission, supervisor, spool)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await supervisor.close()
    await attendant.close()
    await growth.close()
    await runtime.close()
    await journal.close()
    executor.shutdown()


async def test_a_launch_that_meets_no_engine_is_tried_again(parts: Parts) -> None:
    parts.runtime.launches = [AWAY, AWAY]
    parts.runtime.ensures = []
    job = await parts.ended(await parts.submit("echo ran"))
    assert (job.state, job.launch, job.refusals) == (JobState.SUCCEEDED, 3, 0)
    assert parts.output(job) == "ran\n"
    assert job.container == "container-3"


async def test_a_launch_that_took_effect_although_it_failed_runs_once(parts: Parts) -> None:
    parts.runtime.launches = ["late"]
    job = await parts.until(
        await parts.submit("echo ran"),
        lambda news: news.state is JobState.SUCCEEDED,
    )
    await parts.runtime.launch_late()
    await parts.until(job, lambda news: not news.lingering)
    assert parts.output(job) == "ran\n"


async def test_a_job_that_is_refused_again_and_again_fails_and_frees_its_slot(
    parts: Parts,
) -> None:
    parts.runtime.launches = [LaunchRefused("no sh in the image")] * PATIENCE.refusals
    job = await parts.ended(await parts.submit("echo ran"))
    assert job.state is JobState.FAILED
    assert job.reason == Reason("CANNOT_START", "cannot be started: no sh in the image")
    assert parts.admission.taken == 0


async def test_a_launch_that_never_arrives_is_given_up_and_tried_again(parts: Parts) -> None:
    parts.runtime.launches = ["never"]
    job = await parts.ended(await parts.submit("echo ran"))
    assert (job.state, job.launch) == (JobState.SUCCEEDED, 2)
    assert parts.output(job) == "ran\n"


async def test_a_kill_that_cannot_be_sent_is_sent_later(parts: Parts) -> None:
    job = await parts.submit("trap : TERM; echo up; while :; do sleep 1; done")
    await parts.until(job, lambda news: news.state is JobState.RUNNING)
    parts.runtime.signals = [AWAY, AWAY, AWAY]
    await parts.supervisor.cancel(job.id, CANCEL)
    job = await parts.ended(job)
    assert (job.state, job.reason, job.exit_status) == (JobState.CANCELLED, CANCEL, 137)


async def test_cancelling_a_job_that_is_being_started_keeps_it_from_running(
    parts: Parts,
) -> None:
    parts.runtime.launches = ["never"]
    job = await parts.submit("echo ran")
    await parts.until(job, lambda news: news.state is JobState.STARTING)
    await parts.supervisor.cancel(job.id, CANCEL)
    job = await parts.ended(job)
    assert (job.state, job.started) == (JobState.CANCELLED, None)


async def test_a_lost_runtime_is_made_ready_again_and_jobs_wait_meanwhile(parts: Parts) -> None:
    first = await parts.ended(await parts.submit("exit 0"))
    away, announce = asyncio.Event(), parts.keeper._changed

    def changed() -> None:
        if not parts.keeper.condition.ready:
            away.set()
        announce()

    parts.keeper._changed = changed
    parts.runtime.ensures = [AWAY, AWAY]
    parts.runtime.breaks.set()
    await asyncio.wait_for(away.wait(), DEADLINE)
    job = await parts.submit("exit 0")
    assert job.state is JobState.QUEUED
    job = await parts.ended(job)
    assert (first.container, job.container) != (None, None)
    assert parts.keeper.condition.ready


async def test_what_the_runtime_lacks_is_its_condition(parts: Parts) -> None:
    problem = RuntimeUnavailable("IMAGE_MISSING", "there is no image x")
    parts.runtime.ensures = [problem] * 3
    seen = []
    over = asyncio.Event()

    def changed() -> None:
        seen.append(parts.keeper.condition)
        if parts.keeper.condition.ready:
            over.set()

    parts.keeper._changed = changed
    parts.runtime.breaks.set()
    await asyncio.wait_for(over.wait(), DEADLINE)
    assert seen[0].reason == Reason("IMAGE_MISSING", "there is no image x")
    assert not seen[0].ready


async def test_a_folder_that_is_gone_loses_the_job_and_says_so(parts: Parts) -> None:
    job = await parts.submit("echo up; sleep 600")
    job = await parts.until(job, lambda news: news.state is JobState.RUNNING)
    # What a second daemon would find that was started after the folder was removed.
    attendant = parts.supervisor._hands
    await attendant._watcher.close()
    alive = parts.spool.job(job.id).path / "alive"
    alive.rename(alive.with_name("elsewhere"))
    attendant.attach(job)
    lost = await parts.ended(job)
    assert lost.state is JobState.LOST
    assert lost.reason is not None
    assert lost.reason.code == "FOLDER_GONE"
    alive.with_name("elsewhere").rename(alive)
    await parts.runtime.real.signal(job, Signal.KILL)


async def test_a_job_cancelled_while_its_folder_is_made_never_runs(
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare, begun, go_on = JobFolder.prepare, threading.Event(), threading.Event()

    def slow(folder: JobFolder, script: str, user: User) -> None:
        begun.set()
        assert go_on.wait(DEADLINE)
        prepare(folder, script, user)

    monkeypatch.setattr(JobFolder, "prepare", slow)
    job = await parts.submit("echo ran")
    await asyncio.to_thread(begun.wait, DEADLINE)
    await parts.supervisor.cancel(job.id, CANCEL)
    job = await parts.ended(job)
    assert (job.state, job.started) == (JobState.CANCELLED, None)
    go_on.set()
    # Whatever the late start still does is done when the next job has run.
    monkeypatch.setattr(JobFolder, "prepare", prepare)
    await asyncio.gather(*parts.supervisor._hands._tasks)
    await parts.ended(await parts.submit("exit 0"))
    assert parts.output(job) == ""
    assert job.id not in {launch[0] for launch in parts.supervisor._hands._watcher._watches}


async def test_a_start_that_fails_late_does_not_harm_the_next_one(parts: Parts) -> None:
    parts.runtime.launches = ["slow"]
    job = await parts.submit(f"echo ran; read line <{parts.folder}/gate")
    os.mkfifo(parts.folder / "gate")
    # Given up after its time, it is started again, and runs.
    job = await parts.until(job, lambda news: news.state is JobState.RUNNING)
    assert job.launch == 2
    parts.runtime.released.set()
    await asyncio.gather(*parts.supervisor._hands._tasks)
    await asyncio.to_thread((parts.folder / "gate").write_text, "go\n")
    job = await parts.until(job, lambda news: news.state.ended and not news.lingering)
    assert (job.state, job.launch) == (JobState.SUCCEEDED, 2)
    assert parts.output(job) == "ran\n"
    assert parts.admission.taken == 0


async def test_not_being_able_to_look_at_a_job_is_no_reason_to_lose_it(
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_alive, failures = JobFolder.open_alive, [OSError(errno.EMFILE, "too many open files")]

    def fails_once(folder: JobFolder) -> int:
        if failures:
            raise failures.pop()
        return open_alive(folder)

    monkeypatch.setattr(JobFolder, "open_alive", fails_once)
    job = await parts.ended(await parts.submit("echo ran"))
    assert (job.state, failures) == (JobState.SUCCEEDED, [])


async def test_a_claim_that_the_disk_refuses_is_made_later(
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim, failures = JobFolder.claim, [OSError(errno.ENOSPC, "no space left")]

    def fails_once(folder: JobFolder, launch: int) -> bool:
        if failures:
            raise failures.pop()
        return claim(folder, launch)

    monkeypatch.setattr(JobFolder, "claim", fails_once)
    parts.runtime.launches = [AWAY]
    job = await parts.ended(await parts.submit("echo ran"))
    assert (job.state, failures) == (JobState.SUCCEEDED, [])


def descriptors() -> int:
    """How many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_no_descriptor_is_left_behind(parts: Parts) -> None:
    await parts.ended(await parts.submit("exit 0"))
    before = descriptors()
    parts.runtime.launches = [LaunchRefused("no")] * 20
    for _ in range(10):
        await parts.ended(await parts.submit("exit 0"))
    await parts.supervisor._hands._watcher.close()
    await parts.ended(await parts.submit("exit 0"))
    assert descriptors() <= before + 2


async def test_after_a_reboot_times_are_on_the_new_clock_for_good(
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await parts.journal.load("an earlier boot")
    await parts.journal.remember_boot("an earlier boot")
    waiting = make_job(77, submitted=Instant(clock.now().wall - 10, 5_000_000.0))
    await parts.journal.insert(waiting)
    monkeypatch.setattr(clock, "boot_id", lambda: "this boot")
    for _ in range(2):
        again = Supervisor(
            rules=parts.supervisor._rules,
            admission=Admission(slots=1, storage=NO_STORAGE, unproven=lambda _: frozenset()),
            patience=PATIENCE,
            journal=parts.journal,
            announcer=Announcer(),
            condition=lambda: RuntimeCondition(ready=False),
            expect_holder=lambda _: None,
            changed=lambda: None,
        )
        await again.start(parts.supervisor._hands, last_id=90)
        job = await again.get(JobId(77))
        assert clock.now().boot - job.submitted.boot == pytest.approx(10, abs=5)
        await again.close()
    assert again._last_id == 90


async def test_a_defect_while_writing_does_not_end_the_journal(
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    insert, failures = JournalDb.insert, [ValueError("unforeseen")]

    def fails_once(database: JournalDb, job: Job) -> Job:
        if failures:
            raise failures.pop()
        return insert(database, job)

    monkeypatch.setattr(JournalDb, "insert", fails_once)
    with pytest.raises(JournalUnavailable, match="unforeseen"):
        await parts.submit("exit 0")
    assert (await parts.ended(await parts.submit("exit 0"))).state is JobState.SUCCEEDED


async def test_a_journal_that_takes_nothing_refuses_jobs_and_starts_none(
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = JournalDb.commit

    def full(_: JournalDb) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(JournalDb, "commit", full)
    with pytest.raises(JournalUnavailable, match="disk is full"):
        await parts.submit("echo ran")
    assert parts.supervisor.refusing is not None
    assert parts.supervisor.counts() == {}
    monkeypatch.setattr(JournalDb, "commit", commit)
    job = await parts.ended(await parts.submit("echo ran"))
    assert parts.output(job) == "ran\n"
    assert parts.supervisor.refusing is None


async def test_a_caller_that_gives_up_while_its_job_is_written_leaves_a_whole_job(
    parts: Parts,
) -> None:
    caller = asyncio.create_task(parts.submit("echo ran"))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    job = await parts.ended(await parts.supervisor.get(await _only(parts)))
    assert job.state is JobState.SUCCEEDED


async def _only(parts: Parts) -> JobId:
    with parts.announcer.subscribe() as subscription:
        for job in parts.supervisor.live():
            subscription.offer(job)
        async with asyncio.timeout(DEADLINE):
            return (await subscription.next())[0].id


async def test_a_daemon_that_ends_accepts_nothing(parts: Parts) -> None:
    await parts.supervisor.close()
    with pytest.raises(ShuttingDown):
        await parts.submit("echo ran")


async def test_there_is_no_job_that_was_not_submitted(parts: Parts) -> None:
    with pytest.raises(NoSuchJob, match="there is no job 12"):
        await parts.supervisor.get(JobId(12))


async def test_a_job_that_writes_too_much_is_ended_and_says_so(parts: Parts) -> None:
    job = await parts.ended(await parts.submit("trap 'exit 5' TERM; while :; do seq 1000; done"))
    assert (job.state, job.exit_status) == (JobState.FAILED, 5)
    assert job.reason is not None
    assert job.reason.code == "OUTPUT_LIMIT"
    assert str(LIMIT) in job.reason.message


async def test_what_a_job_may_write_it_may_write(parts: Parts) -> None:
    job = await parts.ended(await parts.submit(f"sleep 0.1; head -c {LIMIT} /dev/zero"))
    assert job.state is JobState.SUCCEEDED
    assert len(parts.output(job)) == LIMIT


async def test_the_grace_period_begins_with_term_however_slow_the_disk(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "trap 'sleep 0.1; exit 7' TERM; echo up; while :; do sleep 0.01; done"
    job = await parts.submit(script)
    job = await parts.until(job, lambda news: news.state is JobState.RUNNING)
    commit = JournalDb.commit

    def slowly(database: JournalDb) -> None:
        threading.Event().wait(2 * PATIENCE.grace)
        commit(database)

    monkeypatch.setattr(JournalDb, "commit", slowly)
    await parts.supervisor.cancel(job.id, CANCEL)
    job = await parts.ended(job)
    assert (job.state, job.exit_status) == (JobState.CANCELLED, 7)


async def test_a_job_whose_folder_cannot_be_made_fails_and_holds_up_nobody(parts: Parts) -> None:
    first = await parts.ended(await parts.submit("exit 0"))
    parts.spool.job(JobId(first.id + 1)).path.write_text("in the way", encoding="utf-8")
    job = await parts.ended(await parts.submit("exit 0"))
    assert (job.state, job.reason and job.reason.code) == (JobState.FAILED, "CANNOT_START")
    assert parts.keeper.condition.ready
    assert (await parts.ended(await parts.submit("exit 0"))).state is JobState.SUCCEEDED


async def test_a_known_request_starts_nothing_however_slow_the_disk(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = JobSpec(command=("sh", "-c", "echo ran"), working_directory=str(parts.folder))
    first = await parts.supervisor.submit(spec, "again", USER)
    await parts.ended(first)
    os.mkfifo(parts.folder / "gate")
    # Held by the test for reading as well, so that nothing here waits for the other side.
    gate = os.open(parts.folder / "gate", os.O_RDWR | os.O_NONBLOCK)
    script = f"read line <{parts.folder}/gate"
    running = [await parts.submit(script) for _ in range(parts.admission.slots)]
    waiting = await parts.submit("exit 0")
    assert waiting.state is JobState.QUEUED
    commit, asked, released = JournalDb.commit, threading.Event(), threading.Event()

    def slowly(database: JournalDb) -> None:
        asked.set()
        released.wait(DEADLINE)
        commit(database)

    monkeypatch.setattr(JournalDb, "commit", slowly)
    again = asyncio.create_task(parts.supervisor.submit(spec, "again", USER))
    await asyncio.to_thread(asked.wait, DEADLINE)
    # As if everything that waits could start, while the request is not yet known to be old.
    parts.admission.slots = 100
    parts.supervisor.schedule()
    released.set()
    assert (await again).id == first.id
    monkeypatch.undo()
    await parts.ended(waiting)
    folders = {int(each.name) for each in (parts.spool.path / "jobs").iterdir()}
    assert max(folders) == waiting.id
    os.write(gate, b"go\ngo\n")
    for job in running:
        await parts.ended(job)
    os.close(gate)


async def test_a_folder_is_made_while_its_job_is_written_and_removed_if_that_was_in_vain(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = JobSpec(command=("sh", "-c", "exit 0"), working_directory=str(parts.folder))
    first = await parts.ended(await parts.supervisor.submit(spec, "again", USER))
    before = descriptors()
    commit, removed, released = JournalDb.commit, asyncio.Event(), threading.Event()
    loop, remove, prepare = asyncio.get_running_loop(), JobFolder.remove, JobFolder.prepare

    def slowly(database: JournalDb) -> None:
        assert released.wait(DEADLINE)
        commit(database)

    def prepared(folder: JobFolder, *rest: Any) -> None:
        prepare(folder, *rest)
        # The commit is not over before the folder is there.
        released.set()

    def note(folder: JobFolder) -> None:
        remove(folder)
        loop.call_soon_threadsafe(removed.set)

    monkeypatch.setattr(JournalDb, "commit", slowly)
    monkeypatch.setattr(JobFolder, "prepare", prepared)
    monkeypatch.setattr(JobFolder, "remove", note)
    assert (await parts.supervisor.submit(spec, "again", USER)).id == first.id
    await asyncio.wait_for(removed.wait(), DEADLINE)
    assert [each.name for each in (parts.spool.path / "jobs").iterdir()] == [str(first.id)]
    assert descriptors() <= before


async def test_whoever_gets_a_slot_is_written_together_with_the_end_that_freed_it(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every commit between them would be time that the slot is empty."""
    parts.admission.slots = 1
    batches: list[list[tuple[int, JobState]]] = [[]]
    update, commit = JournalDb.update, JournalDb.commit

    def note_update(database: JournalDb, job: Job) -> None:
        update(database, job)
        batches[-1].append((job.id, job.state))

    def note_commit(database: JournalDb) -> None:
        commit(database)
        batches.append([])

    os.mkfifo(parts.folder / "gate")
    first = await parts.submit("read line <gate")
    second = await parts.submit("exit 0")
    monkeypatch.setattr(JournalDb, "update", note_update)
    monkeypatch.setattr(JournalDb, "commit", note_commit)
    await asyncio.to_thread((parts.folder / "gate").write_text, "on\n")
    await parts.ended(second)
    assert [(first.id, JobState.SUCCEEDED), (second.id, JobState.STARTING)] in batches


@pytest.fixture
def heedless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that gives out slots as if there were no locks."""
    monkeypatch.setattr(WaitingLine, "obstacle", lambda *_: None)


def defects(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.levelname == "ERROR"]


@pytest.mark.usefixtures("heedless")
async def test_no_lock_is_held_twice_whatever_the_scheduler_does(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "_BARRED_SECONDS", 0.1)
    log, gate = parts.folder / "log", parts.folder / "gate"
    os.mkfifo(gate)
    parts.admission.slots = 1
    first = await parts.submit(f"echo 1 >>{log}; read line <{gate}; echo 1 >>{log}", locks=("x",))
    others = [await parts.submit(f"echo {n} >>{log}", locks=("x",)) for n in (2, 3)]
    assert {job.state for job in others} == {JobState.QUEUED}
    # Two that are chosen when there are slots for them, and one that would start at once.
    parts.admission.slots = 10
    parts.supervisor.schedule()
    others.append(await parts.submit(f"echo 4 >>{log}", locks=("y", "x")))
    assert others[-1].state is JobState.QUEUED
    free = await parts.ended(await parts.submit("echo ran", locks=("z",)))
    assert parts.output(free) == "ran\n"
    await asyncio.to_thread(gate.write_text, "go\n")
    for job in others:
        assert (await parts.ended(job)).state is JobState.SUCCEEDED
    assert (await parts.ended(first)).state is JobState.SUCCEEDED
    # Each ran once, and none before the first had ended.
    written = log.read_text().split()
    assert (written[:2], sorted(written[2:])) == (["1", "1"], ["2", "3", "4"])
    for job in others:
        defect = f"a defect let job {job.id} start although job {first.id} holds x"
        assert defect in defects(caplog)


@pytest.mark.usefixtures("heedless")
async def test_what_the_journal_refuses_is_not_tried_again_and_again(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    first = await parts.submit("echo up; sleep 600", locks=("x",))
    refused = await parts.submit("echo ran", locks=("x",))
    # Each of these has slots given out several times.
    for _ in range(5):
        await parts.ended(await parts.submit("exit 0"))
    assert len(defects(caplog)) == 1
    why = parts.admission.why(await parts.supervisor.get(refused.id))
    assert why is None or why.code == "LOCK_HELD"
    cancelled = await parts.supervisor.cancel(refused.id, CANCEL)
    assert (cancelled.state, cancelled.started, cancelled.launch) == (JobState.CANCELLED, None, 0)
    await parts.supervisor.cancel(first.id, CANCEL)
    await parts.ended(first)


@pytest.mark.usefixtures("heedless")
async def test_a_job_that_is_cancelled_while_its_start_is_refused_never_runs(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts.admission.slots = 1
    first = await parts.submit("echo up; sleep 600", locks=("x",))
    job = await parts.submit("echo ran", locks=("x",))
    await parts.until(first, lambda news: news.state is JobState.RUNNING)
    commit, asked, released = JournalDb.commit, threading.Event(), threading.Event()

    def slowly(database: JournalDb) -> None:
        asked.set()
        assert released.wait(DEADLINE)
        commit(database)

    monkeypatch.setattr(JournalDb, "commit", slowly)
    parts.admission.slots = 2
    parts.supervisor.schedule()
    await asyncio.to_thread(asked.wait, DEADLINE)
    cancelling = asyncio.create_task(parts.supervisor.cancel(job.id, CANCEL))
    await asyncio.sleep(0)
    released.set()
    await cancelling
    job = await parts.ended(job)
    assert (job.state, job.reason, job.started) == (JobState.CANCELLED, CANCEL, None)
    assert parts.spool.job(job.id).look(1) == NOTHING
    assert parts.output(job) == ""
    assert defects(caplog)
    await parts.supervisor.cancel(first.id, CANCEL)
    await parts.ended(first)


async def gone(parts: Parts, job: Job) -> Job:
    return await parts.until(job, lambda news: news.state.ended and not news.lingering)


async def test_what_a_job_leaves_is_searched_for_at_its_end_and_after_kill_and_nothing_else(
    parts: Parts,
) -> None:
    for script in ("exit 0", "sleep 0.01 & wait", "true | sh -c 'exit 3'", "kill -KILL $$"):
        await gone(parts, await parts.submit(script))
    # Lanes of before are known, and those that come are too.
    gates = [parts.folder / "gate-1", parts.folder / "gate-2"]
    for gate in gates:
        os.mkfifo(gate)
    at_once = [await parts.submit(f"read line <{gate}") for gate in gates]
    for job in at_once:
        await parts.until(job, lambda news: news.state is JobState.RUNNING)
    for job, gate in zip(at_once, gates, strict=True):
        await asyncio.to_thread(gate.write_text, "go\n")
        await gone(parts, job)
    assert parts.runtime.searched == []
    stray = await gone(parts, await parts.submit(STRAY))
    assert parts.runtime.searched == [stray.id, stray.id]


async def test_who_cannot_be_asked_for_strays_is_asked_again(parts: Parts) -> None:
    parts.runtime.searches = [AWAY, AWAY]
    job = await parts.until(await parts.submit(STRAY), lambda news: news.state.ended)
    assert (job.state, job.lingering) == (JobState.SUCCEEDED, True)
    await gone(parts, job)
    assert not lives(parts.folder)
    assert parts.runtime.searches == []


async def lose(parts: Parts, job: Job) -> Job:
    """Have a job run until what waits for its status is killed; return it as it ran."""
    job = await parts.until(job, lambda news: news.state is JobState.RUNNING)
    wrapper = (parts.spool.attempt(job).path / "wrapper").read_text(encoding="ascii")
    os.kill(int(wrapper.split()[0]), signal.SIGKILL)
    return job


def attempt(number: int, state: JobState) -> Callable[[Job], bool]:
    return lambda news: (news.attempt, news.state) == (number, state)


async def test_the_output_of_all_attempts_counts(parts: Parts) -> None:
    os.mkfifo(parts.folder / "gate")
    script = f"head -c {LIMIT * 2 // 3} /dev/zero; exec cat gate"
    job = await lose(parts, await parts.submit(script, retries=1))
    await asyncio.to_thread((parts.folder / "gate").write_text, "")
    job = await parts.ended(job)
    assert (job.state, job.attempt) == (JobState.FAILED, 2)
    assert job.reason is not None
    assert job.reason.code == "OUTPUT_LIMIT"
    assert len(parts.output(job)) == LIMIT * 2 // 3 * 2


async def test_cancelling_what_is_killed_to_run_again_ends_it(parts: Parts) -> None:
    parts.runtime.signals = [AWAY, AWAY]
    # Without the FIFO, so that its end is not seen.
    job = await lose(parts, await parts.submit("exec 9>&-; exec sleep 600", retries=1))
    job = await parts.until(job, lambda news: news.state is JobState.STOPPING)
    assert job.reason is not None
    assert job.reason.code == "CONTAINER_DIED"
    told = await parts.supervisor.cancel(job.id, CANCEL)
    assert (told.state, told.reason) == (JobState.STOPPING, CANCEL)
    job = await gone(parts, job)
    assert (job.state, job.reason, job.attempt) == (JobState.CANCELLED, CANCEL, 1)
    assert parts.runtime.signals == []


async def test_what_is_late_of_one_attempt_means_nothing_to_the_next(parts: Parts) -> None:
    os.mkfifo(parts.folder / "gate")
    first = await lose(parts, await parts.submit("exec cat gate", retries=1))
    await asyncio.to_thread((parts.folder / "gate").write_text, "")
    await parts.until(first, attempt(2, JobState.RUNNING))
    hands = parts.supervisor._hands
    # As if its start had been doubted long ago.
    await hands._resolve(first, Reason("NOT_STARTED", "was slow"), refused=False)
    late = hands._watcher._watches[first.last_launch].task
    assert late is not None
    await asyncio.wait_for(asyncio.wait([late]), DEADLINE)
    hands._tell(first.id, KillDelivered(clock.now(), launch=1))
    assert (await parts.supervisor.get(first.id)).state is JobState.RUNNING
    await asyncio.to_thread((parts.folder / "gate").write_text, "")
    job = await gone(parts, first)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)


async def test_what_comes_of_a_lost_attempt_after_all_keeps_the_next_one_from_starting(
    parts: Parts,
) -> None:
    os.mkfifo(parts.folder / "gate")
    first = await lose(parts, await parts.submit("exec cat gate", retries=1))
    # What was to become the job, and was held up.
    late: list[int] = []
    closed_down = JobFolder.close_down

    def close_down(folder: JobFolder) -> None:
        late.append(os.open(folder.path / "alive", os.O_RDWR))
        closed_down(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobFolder, "close_down", close_down)
        await asyncio.to_thread((parts.folder / "gate").write_text, "")
        job = await gone(parts, first)
    for each in late:
        os.close(each)
    assert (job.state, job.attempt, job.started) == (JobState.FAILED, 2, None)
    assert job.reason is not None
    assert job.reason.code == "CANNOT_START"
    assert "of the attempt before is still there" in job.reason.message
