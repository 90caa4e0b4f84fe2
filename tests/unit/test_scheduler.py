from __future__ import annotations

from collections.abc import Iterator

from wsclean_workerd.model import JobId
from wsclean_workerd.scheduler import admit

JOBS = [JobId(number) for number in (3, 5, 8, 9)]


def test_the_oldest_start_first() -> None:
    assert admit(JOBS, taken=1, slots=3) == [3, 5]


def test_nothing_starts_without_a_free_slot() -> None:
    assert admit(JOBS, taken=3, slots=3) == []


def test_fewer_slots_than_running_jobs_is_no_error() -> None:
    assert admit(JOBS, taken=7, slots=3) == []


def test_a_long_queue_is_not_walked_through() -> None:
    looked_at = []

    def queue() -> Iterator[JobId]:
        for number in range(100_000):
            looked_at.append(number)
            yield JobId(number)

    admit(queue(), taken=0, slots=4)
    assert len(looked_at) == 4
