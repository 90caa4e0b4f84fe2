from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from support.jobs import at, make_job
from wsclean_workerd import journal_db
from wsclean_workerd.disk import Disk
from wsclean_workerd.errors import JournalUnavailable, LockTaken, StartError
from wsclean_workerd.journal import Journal
from wsclean_workerd.journal_db import JournalDb
from wsclean_workerd.model import Job, JobId, JobState, Reason, Stop
from wsclean_workerd.pruning import Pruner
from wsclean_workerd.spool import Spool


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    await journal.close()


FULL = make_job(
    request_id="r",
    state=JobState.STOPPING,
    reason=Reason("RUN_TIMEOUT", "ä"),
    stop=Stop(JobState.TIMED_OUT, Reason("RUN_TIMEOUT", "ä")),
    launch=3,
    refusals=1,
    container="c1",
    started=at(3),
)


async def test_a_job_comes_back_as_it_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.insert(make_job(request_id="r"))
    await journal.update(FULL)
    await journal.close()
    again = Journal(tmp_path / "journal.db")
    assert again.instance == journal.instance
    assert await again.load("boot") == ([FULL], 1, False)
    assert await again.get(JobId(1)) == FULL
    await again.close()


async def test_another_boot_is_noticed(journal: Journal) -> None:
    await journal.load("one")
    assert (await journal.load("one"))[2] is False
    # Until what follows from it has been written, it is asked for again.
    assert (await journal.load("two"))[2] is True
    assert (await journal.load("two"))[2] is True
    await journal.remember_boot("two")
    assert (await journal.load("two"))[2] is False


async def test_only_jobs_that_are_over_and_gone_are_not_live(journal: Journal) -> None:
    ended = {"state": JobState.SUCCEEDED, "reason": Reason("SUCCEEDED", "x"), "ended": at(5)}
    for job in (make_job(1), make_job(2), make_job(3)):
        await journal.insert(job)
    await journal.update(make_job(2, **ended))
    await journal.update(make_job(3, **ended, lingering=True))
    jobs, last, _ = await journal.load("boot")
    assert ([job.id for job in jobs], last) == ([1, 3], 3)


async def test_a_request_id_belongs_to_one_job_of_a_user(journal: Journal) -> None:
    first, second = make_job(1, request_id="r"), make_job(2, request_id="r")
    # Whomever it runs as.
    other = replace(second, id=JobId(3), owner=7)
    results = await asyncio.gather(*(journal.insert(job) for job in (first, second, other)))
    assert [job.id for job in results] == [1, 1, 3]
    assert await journal.get(JobId(2)) is None


async def test_jobs_without_request_id_are_all_different(journal: Journal) -> None:
    results = await asyncio.gather(*(journal.insert(make_job(number)) for number in (1, 2)))
    assert [job.id for job in results] == [1, 2]


