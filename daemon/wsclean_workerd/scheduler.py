"""Which waiting jobs start next. One pure function.

Jobs start in the order in which they came while there are free slots.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wsclean_workerd.model import JobId


def admit(waiting: Iterable[JobId], *, taken: int, slots: int) -> list[JobId]:
    """Choose the jobs that may start now.

    Args:
        waiting: The queued jobs, oldest first. Only as many are looked at as are
            chosen, so a long queue costs nothing.
        taken: How many slots are in use. May exceed `slots` after a restart with
            a smaller configuration; then nothing starts.
        slots: How many jobs may run at once.

    Returns:
        The jobs to start, in this order.
    """
    return list(islice(waiting, max(0, slots - taken)))
