from __future__ import annotations

from dataclasses import replace

import pytest

from support.jobs import make_job
from wsclean_workerd.admission import Admission
from wsclean_workerd.model import Job, JobState, Mount
from wsclean_workerd.storage import Storage


@pytest.fixture
def storage() -> Storage:
    storage = Storage([Mount("/stage", "/stage")], timeout=1, proof_age=1)
    storage.watched("/stage")
    return storage


@pytest.fixture
def admission(storage: Storage) -> Admission:
    return Admission(slots=2, storage=storage, unproven=lambda _: storage.hung())


def job(number: int, *locks: str) -> Job:
    made = make_job(number)
    return replace(made, order=replace(made.order, locks=locks))


def test_why_a_job_waits(admission: Admission, storage: Storage) -> None:
    first, second, third = job(1, "gpu"), job(2, "gpu"), job(3, "gpu")
    for each in (first, second, third):
        admission.keep(each)
    assert admission.why(first) is None
    why = admission.why(third)
    assert why is not None
    assert why.code == "LOCK_PROMISED"
    assert why.message == "waits for gpu, which job 1 is to have first"
    assert admission.choose() == [1]
    why = admission.why(third)
    assert why is not None
    assert (why.code, why.message) == ("LOCK_HELD", "waits for gpu, held by job 1")
    # What is wrong with the host comes first.
    storage.asked("/stage", 0)
    assert storage.overdue("/stage", 5)
    why = admission.why(third)
    assert why is not None
    assert why.code == "STORAGE_HUNG"


def test_a_job_on_storage_that_hangs_is_promised_nothing(
    admission: Admission, storage: Storage
) -> None:
    elsewhere = job(2, "gpu")
    order = replace(elsewhere.order, command=("wsclean",), working_directory="/tmp")
    elsewhere = replace(elsewhere, order=order)
    admission.keep(job(1, "gpu"))
    admission.keep(elsewhere)
    assert admission.why(elsewhere) is not None
    storage.asked("/stage", 0)
    storage.overdue("/stage", 5)
    assert admission.why(elsewhere) is None
    assert admission.choose() == [2]


def test_a_barred_job_gets_no_slot_until_it_is_not(admission: Admission) -> None:
    waiting = job(1)
    admission.keep(waiting)
    admission.bar(waiting.id)
    admission.keep(waiting)
    assert admission.choose() == []
    admission.unbar(waiting.id, waiting)
    assert admission.choose() == [1]


def test_one_that_has_ended_while_it_was_barred_stays_away(admission: Admission) -> None:
    cancelled = replace(job(1), state=JobState.CANCELLED)
    for now in (cancelled, None):
        admission.bar(cancelled.id)
        admission.keep(cancelled)
        admission.unbar(cancelled.id, now)
        assert admission.choose() == []


def test_a_new_job_starts_at_once_if_that_takes_nothing_from_others(admission: Admission) -> None:
    assert admission.passes(job(1, "gpu"))
    admission.keep(replace(job(1, "gpu"), state=JobState.STARTING))
    assert not admission.passes(job(2, "gpu"))
    assert admission.passes(job(2, "other"))
    admission.keep(job(2, "gpu", "x"))
    assert not admission.passes(job(3, "x"))
    # One that could start is to start first.
    admission.keep(job(3))
    assert not admission.passes(job(4))
    assert admission.choose() == [3]
    assert not admission.passes(job(5))
    admission.forget(job(3))
    assert admission.taken == 1
    assert admission.passes(job(5))


def test_who_is_next_is_told_without_giving_anything_away(admission: Admission) -> None:
    for number in (1, 2, 3):
        admission.keep(job(number))
    assert admission.first() == 1
    assert admission.first() == 1
    assert admission.choose() == [1, 2]
    # The third waits for a slot.
    assert admission.first() is None
    admission.slots = 3
    assert admission.first() == 3
