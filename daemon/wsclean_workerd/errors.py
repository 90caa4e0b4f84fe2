"""What the daemon tells callers when it cannot do what they ask.

Each class is one kind of refusal, its `code` the name of a canonical gRPC status
and its `reason` the word a program can match. Messages begin with what cannot be
done, name the thing, and end with the way out.
"""

from __future__ import annotations


class WorkerdError(Exception):
    """A request that cannot be served, with the words for it.

    Args:
        message: A sentence for a person.
        reason: Overrides the class's reason.
        metadata: Facts a program may want, for google.rpc.ErrorInfo.
    """

    code = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason
        self.metadata = metadata


class InvalidRequest(WorkerdError):
    """A field of the request holds what cannot be."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_REQUEST"


class UnmappedPath(InvalidRequest):
    """A path that no job could see."""

    reason = "UNMAPPED_PATH"


class UnknownProgram(InvalidRequest):
    """A program that is not on the list of those that may run."""

    code = "PERMISSION_DENIED"
    reason = "UNKNOWN_PROGRAM"


class OutputWouldBeLost(InvalidRequest):
    """A command whose images would be written where nobody finds them."""

    reason = "OUTPUT_WOULD_BE_LOST"


class NoSuchJob(WorkerdError):
    """A job id that names nothing."""

    code = "NOT_FOUND"
    reason = "NO_SUCH_JOB"


class TokenMissing(WorkerdError):
    """A call that does not say whose it is."""

    code = "UNAUTHENTICATED"
    reason = "TOKEN_MISSING"


class TokenInvalid(TokenMissing):
    """A token that the daemon has not made."""

    reason = "TOKEN_INVALID"


class TokenExpired(TokenMissing):
    """A token that counts no longer: another one does."""

    reason = "TOKEN_EXPIRED"


class NotOwner(WorkerdError):
    """A job of somebody else."""

    code = "PERMISSION_DENIED"
    reason = "NOT_OWNER"


class NotOperator(WorkerdError):
    """A call that is for operators."""

    code = "PERMISSION_DENIED"
    reason = "NOT_OPERATOR"


class RootRefused(WorkerdError):
    """A job that would run as root."""

    code = "PERMISSION_DENIED"
    reason = "ROOT_REFUSED"


class SubmitterRefused(WorkerdError):
    """A job of a user that the daemon cannot become."""

    code = "PERMISSION_DENIED"
    reason = "SUBMITTER_REFUSED"


class JournalUnavailable(WorkerdError):
    """The journal cannot be written, so nothing can be accepted."""

    code = "UNAVAILABLE"
    reason = "JOURNAL_UNAVAILABLE"


class Resumed(WorkerdError):
    """What was waited for will not happen, since jobs are started again."""

    code = "ABORTED"
    reason = "RESUMED"


class ShuttingDown(WorkerdError):
    """The daemon is about to end."""

    code = "UNAVAILABLE"
    reason = "SHUTTING_DOWN"


class StartError(Exception):
    """The daemon cannot start: a message that names the file or key and the way out."""


class ConfigError(StartError):
    """The configuration cannot be used."""


class RuntimeUnavailable(Exception):
    """What runs the jobs is not there at present; trying later may help.

    Args:
        code: A word a program can match, for example ENGINE_UNREACHABLE.
        message: A sentence for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LockTaken(Exception):
    """A job cannot be written down as holding a lock, since another one holds it.

    Args:
        lock: The lock.
        holder: The job that holds it.
    """

    def __init__(self, lock: str, holder: int) -> None:
        super().__init__(f"job {holder} holds {lock}")
        self.lock = lock
        self.holder = holder


class LaunchRefused(Exception):
    """This job could not be handed over although the runtime is there."""


class ProgramsMissing(Exception):
    """Nothing that a job may run is to be found where jobs run."""
