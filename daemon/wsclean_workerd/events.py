"""What can happen to a job, and what is then to be done. Plain data.

Events go into `wsclean_workerd.state_machine.step`, instructions come out of it.
Carrying out an instruction twice must do no more than carrying it out once:
recovery repeats them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wsclean_workerd.model import Instant, JobId, Reason


class Timer(enum.Enum):
    """The waits of a job that have an end."""

    QUEUE = "for a slot"
    START = "for the command to begin"
    RUN = "for the command to end"
    GRACE = "for the command to end after TERM"
    KILL = "for the processes to be gone after KILL"
    LINGER = "for the processes that outlive the command"


class Signal(enum.Enum):
    """What a job's processes can be sent."""

    TERM = "TERM"
    KILL = "KILL"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, and when."""

    at: Instant


@dataclass(frozen=True, slots=True)
class News(Event):
    """Something that happened to the processes of one start of a job.

    Attributes:
        launch: The number of the start. News of one that is settled mean nothing. None if it
            can only be the present one.
    """

    launch: int | None = field(default=None, kw_only=True)


class Tell(Protocol):
    """Whoever wants to know what happens to jobs."""

    def __call__(self, job_id: JobId, /, *events: Event) -> None:
        """Take note of what has happened to a job, in this order and all at once."""
        ...


@dataclass(frozen=True, slots=True)
class JobChosen(Event):
    """The scheduler gave the job a slot, in this container if there is one."""

    container: str | None = None


@dataclass(frozen=True, slots=True)
class JobStarted(News):
    """The wrapper claimed the job: its command runs."""


@dataclass(frozen=True, slots=True)
class JobExited(News):
    """The command ended with this status.

    Attributes:
        status: The exit status, 128 + n if signal n ended it.
        started: When it began, if that may not have been told before.
        out_of_memory: Whether the kernel ended it because memory ran out.
    """

    status: int
    started: Instant | None = None
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class JobGone(News):
    """The last process of the job is gone.

    Attributes:
        reason: Why, which matters only if the command left no status.
    """

    reason: Reason


@dataclass(frozen=True, slots=True)
class StatusLost(News):
    """Nobody is left to write the exit status, but processes of the job are.

    Attributes:
        reason: Why.
    """

    reason: Reason


@dataclass(frozen=True, slots=True)
class LaunchFailed(News):
    """The job was not started and this start never will be.

    Attributes:
        reason: Why.
        refused: Whether that lies in the job or its image, so that trying again
            without end would be in vain.
    """

    reason: Reason
    refused: bool


@dataclass(frozen=True, slots=True)
class CancelRequested(Event):
    """Somebody wants the job to end."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class OutputExceeded(News):
    """The command has written more than it may.

    Attributes:
        limit: How much that is, in bytes.
    """

    limit: int


@dataclass(frozen=True, slots=True)
class KillDelivered(News):
    """KILL was sent to every process of the job that could be found."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed(Event):
    """A timer that was armed has run out."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class StartJob:
    """Prepare the job's folder and hand it to the runtime."""


@dataclass(frozen=True, slots=True)
class ResolveLaunch:
    """Find out whether the job was started, and see to it that it never will be if not.

    Attributes:
        refused: Whether it counts against the job if it was not.
    """

    refused: bool = False


@dataclass(frozen=True, slots=True)
class AttachJob:
    """Watch the processes of a job that was started before."""


@dataclass(frozen=True, slots=True)
class SignalJob:
    """Send a signal to every process of the job."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class ForgetLaunch:
    """Attend no longer to the last start of a job: it is over, and another one is to follow."""


@dataclass(frozen=True, slots=True)
class ArmTimer:
    """Send `DeadlinePassed` at a time of the boot clock, in seconds."""

    timer: Timer
    due: float


@dataclass(frozen=True, slots=True)
class DisarmTimer:
    """Forget a timer."""

    timer: Timer


Instruction = (
    StartJob | ResolveLaunch | AttachJob | SignalJob | ForgetLaunch | ArmTimer | DisarmTimer
)
