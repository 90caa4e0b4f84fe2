"""Which waiting jobs start next. No I/O.

Jobs start in the order in which they came while there are free slots. A job that touches
a mount whose storage is not known to answer lets the others pass.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from wsclean_workerd.model import JobId


class WaitingLine:
    """The queued jobs, a line for each set of mounts that they touch.

    There are few such sets, so that no job has to be looked at to pass it.
    """

    def __init__(self) -> None:
        self._lines: dict[frozenset[str], dict[JobId, None]] = {}

    def add(self, job_id: JobId, mounts: frozenset[str]) -> None:
        """Let a job wait in its place, which is that of its number."""
        line = self._lines.setdefault(mounts, {})
        back = bool(line) and next(reversed(line)) > job_id
        line[job_id] = None
        if back:
            # One that could not be started keeps its place.
            self._lines[mounts] = dict.fromkeys(sorted(line))

    def discard(self, job_id: JobId) -> None:
        """Let a job wait no longer, if it does."""
        for mounts, line in self._lines.items():
            if job_id in line:
                del line[job_id]
                if not line:
                    del self._lines[mounts]
                return

    def mounts(self) -> frozenset[str]:
        """The mounts that any job waits to use."""
        return frozenset().union(*self._lines)

    def passing(self, blocked: Collection[str]) -> Iterator[JobId]:
        """The jobs that touch none of some mounts, oldest first."""
        free = [line for mounts, line in self._lines.items() if mounts.isdisjoint(blocked)]
        return heapq.merge(*free)


def admit(waiting: Iterable[JobId], *, taken: int, slots: int) -> list[JobId]:
    """Choose the jobs that may start now.

    Args:
        waiting: The queued jobs that can start, oldest first. Only as many are looked at
            as are chosen, so a long queue costs nothing.
        taken: How many slots are in use. May exceed `slots` after a restart with
            a smaller configuration; then nothing starts.
        slots: How many jobs may run at once.

    Returns:
        The jobs to start, in this order.
    """
    return list(islice(waiting, max(0, slots - taken)))
