"""The journal's file: schema, statements and what can be wrong with it. Blocking."""

from __future__ import annotations

import os
import sqlite3
import uuid
from typing import TYPE_CHECKING

from wsclean_workerd.errors import LockTaken, StartError
from wsclean_workerd.journal_schema import MIGRATIONS, TABLES, VERSION
from wsclean_workerd.model import ENDED, Job, JobId, JobState
from wsclean_workerd.records import decode, encode

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_BUSY_SECONDS = 5.0

# The lower bits of SQLite's extended error codes.
_PRIMARY = 0xFF

_COLUMNS = "id, request_id, state, record"

# A little more than SQLite writes into its log before it begins at the start again.
_LOG_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
_CACHE_KIB = 256


class JournalDb:
    """One connection to the journal. Used by one thread at a time.

    Args:
        path: The file.

    Raises:
        StartError: If it is there and cannot be read as a journal: the daemon never
            starts empty over what it does not understand.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Command lines are nobody else's business; SQLite gives the files that
            # it makes beside this one the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                path,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise unreadable(path, error) from None

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        # A commit that was answered survives the loss of power.
        run("PRAGMA synchronous = FULL")
        # The system keeps what is read often; this would be a second copy, for each connection.
        run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        (version,) = run("PRAGMA user_version").fetchone()
        if version == 0:
            self._create()
        elif version > VERSION:
            raise StartError(
                f"cannot read the journal {self.path}: it is of version {version}, this daemon "
                f"knows {VERSION}. Run the release that wrote it, or a newer one",
            )
        else:
            for older in range(version, VERSION):
                self._run_script(MIGRATIONS[older], older + 1)

    def _create(self) -> None:
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables:
            raise StartError(
                f"cannot use {self.path}: it is a database, but no journal of wsclean-workerd",
            )
        self._run_script(TABLES, VERSION)

    def _run_script(self, script: str, version: int) -> None:
        """Change the tables, all of it or nothing."""
        self._connection.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {version}; COMMIT;",
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # -- writing, inside `begin` and `commit` ------------------------------------

    def begin(self) -> None:
        """Begin a transaction for writing."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Put the transaction on disk."""
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """Forget the transaction, if there is one."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def insert(self, job: Job) -> Job:
        """Add a job, unless its request id is known.

        Returns:
            The job that has this request id: the same one, or the older one.

        Raises:
            LockTaken: If another job holds a lock that it is to hold. It is not added.
        """
        inserted = self._connection.execute(
            "INSERT INTO jobs (id, uid, request_id, state, live, record, ended)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uid, request_id)"
            " WHERE request_id IS NOT NULL DO NOTHING",
            (job.id, job.owner, *self._values(job)),
        )
        if inserted.rowcount:
            try:
                self._write_locks(job)
            except LockTaken:
                self._connection.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
                raise
            return job
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE uid = ? AND request_id = ?",  # noqa: S608 - constant
            (job.owner, job.request_id),
        ).fetchone()
        return self._job(row)

    def update(self, job: Job) -> None:
        """Write a job that has changed.

        Raises:
            LockTaken: If another job holds a lock that it is to hold. It stays as it was.
        """
        self._write_locks(job)
        _, *values = self._values(job)
        self._connection.execute(
            "UPDATE jobs SET state = ?, live = ?, record = ?, ended = ? WHERE id = ?",
            (*values, job.id),
        )

    def _write_locks(self, job: Job) -> None:
        """Write which locks a job holds: all of its own while it is on a slot, or change nothing.

        Raises:
            LockTaken: If another job holds one of them, which the table has room for once.
        """
        if not job.order.locks:
            return
        run, run_many = self._connection.execute, self._connection.executemany
        rows = [(key, job.id) for key in job.order.locks]
        run("SAVEPOINT locks")
        run_many("DELETE FROM locks WHERE key = ? AND job = ?", rows)
        if job.on_slot:
            try:
                run_many("INSERT INTO locks (key, job) VALUES (?, ?)", rows)
            except sqlite3.IntegrityError:
                run("ROLLBACK TO locks")
                run("RELEASE locks")
                raise self._lock_taken(job) from None
        run("RELEASE locks")

    def _lock_taken(self, job: Job) -> LockTaken:
        """What to tell of a job that wants a lock which another one holds."""
        find = "SELECT key, job FROM locks WHERE key = ? AND job <> ?"
        rows = (self._connection.execute(find, (key, job.id)) for key in job.order.locks)
        return LockTaken(*next(row for each in rows for row in each))

    @staticmethod
    def _values(job: Job) -> tuple[str | None, str, int, str, float | None]:
        live = job.state not in ENDED or job.lingering
        ended = None if job.ended is None else job.ended.wall
        return job.request_id, job.state.name, int(live), encode(job), ended

    def delete(self, job_ids: Collection[JobId]) -> None:
        """Forget jobs that are over."""
        self._connection.executemany(
            "DELETE FROM jobs WHERE id = ? AND live = 0", [(job_id,) for job_id in job_ids]
        )

    def meta(self, key: str, default: str) -> str:
        """Read a fact about the journal itself, setting it if it is not there."""
        self._connection.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (key, default),
        )
        (value,) = self._connection.execute(
            "SELECT value FROM meta WHERE key = ?",
            (key,),
        ).fetchone()
        return str(value)

    def set_meta(self, key: str, value: str) -> None:
        """Change a fact about the journal itself."""
        self._connection.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    # -- reading -----------------------------------------------------------------

    def instance(self) -> str:
        """The name of this journal's daemon, made once and kept."""
        return self.meta("instance", uuid.uuid4().hex)

    def last_id(self) -> int:
        """The highest number that was ever given."""
        row = self._connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'",
        ).fetchone()
        return int(row[0]) if row else 0

    def live(self) -> list[Job]:
        """The jobs that have not ended or still have processes, oldest first."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE live = 1 ORDER BY id",  # noqa: S608 - constant
        )
        return [self._job(row) for row in rows]

    def get(self, job_id: JobId) -> Job | None:
        """One job, or None."""
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE id = ?",  # noqa: S608 - constant
            (job_id,),
        ).fetchone()
        return None if row is None else self._job(row)

    def page(
        self,
        states: Collection[JobState],
        before: int | None,
        limit: int,
        owner: int | None = None,
    ) -> list[Job]:
        """Some jobs, newest first.

        Args:
            states: Only jobs in one of these; empty for all.
            before: Only jobs with a smaller number, or None.
            limit: At most so many.
            owner: Only jobs of this user, or None.
        """
        conditions, values = ["1"], list[str | int]()
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            values += [state.name for state in states]
        if before is not None:
            conditions.append("id < ?")
            values.append(before)
        if owner is not None:
            conditions.append("uid = ?")
            values.append(owner)
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE {' AND '.join(conditions)}"  # noqa: S608 - constants
            " ORDER BY id DESC LIMIT ?",
            (*values, limit),
        )
        return [self._job(row) for row in rows]

    def outdated(self, *, before: float, keep: int, limit: int) -> list[JobId]:
        """Jobs that are over and need not be kept, oldest first.

        Args:
            before: Those that ended before this time, in seconds since 1970 UTC.
            keep: And all but so many of those that ended last.
            limit: At most so many.
        """
        rows = self._connection.execute(
            "SELECT id FROM jobs WHERE live = 0 AND (ended < ? OR ended <="
            " (SELECT ended FROM jobs WHERE live = 0 ORDER BY ended DESC LIMIT 1 OFFSET ?))"
            " ORDER BY ended LIMIT ?",
            (before, keep, limit),
        )
        return [JobId(job_id) for (job_id,) in rows]

    def _job(self, row: tuple[int, str | None, str, str]) -> Job:
        try:
            return decode(*row)
        except (KeyError, TypeError, ValueError) as error:
            raise StartError(
                f"cannot read the journal {self.path}: the record of job {row[0]} is damaged "
                f"({type(error).__name__}: {error}). Restore the journal from a backup",
            ) from None


def check_not_lost(path: Path, last_id: int) -> None:
    """Refuse a journal of no bytes where there have been jobs: it was one that had them.

    Args:
        path: The journal, which may not be there.
        last_id: The highest number that a job is known to have had, or 0.

    Raises:
        StartError: If it is such a one.
    """
    if last_id and path.exists() and not path.stat().st_size:
        raise StartError(
            f"cannot read the journal {path}: it is empty, and there have been jobs. Restore "
            "it from a backup, or remove it to start without them",
        )


def lay_out_log(path: Path) -> None:
    """Give the write-ahead log all its room before it is used, if the disk has any.

    A commit takes half the time if it does not make the log grow: then the file system
    has nothing to write down itself. SQLite takes zeros for a log that is empty.

    Args:
        path: The journal, which nobody has open.

    Raises:
        StartError: As for `JournalDb`.
    """
    # What a crash has left in the log goes into the journal, and the log goes.
    JournalDb(path).close()
    log = path.with_name(f"{path.name}-wal")
    try:
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            # In pieces: of all pieces of memory up to the largest that was ever given back,
            # glibc keeps some for good.
            for _ in range(_LOG_BYTES // _PIECE_BYTES):
                file.write(bytes(_PIECE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        # SQLite could not do without it.
        return
    except OSError:
        log.unlink(missing_ok=True)


def unreadable(path: Path, error: Exception) -> StartError:
    """What to tell of a journal that cannot be read, with the way out of it."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & _PRIMARY
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        way_out = "Another process has it open: end that, and start again"
    elif primary == sqlite3.SQLITE_FULL:
        way_out = "Make room on its disk, and start again"
    elif primary in {None, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        way_out = "The daemon has to be able to read and write this file and its folder"
    else:
        way_out = "Restore it from a backup, or move it away to start without its jobs"
    return StartError(f"cannot read the journal {path}: {error}. {way_out}")
