"""Remembers every job on disk, without ever blocking the event loop.

One thread writes and one reads, each with its own connection. What is handed over
while a commit is under way goes to disk together in the next one.

If the disk takes nothing, new jobs are refused at once, while changes of known jobs
are kept and tried again until they are written: what was acknowledged is never
forgotten, and nothing has to be restarted once there is room.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from wsclean_workerd.errors import JournalUnavailable, LockTaken
from wsclean_workerd.journal_db import JournalDb, lay_out_log, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from wsclean_workerd.model import Job, JobId, JobState

log = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Write:
    """A change of the file.

    Attributes:
        apply: Makes it, inside a transaction.
        must: Whether it is kept until it is written, however long that takes.
        done: Gets what `apply` returned, when that is on disk.
    """

    apply: Callable[[JournalDb], Any]
    must: bool
    done: asyncio.Future[Any]

    def attempt(self, database: JournalDb) -> Any:
        """Make the change; return what `done` gets, which is an error if it was refused.

        Whatever it is refused for is its own: those beside it are written.
        """
        try:
            return self.apply(database)
        except LockTaken as refusal:
            return refusal


@dataclass(frozen=True, slots=True)
class _Proof:
    """Something that is answered in its turn and changes nothing."""

    seen: asyncio.Future[None]


class Journal:
    """The journal, for the event loop.

    Args:
        path: The file; it is made if it is not there.
        changed: Called when it can be written no longer, or again.

    Raises:
        StartError: If the file is there and cannot be read.
    """

    def __init__(self, path: Path, changed: Callable[[], object] = bool) -> None:
        self._path = path
        lay_out_log(path)
        self._changed = changed
        self._write_db = JournalDb(path)
        self._read_db = JournalDb(path)
        try:
            self.instance = self._write_db.instance()
        except sqlite3.Error as error:
            raise unreadable(path, error) from None
        self.failure: str | None = None
        self._loop = asyncio.get_running_loop()
        self._writes: queue.SimpleQueue[_Write | _Proof | None] = queue.SimpleQueue()
        self._kept: list[_Write] = []
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self._writer = threading.Thread(target=self._write_all, name="journal-write")
        self._writer.start()

    # -- for the event loop ------------------------------------------------------

    def insert(self, job: Job) -> asyncio.Future[Job]:
        """Add a job, unless its request id is known.

        Returns:
            When it is on disk: the job, or the older one with the same request id.
            Fails with `JournalUnavailable` if the disk does not take it, and with
            `LockTaken` if another job holds a lock that it is to hold.
        """
        return self._hand_over(lambda database: database.insert(job), must=False)

    def update(self, job: Job) -> asyncio.Future[Job]:
        """Write a job that has changed.

        Returns:
            When it is on disk, however long that takes: the job. Fails with `LockTaken`,
            and leaves the job as it was, if another one holds a lock that it is to hold.
        """

        def apply(database: JournalDb) -> Job:
            database.update(job)
            return job

        return self._hand_over(apply, must=True)

    async def delete(self, job_ids: Collection[JobId]) -> None:
        """Forget jobs that are over.

        Raises:
            JournalUnavailable: If the disk does not take it.
        """
        await self._hand_over(lambda database: database.delete(job_ids), must=False)

    async def outdated(self, *, before: float, keep: int, limit: int) -> list[JobId]:
        """Find jobs that need not be kept; see `JournalDb.outdated`."""
        return await self._read(
            lambda database: database.outdated(before=before, keep=keep, limit=limit)
        )

    async def get(self, job_id: JobId) -> Job | None:
        """Read one job, or None if there is none with this number."""
        return await self._read(lambda database: database.get(job_id))

    async def page(
        self,
        states: Collection[JobState],
        *,
        before: int | None,
        limit: int,
        owner: int | None = None,
    ) -> list[Job]:
        """Read some jobs, newest first; see `JournalDb.page`."""
        return await self._read(lambda database: database.page(states, before, limit, owner))

    async def load(self, boot_id: str) -> tuple[list[Job], int, bool]:
        """Read what a starting daemon has to know.

        Args:
            boot_id: What tells this start of the machine from others.

        Returns:
            The live jobs, the highest number given so far, and whether the machine
            was started since `remember_boot` was last called.

        Raises:
            StartError: If it cannot be read.
        """

        def read(database: JournalDb) -> tuple[list[Job], int, bool]:
            known = database.meta("boot_id", boot_id)
            return database.live(), database.last_id(), known != boot_id

        # A hundred thousand jobs are made at once and kept: looking for garbage among
        # them again and again takes longer than reading them.
        gc.disable()
        try:
            return await self._loop.run_in_executor(self._reader, read, self._read_db)
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from None
        finally:
            gc.freeze()
            gc.enable()

    async def remember_boot(self, boot_id: str) -> None:
        """Take note that all times in the journal are on the clock of this boot."""
        await self._read(lambda database: database.set_meta("boot_id", boot_id))

    async def prove_life(self) -> None:
        """Return when both threads have been seen to work, and never if they do not."""
        if not self._writer.is_alive():
            log.error("the journal's writing thread has died")
        seen: asyncio.Future[None] = self._loop.create_future()
        self._writes.put(_Proof(seen))
        await seen
        # A disk in trouble is told elsewhere; a restart would not mend it.
        with suppress(JournalUnavailable):
            await self._read(lambda database: database.last_id())

    async def close(self) -> None:
        """Write what is waiting, once more if it failed before, and close the file."""
        self._writes.put(None)
        await asyncio.to_thread(self._writer.join)
        self._reader.shutdown()
        self._read_db.close()
        self._write_db.close()

    def _hand_over(self, apply: Callable[[JournalDb], T], *, must: bool) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self._loop.create_future()
        self._writes.put(_Write(apply, must, done))
        return done

    async def _read(self, work: Callable[[JournalDb], T]) -> T:
        try:
            return await self._loop.run_in_executor(self._reader, work, self._read_db)
        except sqlite3.Error as error:
            raise JournalUnavailable(
                f"cannot read the journal {self._path}: {error}",
            ) from None

    # -- for the writing thread --------------------------------------------------

    def _write_all(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._next_batch()
            self._write([each for each in batch if isinstance(each, _Write)])
            proofs = [each.seen for each in batch if isinstance(each, _Proof)]
            if proofs:
                self._loop.call_soon_threadsafe(_show, proofs)
        if self._kept:
            log.error("%d changes of jobs could not be written", len(self._kept))

    def _next_batch(self) -> tuple[list[_Write | _Proof], bool]:
        """Wait for something to write and take all there is."""
        batch: list[_Write | _Proof] = []
        try:
            first = self._writes.get(timeout=_RETRY_SECONDS if self._kept else None)
            while first is not None:
                batch.append(first)
                first = self._writes.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _write(self, batch: list[_Write]) -> None:
        # What was kept is older than what came since: the order is that of events.
        writes = self._kept + batch
        if not writes:
            return
        database = self._write_db
        try:
            database.begin()
            results = [write.attempt(database) for write in writes]
            database.commit()
        except Exception as error:  # noqa: BLE001 - without this thread nothing is written at all
            self._fail(writes, error)
            return
        self._kept = []
        if self.failure is not None:
            log.info("the journal can be written again")
            self.failure = None
            self._loop.call_soon_threadsafe(self._changed)
        self._loop.call_soon_threadsafe(_settle, writes, results)

    def _fail(self, writes: list[_Write], error: Exception) -> None:
        try:
            self._write_db.rollback()
        except sqlite3.Error as another:
            log.debug("rollback: %s", another)
        if self.failure is None:
            log.error("cannot write the journal %s: %s", self._path, error)
            self._loop.call_soon_threadsafe(self._changed)
        self.failure = f"cannot write the journal {self._path}: {error}"
        self._kept = [write for write in writes if write.must]
        refused = [write for write in writes if not write.must]
        if refused:
            self._loop.call_soon_threadsafe(_refuse, refused, self.failure)


def _show(proofs: list[asyncio.Future[None]]) -> None:
    for seen in proofs:
        if not seen.cancelled():
            seen.set_result(None)


def _settle(writes: list[_Write], results: list[Any]) -> None:
    for write, result in zip(writes, results, strict=True):
        if write.done.cancelled():
            continue
        if isinstance(result, LockTaken):
            write.done.set_exception(result)
        else:
            write.done.set_result(result)


def _refuse(writes: list[_Write], failure: str) -> None:
    for write in writes:
        if not write.done.cancelled():
            write.done.set_exception(
                JournalUnavailable(f"{failure}. The job was not accepted: try again later"),
            )
