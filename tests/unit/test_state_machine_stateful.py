"""Several jobs, a daemon and a host that does its worst, in random order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from support.invariants import OVER, Invariants, phase
from support.machine import FOLDERS, Armed, Daemon
from support.world import Processes
from wsclean_workerd.events import CancelRequested, DeadlinePassed
from wsclean_workerd.model import JobId, JobState, Launch, Reason

T = TypeVar("T")

CANCEL = Reason("CANCELLED", "was cancelled")
MOST_JOBS = 4
# What was put off is done one by one, and some of it often.
MOST_ROUNDS = 1000
ROUNDS_OF_HANGING_STORAGE = 100

LIMITS = st.sampled_from([None, 100.0])
LOCKS = st.sets(st.sampled_from("abc"), max_size=2).map(sorted).map(tuple)
JOBS = st.fixed_dictionaries(
    {
        "folder": st.sampled_from(FOLDERS),
        "run_timeout": LIMITS,
        "queue_timeout": LIMITS,
        "locks": LOCKS,
        "retries": st.sampled_from([0, 0, 1, 2]),
    }
)
STATUSES = st.sampled_from([0, 1, 127])


class JobsOfAHost(RuleBasedStateMachine):
    """What can happen to the jobs of a host, and what has to hold whatever does."""

    def __init__(self) -> None:
        super().__init__()
        self.daemon = Daemon()
        self.host = self.daemon.host
        self.invariants_of_jobs = Invariants(self.daemon)

    @initialize(
        slots=st.integers(1, 2),
        times=st.integers(1, 2),
        jobs=st.lists(JOBS, min_size=1, max_size=3),
    )
    def some_jobs_are_submitted(self, slots: int, times: int, jobs: list[dict[str, Any]]) -> None:
        self.daemon.slots = slots
        self.daemon.times = times
        for job in jobs:
            self.daemon.submit(**job)

    @precondition(lambda self: self.daemon.writes or self.next_under_way())
    @rule(times=st.integers(1, 8))
    def all_goes_well_for_a_while(self, times: int) -> None:
        self.daemon.write()
        for _ in range(times):
            if get_on := self.next_under_way():
                get_on()

    # -- what people and time do -------------------------------------------------

    @precondition(lambda self: len(self.not_over()) < MOST_JOBS)
    @rule(job=JOBS)
    def somebody_submits_a_job(self, job: dict[str, Any]) -> None:
        self.daemon.submit(**job)

    @precondition(lambda self: self.not_over())
    @rule(data=st.data())
    def somebody_cancels_a_job(self, data: st.DataObject) -> None:
        job_id = pick(data, self.not_over())
        self.daemon.handle(job_id, CancelRequested(self.host.instant(), CANCEL))

    @precondition(lambda self: self.daemon.timers)
    @rule(data=st.data(), late=st.sampled_from([0.0, 1.0, 60.0]))
    def a_deadline_passes(self, data: st.DataObject, late: float) -> None:
        self.daemon.deadline(pick(data, list(self.daemon.timers)), late=late)

    @precondition(lambda self: self.stale_deadlines())
    @rule(data=st.data())
    def a_deadline_passes_that_was_disarmed_too_late(self, data: st.DataObject) -> None:
        job_id, timer = pick(data, self.stale_deadlines())
        self.daemon.handle(job_id, DeadlinePassed(self.host.instant(), timer))

    # -- what the daemon does ----------------------------------------------------

    @precondition(lambda self: self.daemon.queue().waiting)
    @precondition(lambda self: self.daemon.on_slots() < self.daemon.slots)
    @rule()
    def slots_are_given_out(self) -> None:
        self.daemon.admit()

    @precondition(lambda self: not self.daemon.stalled)
    @rule(changes=st.integers(1, 4))
    def the_disk_stalls(self, changes: int) -> None:
        self.daemon.stalled = changes

    @precondition(lambda self: self.daemon.resolves)
    @rule(data=st.data())
    def the_daemon_claims_a_start(self, data: st.DataObject) -> None:
        self.daemon.resolve(pick(data, self.daemon.resolves))

    @precondition(lambda self: set() in self.daemon.watches.values() and not self.daemon.resolves)
    @rule()
    def the_daemon_doubts_all_starts(self) -> None:
        self.daemon.doubt()

    @precondition(lambda self: self.daemon.signals)
    @rule(data=st.data())
    def a_signal_is_delivered(self, data: st.DataObject) -> None:
        self.daemon.deliver(pick(data, self.daemon.signals))

    @precondition(lambda self: self.daemon.watches_with_news())
    @rule(data=st.data())
    def the_daemon_looks_at_a_job(self, data: st.DataObject) -> None:
        self.daemon.tell_next(pick(data, self.daemon.watches_with_news()))

    @precondition(lambda self: self.daemon.news)
    @rule(data=st.data())
    def news_arrive(self, data: st.DataObject) -> None:
        self.daemon.tell(pick(data, self.daemon.news))

    @precondition(lambda self: self.daemon.told)
    @rule(data=st.data())
    def old_news_arrive_again(self, data: st.DataObject) -> None:
        job_id, event = pick(data, self.daemon.told)
        self.daemon.handle(job_id, replace(event, at=self.host.instant()))

    @precondition(lambda self: self.not_over())
    @rule(
        written=st.integers(0, 3),
        finished=st.booleans(),
        away=st.sampled_from([0.0, 30.0, 200.0]),
        ending=st.booleans(),
        slots=st.integers(1, 2),
    )
    def the_daemon_is_killed(
        self, written: int, finished: bool, away: float, ending: bool, slots: int
    ) -> None:
        self.daemon.crash(written=written, finished=finished)
        if ending:
            for processes in self.with_command():
                processes.exit(0, self.host.now)
        self.host.now += away
        self.daemon.restart(slots=slots)
        self.recovering_again_changes_nothing()

    @precondition(lambda self: self.alive())
    @rule(written=st.integers(0, 3), away=st.sampled_from([0.0, 200.0]))
    def the_machine_reboots(self, written: int, away: float) -> None:
        self.daemon.crash(written=written, finished=False)
        self.host.now += away
        self.host.reboot()
        self.daemon.restart(slots=self.daemon.slots, rebooted=True)
        self.recovering_again_changes_nothing()

    # -- what the engine and the processes do ------------------------------------

    @precondition(lambda self: self.daemon.starts)
    @rule(data=st.data(), taken=st.booleans(), refused=st.sampled_from([None, False, True]))
    def the_engine_answers(self, data: st.DataObject, taken: bool, refused: bool | None) -> None:
        start = pick(data, self.daemon.starts)
        self.daemon.hand_over(start, taken=taken, refused=refused)

    @precondition(lambda self: self.daemon.starts)
    @rule(data=st.data(), taken=st.booleans(), refused=st.booleans())
    def a_start_fails_and_the_daemon_claims_it(
        self, data: st.DataObject, taken: bool, refused: bool
    ) -> None:
        start = pick(data, self.daemon.starts)
        self.daemon.hand_over(start, taken=taken, refused=refused)
        for resolve in [each for each in self.daemon.resolves if each.job is start.job]:
            self.daemon.resolve(resolve)
        for news in [each for each in self.daemon.news if each[0] == start.job.id]:
            self.daemon.tell(news)

    @precondition(lambda self: self.coming())
    @rule(data=st.data())
    def a_wrapper_comes(self, data: st.DataObject) -> None:
        self.wrapper_comes(*pick(data, self.coming()))

    @precondition(lambda self: self.with_command())
    @rule(data=st.data(), status=STATUSES, leaving=st.booleans(), straying=st.booleans())
    def a_command_exits(
        self, data: st.DataObject, status: int, leaving: bool, straying: bool
    ) -> None:
        processes = pick(data, self.with_command())
        processes.exit(status, self.host.now, leaving=leaving, straying=straying)

    @precondition(lambda self: self.with_command())
    @rule(data=st.data())
    def a_wrapper_is_killed(self, data: st.DataObject) -> None:
        pick(data, self.with_command()).wrapper = False

    @precondition(lambda self: self.with_command())
    @rule(data=st.data())
    def a_command_lets_go_of_everything_and_loses_its_wrapper(self, data: st.DataObject) -> None:
        processes = pick(data, self.with_command())
        processes.wrapper = False
        processes.exit(0, self.host.now, straying=True)

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def processes_vanish(self, data: st.DataObject) -> None:
        pick(data, self.alive()).vanish()

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def storage_hangs_or_comes_back(self, data: st.DataObject) -> None:
        processes = pick(data, self.alive())
        processes.stuck = not processes.stuck

    @precondition(lambda self: self.daemon.queue().waiting)
    @rule(folder=st.sampled_from(FOLDERS))
    def a_mount_hangs_or_answers(self, folder: str) -> None:
        self.daemon.hung ^= {folder}

    def not_over(self) -> list[JobId]:
        return [job.id for job in self.daemon.jobs.values() if phase(job) != OVER]

    def stale_deadlines(self) -> list[Armed]:
        settled = [job.id for job in self.daemon.settled() if phase(job) != OVER]
        return [armed for armed in self.daemon.stale_deadlines() if armed[0] in settled]

    def coming(self) -> list[Launch]:
        items = self.host.processes.items()
        return [(id_, each) for (id_, _), p in items for each in p.coming]

    def with_command(self) -> list[Processes]:
        return [each for each in self.host.processes.values() if each.command and not each.stuck]

    def alive(self) -> list[Processes]:
        return [each for each in self.host.processes.values() if each.alive]

    # -- what has to hold --------------------------------------------------------

    @invariant()
    def everything_holds(self) -> None:
        for check in self.invariants_of_jobs.all:
            check()

    def recovering_again_changes_nothing(self) -> None:
        """Recovery that is interrupted and done again leads where it leads at once."""
        once = self.daemon.undertakings()
        self.daemon.recover_all()
        assert self.daemon.undertakings() == once

    def every_job_ends_and_frees_its_slot(self) -> None:
        """Nothing is left once the world has been fair for long enough."""
        assert not self.not_over(), self.daemon.jobs

    # -- how it ends -------------------------------------------------------------

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return
        self.the_disk_goes_on()
        for rounds in range(MOST_ROUNDS):
            if not self.not_over():
                break
            if rounds == ROUNDS_OF_HANGING_STORAGE:
                self.storage_comes_back()
            self.something_gets_on()
            self.everything_holds()
        self.every_job_ends_and_frees_its_slot()

    def the_disk_goes_on(self) -> None:
        self.daemon.stalled = 0
        self.daemon.write()

    def storage_comes_back(self) -> None:
        self.daemon.hung.clear()
        for processes in self.host.processes.values():
            processes.stuck = False

    def something_gets_on(self) -> None:
        """Let things happen that are under way, then commands end, then time pass."""
        timers = self.daemon.timers
        if get_on := self.next_under_way():
            get_on()
        elif not self.a_command_ends_by_itself() and timers:
            self.daemon.deadline(min(timers, key=timers.__getitem__))

    def next_under_way(self) -> Callable[[], object] | None:
        """What gets on next if nothing hinders it, or None if there is nothing."""
        daemon = self.daemon
        under_way: list[Callable[[], object]] = [
            *(partial(daemon.hand_over, each, taken=True, refused=None) for each in daemon.starts),
            *(partial(self.wrapper_comes, *each) for each in self.coming()),
            *(partial(daemon.resolve, each) for each in daemon.resolves),
            *(partial(daemon.deliver, each) for each in daemon.signals),
            *(partial(daemon.tell, each) for each in daemon.news),
            *(partial(daemon.tell_next, each) for each in daemon.watches_with_news()),
        ]
        if daemon.queue().next():
            under_way.append(daemon.admit)
        return next(iter(under_way), None)

    def wrapper_comes(self, job_id: JobId, launch: int) -> None:
        self.host.of_start((job_id, launch)).wrapper_comes(launch, self.host.now)

    def a_command_ends_by_itself(self) -> bool:
        """End one that nothing else ends, or what it left; return whether there was one."""
        for job in self.daemon.jobs.values():
            processes = self.host.folder(job)
            endless = job.state is JobState.RUNNING and job.order.run_timeout is None
            if endless and processes.alive:
                if processes.command:
                    processes.exit(0, self.host.now)
                else:
                    processes.vanish()
                return True
        return False


def pick(data: st.DataObject, things: Sequence[T]) -> T:
    return data.draw(st.sampled_from(things))


JobsOfAHost.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestJobsOfAHost = JobsOfAHost.TestCase
