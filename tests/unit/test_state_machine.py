from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.jobs import at, make_job
from wsclean_workerd import state_machine
from wsclean_workerd.events import (
    ArmTimer,
    AttachJob,
    CancelRequested,
    DeadlinePassed,
    DisarmTimer,
    Event,
    ForgetLaunch,
    Instruction,
    JobChosen,
    JobExited,
    JobGone,
    JobStarted,
    KillDelivered,
    LaunchFailed,
    OutputExceeded,
    ResolveLaunch,
    Signal,
    SignalJob,
    StartJob,
    StatusLost,
    Timer,
)
from wsclean_workerd.losing import outdated
from wsclean_workerd.model import ENDED, Job, JobState, Patience, Reason
from wsclean_workerd.recovery import rebase, recover
from wsclean_workerd.state_machine import TRANSITIONS, InvalidTransition, step

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE = Patience(start=60, grace=10, kill=5, rekill=30, refusals=2)
CANCEL = Reason("CANCELLED", "was cancelled")
AWAY = Reason("ENGINE_UNREACHABLE", "the engine is away")
VANISHED = Reason("CONTAINER_DIED", "its container died")


def check_invariants(job: Job) -> None:
    """What holds for every job at every moment."""
    ended = job.state.ended
    assert ended == (job.ended is not None)
    assert not ended or job.reason is not None
    assert not job.lingering or ended
    assert (job.state is JobState.STOPPING) <= (job.stop is not None)
    assert (job.exit_status is not None) <= (job.started is not None)
    assert (job.exit_status is not None) <= ended
    assert (job.state is JobState.SUCCEEDED) <= (job.exit_status == 0)
    assert (job.state is JobState.QUEUED) <= (job.container is None)
    assert 1 <= job.attempt <= job.attempts
    assert (job.attempt > 1) == (job.loss is not None) == (job.requeued is not None)
    assert (job.state is JobState.RUNNING) <= (job.started is not None)
    if job.state in {JobState.CANCELLED, JobState.TIMED_OUT} and job.stop is not None:
        assert job.state is job.stop.state


def play(job: Job, *events: Event) -> tuple[Job, list[Instruction]]:
    """Apply events; return the job and the instructions of the last one."""
    instructions: list[Instruction] = []
    for event in events:
        job, instructions = step(job, event, PATIENCE)
        check_invariants(job)
    return job, instructions


def running() -> Job:
    job, _ = play(make_job(), JobChosen(at(1), "c1"), JobStarted(at(2)))
    return job


def retried(retries: int = 1) -> Job:
    job = make_job()
    return replace(job, spec=replace(job.spec, retries=retries))


def running_again() -> Job:
    job, _ = play(retried(), JobChosen(at(1), "c1"), JobStarted(at(2)), JobGone(at(9), VANISHED))
    job, _ = play(job, JobChosen(at(10), "c2"), JobStarted(at(11)))
    return job


def timers(instructions: Iterable[Instruction]) -> dict[Timer, float]:
    return {each.timer: each.due for each in instructions if isinstance(each, ArmTimer)}


def test_a_chosen_job_starts_once_it_is_written() -> None:
    job, instructions = play(make_job(), JobChosen(at(1), "c1"))
    assert (job.state, job.launch, job.container) == (JobState.STARTING, 1, "c1")
    assert StartJob() in instructions
    assert DisarmTimer(Timer.QUEUE) in instructions
    assert timers(instructions) == {Timer.START: at(1).boot + 60}


def test_the_run_timeout_counts_from_the_start_of_the_run() -> None:
    _, instructions = play(make_job(), JobChosen(at(40)), JobStarted(at(45)))
    assert timers(instructions)[Timer.RUN] == at(45).boot + 100


@pytest.mark.parametrize(
    ("status", "state", "code"),
    [
        (0, JobState.SUCCEEDED, "SUCCEEDED"),
        (1, JobState.FAILED, "EXIT_STATUS"),
        (126, JobState.FAILED, "PROGRAM_NOT_STARTED"),
        (127, JobState.FAILED, "PROGRAM_NOT_FOUND"),
        (137, JobState.FAILED, "SIGNALLED"),
        (255, JobState.FAILED, "EXIT_STATUS"),
    ],
)
def test_the_exit_status_decides(status: int, state: JobState, code: str) -> None:
    job, _ = play(running(), JobExited(at(9), status))
    assert (job.state, job.exit_status, job.ended) == (state, status, at(9))
    assert job.reason is not None
    assert job.reason.code == code


