"""What has to hold of the jobs of a daemon at every moment, whatever happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from support.machine import PATIENCE, Daemon, Taken
from support.world import Claimant
from wsclean_workerd.events import (
    ArmTimer,
    CancelRequested,
    DeadlinePassed,
    DisarmTimer,
    Instruction,
    JobChosen,
    KillDelivered,
    LaunchFailed,
    ResolveLaunch,
    Signal,
    SignalJob,
    StartJob,
    Timer,
)
from wsclean_workerd.model import Instant, Job, JobId, JobState, Reason

LINGERING = "lingering"
OVER = "over"

STEP_MAY: dict[str, set[str]] = {
    "QUEUED": {"arm QUEUE", "ForgetLaunch"},
    "STARTING": {"StartJob", "ResolveLaunch", "arm START"},
    "RUNNING": {"arm RUN"},
    "STOPPING": {"ResolveLaunch", "TERM", "KILL", "arm GRACE", "arm KILL"},
    LINGERING: {"KILL", "arm LINGER"},
    OVER: set(),
}
"""What a step may want for a job that is then in this state, apart from disarming."""

RECOVERY_MAY: dict[str, set[str]] = {
    "QUEUED": {"arm QUEUE"},
    "STARTING": {"ResolveLaunch", "arm START"},
    "RUNNING": {"AttachJob", "arm RUN"},
    "STOPPING": {"AttachJob", "ResolveLaunch", "TERM", "KILL", "arm GRACE"},
    LINGERING: {"AttachJob", "ResolveLaunch", "arm LINGER"},
    OVER: set(),
}
"""What recovery may want for a job that was found in this state."""

TIMERS: dict[str, set[Timer]] = {
    "QUEUED": {Timer.QUEUE},
    "STARTING": {Timer.START},
    "RUNNING": {Timer.RUN},
    "STOPPING": {Timer.GRACE, Timer.KILL},
    # KILL may have been delivered again at the moment at which it was given up.
    LINGERING: {Timer.LINGER, Timer.KILL},
    OVER: set(),
}
"""The timers that may be armed for a job in this state."""

FAILURES = {"EXIT_STATUS", "SIGNALLED", "PROGRAM_NOT_FOUND", "PROGRAM_NOT_STARTED"}


def phase(job: Job) -> str:
    """The state of a job, or what is left of it after its end."""
    if job.state.ended:
        return LINGERING if job.lingering else OVER
    return job.state.name


class Invariants:
    """Checks a daemon and its host; each method is one thing that has to hold."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.host = daemon.host
        self.ends: dict[JobId, Job] = {}
        self.all: list[Callable[[], None]] = [
            self.a_command_runs_at_most_once,
            self.only_what_was_lost_runs_again,
            self.nothing_runs_again_that_was_told_to_end,
            self.what_never_began_never_will,
            self.an_end_is_an_end,
            self.state_reason_and_status_agree,
            self.times_are_those_of_the_host,
            self.a_slot_is_held_while_processes_live,
            self.no_lock_is_held_twice,
            self.a_lock_is_held_while_processes_live,
            self.no_more_jobs_start_than_there_are_slots,
            self.the_oldest_start_first,
            self.what_is_told_to_end_ends_as_it_was_told,
            self.nothing_times_out_early,
            self.what_had_ended_is_not_timed_out,
            self.kill_comes_a_grace_period_after_term,
            self.what_stops_was_sent_term_after_it_had_begun,
            self.only_what_nobody_can_know_is_lost,
            self.something_moves_every_job_on,
            self.no_timer_is_left_behind,
            self.deadlines_stay_where_they_are,
            self.only_what_fits_the_state_is_to_be_done,
            self.what_changes_nothing_is_not_written,
        ]

    def a_command_runs_at_most_once(self) -> None:
        """However often a start was tried, the command began at most once in each attempt."""
        for (job_id, attempt), processes in self.host.processes.items():
            job = self.daemon.jobs[job_id]
            assert processes.commands <= 1, job
            assert attempt <= 1 + job.spec.retries, job

    def only_what_was_lost_runs_again(self) -> None:
        """There is another attempt only if nothing is left of the one before, nor a status."""
        for (job_id, attempt), processes in self.host.processes.items():
            job = self.daemon.jobs[job_id]
            if attempt < job.attempt:
                assert processes.commands == 1, job
                assert not processes.alive, job
                assert processes.status is None, job

    def nothing_runs_again_that_was_told_to_end(self) -> None:
        """A loss leads to another attempt, and to the next one, unless somebody said end."""
        for taken in self.daemon.taken:
            _, before, _, after, _ = taken
            if after.attempt != before.attempt:
                assert after.attempt == before.attempt + 1, taken
                assert after.state is JobState.QUEUED, taken
                assert before.stop is None or before.to_run_again, taken
                assert (after.stop, after.started, after.refusals) == (None, None, 0), taken
        for job in self.daemon.jobs.values():
            unkillable = job.reason is not None and job.reason.code == "UNKILLABLE"
            assert job.state is not JobState.LOST or unkillable or not job.retries_left, job

    def what_never_began_never_will(self) -> None:
        """What is over and said not to have begun has not and cannot, unless it is LOST."""
        for job in self.daemon.jobs.values():
            known = phase(job) == OVER and job.state is not JobState.LOST
            if known and job.started is None:
                processes = self.host.folder(job)
                assert processes.commands == 0, job
                assert all(processes.claims.get(launch) for launch in processes.coming), job

    def an_end_is_an_end(self) -> None:
        """What was written down as ended never changes, but for its last process going."""
        for taken in self.daemon.taken:
            _, before, _, after, _ = taken
            if before.state.ended:
                assert replace(after, lingering=before.lingering) == before, taken
                assert after.lingering <= before.lingering, taken
        for job in self.host.journal.values():
            if job.state.ended:
                end = self.ends.setdefault(job.id, job)
                assert (job.state, job.reason) == (end.state, end.reason)
                assert job.exit_status == end.exit_status
            assert job.state.ended == (job.id in self.ends), job

    def state_reason_and_status_agree(self) -> None:
        """An end has a time and a reason, and the status is the one that was written."""
        for job in self.daemon.jobs.values():
            assert (job.ended is not None) == job.state.ended, job
            if job.exit_status is not None:
                assert job.exit_status == self.host.folder(job).status, job
                assert job.started is not None, job
            self._check_end(job)

    def _check_end(self, job: Job) -> None:
        code = job.reason.code if job.reason else None
        match job.state:
            case JobState.SUCCEEDED:
                assert (job.exit_status, code) == (0, "SUCCEEDED"), job
            case JobState.FAILED if code == "CANNOT_START":
                assert (job.exit_status, job.started) == (None, None), job
                assert job.refusals >= PATIENCE.refusals, job
            case JobState.FAILED:
                assert job.exit_status, job
                assert code in FAILURES, job
            case JobState.TIMED_OUT:
                assert code == ("QUEUE_TIMEOUT" if job.stop is None else "RUN_TIMEOUT"), job
            case JobState.CANCELLED:
                assert code == "CANCELLED", job
            case JobState.LOST:
                assert job.exit_status is None, job

    def times_are_those_of_the_host(self) -> None:
        """Begin and end are when they happened, not when somebody heard of them."""
        for job in self.daemon.jobs.values():
            processes = self.host.folder(job)
            assert job.started is None or self._when(job.started) == processes.begun, job
            if job.exit_status is not None and job.ended is not None:
                assert self._when(job.ended) == processes.exited, job

    def a_slot_is_held_while_processes_live(self) -> None:
        """No slot is free, in memory or on disk, before its last process is gone."""
        for (job_id, _), processes in self.host.processes.items():
            if processes.alive:
                assert self.daemon.jobs[job_id].on_slot, self.daemon.jobs[job_id]
                assert self.host.journal[job_id].on_slot, self.host.journal[job_id]

    def no_lock_is_held_twice(self) -> None:
        """No two jobs with a lock in common are on slots, in memory or on disk, or run."""
        for jobs in (self.daemon.jobs, self.host.journal):
            self._check_locks(job for job in jobs.values() if job.on_slot)
        running = [job_id for (job_id, _), each in self.host.processes.items() if each.alive]
        self._check_locks(self.daemon.jobs[job_id] for job_id in running)

    @staticmethod
    def _check_locks(holders: Iterable[Job]) -> None:
        holder: dict[str, Job] = {}
        for job in holders:
            for lock in job.order.locks:
                assert lock not in holder, (holder[lock], job)
                holder[lock] = job

    def a_lock_is_held_while_processes_live(self) -> None:
        """The scheduler gives no lock away before the last process of its job is gone."""
        for (job_id, _), processes in self.host.processes.items():
            if processes.alive:
                job = self.daemon.jobs[job_id]
                for lock in job.order.locks:
                    order = replace(job.order, locks=(lock,))
                    why = self.daemon.admission.why(replace(job, id=JobId(0), order=order))
                    assert why == Reason("LOCK_HELD", f"waits for {lock}, held by job {job_id}")

    def no_more_jobs_start_than_there_are_slots(self) -> None:
        """Nothing is chosen that finds no slot, however many are taken."""
        for admitted in self.daemon.admitted:
            assert not admitted.chosen or admitted.on_slots <= admitted.slots, admitted

    def the_oldest_start_first(self) -> None:
        """Jobs start in the order in which they came, but for those that let others pass."""
        for admitted in self.daemon.admitted:
            assert admitted.chosen == admitted.queue.next(), admitted

    def what_is_told_to_end_ends_as_it_was_told(self) -> None:
        """An order to end takes effect at once and nothing changes it but UNKILLABLE.

        Only that of what is to run again gives way, to the first other one.
        """
        for taken in self.daemon.taken:
            self._check_order_to_end(taken)

    def _check_order_to_end(self, taken: Taken) -> None:
        _, before, event, after, _ = taken
        if before.state.ended:
            return
        if isinstance(event, CancelRequested):
            assert after.state in {JobState.STOPPING, JobState.CANCELLED}, taken
            assert not after.to_run_again, taken
        if before.state is JobState.RUNNING and event == DeadlinePassed(event.at, Timer.RUN):
            assert after.state is JobState.STOPPING, taken
        if before.stop is not None and not before.to_run_again:
            assert after.stop == before.stop, taken
        if after.stop is not None and after.state.ended:
            told = (after.state, after.reason) == (after.stop.state, after.stop.reason)
            assert told or (after.state, phase(after)) == (JobState.LOST, LINGERING), taken

    def nothing_times_out_early(self) -> None:
        """A timeout is declared when the time that it names is over, and never before."""
        for now, before, event, after, _ in self.daemon.taken:
            if not isinstance(event, DeadlinePassed) or after is before or after.reason is None:
                continue
            since, limit = before.queued, before.order.queue_timeout
            if after.reason.code == "RUN_TIMEOUT":
                since, limit = before.started or before.queued, before.order.run_timeout
            elif after.reason.code != "QUEUE_TIMEOUT":
                continue
            assert limit is not None, (event, after)
            assert now >= self._when(since) + limit, (event, after)

    def what_had_ended_is_not_timed_out(self) -> None:
        """A command that had ended when the daemon came back did so in time."""
        for taken in self.daemon.taken[self.daemon.before :]:
            _, before, event, _, _ = taken
            if before.state is JobState.RUNNING and event == DeadlinePassed(event.at, Timer.RUN):
                exited = self.host.folder(before).exited
                assert exited is None or exited >= self.daemon.woke, taken

    def kill_comes_a_grace_period_after_term(self) -> None:
        """KILL is for what had a grace period since TERM, or since its command ended.

        What is to run again has had its time.
        """
        for now, _, _, after, instructions in self.daemon.taken:
            if SignalJob(Signal.KILL) in instructions and not after.to_run_again:
                since = self._terms(after) if after.ended is None else [self._when(after.ended)]
                assert any(each + PATIENCE.grace <= now for each in since), after

    def _terms(self, job: Job) -> list[float]:
        """When it was decided that a job is sent TERM."""
        term = SignalJob(Signal.TERM)
        decided = [(now, of.id) for now, of, do in self.daemon.found if term in do]
        decided += [(now, of.id) for now, _, _, of, do in self.daemon.taken if term in do]
        return [now for now, job_id in decided if job_id == job.id]

    def _when(self, instant: Instant) -> float:
        """An instant in seconds since the beginning of the run."""
        return instant.wall - self.host.instant(0).wall

    def what_stops_was_sent_term_after_it_had_begun(self) -> None:
        """TERM is for what is told to end, and again for what is only then seen to begin."""
        for _, before, _, after, instructions in self.daemon.taken:
            told = before.state is not JobState.STOPPING or before.started != after.started
            stopping = after.state is JobState.STOPPING
            if after.to_run_again and before.state is not JobState.STOPPING:
                assert SignalJob(Signal.KILL) in instructions, after
                continue
            assert (SignalJob(Signal.TERM) in instructions) == (stopping and told), after

    def only_what_nobody_can_know_is_lost(self) -> None:
        """LOST is what left no status, or outlived a KILL for as long as is waited."""
        for job in self.daemon.jobs.values():
            if job.state is not JobState.LOST or job.reason is None or job.ended is None:
                continue
            processes, ended = self.host.folder(job), self._when(job.ended)
            if job.reason.code == "UNKILLABLE":
                assert any(kill + PATIENCE.kill <= ended for kill in processes.kills), job
            else:
                assert Claimant.WRAPPER in processes.claims.values(), job
                assert (processes.status, processes.held) == (None, False), job

    def something_moves_every_job_on(self) -> None:
        """What is not over and does not wait in the queue has a watch or a timer, or both."""
        for job in self.daemon.settled():
            match phase(job):
                case "STARTING":
                    assert (job.id, Timer.START) in self.daemon.timers, job
                case "RUNNING":
                    assert self._will_be_heard_of(job), job
                    assert self._will_end_in_time(job), job
                case "STOPPING" | "lingering":
                    assert self._will_be_heard_of(job), job
                    assert self._will_be_killed(job), job

    def _will_be_heard_of(self, job: Job) -> bool:
        """Whether the end of a job's processes, or that they never were, will be told."""
        daemon, launch = self.daemon, (job.id, job.launch)
        under_way = [each.job for each in daemon.resolves] + [each.job for each in daemon.starts]
        return (
            launch in daemon.watches
            or launch in [(each.id, each.launch) for each in under_way]
            or launch in [(of, e.launch) for of, e in daemon.news if isinstance(e, LaunchFailed)]
        )

    def _will_end_in_time(self, job: Job) -> bool:
        """Whether the end of its time will be noticed, or whether it runs is to be seen yet."""
        return (
            job.order.run_timeout is None
            or (job.id, Timer.RUN) in self.daemon.timers
            or self.daemon.watches.get((job.id, job.launch)) == set()
        )

    def _will_be_killed(self, job: Job) -> bool:
        """Whether what does not end by itself is still dealt with."""
        timers = {Timer.LINGER} if job.lingering else {Timer.GRACE, Timer.KILL}
        return (
            any((job.id, timer) in self.daemon.timers for timer in timers)
            or (job.last_launch, Signal.KILL) in self.daemon.signals
            or job.id in [of for of, e in self.daemon.news if isinstance(e, KillDelivered)]
        )

    def no_timer_is_left_behind(self) -> None:
        """The timers that are armed are those of the state that the job is in."""
        for job in self.daemon.settled():
            armed = {timer for job_id, timer in self.daemon.timers if job_id == job.id}
            assert armed <= TIMERS[phase(job)], (armed, job)

    def deadlines_stay_where_they_are(self) -> None:
        """No crash, no reboot and no start that failed gives a job more or less time."""
        for (job_id, timer), due in self.daemon.timers.items():
            job = self.daemon.jobs[job_id]
            if timer is Timer.QUEUE and job.state is JobState.QUEUED:
                limit, since = job.order.queue_timeout, job.queued
            elif timer is Timer.RUN and job.state is JobState.RUNNING and job.started is not None:
                limit, since = job.order.run_timeout, job.started
            else:
                continue
            assert limit is not None, job
            assert due == self.host.instant(self._when(since) + limit).boot, job

    def only_what_fits_the_state_is_to_be_done(self) -> None:
        """Instructions are those that are documented for the state they lead to."""
        for _, before, event, after, instructions in self.daemon.taken:
            assert names(instructions) <= STEP_MAY[phase(after)], (before, event, instructions)
            assert (StartJob() in instructions) == isinstance(event, JobChosen)
            assert ResolveLaunch() not in instructions or after.started is None, (before, event)
            waited = event == DeadlinePassed(event.at, Timer.START)
            assert waited or ResolveLaunch(refused=True) not in instructions, (before, event)
        for _, job, instructions in self.daemon.found:
            assert names(instructions) <= RECOVERY_MAY[phase(job)], job

    def what_changes_nothing_is_not_written(self) -> None:
        """A job that is as it was is the same object, and so costs no write."""
        for taken in self.daemon.taken:
            assert taken.after is taken.before or taken.after != taken.before, taken


def names(instructions: list[Instruction]) -> set[str]:
    """What is to be done, in a word or two each, apart from disarming."""
    return {_name(each) for each in instructions if not isinstance(each, DisarmTimer)}


def _name(instruction: Instruction) -> str:
    match instruction:
        case ArmTimer(timer, _):
            return f"arm {timer.name}"
        case SignalJob(signal):
            return signal.name
        case _:
            return type(instruction).__name__
