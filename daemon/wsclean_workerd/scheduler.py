"""Which waiting jobs start next. No I/O.

Jobs start in the order in which they came while there are free slots. Some let others pass:

* One that touches a mount whose storage is not known to answer lets all others pass.
* One that wants a lock which another job holds lets those pass that want none of its own.
  All its locks wait with it, also those that are free: otherwise many jobs with one lock
  each could keep one with several waiting for ever.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection

    from wsclean_workerd.model import JobId

Mounts = frozenset[str]

K = TypeVar("K")


class Obstacle(NamedTuple):
    """Why a job cannot have a lock.

    Attributes:
        lock: The lock.
        job: Who holds it, or is older and waits for it as well.
        held: Whether it is held.
        mounts: What the older job touches. If the lock is held, what the job itself does.
    """

    lock: str
    job: JobId
    held: bool
    mounts: Mounts


class WaitingLine:
    """The queued jobs, and the locks that those on slots hold.

    No job is looked at to pass it: the jobs stand in a line for each set of mounts, of
    which there are few, and those that are known to be behind somebody in others. A job
    is behind whoever holds a lock that it wants, or is older and waits for that lock. The
    latter counts only while the storage of the older one answers, so its mounts are what
    the line is known by.

    A job that could start again is put where it is looked at; one that no longer can is
    put away when that is found out.
    """

    def __init__(self) -> None:
        # Sorted lists, since jobs may come and go anywhere: a hundred thousand numbers
        # take a twentieth of a millisecond to move.
        self._lines: dict[tuple[Mounts, Mounts | None], list[JobId]] = {}
        # Who waits for each lock, by the mounts they touch; and for what each waits.
        self._wanting: dict[Mounts, dict[str, list[JobId]]] = {}
        self._locks: dict[JobId, tuple[str, ...]] = {}
        self._held: dict[str, JobId] = {}

    # -- who waits and who holds -------------------------------------------------

    def add(self, job_id: JobId, mounts: Mounts, locks: tuple[str, ...] = ()) -> None:
        """Let a job wait in its place, which is that of its number."""
        if self._where(job_id):
            return
        obstacle = None
        if locks:
            self._locks[job_id] = locks
            wanting = self._wanting.setdefault(mounts, {})
            for lock in locks:
                insort(wanting.setdefault(lock, []), job_id)
            obstacle = self.obstacle(job_id, mounts, locks)
        self._put(job_id, mounts, obstacle and obstacle.mounts)

    def discard(self, job_id: JobId) -> None:
        """Let a job wait no longer, if it does."""
        for mounts, behind in self._where(job_id):
            _remove(self._lines, (mounts, behind), job_id)
            for lock in self._locks.pop(job_id, ()):
                _remove(self._wanting[mounts], lock, job_id)
                if lock not in self._held:
                    self._look_again(lock)

    def hold(self, job_id: JobId, locks: Collection[str]) -> None:
        """Take note that a job holds some locks."""
        for lock in locks:
            self._held.setdefault(lock, job_id)

    def release(self, job_id: JobId, locks: Collection[str]) -> None:
        """Take note that a job holds none of some locks."""
        for lock in locks:
            if self._held.get(lock) == job_id:
                del self._held[lock]
                self._look_again(lock)

    def take(self, job_id: JobId) -> None:
        """Take a job out of the line, which holds its locks from now on."""
        self.hold(job_id, self._locks.get(job_id, ()))
        self.discard(job_id)

    # -- who is next -------------------------------------------------------------

    def mounts(self) -> Mounts:
        """The mounts that any job waits to use."""
        return frozenset().union(*(mounts for mounts, _ in self._lines))

    def first(self, blocked: Collection[str]) -> JobId | None:
        """The oldest job that can start.

        Args:
            blocked: The mounts on which none can.
        """
        while True:
            heads = [
                (line[0], mounts)
                for (mounts, behind), line in self._lines.items()
                if mounts.isdisjoint(blocked) and (behind is None or not behind.isdisjoint(blocked))
            ]
            if not heads:
                return None
            job_id, mounts = min(heads)
            obstacle = self.obstacle(job_id, mounts, self._locks.get(job_id, ()), blocked)
            if obstacle is None:
                return job_id
            self._move(job_id, mounts, obstacle.mounts)

    def obstacle(
        self,
        job_id: JobId,
        mounts: Mounts,
        locks: Collection[str],
        blocked: Collection[str] = (),
    ) -> Obstacle | None:
        """What keeps a job from having its locks, whether it is in the line or not.

        Args:
            job_id: The job.
            mounts: What it touches.
            locks: What it wants.
            blocked: The mounts on which nobody can start.
        """
        for lock in locks:
            if lock in self._held:
                return Obstacle(lock, self._held[lock], held=True, mounts=mounts)
        for lock in locks:
            for others, wanting in self._wanting.items():
                oldest = wanting[lock][0] if lock in wanting else job_id
                if oldest < job_id and others.isdisjoint(blocked):
                    return Obstacle(lock, oldest, held=False, mounts=others)
        return None

    # -- the lines ---------------------------------------------------------------

    def _look_again(self, lock: str) -> None:
        """Put those that may have a lock, now that somebody is gone, where they are looked at."""
        for mounts, wanting in self._wanting.items():
            if lock in wanting:
                self._move(wanting[lock][0], mounts, None)

    def _where(self, job_id: JobId) -> list[tuple[Mounts, Mounts | None]]:
        """The one line that a job stands in, if it waits."""
        return [key for key, line in self._lines.items() if line[_place(line, job_id)]]

    def _put(self, job_id: JobId, mounts: Mounts, behind: Mounts | None) -> None:
        insort(self._lines.setdefault((mounts, behind), []), job_id)

    def _move(self, job_id: JobId, mounts: Mounts, behind: Mounts | None) -> None:
        (found,) = self._where(job_id)
        _remove(self._lines, found, job_id)
        self._put(job_id, mounts, behind)


def _remove(lines: dict[K, list[JobId]], key: K, job_id: JobId) -> None:
    """Take a job out of a line, and the line away with its last job."""
    line = lines[key]
    del line[_place(line, job_id)]
    if not line:
        del lines[key]


def _place(line: list[JobId], job_id: JobId) -> slice:
    """Where a job stands in a line: a slice of it, empty if it does not."""
    place = bisect_left(line, job_id)
    return slice(place, bisect_right(line, job_id, place))


def admit(line: WaitingLine, blocked: Collection[str], *, taken: int, slots: int) -> list[JobId]:
    """Choose the jobs that start now, and take them out of the line.

    Args:
        line: The queued jobs. Only as many are looked at as are chosen or found to have
            to wait for a lock, so a long queue costs nothing.
        blocked: The mounts on which none can start.
        taken: How many slots are in use. May exceed `slots` after a restart with
            a smaller configuration; then nothing starts.
        slots: How many jobs may run at once.

    Returns:
        The jobs to start, in this order.
    """
    chosen: list[JobId] = []
    while taken + len(chosen) < slots and (job_id := line.first(blocked)) is not None:
        line.take(job_id)
        chosen.append(job_id)
    return chosen