def test_a_job_that_the_kernel_killed_for_lack_of_memory_says_so() -> None:
    job, _ = play(running(), JobExited(at(9), 137, out_of_memory=True))
    assert (job.state, job.exit_status) == (JobState.FAILED, 137)
    assert job.reason is not None
    assert job.reason.code == "OOM_KILLED"


def test_a_slot_is_free_when_the_last_process_is_gone() -> None:
    job, _ = play(running(), JobExited(at(9), 0))
    assert job.on_slot
    job, instructions = play(job, JobGone(at(10), VANISHED))
    assert not job.on_slot
    assert job.state is JobState.SUCCEEDED
    assert DisarmTimer(Timer.LINGER) in instructions


def test_what_outlives_its_command_is_killed_after_the_grace_period() -> None:
    job, instructions = play(running(), JobExited(at(9), 0))
    assert timers(instructions) == {Timer.LINGER: at(9).boot + 10}
    job, instructions = play(job, DeadlinePassed(at(19), Timer.LINGER))
    assert instructions == [SignalJob(Signal.KILL)]
    job, instructions = play(job, KillDelivered(at(19)))
    assert timers(instructions) == {Timer.LINGER: at(19).boot + 30}


def test_a_job_whose_processes_vanish_is_lost_for_that_reason() -> None:
    job, _ = play(running(), JobGone(at(9), VANISHED))
    assert (job.state, job.reason, job.on_slot) == (JobState.LOST, VANISHED, False)


@pytest.mark.parametrize("begun", [False, True])
def test_what_outlives_the_status_it_might_have_had_is_lost_and_killed(begun: bool) -> None:
    job = running() if begun else play(make_job(), JobChosen(at(1), "c1"))[0]
    job, instructions = play(job, StatusLost(at(9), VANISHED))
    assert (job.state, job.reason, job.on_slot) == (JobState.LOST, VANISHED, True)
    assert timers(instructions) == {Timer.LINGER: at(9).boot + 10}
    assert {DisarmTimer(Timer.START), DisarmTimer(Timer.RUN)} <= set(instructions)
    assert play(job, StatusLost(at(10), VANISHED)) == (job, [])
    _, instructions = play(job, DeadlinePassed(at(19), Timer.LINGER))
    assert instructions == [SignalJob(Signal.KILL)]
    job, _ = play(job, JobGone(at(20), VANISHED))
    assert (job.state, job.on_slot) == (JobState.LOST, False)


def test_what_was_told_to_end_ends_as_it_was_told_though_something_is_left() -> None:
    job, _ = play(running(), CancelRequested(at(5), CANCEL))
    job, instructions = play(job, StatusLost(at(6), VANISHED))
    assert (job.state, job.reason, job.on_slot) == (JobState.CANCELLED, CANCEL, True)
    assert timers(instructions) == {Timer.LINGER: at(6).boot + 10}
    assert {DisarmTimer(Timer.GRACE), DisarmTimer(Timer.KILL)} <= set(instructions)


def test_cancelling_ends_with_term_then_kill() -> None:
    job, instructions = play(running(), CancelRequested(at(5), CANCEL))
    assert job.state is JobState.STOPPING
    assert SignalJob(Signal.TERM) in instructions
    assert timers(instructions) == {Timer.GRACE: at(5).boot + 10}
    job, instructions = play(job, DeadlinePassed(at(15), Timer.GRACE))
    assert instructions == [SignalJob(Signal.KILL)]
    job, _ = play(job, KillDelivered(at(15)), JobExited(at(16), 137))
    assert (job.state, job.exit_status, job.reason) == (JobState.CANCELLED, 137, CANCEL)


def test_a_run_timeout_ends_in_timed_out_whatever_the_status() -> None:
    job, _ = play(running(), DeadlinePassed(at(102), Timer.RUN))
    assert job.reason is not None
    assert job.reason.code == "RUN_TIMEOUT"
    job, _ = play(job, JobExited(at(103), 0))
    assert (job.state, job.exit_status) == (JobState.TIMED_OUT, 0)


