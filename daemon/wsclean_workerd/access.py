"""Who may do what, and whom a job runs as. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd.errors import (
    NotOperator,
    NotOwner,
    RootRefused,
    SubmitterRefused,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wsclean_workerd.model import Job, User

ROOT = 0


class Right(enum.Enum):
    """Who may call something. Whoever may connect at all is decided by the socket."""

    CONNECTED = "whoever can connect, also without a token"
    KNOWN = "whoever has a token"
    OWNER = "whoever has a token, for jobs of his own; operators for all"
    OPERATOR = "operators"


RIGHTS: Mapping[str, Right] = {
    "SubmitJob": Right.KNOWN,
    "RunJob": Right.KNOWN,
    "GetJob": Right.OWNER,
    "ListJobs": Right.OWNER,
    "WatchJobs": Right.OWNER,
    "ReadLogs": Right.OWNER,
    "CancelJob": Right.OWNER,
    # How it is cannot depend on what may be the matter.
    "GetStatus": Right.CONNECTED,
    "DiagnoseWorker": Right.KNOWN,
    "DrainWorker": Right.OPERATOR,
    "ResumeWorker": Right.OPERATOR,
    "ShutDownWorker": Right.OPERATOR,
}
"""Every call of the service. Health and reflection are other services, and open."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        user: As the kernel has said.
        operator: Whether he may do everything.
    """

    user: User
    operator: bool

    def owns(self, job: Job) -> bool:
        """Whether he sees a job, and may cancel it."""
        return self.operator or self.user.uid == job.owner

    def check_owns(self, job: Job) -> None:
        """Have somebody else's job left alone.

        It is not denied that there is such a job: that would be no secret, as numbers follow
        each other, and who has mistyped one is told more by the truth.

        Raises:
            NotOwner: If it is not his, and he is no operator.
        """
        if not self.owns(job):
            raise NotOwner(
                f"cannot tell you of job {job.id}: it was submitted by another user. He can, and "
                "so can operators: root, and members of the group socket.operators of the "
                "configuration",
                id=str(job.id),
            )

    def check_may(self, call: str) -> None:
        """Have calls for operators left alone.

        Raises:
            NotOperator: If it is one and he is none.
        """
        if RIGHTS[call] is Right.OPERATOR and not self.operator:
            raise NotOperator(
                f"cannot call {call}: only operators can. They are root, and members of the group "
                "socket.operators of the configuration"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """Who may do everything.

    Attributes:
        own_uid: The daemon's own user, who has its files anyway.
        gid: The group of others, or None.
    """

    own_uid: int
    gid: int | None

    def caller(self, user: User) -> Caller:
        """Tell what a user is."""
        member = self.gid is not None and self.gid in (user.gid, *user.groups)
        return Caller(user, member or user.uid in (ROOT, self.own_uid))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAs:
    """Whom jobs run as.

    Attributes:
        fixed: All jobs run as this one, or None.
        own: The daemon's own user if it cannot become another, otherwise None.
        allow_root: Whether root's jobs run as root.
    """

    fixed: User | None = None
    own: User | None = None
    allow_root: bool = False

    def user_for(self, submitter: User) -> User:
        """Decide whom a job runs as.

        Args:
            submitter: Who has submitted it.

        Raises:
            RootRefused: If it would run as root.
            SubmitterRefused: If the daemon cannot run it as this user.
        """
        if self.fixed is not None:
            return self.fixed
        if self.own is not None:
            if submitter.uid != self.own.uid:
                raise SubmitterRefused(
                    f"cannot run jobs of user {submitter.uid}: the daemon runs as user "
                    f"{self.own.uid} and cannot become another. Submit as that user, run the "
                    "daemon as root, or set jobs.run_as",
                    uid=str(submitter.uid),
                )
            return self.own
        if submitter.uid == ROOT and not self.allow_root:
            raise RootRefused(
                "cannot run a job as root: submit it as the user that its files are to belong to "
                "(runuser -u USER -- …), or have the configuration say jobs.allow_root = true, or "
                'jobs.run_as = "USER" for all jobs'
            )
        return submitter
