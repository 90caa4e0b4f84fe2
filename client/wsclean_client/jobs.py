"""Jobs as a caller sees them: plain, immutable values without any gRPC in them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

StreamName: TypeAlias = Literal["stdout", "stderr"]
"""One of the two outputs of a job."""


class JobState(enum.StrEnum):
    """Where a job is in its life."""

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
    UNKNOWN = "UNKNOWN"
    """A state that a newer daemon has and this client has no name for."""

    @property
    def ended(self) -> bool:
        """Whether no other state follows."""
        return self in _ENDED


_ENDED = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.TIMED_OUT,
        JobState.CANCELLED,
        JobState.LOST,
    },
)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is as it is.

    Attributes:
        code: A word for programs, for example `RUN_TIMEOUT`.
        message: A sentence for people.
    """

    code: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """The same as JSON has it."""
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A job as the daemon knew it at one moment.

    Attributes:
        id: Its id on this host.
        state: Where it was in its life.
        command: The program and its arguments, as they were submitted.
        working_directory: The folder on the host that it was submitted from.
        submitted_at: When the daemon accepted it, in UTC.
        started_at: When its command began to run, in this attempt, or None.
        ended_at: When it ended, or None.
        reason: Why it ended as it did, is being stopped or waits, or None.
        exit_status: The exit status of the command, 128 + n if signal n ended it,
            or None if it has not ended or its outcome cannot be known.
        mapped_command: The command as it runs inside the container.
        mapped_working_directory: Its folder inside the container.
        environment: The variables added to its environment.
        run_timeout: Seconds that it may run, or None for no limit.
        container_id: The container it was started in, or the empty string.
        lingering: Whether some of its processes remain although it has ended.
        locks: What it locks, each by the one name that it has for all jobs; held from its
            start until its last process is gone.
        retries: How often its command may be run again after it was lost.
        attempt: Which run of its command this is, or is to be.
        last_loss: Why the attempt before was lost, or None in the first.
        queued_at: Since when it has waited for this attempt, or had; None if the daemon does
            not say so.
        owner: The number of the user who submitted it, or None if the daemon does not say so.
    """

    id: str
    state: JobState
    command: tuple[str, ...]
    working_directory: str
    submitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: Reason | None = None
    exit_status: int | None = None
    mapped_command: tuple[str, ...] = ()
    mapped_working_directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    run_timeout: float | None = None
    container_id: str = ""
    lingering: bool = False
    locks: tuple[str, ...] = ()
    retries: int = 0
    attempt: int = 1
    last_loss: Reason | None = None
    queued_at: datetime | None = None
    owner: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.state.ended or (self.state is JobState.UNKNOWN and self.ended_at is not None)

    @property
    def program(self) -> str:
        """The program it runs."""
        return self.command[0] if self.command else ""

    @property
    def queue_seconds(self) -> float | None:
        """Seconds from its submission to its start, or to its end if it never started.

        Of a further attempt: since it was put back to run again. None while it waits.
        """
        until = self.started_at or self.ended_at
        return _seconds(self.queued_at or self.submitted_at, until)

    @property
    def run_seconds(self) -> float | None:
        """Seconds from its start to its end. None unless it has had both."""
        return _seconds(self.started_at, self.ended_at)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it: times in ISO 8601, UTC."""
        return {
            "id": self.id,
            "state": str(self.state),
            "reason": self.reason.as_dict() if self.reason else None,
            "exit_status": self.exit_status,
            "command": list(self.command),
            "mapped_command": list(self.mapped_command),
            "working_directory": self.working_directory,
            "mapped_working_directory": self.mapped_working_directory,
            "environment": dict(self.environment),
            "submit_time": iso(self.submitted_at),
            "start_time": iso(self.started_at),
            "end_time": iso(self.ended_at),
            "queue_seconds": self.queue_seconds,
            "run_seconds": self.run_seconds,
            "run_timeout": self.run_timeout,
            "container_id": self.container_id,
            "lingering": self.lingering,
            "locks": list(self.locks),
            "retries": self.retries,
            "attempt": self.attempt,
            "last_loss": self.last_loss.as_dict() if self.last_loss else None,
            "queue_time": iso(self.queued_at),
            "owner": self.owner,
        }


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of what a job has written.

    Attributes:
        stream: Which of its outputs it wrote to.
        offset: Where in that output the piece begins, in bytes.
        data: The bytes.
    """

    stream: StreamName
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Where in that output the next piece begins, in bytes."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedJob:
    """What `WSCleanClient.run` returns, like `subprocess.CompletedProcess`.

    Attributes:
        info: The job as it ended.
        returncode: The exit status of the command, 128 + n if signal n ended it.
        stdout_bytes: All that it wrote to standard output.
        stderr_bytes: All that it wrote to standard error.
    """

    info: JobInfo
    returncode: int
    stdout_bytes: bytes = field(default=b"", repr=False)
    stderr_bytes: bytes = field(default=b"", repr=False)

    @property
    def stdout(self) -> str:
        """What it wrote to standard output; bytes that are no UTF-8 are replaced."""
        return text(self.stdout_bytes)

    @property
    def stderr(self) -> str:
        """What it wrote to standard error; bytes that are no UTF-8 are replaced."""
        return text(self.stderr_bytes)

    @property
    def args(self) -> list[str]:
        """The command, as it was submitted."""
        return list(self.info.command)

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return self.info.id

    @property
    def state(self) -> JobState:
        """How it ended: SUCCEEDED or FAILED."""
        return self.info.state

    @property
    def reason(self) -> Reason | None:
        """Why it ended as it did, in the daemon's words."""
        return self.info.reason

    @property
    def submitted_at(self) -> datetime:
        """When the daemon accepted it, in UTC."""
        return self.info.submitted_at

    @property
    def started_at(self) -> datetime | None:
        """When its command began to run, in UTC."""
        return self.info.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, in UTC."""
        return self.info.ended_at

    @property
    def queue_seconds(self) -> float | None:
        """Seconds that it waited in the queue."""
        return self.info.queue_seconds

    @property
    def run_seconds(self) -> float | None:
        """Seconds that its command ran."""
        return self.info.run_seconds


def text(data: bytes) -> str:
    """Decode what a job has written; bytes that are no UTF-8 are replaced."""
    return data.decode("utf-8", errors="replace")


def iso(moment: datetime | None) -> str | None:
    """Write a time in UTC as ISO 8601 with a Z at its end."""
    if moment is None:
        return None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    if begin is None or end is None:
        return None
    # The wall clock of the host may have been stepped in between.
    return max(0.0, (end - begin).total_seconds())