def test_what_survives_kill_is_lost_and_keeps_its_slot() -> None:
    job, _ = play(
        running(),
        CancelRequested(at(5), CANCEL),
        DeadlinePassed(at(15), Timer.GRACE),
        KillDelivered(at(15)),
        DeadlinePassed(at(20), Timer.KILL),
    )
    assert job.state is JobState.LOST
    assert job.reason is not None
    assert job.reason.code == "UNKILLABLE"
    assert job.on_slot
    job, _ = play(job, JobGone(at(900), VANISHED))
    assert (job.state, job.on_slot) == (JobState.LOST, False)


def test_nothing_is_lost_for_a_kill_that_could_not_be_delivered() -> None:
    job, instructions = play(
        running(),
        CancelRequested(at(5), CANCEL),
        DeadlinePassed(at(15), Timer.GRACE),
    )
    assert timers(instructions) == {}
    assert job.state is JobState.STOPPING


def test_cancelling_a_job_that_is_starting_tries_to_claim_it_first() -> None:
    job, instructions = play(make_job(), JobChosen(at(1)), CancelRequested(at(2), CANCEL))
    assert instructions[0] == ResolveLaunch()
    never, _ = play(job, LaunchFailed(at(3), AWAY, refused=False, launch=1))
    assert (never.state, never.started, never.on_slot) == (JobState.CANCELLED, None, False)
    begun, instructions = play(job, JobStarted(at(3)))
    assert instructions == [SignalJob(Signal.TERM)]
    assert begun.state is JobState.STOPPING
    assert play(begun, JobStarted(at(9))) == (begun, [])


def test_a_start_that_failed_puts_the_job_back_without_counting_against_it() -> None:
    job = make_job()
    for second in range(20):
        job, instructions = play(
            job,
            JobChosen(at(second)),
            LaunchFailed(at(second), AWAY, refused=False, launch=second + 1),
        )
    assert (job.state, job.launch, job.refusals) == (JobState.QUEUED, 20, 0)
    assert timers(instructions) == {Timer.QUEUE: at(0).boot + 50}


def test_news_of_an_older_start_mean_nothing() -> None:
    stale = LaunchFailed(at(9), AWAY, refused=True, launch=1)
    queued, _ = play(make_job(), JobChosen(at(1)), stale)
    assert play(queued, stale) == (queued, [])
    starting, _ = play(queued, JobChosen(at(2)))
    assert play(starting, stale) == (starting, [])
    stopping, _ = play(starting, CancelRequested(at(3), CANCEL))
    assert play(stopping, stale) == (stopping, [])
    begun, _ = play(starting, JobStarted(at(3)))
    assert play(begun, stale) == (begun, [])


def test_a_job_given_up_while_it_started_is_gone_once_it_is_known_not_to_run() -> None:
    job, _ = play(
        make_job(),
        JobChosen(at(1)),
        CancelRequested(at(2), CANCEL),
        DeadlinePassed(at(12), Timer.GRACE),
        KillDelivered(at(12)),
        DeadlinePassed(at(17), Timer.KILL),
    )
    assert (job.state, job.on_slot) == (JobState.LOST, True)
    assert ResolveLaunch() in recover(job, at(100), PATIENCE)
    job, _ = play(job, LaunchFailed(at(101), AWAY, refused=False, launch=1))
    assert not job.on_slot
    assert play(job, LaunchFailed(at(102), AWAY, refused=False, launch=1)) == (job, [])


def test_a_job_that_is_refused_again_and_again_fails() -> None:
    refused = LaunchFailed(at(2), Reason("LAUNCH_REFUSED", "no sh"), refused=True, launch=1)
    job, _ = play(make_job(), JobChosen(at(1)), refused)
    assert job.state is JobState.QUEUED
    job, _ = play(job, JobChosen(at(3)), replace(refused, launch=2))
    assert job.state is JobState.FAILED
    assert job.reason == Reason("CANNOT_START", "cannot be started: no sh")


def test_waiting_has_its_own_limit() -> None:
    job, _ = play(make_job(), DeadlinePassed(at(50), Timer.QUEUE))
    assert job.state is JobState.TIMED_OUT
    assert job.reason is not None
    assert job.reason.code == "QUEUE_TIMEOUT"
    assert not job.on_slot


def test_what_cannot_happen_is_an_error_that_tells_the_job() -> None:
    with pytest.raises(InvalidTransition, match="job 1 cannot take JobExited"):
        step(make_job(), JobExited(at(1), 0), PATIENCE)


