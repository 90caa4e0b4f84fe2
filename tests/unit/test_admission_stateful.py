"""Jobs that come, wait, start and go in random order, compared with plain words."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.jobs import make_job
from support.queueing import Queue
from wsclean_workerd.admission import Admission
from wsclean_workerd.model import Job, JobId, JobState, Mount, Reason
from wsclean_workerd.storage import Storage

FOLDERS = ("/a", "/b", "/c")
SOME_FOLDERS = st.lists(st.sampled_from(FOLDERS), min_size=1, max_size=2)
SOME_LOCKS = st.sets(st.sampled_from("vwxyz"), max_size=3).map(sorted).map(tuple)


class SlotsOfAHost(RuleBasedStateMachine):
    """What can happen to slots, locks and storage; whoever may start has to."""

    def __init__(self) -> None:
        super().__init__()
        mounts = [Mount(folder, folder) for folder in FOLDERS]
        storage = Storage(mounts, timeout=1, proof_age=1)
        self.hung: set[str] = set()
        self.jobs: dict[JobId, Job] = {}
        self.admission = Admission(
            slots=2, storage=storage, unproven=lambda _: frozenset(self.hung)
        )

    @initialize(jobs=st.lists(st.tuples(SOME_FOLDERS, SOME_LOCKS), max_size=12))
    def jobs_wait(self, jobs: list[tuple[list[str], tuple[str, ...]]]) -> None:
        for folders, locks in jobs:
            self.keep(self.new(folders, locks))

    @rule(folders=SOME_FOLDERS, locks=SOME_LOCKS)
    def a_job_comes(self, folders: list[str], locks: tuple[str, ...]) -> None:
        job = self.new(folders, locks)
        at_once = self.queue(job).next() == [job.id]
        assert self.admission.passes(job) == at_once
        self.keep(replace(job, state=JobState.STARTING) if at_once else job)

    @rule(slots=st.integers(0, 4))
    def slots_are_given_out(self, slots: int) -> None:
        self.admission.slots = slots
        expected = self.queue().next()
        assert self.admission.choose() == expected
        for job_id in expected:
            self.keep(replace(self.jobs[job_id], state=JobState.STARTING))
        assert self.admission.choose() == []

    @precondition(lambda self: self.of(JobState.STARTING))
    @rule(data=st.data(), to=st.sampled_from([JobState.QUEUED, JobState.RUNNING]))
    def a_job_is_started_or_not(self, data: st.DataObject, to: JobState) -> None:
        job = data.draw(st.sampled_from(self.of(JobState.STARTING)))
        self.keep(replace(job, state=to))

    @precondition(lambda self: self.of(JobState.RUNNING, JobState.QUEUED))
    @rule(data=st.data(), lingering=st.booleans())
    def a_job_ends(self, data: st.DataObject, lingering: bool) -> None:
        job = data.draw(st.sampled_from(self.of(JobState.RUNNING, JobState.QUEUED)))
        lingering = lingering and job.state is JobState.RUNNING
        self.keep(replace(job, state=JobState.LOST, lingering=lingering))

    @precondition(lambda self: self.of(JobState.LOST))
    @rule(data=st.data())
    def the_last_process_goes(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.of(JobState.LOST)))
        self.keep(replace(job, lingering=False))

    @precondition(lambda self: self.of(JobState.STARTING, JobState.QUEUED))
    @rule(data=st.data())
    def a_job_is_forgotten(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.of(JobState.STARTING, JobState.QUEUED)))
        self.admission.forget(self.jobs.pop(job.id))

    @rule(folder=st.sampled_from(FOLDERS))
    def a_mount_hangs_or_answers(self, folder: str) -> None:
        self.hung ^= {folder}

    @invariant()
    def slots_are_counted(self) -> None:
        assert self.admission.taken == len(self.queue().on_slots)

    @invariant()
    def who_waits_for_a_lock_is_told_so(self) -> None:
        holders = {lock: job.id for job in self.queue().on_slots for lock in job.order.locks}
        for job in self.of(JobState.QUEUED):
            told = [
                Reason("LOCK_HELD", f"waits for {lock}, held by job {holders[lock]}")
                for lock in job.order.locks
                if lock in holders
            ]
            why = self.admission.why(job)
            assert why in told or (not told and (why is None or why.code == "LOCK_PROMISED")), why

    def new(self, folders: list[str], locks: tuple[str, ...]) -> Job:
        job = make_job(len(self.jobs) + 1 + max(self.jobs, default=0))
        folder, *others = folders
        command = ("wsclean", *others)
        order = replace(job.order, command=command, working_directory=folder, locks=locks)
        return replace(job, order=order)

    def keep(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.admission.keep(job)

    def of(self, *states: JobState) -> list[Job]:
        return [job for job in self.jobs.values() if job.state in states]

    def queue(self, *new: Job) -> Queue:
        jobs = [*self.jobs.values(), *new]
        return Queue(
            waiting=[job for job in jobs if job.state is JobState.QUEUED],
            on_slots=[job for job in jobs if job.on_slot],
            hung=frozenset(self.hung),
            slots=self.admission.slots,
        )


SlotsOfAHost.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestSlotsOfAHost = SlotsOfAHost.TestCase