async def test_pages_are_newest_first_and_can_be_filtered(journal: Journal) -> None:
    for number in range(1, 6):
        state = JobState.HELD if number % 2 else JobState.QUEUED
        await journal.insert(make_job(number, state=state, owner=number // 3))

    async def ids(
        *states: JobState, before: int | None = None, limit: int = 10, owner: int | None = None
    ) -> list[int]:
        page = await journal.page(states, before=before, limit=limit, owner=owner)
        return [job.id for job in page]

    assert await ids(limit=2) == [5, 4]
    assert await ids(before=4, limit=2) == [3, 2]
    assert await ids(JobState.HELD) == [5, 3, 1]
    assert await ids(JobState.HELD, JobState.QUEUED, before=3) == [2, 1]
    assert await ids(owner=0) == [2, 1]
    assert await ids(JobState.HELD, owner=1) == [5, 3]
    assert await ids(before=5, limit=1, owner=1) == [4]
    assert await ids(owner=7) == []


async def test_what_comes_while_a_commit_is_under_way_is_committed_together(
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commits: list[None] = []
    commit = JournalDb.commit

    def counted(database: JournalDb) -> None:
        commits.append(None)
        commit(database)

    monkeypatch.setattr(JournalDb, "commit", counted)
    await asyncio.gather(*(journal.insert(make_job(number)) for number in range(1, 501)))
    assert len(commits) < 50


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Lets no file of this process grow, which is what a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
async def test_a_disk_that_takes_nothing_loses_nothing(journal: Journal) -> None:
    await journal.insert(make_job(1))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # SQLite gets EFBIG; SIGXFSZ is ignored by Python.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    change = journal.update(make_job(1, state=JobState.HELD))
    with pytest.raises(JournalUnavailable, match=r"cannot write the journal.*try again later"):
        await journal.insert(make_job(2))
    assert "cannot write the journal" in str(journal.failure)
    assert not change.done()
    known = await journal.get(JobId(1))
    assert known is not None
    assert known.state is JobState.QUEUED

    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await asyncio.wait_for(change, 30)
    assert str(journal.failure) == "None"
    known = await journal.get(JobId(1))
    assert known is not None
    assert known.state is JobState.HELD
    assert (await journal.insert(make_job(2))).id == 2


@pytest.mark.parametrize(
    "content", [b"not a database, not at all" * 100, b"SQLite format 3\0" * 99]
)
def test_a_file_that_is_no_journal_is_never_written_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(StartError, match=r"cannot read the journal.*journal\.db"):
        JournalDb(path)
    assert path.read_bytes() == content


def test_a_journal_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    JournalDb(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StartError, match="version 99, this daemon knows 3"):
        JournalDb(path)


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StartError, match="no journal of wsclean-workerd"):
        JournalDb(path)


def test_a_record_that_cannot_be_read_is_an_error_and_not_a_job_less(tmp_path: Path) -> None:
    database = JournalDb(tmp_path / "journal.db")
    database.begin()
    database.insert(make_job(1))
    database.commit()
    database._connection.execute("UPDATE jobs SET record = '{}'")
    with pytest.raises(StartError, match="job 1"):
        database.live()
    database.close()


def test_the_file_is_nobody_elses_to_read(tmp_path: Path) -> None:
    JournalDb(tmp_path / "journal.db").close()
    assert (tmp_path / "journal.db").stat().st_mode & 0o777 == 0o600
    assert os.geteuid() == (tmp_path / "journal.db").stat().st_uid


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    database = JournalDb(tmp_path / "journal.db")
    database.begin()
    database.insert(make_job(41))
    database._connection.execute("DELETE FROM jobs")
    database.commit()
    assert database.last_id() == 41
    database.close()


def test_a_job_has_nothing_that_a_record_forgets() -> None:
    """A field that is added to a job has to be added to its record."""
    from wsclean_workerd.records import decode, encode  # noqa: PLC0415

    job: Job = replace(FULL, exit_status=3, ended=at(9), lingering=True)
    job = replace(job, order=replace(job.order, locks=("a", "/b")))
    job = replace(job, spec=replace(job.spec, retries=2))
    job = replace(job, attempt=2, loss=Reason("CONTAINER_DIED", "ö"), requeued=at(2))
    assert decode(job.id, job.request_id, job.state.name, encode(job)) == job


async def test_commits_find_room_in_the_log(tmp_path: Path) -> None:
    """A log that grows has the file system commit as well."""
    log = tmp_path / "journal.db-wal"
    for first in (1, 1001):
        journal = Journal(tmp_path / "journal.db")
        room = log.stat().st_size
        for number in range(first, first + 1000):
            await journal.insert(make_job(number))
        assert log.stat().st_size == room > 0
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        await journal.close()


async def test_what_a_crash_left_in_the_log_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    await journal.insert(make_job(1))
    # The files as a process leaves them that is killed now.
    for name in ("journal.db", "journal.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / f"crashed-{name}")
    await journal.close()
    again = Journal(tmp_path / "crashed-journal.db")
    assert (await again.load("boot"))[0] == [make_job(1)]
    await again.close()


@pytest.mark.usefixtures("full_disk")
def test_a_disk_without_room_for_the_log_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    JournalDb(path).close()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    journal_db.lay_out_log(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["journal.db"]


DATA = Path(__file__).parents[1] / "data"


async def test_the_journal_of_the_first_release_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes((DATA / "journal-v1.db").read_bytes())
    for _ in range(2):
        journal = Journal(path)
        assert journal.instance == "0123456789abcdef" * 2
        jobs, last_id, rebooted = await journal.load("another")
        assert ([job.id for job in jobs], rebooted) == ([2, 3, 4, 5, 6], True)
        # Nobody has written down who submitted them.
        assert all(job.owner == job.order.user.uid == 1000 for job in jobs)
        assert last_id >= 7
        assert jobs[1].stop == Stop(JobState.CANCELLED, Reason("CANCELLED", "on request"))
        first = await journal.get(JobId(1))
        assert first is not None
        assert (first.exit_status, first.started, first.spec.tied) == (0, at(1), False)
        assert (first.spec.retries, first.attempt, first.loss) == (0, 1, None)
        again = await journal.insert(make_job(8, request_id="déjà vu"))
        assert again.id == 6
        assert await journal.outdated(before=at(9).wall, keep=10, limit=10) == [1]
        await journal.close()


async def test_a_journal_of_before_there_were_locks_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes((DATA / "journal-v2.db").read_bytes())
    for _ in range(2):
        journal = Journal(path)
        assert journal.instance == "0123456789abcdef" * 2
        jobs, last_id, _ = await journal.load("another")
        assert [job.id for job in jobs] == [2, 3, 4, 5, 6, 7]
        assert last_id >= 8
        assert not any(job.spec.locks or job.order.locks for job in jobs)
        assert (jobs[1].spec.run_timeout, jobs[1].spec.tied) == (7.5, True)
        assert jobs[5].lingering
        assert held(path) == []
        assert (await journal.insert(make_job(9, request_id="déjà vu"))).id == 6
        assert await journal.outdated(before=at(9).wall, keep=10, limit=10) == [1]
        await journal.close()
    # What it is asked to remember from now on it does.
    journal = Journal(path)
    await journal.insert(locking(10, "a", state=JobState.STARTING))
    await journal.close()
    assert held(path) == [("a", 10)]


def locking(number: int, locks: str, **changes: object) -> Job:
    """A job with a lock for each letter."""
    job = make_job(number)
    return replace(job, order=replace(job.order, locks=tuple(locks)), **changes)  # type: ignore[arg-type]


def held(path: Path) -> list[tuple[str, int]]:
    """The locks in the file of a journal."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT key, job FROM locks ORDER BY key").fetchall()
    connection.close()
    return found


ENDS = {"reason": Reason("x", "x"), "ended": at(5)}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"state": JobState.QUEUED}, False),
        ({"state": JobState.HELD}, False),
        ({"state": JobState.STARTING}, True),
        ({"state": JobState.RUNNING}, True),
        ({"state": JobState.STOPPING}, True),
        ({"state": JobState.SUCCEEDED, "lingering": True, **ENDS}, True),
        ({"state": JobState.LOST, "lingering": True, **ENDS}, True),
        ({"state": JobState.SUCCEEDED, **ENDS}, False),
        ({"state": JobState.LOST, **ENDS}, False),
    ],
)
async def test_the_locks_of_a_job_are_held_while_it_is_on_a_slot(
    tmp_path: Path, journal: Journal, changes: dict[str, object], holds: bool
) -> None:
    job = locking(1, "ab", **changes)
    rows = [("a", 1), ("b", 1)] if holds else []
    assert job.on_slot == holds
    await journal.insert(job)
    assert held(tmp_path / "journal.db") == rows
    for before in (JobState.QUEUED, JobState.RUNNING):
        await journal.update(replace(job, state=before, lingering=False))
        await journal.update(job)
        assert held(tmp_path / "journal.db") == rows


async def test_a_lock_that_is_held_is_refused_and_what_is_beside_it_is_written(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = {"state": JobState.RUNNING}
    await journal.insert(locking(1, "ax", **running))
    for number, locks in ((2, "bx"), (3, "c"), (4, "dx")):
        await journal.insert(locking(number, locks))
    commit, asked, released = JournalDb.commit, threading.Event(), threading.Event()
    commits: list[None] = []

    def slowly(database: JournalDb) -> None:
        asked.set()
        assert released.wait(DEADLINE)
        commits.append(None)
        commit(database)

    monkeypatch.setattr(JournalDb, "commit", slowly)
    first = journal.update(locking(3, "c"))
    await asyncio.to_thread(asked.wait, DEADLINE)
    others = [
        journal.update(locking(2, "bx", **running)),
        journal.update(locking(3, "c", **running)),
        journal.insert(locking(5, "ex", **running, request_id="five")),
        journal.update(locking(4, "d", **running)),
    ]
    released.set()
    await first
    results = await asyncio.gather(*others, return_exceptions=True)
    assert len(commits) == 2
    for refused in (results[0], results[2]):
        assert isinstance(refused, LockTaken)
        assert (refused.lock, refused.holder, str(refused)) == ("x", 1, "job 1 holds x")
    assert [job.id for job in results if isinstance(job, Job)] == [3, 4]
    assert journal.failure is None
    # Of what was refused, nothing is left.
    assert held(tmp_path / "journal.db") == [("a", 1), ("c", 3), ("d", 4), ("x", 1)]
    known = await journal.get(JobId(2))
    assert known is not None
    assert known.state is JobState.QUEUED
    assert await journal.get(JobId(5)) is None
    again = await journal.insert(locking(5, "ex", request_id="five"))
    assert (again.id, again.state) == (5, JobState.QUEUED)


async def test_a_lock_can_be_had_as_soon_as_it_is_free(tmp_path: Path, journal: Journal) -> None:
    await journal.insert(locking(1, "x", state=JobState.RUNNING))
    await journal.insert(locking(2, "x"))
    await asyncio.gather(
        journal.update(locking(1, "x", state=JobState.LOST, **ENDS)),
        journal.update(locking(2, "x", state=JobState.STARTING)),
    )
    assert held(tmp_path / "journal.db") == [("x", 2)]


async def test_a_lock_is_still_held_when_the_journal_is_opened_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    holder = locking(1, "x", state=JobState.LOST, lingering=True, **ENDS)
    await journal.insert(holder)
    await journal.insert(locking(2, "x"))
    await journal.close()
    again = Journal(tmp_path / "journal.db")
    jobs, _, _ = await again.load("boot")
    assert jobs == [holder, locking(2, "x")]
    with pytest.raises(LockTaken, match="job 1 holds x"):
        await again.update(locking(2, "x", state=JobState.STARTING))
    # However often it is written itself.
    await again.update(holder)
    await again.close()
    assert held(tmp_path / "journal.db") == [("x", 1)]


def test_no_lock_can_be_in_the_file_twice(tmp_path: Path) -> None:
    JournalDb(tmp_path / "journal.db").close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("INSERT INTO locks VALUES ('x', 1)")
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute("INSERT INTO locks VALUES ('x', 2)")
    connection.close()


async def test_old_jobs_are_found_by_age_and_by_number(journal: Journal) -> None:
    for number in range(1, 9):
        state = JobState.SUCCEEDED if number != 4 else JobState.RUNNING
        await journal.insert(make_job(number, state=state, ended=at(number)))
    assert await journal.outdated(before=at(3).wall, keep=100, limit=10) == [1, 2]
    assert await journal.outdated(before=0, keep=5, limit=10) == [1, 2]
    assert await journal.outdated(before=0, keep=0, limit=3) == [1, 2, 3]
    await journal.delete([JobId(1), JobId(4)])
    assert await journal.get(JobId(1)) is None
    assert await journal.get(JobId(4)) is not None


async def test_what_is_forgotten_leaves_no_folder(journal: Journal, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "/inside")
    spool.prepare()
    with ThreadPoolExecutor(1) as executor:
        for number in range(1, 251):
            await journal.insert(make_job(number, state=JobState.FAILED, ended=at(number)))
            spool.job(JobId(number)).path.mkdir()
        pruner = Pruner(journal, spool, Disk(executor), keep=30, keep_seconds=1e12)
        assert await pruner.prune() == 220
        assert await pruner.prune() == 0
    assert sorted(int(each.name) for each in (spool.path / "jobs").iterdir()) == [*range(221, 251)]
    assert [job.id for job in await journal.page([], before=None, limit=1)] == [250]


def test_a_journal_that_another_process_holds_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_db, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "journal.db"
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StartError, match="Another process has it open"):
            JournalDb(path)
    other.close()


async def test_damage_that_shows_late_stops_the_start_with_words(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    database = JournalDb(path)
    database.begin()
    for number in range(1, 200):
        database.insert(make_job(number))
    database.commit()
    database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    content = bytearray(path.read_bytes())
    content[8 * 4096 :] = b"\xff" * (len(content) - 8 * 4096)
    path.write_bytes(content)
    with pytest.raises(StartError, match=r"Restore it from a backup"):
        journal = Journal(path)
        try:
            await journal.load("boot")
        finally:
            await journal.close()