def test_a_timer_that_means_nothing_any_more_changes_nothing() -> None:
    stopping, _ = play(running(), CancelRequested(at(5), CANCEL))
    assert play(stopping, DeadlinePassed(at(6), Timer.RUN)) == (stopping, [])
    assert play(make_job(), DeadlinePassed(at(6), Timer.RUN)) == (make_job(), [])
    assert play(running(), DeadlinePassed(at(6), Timer.START)) == (running(), [])


def test_a_late_kill_of_a_job_that_is_gone_arms_nothing() -> None:
    gone, _ = play(running(), JobGone(at(3), VANISHED))
    assert play(gone, KillDelivered(at(4))) == (gone, [])
    assert play(gone, DeadlinePassed(at(4), Timer.LINGER)) == (gone, [])


def test_a_job_without_limits_has_no_timers() -> None:
    order = replace(make_job().order, run_timeout=None, queue_timeout=None)
    job = make_job(order=order)
    assert recover(job, at(0), PATIENCE) == []
    _, instructions = play(job, JobChosen(at(1)), JobStarted(at(2)))
    assert timers(instructions) == {}


def test_a_handler_that_leads_elsewhere_than_the_table_says_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = dict(TRANSITIONS)
    right = table[JobState.QUEUED, JobChosen]
    table[JobState.QUEUED, JobChosen] = replace(right, targets=frozenset({JobState.RUNNING}))
    monkeypatch.setattr(state_machine, "TRANSITIONS", table)
    with pytest.raises(InvalidTransition):
        step(make_job(), JobChosen(at(1)), PATIENCE)


def test_a_job_that_stops_and_was_not_told_to_is_an_error() -> None:
    job = replace(running(), state=JobState.STOPPING)
    with pytest.raises(ValueError, match="nobody told it to"):
        step(job, JobExited(at(3), 0), PATIENCE)


def test_every_state_says_what_recovery_has_to_do() -> None:
    now = at(500)
    assert timers(recover(make_job(), now, PATIENCE)) == {Timer.QUEUE: at(50).boot}
    starting, _ = play(make_job(), JobChosen(at(1)))
    assert ResolveLaunch() in recover(starting, now, PATIENCE)
    assert recover(running(), now, PATIENCE) == [AttachJob()]
    # Only once it is known that it still runs: it may have ended in time.
    assert play(running(), JobStarted(now))[1][-1] == ArmTimer(Timer.RUN, at(102).boot)
    stopping, _ = play(running(), CancelRequested(at(3), CANCEL))
    # Nobody knows whether it was sent before.
    assert recover(stopping, now, PATIENCE) == [
        AttachJob(),
        SignalJob(Signal.TERM),
        ArmTimer(Timer.GRACE, at(510).boot),
    ]
    lingering, _ = play(running(), JobExited(at(3), 0))
    # Its grace period goes on, and does not begin again with each start.
    assert recover(lingering, now, PATIENCE) == [AttachJob(), ArmTimer(Timer.LINGER, at(13).boot)]
    gone, _ = play(lingering, JobGone(at(4), VANISHED))
    assert recover(gone, now, PATIENCE) == []


def test_after_a_reboot_times_are_as_long_ago_as_the_wall_clock_says() -> None:
    now = replace(at(100), boot=7.0)
    job = rebase(running(), now)
    assert job.started is not None
    assert now.boot - job.started.boot == pytest.approx(98)
    assert job.started.wall == at(2).wall


def test_every_handler_is_reached_by_a_state_it_can_lead_to() -> None:
    reachable = {JobState.QUEUED, JobState.HELD}
    for transition in TRANSITIONS.values():
        reachable |= transition.targets
    assert reachable == set(JobState)


LAUNCHES = st.none() | st.integers(1, 3)
EVENTS = st.one_of(
    st.builds(JobChosen, st.just(at(0)), st.just("c1")),
    st.builds(JobStarted, st.just(at(0)), launch=LAUNCHES),
    st.builds(JobExited, st.just(at(0)), st.sampled_from([0, 1, 127, 137]), launch=LAUNCHES),
    st.builds(JobGone, st.just(at(0)), st.just(VANISHED), launch=LAUNCHES),
    st.builds(StatusLost, st.just(at(0)), st.just(VANISHED), launch=LAUNCHES),
    st.builds(LaunchFailed, st.just(at(0)), st.just(AWAY), st.booleans(), launch=LAUNCHES),
    st.builds(CancelRequested, st.just(at(0)), st.just(CANCEL)),
    st.builds(KillDelivered, st.just(at(0)), launch=LAUNCHES),
    st.builds(DeadlinePassed, st.just(at(0)), st.sampled_from(Timer)),
)


