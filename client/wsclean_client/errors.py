"""What the client raises.

    WSCleanError
    ├── DaemonNotReachable    no answer from the daemon
    ├── RequestRefused        the daemon does not want this
    │   ├── NotAuthenticated  it does not know who asks
    │   └── PermissionDenied  it does not want it of this user
    ├── DaemonFailed          the daemon has a fault, or is too old
    ├── JobNotFound           no such job
    ├── ClientClosed          the client is used after close()
    ├── WaitTimeout           waiting took too long; the job goes on
    └── JobEnded              the job ended otherwise than it should have
        ├── JobFailed
        ├── JobTimedOut
        ├── JobCancelled
        └── JobLost

All of them can be pickled, so they pass through multiprocessing unharmed.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from wsclean_client.jobs import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsclean_client.jobs import JobInfo

TAIL_LINES = 20
"""How many of the last lines of its output the message of a failed job has."""

_TAIL_BYTES = 8192
_SIGNALLED = 128


class WSCleanError(Exception):
    """Whatever goes wrong with the daemon or with a job."""


class DaemonNotReachable(WSCleanError, ConnectionError):
    """The daemon does not answer: it is not running, or this user may not connect."""


class RequestRefused(WSCleanError):
    """The daemon, or the client on its behalf, does not accept the request.

    Args:
        message: What cannot be done, and the way out.
        reason: A word for programs, for example `UNMAPPED_PATH`.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class NotAuthenticated(RequestRefused):
    """The daemon does not know who asks: there is no token, or it does not count."""


class PermissionDenied(RequestRefused):
    """This user may not: it is somebody else's job, or for operators, or not allowed at all."""


class DaemonFailed(WSCleanError):
    """The daemon could not serve the request although nothing is wrong with it.

    Args:
        message: What the daemon said.
        reason: A word for programs, for example `INTERNAL`.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class JobNotFound(WSCleanError, LookupError):
    """The daemon knows no job with that id."""


class ClientClosed(WSCleanError):
    """The client was closed, so it can make no more calls."""


class WaitTimeout(WSCleanError, TimeoutError):
    """The job has not ended in the time one was willing to wait. It goes on."""


class JobEnded(WSCleanError):
    """The job ended otherwise than with exit status 0.

    Args:
        job: The job as it ended.
        stdout: All that it wrote to standard output.
        stderr: All that it wrote to standard error.

    Attributes:
        job: The job as it ended.
        stdout_bytes: All that it wrote to standard output.
        stderr_bytes: All that it wrote to standard error.
    """

    def __init__(self, job: JobInfo, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(self._describe(job, stdout, stderr))
        self.job = job
        self.stdout_bytes = stdout
        self.stderr_bytes = stderr

    @property
    def stdout(self) -> str:
        """What the job wrote to standard output; bytes that are no UTF-8 are replaced."""
        return text(self.stdout_bytes)

    @property
    def stderr(self) -> str:
        """What the job wrote to standard error; bytes that are no UTF-8 are replaced."""
        return text(self.stderr_bytes)

    @property
    def returncode(self) -> int | None:
        """The exit status of the command, or None if there is none."""
        return self.job.exit_status

    @staticmethod
    def _describe(job: JobInfo, _stdout: bytes, _stderr: bytes) -> str:
        return _sentence(job, f"ended as {job.state}")

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        # The message is made from these, so the usual way (from the message)
        # could not build it again.
        return type(self), (self.job, self.stdout_bytes, self.stderr_bytes), self.__dict__


class JobFailed(JobEnded):
    """The command ended with another exit status than 0, or could not be started.

    Its message ends with the last lines that the command wrote.
    """

    @staticmethod
    def _describe(job: JobInfo, stdout: bytes, stderr: bytes) -> str:
        if job.exit_status is None:
            return _sentence(job, "could not be started")
        first = f"job {job.id}: {job.program} ended with {describe_exit(job.exit_status)}"
        last = tail(stderr) or tail(stdout)
        return f"{first}:\n{last}" if last else first


class JobTimedOut(JobEnded, TimeoutError):
    """The job exceeded the time it may run or the time it may wait in the queue."""

    @staticmethod
    def _describe(job: JobInfo, _stdout: bytes, _stderr: bytes) -> str:
        return _sentence(job, "timed out")


class JobCancelled(JobEnded):
    """The job was cancelled."""

    @staticmethod
    def _describe(job: JobInfo, _stdout: bytes, _stderr: bytes) -> str:
        return _sentence(job, "was cancelled")


class JobLost(JobEnded):
    """The outcome of the job cannot be known: its container died, for example."""

    @staticmethod
    def _describe(job: JobInfo, _stdout: bytes, _stderr: bytes) -> str:
        return _sentence(job, "was lost")


def describe_exit(status: int) -> str:
    """Say what an exit status means: a status above 128 tells of a signal."""
    if status > _SIGNALLED:
        try:
            name = signal.Signals(status - _SIGNALLED).name
        except ValueError:
            pass
        else:
            return f"exit status {status} ({name})"
    return f"exit status {status}"


def tail(output: bytes, lines: int = TAIL_LINES) -> str:
    """Return the last lines of an output, without those that are empty at its end."""
    last = text(output[-_TAIL_BYTES:]).rstrip().splitlines()[-lines:]
    return "\n".join(last)


def _sentence(job: JobInfo, what: str) -> str:
    because = f": {job.reason.message}" if job.reason and job.reason.message else ""
    return f"job {job.id}: {job.program} {what}{because}"
