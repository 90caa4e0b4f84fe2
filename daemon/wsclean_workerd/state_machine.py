"""The life of a job: an event goes in, the changed job and instructions come out.

The rules:

* `TRANSITIONS` is the whole machine. A pair of state and event that is not in it
  cannot happen; one that can happen and means nothing is in it as `IGNORE`.
* A job ends when its command has: the exit status is the truth. Its slot is free
  when its last process is gone, which may be later (`lingering`).
* A job that was told to end (`stop`) ends in the state that it was told to end
  in, whatever status its command leaves.
* A job that is lost is queued again if its caller allowed that (`losing`).
* Nothing is called LOST because it cannot be asked: only because whoever would have
  left a status went without it, or because KILL was delivered and did not help.

Nothing here does I/O or looks at a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wsclean_workerd.events import (
    ArmTimer,
    CancelRequested,
    DeadlinePassed,
    Event,
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
from wsclean_workerd.failures import failure
from wsclean_workerd.losing import (
    cancel_stopping,
    end_as_told,
    lose_status,
    lose_status_stopping,
    outdated,
    vanish,
    vanish_stopping,
)
from wsclean_workerd.model import ENDED, Instant, Job, JobState, Patience, Reason, Stop
from wsclean_workerd.steps import arm_queue, arm_run, disarm, end, stop, terminate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wsclean_workerd.steps import Step


class InvalidTransition(Exception):
    """An event that cannot happen in the state the job is in: a defect, never bad input."""

    def __init__(self, job: Job, event: Event) -> None:
        super().__init__(f"job {job.id} cannot take {event!r} while {job.state.name}: {job!r}")
        self.job = job
        self.event = event


def step(job: Job, event: Event, patience: Patience) -> Step:
    """Apply one event to one job.

    Args:
        job: The job as it is.
        event: What happened to it.
        patience: The waits that hold for it.

    Returns:
        The job as it is now (the same object if nothing changed) and what is to
        be done once that is on disk.

    Raises:
        InvalidTransition: If this cannot happen to a job in this state.
    """
    if outdated(job, event):
        return job, []
    transition = TRANSITIONS.get((job.state, type(event)))
    if transition is None:
        raise InvalidTransition(job, event)
    after, instructions = transition.handle(job, event, patience)
    if after.state not in transition.targets:
        raise InvalidTransition(job, event)
    return after, instructions


def _seconds(value: float | None) -> str:
    return "no limit" if value is None else f"{value:g} s"


def _stop(job: Job, at: Instant, order: Stop, patience: Patience) -> Step:
    stopping = stop(job, order)
    return stopping, [*disarm(Timer.START, Timer.RUN), *terminate(stopping, at, patience)]


# -- handlers, in the order of a job's life --------------------------------------


def _ignore(job: Job, _event: Event, _patience: Patience) -> Step:
    return job, []


def _choose(job: Job, event: JobChosen, patience: Patience) -> Step:
    starting = replace(
        job,
        state=JobState.STARTING,
        launch=job.launch + 1,
        container=event.container,
    )
    return starting, [
        *disarm(Timer.QUEUE),
        StartJob(),
        ArmTimer(Timer.START, event.at.boot + patience.start),
    ]


def _cancel_waiting(job: Job, event: CancelRequested, _patience: Patience) -> Step:
    ended = end(job, event.at, JobState.CANCELLED, event.reason, lingering=False)
    return ended, disarm(Timer.QUEUE)


def _queue_deadline(job: Job, event: DeadlinePassed, _patience: Patience) -> Step:
    if event.timer is not Timer.QUEUE:
        return job, []
    reason = Reason(
        "QUEUE_TIMEOUT",
        f"did not start {'again ' if job.loss else ''}within its queue timeout of "
        f"{_seconds(job.order.queue_timeout)}",
    )
    return end(job, event.at, JobState.TIMED_OUT, reason, lingering=False), []


def _start(job: Job, event: JobStarted, _patience: Patience) -> Step:
    running = replace(job, state=JobState.RUNNING, started=event.at)
    return running, [*disarm(Timer.START), *arm_run(running)]


def _still_running(job: Job, _event: JobStarted, _patience: Patience) -> Step:
    return job, arm_run(job)


def _launch_failed(job: Job, event: LaunchFailed, patience: Patience) -> Step:
    refusals = job.refusals + event.refused
    if refusals >= patience.refusals:
        failed = replace(job, refusals=refusals)
        reason = Reason("CANNOT_START", f"cannot be started: {event.reason.message}")
        ended = end(failed, event.at, JobState.FAILED, reason, lingering=False)
        return ended, disarm(Timer.START)
    queued = replace(job, state=JobState.QUEUED, refusals=refusals, container=None)
    return queued, [*disarm(Timer.START), *arm_queue(queued)]


def _start_deadline(job: Job, event: DeadlinePassed, patience: Patience) -> Step:
    if event.timer is not Timer.START:
        return job, []
    again = ArmTimer(Timer.START, event.at.boot + patience.start)
    return job, [ResolveLaunch(refused=True), again]


def _exited(job: Job, event: JobExited) -> Job:
    # A command can be over before anybody saw it begin.
    started = job.started or event.started or event.at
    return replace(job, exit_status=event.status, started=started)


def _exit(job: Job, event: JobExited, patience: Patience) -> Step:
    if event.status == 0:
        state, reason = JobState.SUCCEEDED, Reason("SUCCEEDED", "ended with exit status 0")
    else:
        state, reason = JobState.FAILED, failure(job, event)
    return end(_exited(job, event), event.at, state, reason, lingering=True), [
        *disarm(Timer.START, Timer.RUN),
        ArmTimer(Timer.LINGER, event.at.boot + patience.grace),
    ]


def _cancel_live(job: Job, event: CancelRequested, patience: Patience) -> Step:
    return _stop(job, event.at, Stop(JobState.CANCELLED, event.reason), patience)


def _cancel_starting(job: Job, event: CancelRequested, patience: Patience) -> Step:
    # Whoever claims the job first decides: if that is the daemon, it never runs.
    stopping, instructions = _cancel_live(job, event, patience)
    return stopping, [ResolveLaunch(), *instructions]


def _run_deadline(job: Job, event: DeadlinePassed, patience: Patience) -> Step:
    if event.timer is not Timer.RUN:
        return job, []
    reason = Reason(
        "RUN_TIMEOUT",
        f"exceeded its run timeout of {_seconds(job.order.run_timeout)}",
    )
    return _stop(job, event.at, Stop(JobState.TIMED_OUT, reason), patience)


def _output_exceeded(job: Job, event: OutputExceeded, patience: Patience) -> Step:
    reason = Reason(
        "OUTPUT_LIMIT",
        f"wrote more than {event.limit} bytes to stdout and stderr (jobs.output_limit in the "
        "configuration)",
    )
    return _stop(job, event.at, Stop(JobState.FAILED, reason), patience)


def _start_stopping(job: Job, event: JobStarted, _patience: Patience) -> Step:
    if job.started is not None:
        return job, []
    # The first TERM may have come before there was anything to receive it.
    started = replace(job, started=event.at)
    return started, [SignalJob(Signal.TERM)]


def _exit_stopping(job: Job, event: JobExited, patience: Patience) -> Step:
    if job.to_run_again:
        # Nobody was thought to be left to write it; but there it is.
        return _exit(replace(job, stop=None), event, patience)
    return end_as_told(_exited(job, event), event.at, lingering=True), [
        *disarm(Timer.GRACE, Timer.KILL),
        ArmTimer(Timer.LINGER, event.at.boot + patience.grace),
    ]


def _stopping_deadline(job: Job, event: DeadlinePassed, patience: Patience) -> Step:
    match event.timer:
        case Timer.GRACE:
            return job, [SignalJob(Signal.KILL)]
        case Timer.KILL:
            reason = Reason(
                "UNKILLABLE",
                f"does not end although KILL was sent {patience.kill:g} s ago: a process waits in "
                "the kernel, most often for storage that hangs",
            )
            ended = end(job, event.at, JobState.LOST, reason, lingering=True)
            return ended, [ArmTimer(Timer.LINGER, event.at.boot + patience.rekill)]
        case _:
            return job, []


def _await_kill(job: Job, event: KillDelivered, patience: Patience) -> Step:
    return job, [ArmTimer(Timer.KILL, event.at.boot + patience.kill)]


def _gone(job: Job, _event: JobGone, _patience: Patience) -> Step:
    if not job.lingering:
        return job, []
    return replace(job, lingering=False), disarm(*Timer)


def _never_there(job: Job, _event: LaunchFailed, _patience: Patience) -> Step:
    # It was given up without anybody knowing whether it had begun: it had not.
    if not job.lingering:
        return job, []
    return replace(job, lingering=False), disarm(*Timer)


def _linger_deadline(job: Job, event: DeadlinePassed, _patience: Patience) -> Step:
    if not job.lingering or event.timer is not Timer.LINGER:
        return job, []
    return job, [SignalJob(Signal.KILL)]


def _await_rekill(job: Job, event: KillDelivered, patience: Patience) -> Step:
    if not job.lingering:
        return job, []
    return job, [ArmTimer(Timer.LINGER, event.at.boot + patience.rekill)]


# -- the machine -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transition:
    """What an event does in a state, and the states it may lead to."""

    # Each handler takes the type of event that it stands under in the table.
    handle: Callable[[Job, Any, Patience], Step]
    targets: frozenset[JobState]


def _to(handle: Callable[[Job, Any, Patience], Step], *targets: JobState) -> Transition:
    return Transition(handle, frozenset(targets))


_S = JobState

_TOLD = (_S.CANCELLED, _S.TIMED_OUT, _S.FAILED)

_LIVE: Mapping[tuple[JobState, type[Event]], Transition] = {
    (_S.QUEUED, JobChosen): _to(_choose, _S.STARTING),
    (_S.QUEUED, CancelRequested): _to(_cancel_waiting, _S.CANCELLED),
    (_S.QUEUED, DeadlinePassed): _to(_queue_deadline, _S.QUEUED, _S.TIMED_OUT),
    (_S.HELD, CancelRequested): _to(_cancel_waiting, _S.CANCELLED),
    (_S.STARTING, JobStarted): _to(_start, _S.RUNNING),
    (_S.STARTING, JobExited): _to(_exit, _S.SUCCEEDED, _S.FAILED),
    (_S.STARTING, JobGone): _to(vanish, _S.LOST, _S.QUEUED),
    (_S.STARTING, StatusLost): _to(lose_status, _S.LOST, _S.STOPPING),
    (_S.STARTING, LaunchFailed): _to(_launch_failed, _S.STARTING, _S.QUEUED, _S.FAILED),
    (_S.STARTING, CancelRequested): _to(_cancel_starting, _S.STOPPING),
    (_S.STARTING, DeadlinePassed): _to(_start_deadline, _S.STARTING),
    (_S.RUNNING, JobStarted): _to(_still_running, _S.RUNNING),
    (_S.RUNNING, JobExited): _to(_exit, _S.SUCCEEDED, _S.FAILED),
    (_S.RUNNING, JobGone): _to(vanish, _S.LOST, _S.QUEUED),
    (_S.RUNNING, StatusLost): _to(lose_status, _S.LOST, _S.STOPPING),
    (_S.RUNNING, CancelRequested): _to(_cancel_live, _S.STOPPING),
    (_S.RUNNING, DeadlinePassed): _to(_run_deadline, _S.RUNNING, _S.STOPPING),
    (_S.RUNNING, OutputExceeded): _to(_output_exceeded, _S.STOPPING),
    (_S.STOPPING, OutputExceeded): _to(_ignore, _S.STOPPING),
    (_S.STOPPING, JobStarted): _to(_start_stopping, _S.STOPPING),
    (_S.STOPPING, JobExited): _to(_exit_stopping, _S.SUCCEEDED, *_TOLD),
    (_S.STOPPING, JobGone): _to(vanish_stopping, _S.QUEUED, *_TOLD),
    (_S.STOPPING, StatusLost): _to(lose_status_stopping, _S.STOPPING, *_TOLD),
    (_S.STOPPING, LaunchFailed): _to(vanish_stopping, _S.QUEUED, *_TOLD),
    (_S.STOPPING, CancelRequested): _to(cancel_stopping, _S.STOPPING),
    (_S.STOPPING, KillDelivered): _to(_await_kill, _S.STOPPING),
    (_S.STOPPING, DeadlinePassed): _to(_stopping_deadline, _S.STOPPING, _S.LOST),
}

_OVER: Mapping[type[Event], Callable[[Job, Any, Patience], Step]] = {
    JobStarted: _ignore,
    JobExited: _ignore,
    JobGone: _gone,
    StatusLost: _ignore,
    LaunchFailed: _never_there,
    CancelRequested: _ignore,
    OutputExceeded: _ignore,
    KillDelivered: _await_rekill,
    DeadlinePassed: _linger_deadline,
}

TRANSITIONS: Mapping[tuple[JobState, type[Event]], Transition] = {
    **_LIVE,
    **{(state, event): _to(handle, state) for state in ENDED for event, handle in _OVER.items()},
}
"""What happens for each state and event. What is not here cannot happen."""