@given(st.lists(EVENTS, max_size=30), st.integers(0, 2))
@settings(max_examples=500, deadline=None)
def test_no_order_of_events_breaks_an_invariant(events: list[Event], retries: int) -> None:
    job = retried(retries)
    for second, event in enumerate(events):
        moment = replace(event, at=at(second))
        if outdated(job, moment):
            assert step(job, moment, PATIENCE) == (job, [])
            continue
        if (job.state, type(moment)) not in TRANSITIONS:
            with pytest.raises(InvalidTransition):
                step(job, moment, PATIENCE)
            continue
        after, _ = step(job, moment, PATIENCE)
        check_invariants(after)
        if job.state in ENDED:
            # An end is an end: nothing but the lingering can change.
            assert replace(after, lingering=job.lingering) == job
            assert after.lingering <= job.lingering
        if job.state is JobState.STARTING or after.launch == job.launch:
            assert after.launch == job.launch
        if after.attempt != job.attempt:
            assert (job.exit_status, after.attempt) == (None, job.attempt + 1)
            assert job.stop is None or job.stop.state is JobState.LOST
            assert after.state is JobState.QUEUED
        job = after


def test_a_job_that_writes_too_much_is_told_to_end_and_has_failed() -> None:
    stopping, instructions = play(running(), OutputExceeded(at(3), 4096))
    assert SignalJob(Signal.TERM) in instructions
    assert play(stopping, OutputExceeded(at(3), 4096)) == (stopping, [])
    job, _ = play(stopping, JobExited(at(4), 143))
    assert (job.state, job.exit_status) == (JobState.FAILED, 143)
    assert job.reason is not None
    assert (job.reason.code, "4096 bytes" in job.reason.message) == ("OUTPUT_LIMIT", True)
    assert play(job, OutputExceeded(at(5), 4096)) == (job, [])


def test_a_lost_job_that_may_run_again_is_queued_once_all_its_processes_are_gone() -> None:
    first, _ = play(retried(), JobChosen(at(1), "c1"), JobStarted(at(2)))
    job, instructions = play(replace(first, refusals=1), JobGone(at(70), VANISHED))
    assert (job.state, job.attempt, job.loss) == (JobState.QUEUED, 2, VANISHED)
    assert (job.container, job.started, job.reason, job.refusals) == (None, None, None, 0)
    assert not job.on_slot
    # It is not held against it that it has run.
    assert timers(instructions) == {Timer.QUEUE: at(70).boot + 50}
    assert {DisarmTimer(Timer.RUN), DisarmTimer(Timer.START)} <= set(instructions)
    assert ForgetLaunch() in instructions
    job, instructions = play(job, JobChosen(at(80), "c2"))
    assert (job.state, job.launch, job.container) == (JobState.STARTING, 2, "c2")
    assert StartJob() in instructions


def test_the_last_attempt_that_is_lost_is_lost_for_good() -> None:
    job, _ = play(running_again(), JobGone(at(12), AWAY))
    assert (job.state, job.attempt, job.reason, job.loss) == (JobState.LOST, 2, AWAY, VANISHED)


def test_each_attempt_has_its_own_run_timeout() -> None:
    job, _ = play(retried(), JobChosen(at(1)), JobStarted(at(2)), JobGone(at(9), VANISHED))
    _, instructions = play(job, JobChosen(at(10)), JobStarted(at(11)))
    assert timers(instructions) == {Timer.RUN: at(11).boot + 100}


@pytest.mark.parametrize("status", [0, 1, 137])
def test_a_command_with_an_exit_status_never_runs_again(status: int) -> None:
    job, _ = play(
        retried(), JobChosen(at(1)), JobStarted(at(2)), JobExited(at(3), status, None, status > 1)
    )
    assert job.state in {JobState.SUCCEEDED, JobState.FAILED}
    assert play(job, JobGone(at(4), VANISHED))[0].attempt == 1


