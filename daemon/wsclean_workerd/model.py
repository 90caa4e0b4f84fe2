"""The nouns of the daemon: jobs, their states, reasons and times.

Everything here is immutable. A job changes by being replaced, and only
`wsclean_workerd.state_machine` replaces it.
"""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Iterable

JobId = NewType("JobId", int)

Launch = tuple[JobId, int]
"""One start of a job: its number and that of the start."""


def words(texts: Iterable[str], like: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The words of a command, each of them once in memory for all jobs.

    The commands of a queue differ in a few names only, and there may be a hundred
    thousand of them.

    Args:
        texts: The words.
        like: A command that may well be the same: then it is this one.
    """
    made = tuple(map(sys.intern, texts))
    return like if made == like else made


class JobState(enum.Enum):
    """Where a job is in its life. The names are those of the interface."""

    QUEUED = "QUEUED"
    HELD = "HELD"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    @property
    def ended(self) -> bool:
        """Whether no other state follows."""
        return self in ENDED


ENDED = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.TIMED_OUT,
        JobState.CANCELLED,
        JobState.LOST,
    }
)
"""The states that no other state follows."""

ON_SLOT = frozenset({JobState.STARTING, JobState.RUNNING, JobState.STOPPING})
"""The states in which a job has, or may have, processes."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is as it is: a code for programs and a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time on two clocks.

    Attributes:
        wall: Seconds since 1970 UTC. For people: it may step.
        boot: Seconds of CLOCK_BOOTTIME, which never steps and goes on across
            restarts of the daemon, though not of the machine. For deadlines.
    """

    wall: float
    boot: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a caller asked for, unchanged.

    Attributes:
        command: The program and its arguments.
        working_directory: The caller's, an absolute host path.
        environment: Pairs of names and values added to the job's environment.
        run_timeout: Seconds the command may run, or None for the default.
        queue_timeout: Seconds the job may wait, or None for the default.
        umask: The file mode creation mask, or None for the default.
        tied: Whether the job is to end when the call that submitted it does.
        locks: What no other job may hold meanwhile.
        retries: How often the command may be run again after it was lost.
    """

    command: tuple[str, ...]
    working_directory: str
    environment: tuple[tuple[str, str], ...] = ()
    run_timeout: float | None = None
    queue_timeout: float | None = None
    umask: int | None = None
    tied: bool = False
    locks: tuple[str, ...] = ()
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom a job runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What really runs: a spec after mapping, with every default filled in.

    Attributes:
        command: The program and its arguments with the paths that a job sees.
        working_directory: Where it runs, as a job sees it.
        user: Whom it runs as.
        umask: Its file mode creation mask.
        run_timeout: Seconds it may run, or None for no limit.
        queue_timeout: Seconds it may wait, or None for no limit.
        locks: What it holds for itself alone while it is on a slot: each by the one
            name that it has for all jobs, sorted.
    """

    command: tuple[str, ...]
    working_directory: str
    user: User
    umask: int
    run_timeout: float | None
    queue_timeout: float | None
    locks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """That a job was told to end: the state it ends in, and why.

    One that ends LOST ends to run again.
    """

    state: JobState
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A command and what has become of it.

    Attributes:
        id: Its number on this host.
        request_id: The caller's name for the submission, or None.
        spec: What was asked for.
        order: What really runs.
        state: Where it is in its life.
        owner: The number of the user who submitted it, whomever it runs as.
        submitted: When it was accepted.
        reason: Why it ended as it did, or None before its end.
        stop: That it was told to end, or None.
        exit_status: That of its command, 128 + n if signal n ended it, or None
            if it has not ended or is not known.
        launch: How often its start was tried. It names the claim on the job
            folder, so that a start that comes late can never be taken for a
            newer one.
        refusals: How many of the starts of this attempt were refused for a reason that
            lies in the job or its image and not in an engine that is away.
        attempt: Which run of its command this is, or is to be.
        loss: Why the attempt before was lost, or None if there was none.
        requeued: When it was put back to run again, or None.
        container: The id of the container it was started in, or None.
        started: When its command began to run in this attempt, or None.
        ended: When it ended, or None.
        lingering: Whether it has ended and may still have processes.
    """

    id: JobId
    request_id: str | None = None
    spec: JobSpec
    order: Order
    state: JobState = JobState.QUEUED
    owner: int
    submitted: Instant
    reason: Reason | None = None
    stop: Stop | None = None
    exit_status: int | None = None
    launch: int = 0
    refusals: int = 0
    attempt: int = 1
    loss: Reason | None = None
    requeued: Instant | None = None
    container: str | None = None
    started: Instant | None = None
    ended: Instant | None = None
    lingering: bool = False

    @property
    def last_launch(self) -> Launch:
        """Its latest start."""
        return self.id, self.launch

    @property
    def queued(self) -> Instant:
        """Since when it has waited for its present attempt, or had."""
        return self.requeued or self.submitted

    @property
    def attempts(self) -> int:
        """How often its command may run."""
        return 1 + self.spec.retries

    @property
    def retries_left(self) -> bool:
        """Whether its command may run again if it is lost."""
        return self.attempt < self.attempts

    @property
    def to_run_again(self) -> bool:
        """Whether what is left of it is ended so that it can run again."""
        return self.state is JobState.STOPPING and (
            self.stop is not None and self.stop.state is JobState.LOST
        )

    @property
    def on_slot(self) -> bool:
        """Whether it takes a slot: it has processes, or may have."""
        return self.state in ON_SLOT or self.lingering


@dataclass(frozen=True, slots=True)
class Mount:
    """A host folder and where a job sees it."""

    host: str
    container: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeCondition:
    """How the thing that runs the jobs is.

    Attributes:
        ready: Whether jobs can be started.
        reason: What is the matter or should be known, or None.
        container: The id of the container, or None.
    """

    ready: bool
    reason: Reason | None = None
    container: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the daemon waits for what should happen soon, in seconds.

    Attributes:
        start: For a job that was handed over to begin.
        grace: Between TERM and KILL.
        kill: For a process to be gone after KILL, before it is called unkillable.
        rekill: Between later attempts to kill it.
        refusals: How many refused starts make a job fail.
    """

    start: float = 60.0
    grace: float = 10.0
    kill: float = 10.0
    rekill: float = 30.0
    refusals: int = 3
