"""What every runtime needs to start a job and to find its processes again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsclean_workerd.model import Job, User

MARK = "WSCLEAN_WORKERD_MARK"
"""The environment variable by which the processes of a job are found."""


def mark_value(instance: str, job: Job) -> str:
    """The value of `MARK` for one start of a job.

    It ends in a slash, so that none is the beginning of another.

    Args:
        instance: The daemon that the job belongs to.
        job: The job.
    """
    return f"{instance}/{job.id}/{job.launch}/"


def mark(instance: str, job: Job) -> str:
    """The mark as it stands in the environment of the job's processes."""
    return f"{MARK}={mark_value(instance, job)}"


def switch_user(user: User) -> list[str]:
    """The command that turns root into a job's user, with nothing of root's left.

    Args:
        user: Whom the job runs as.

    Returns:
        The words to put before the command (setpriv(1), of util-linux).
    """
    groups = ",".join(str(gid) for gid in user.groups)
    return [
        "setpriv",
        f"--reuid={user.uid}",
        f"--regid={user.gid}",
        f"--groups={groups}" if groups else "--clear-groups",
        "--inh-caps=-all",
    ]