@pytest.mark.parametrize(
    ("order", "state"),
    [
        (CancelRequested(at(5), CANCEL), JobState.CANCELLED),
        (DeadlinePassed(at(102), Timer.RUN), JobState.TIMED_OUT),
        (OutputExceeded(at(5), 4096), JobState.FAILED),
    ],
)
def test_what_was_told_to_end_never_runs_again(order: Event, state: JobState) -> None:
    job, _ = play(retried(), JobChosen(at(1)), JobStarted(at(2)), order, JobGone(at(103), AWAY))
    assert (job.state, job.attempt) == (state, 1)


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_left_of_an_attempt_is_killed_before_the_next_one(begun: bool) -> None:
    job, _ = play(retried(), JobChosen(at(1), "c1"))
    if begun:
        job, _ = play(job, JobStarted(at(2)))
    job, instructions = play(job, StatusLost(at(9), VANISHED))
    assert (job.state, job.reason, job.on_slot) == (JobState.STOPPING, VANISHED, True)
    assert SignalJob(Signal.KILL) in instructions
    assert {DisarmTimer(Timer.START), DisarmTimer(Timer.RUN)} <= set(instructions)
    assert play(job, StatusLost(at(10), VANISHED)) == (job, [])
    assert SignalJob(Signal.KILL) in recover(job, at(10), PATIENCE)
    job, instructions = play(job, KillDelivered(at(10)))
    assert timers(instructions) == {Timer.KILL: at(10).boot + 5}
    job, instructions = play(job, JobGone(at(11), AWAY))
    assert (job.state, job.attempt, job.loss) == (JobState.QUEUED, 2, VANISHED)
    assert job.stop is None
    assert DisarmTimer(Timer.KILL) in instructions


def test_cancelling_what_is_killed_to_run_again_ends_it() -> None:
    job, _ = play(retried(), JobChosen(at(1)), JobStarted(at(2)), StatusLost(at(9), VANISHED))
    job, instructions = play(job, CancelRequested(at(10), CANCEL))
    assert (job.state, job.reason, instructions) == (JobState.STOPPING, CANCEL, [])
    job, _ = play(job, JobGone(at(11), VANISHED))
    assert (job.state, job.reason, job.attempt) == (JobState.CANCELLED, CANCEL, 1)


def test_what_survives_kill_does_not_run_again() -> None:
    job, _ = play(
        retried(),
        JobChosen(at(1)),
        JobStarted(at(2)),
        StatusLost(at(9), VANISHED),
        KillDelivered(at(9)),
        DeadlinePassed(at(14), Timer.KILL),
    )
    assert (job.state, job.on_slot) == (JobState.LOST, True)
    job, _ = play(job, JobGone(at(900), VANISHED))
    assert (job.state, job.on_slot, job.attempt) == (JobState.LOST, False, 1)


def test_a_status_that_is_found_after_all_decides() -> None:
    job, _ = play(retried(), JobChosen(at(1)), JobStarted(at(2)), StatusLost(at(9), VANISHED))
    job, _ = play(job, JobExited(at(8), 0), JobGone(at(10), VANISHED))
    assert (job.state, job.exit_status, job.attempt) == (JobState.SUCCEEDED, 0, 1)


@pytest.mark.parametrize(
    "late",
    [
        JobStarted(at(12), launch=1),
        JobExited(at(12), 0, launch=1),
        JobGone(at(12), AWAY, launch=1),
        StatusLost(at(12), AWAY, launch=1),
        KillDelivered(at(12), launch=1),
        OutputExceeded(at(12), 4096, launch=1),
    ],
)
def test_news_of_an_attempt_that_is_over_mean_nothing(late: Event) -> None:
    again = running_again()
    assert play(again, late) == (again, [])
    queued, _ = play(retried(), JobChosen(at(1)), JobGone(at(9), VANISHED))
    assert play(queued, late) == (queued, [])
    stopping, _ = play(again, CancelRequested(at(12), CANCEL))
    assert play(stopping, late) == (stopping, [])
    over, _ = play(again, JobExited(at(13), 0))
    assert play(over, late) == (over, [])


def test_waiting_to_run_again_has_the_limit_of_waiting() -> None:
    job, _ = play(retried(), JobChosen(at(1)), JobGone(at(70), VANISHED))
    assert timers(recover(job, at(80), PATIENCE)) == {Timer.QUEUE: at(120).boot}
    rebooted = rebase(job, replace(at(80), boot=7.0))
    assert timers(recover(rebooted, at(80), PATIENCE)) == {Timer.QUEUE: 7.0 - 10 + 50}
    job, _ = play(job, DeadlinePassed(at(120), Timer.QUEUE))
    assert (job.state, job.attempt) == (JobState.TIMED_OUT, 2)
    assert job.reason is not None
    assert "did not start again within" in job.reason.message
