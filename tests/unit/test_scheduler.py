from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest

from wsclean_workerd.model import JobId
from wsclean_workerd.scheduler import Mounts, Obstacle, WaitingLine, admit

MANY = 100_000
NONE: Mounts = frozenset()
A, B = frozenset({"/a"}), frozenset({"/b"})


class Line(WaitingLine):
    """A line that counts at whom somebody looks."""

    looked = 0

    def obstacle(
        self,
        job_id: JobId,
        mounts: Mounts,
        locks: Collection[str],
        blocked: Collection[str] = (),
    ) -> Obstacle | None:
        self.looked += 1
        return super().obstacle(job_id, mounts, locks, blocked)


def line(*jobs: tuple[int, str] | tuple[int, str, Mounts]) -> Line:
    """Jobs that wait: numbers, a letter for each lock, and mounts."""
    made = Line()
    for number, locks, *mounts in jobs:
        made.add(JobId(number), mounts[0] if mounts else NONE, tuple(locks))
    made.looked = 0
    return made


def without_locks(numbers: Iterable[int]) -> Line:
    return line(*((number, "") for number in numbers))


def next_of(waiting: WaitingLine, blocked: Collection[str] = (), slots: int = MANY) -> list[int]:
    return [*admit(waiting, blocked, taken=0, slots=slots)]


def test_the_oldest_start_first() -> None:
    waiting = without_locks([9, 3, 8, 5])
    assert admit(waiting, (), taken=1, slots=3) == [3, 5]
    assert admit(waiting, (), taken=3, slots=4) == [8]


def test_nothing_starts_without_a_free_slot() -> None:
    assert admit(without_locks([3, 5]), (), taken=3, slots=3) == []


def test_fewer_slots_than_running_jobs_is_no_error() -> None:
    assert admit(without_locks([3, 5]), (), taken=7, slots=3) == []


def test_a_job_waits_once_and_no_longer_than_it_waits() -> None:
    waiting = line((3, ""), (5, "x"))
    waiting.add(JobId(3), NONE)
    waiting.discard(JobId(5))
    waiting.discard(JobId(5))
    waiting.discard(JobId(77))
    assert next_of(waiting) == [3]
    assert waiting.first(()) is None


def test_jobs_pass_those_whose_storage_is_not_proven() -> None:
    waiting = line((9, "", A), (3, "", B), (5, "", A | B), (4, ""), (8, "", A))
    assert waiting.mounts() == A | B
    assert next_of(waiting, B, slots=2) == [4, 8]
    for number in (3, 5, 77):
        waiting.discard(JobId(number))
    assert waiting.mounts() == A
    assert next_of(waiting, A) == []
    assert next_of(waiting) == [9]


def test_a_lock_is_had_by_one_at_a_time_and_in_the_order_of_age() -> None:
    waiting = line((1, "x"), (2, "x"), (3, "x"), (4, ""))
    assert next_of(waiting) == [1, 4]
    assert next_of(waiting) == []
    waiting.release(JobId(1), "x")
    assert next_of(waiting) == [2]
    # One that could not be started keeps its place.
    waiting.release(JobId(2), "x")
    waiting.add(JobId(2), NONE, ("x",))
    assert next_of(waiting) == [2]


def test_nobody_takes_a_lock_from_its_holder() -> None:
    waiting = line((2, "x"))
    waiting.hold(JobId(1), "x")
    waiting.hold(JobId(5), "x")
    waiting.release(JobId(5), "x")
    assert next_of(waiting) == []
    waiting.release(JobId(1), "x")
    assert next_of(waiting) == [2]


def test_a_job_that_waits_for_a_lock_keeps_its_place_for_the_others() -> None:
    waiting = line((2, "xy"), (3, "y"), (4, "z"), (5, "yz"), (6, "z"))
    waiting.hold(JobId(1), "x")
    assert next_of(waiting) == [4]
    waiting.release(JobId(4), "z")
    # 5 is older, and waits for 3, which waits for 2.
    assert next_of(waiting) == []
    waiting.release(JobId(1), "x")
    assert next_of(waiting) == [2]
    waiting.release(JobId(2), "xy")
    assert next_of(waiting) == [3]
    waiting.release(JobId(3), "y")
    assert next_of(waiting) == [5]


def test_who_is_taken_out_of_the_line_keeps_no_place() -> None:
    waiting = line((2, "xy"), (3, "y"))
    waiting.hold(JobId(1), "x")
    assert next_of(waiting) == []
    waiting.discard(JobId(2))
    assert next_of(waiting) == [3]


def test_a_job_whose_storage_is_not_proven_keeps_no_lock_from_others() -> None:
    waiting = line((2, "x", A), (3, "x", B))
    assert waiting.obstacle(JobId(3), B, "x") == Obstacle("x", JobId(2), held=False, mounts=A)
    assert next_of(waiting, A) == [3]
    waiting.release(JobId(3), "x")
    assert next_of(waiting) == [2]


def test_why_a_job_has_to_wait_can_be_told_of_any_job() -> None:
    waiting = line((2, "xy"))
    waiting.hold(JobId(1), "x")
    assert waiting.obstacle(JobId(9), A, "x") == Obstacle("x", JobId(1), held=True, mounts=A)
    assert waiting.obstacle(JobId(9), A, "y") == Obstacle("y", JobId(2), held=False, mounts=NONE)
    assert waiting.obstacle(JobId(9), A, "z") is None
    assert waiting.obstacle(JobId(1), A, "y") is None


@pytest.mark.parametrize("locks", [(), ("x",), None], ids=["no", "one", "own"])
def test_a_long_queue_is_not_walked_through(locks: tuple[str, ...] | None) -> None:
    waiting = Line()
    for number in range(1, MANY + 1):
        waiting.add(
            JobId(number), A if number % 2 else B, (str(number),) if locks is None else locks
        )
    waiting.looked = 0
    chosen = next_of(waiting, slots=4)
    assert chosen == ([1] if locks == ("x",) else [1, 2, 3, 4])
    assert next_of(waiting, A | B) == []
    for job_id in chosen:
        waiting.release(JobId(job_id), locks or (str(job_id),))
    assert len(next_of(waiting, slots=4)) == len(chosen)
    assert waiting.looked < 30


def test_jobs_that_wait_for_two_locks_are_passed_at_no_cost() -> None:
    # The older half keeps what the younger half wants, and has other mounts.
    waiting = Line()
    waiting.hold(JobId(1), "x")
    half = 10_000
    for number in range(2, 2 + half):
        waiting.add(JobId(number), A, ("x", str(number)))
        waiting.add(JobId(number + half), B, (str(number),))
    waiting.looked = 0
    for _ in range(10):
        assert next_of(waiting) == []
    assert waiting.looked == 0
    assert next_of(waiting, A, slots=2) == [2 + half, 3 + half]
    assert waiting.looked == 2
