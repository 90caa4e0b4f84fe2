"""What every runtime needs to start a job and to find its processes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsclean_workerd.accounts import is_another
from wsclean_workerd.spool import KILLER, LOOK, PROBE, RUNNER, WRAPPER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsclean_workerd.events import Signal
    from wsclean_workerd.model import Job, User
    from wsclean_workerd.spool import Spool

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


def mark_entry(instance: str, job: Job) -> str:
    """The entry of a process's environment by which `kill.sh` knows it.

    Args:
        instance: The daemon that the job belongs to.
        job: The job.
    """
    return f"{MARK}={mark_value(instance, job)}"


def wrapper_command(spool: Spool, job: Job) -> list[str]:
    """The command that starts one job, for the daemon's own user.

    Args:
        spool: Where its folder is.
        job: The job.
    """
    return [
        "/bin/sh",
        spool.script_inside(WRAPPER),
        "-",
        spool.jobs_inside,
        str(job.id),
        str(job.launch),
        *switch_user(job.order.user),
    ]


def runner_command(spool: Spool, name: str, programs: Sequence[str] = ()) -> list[str]:
    """The command that starts the runner, for the daemon's own user.

    Args:
        spool: Where its folder is.
        name: The name of its folder.
        programs: The programs of which it says whether they are there.
    """
    return [
        "/bin/sh",
        spool.script_inside(RUNNER),
        f"{spool.runner_inside}/{name}",
        spool.jobs_inside,
        spool.runner_inside,
        *programs,
    ]


def probe_command(spool: Spool, name: str, mount: str, user: User) -> list[str]:
    """The command that starts the probe of a mount, for the daemon's own user.

    Args:
        spool: Where its folder is.
        name: The name of its folder.
        mount: The mount as a job sees it.
        user: Whom jobs run as.
    """
    return [
        "/bin/sh",
        spool.script_inside(PROBE),
        f"{spool.runner_inside}/{name}",
        mount,
        *switch_user(user),
    ]


def look_for_programs_command(spool: Spool, name: str, programs: Sequence[str]) -> list[str]:
    """The command that looks which programs are there, for the daemon's own user.

    Args:
        spool: Where its folder is.
        name: The name of its folder.
        programs: The programs.
    """
    return [*_look(spool, name), "programs", *programs]


def look_at_mount_command(spool: Spool, name: str, mount: str, user: User) -> list[str]:
    """The command that looks what jobs can do in a mount, for the daemon's own user.

    Args:
        spool: Where its folder is.
        name: The name of its folder.
        mount: The mount as a job sees it.
        user: Whom jobs run as.
    """
    return [*_look(spool, name), "mount", mount, *switch_user(user)]


def _look(spool: Spool, name: str) -> list[str]:
    return ["/bin/sh", spool.script_inside(LOOK), f"{spool.runner_inside}/{name}"]


def kill_command(spool: Spool, instance: str, job: Job, signal: Signal) -> list[str]:
    """The command that sends a signal to all processes of a job, for the job's user.

    Args:
        spool: Where its folder is.
        instance: The daemon that the job belongs to.
        job: The job.
        signal: What to send.
    """
    return [
        "/bin/sh",
        spool.script_inside(KILLER),
        spool.job_inside(job.id),
        mark_entry(instance, job),
        signal.value,
    ]


def switch_user(user: User) -> list[str]:
    """The command that turns root into a job's user, with nothing of root's left.

    Args:
        user: Whom the job runs as.

    Returns:
        The words to put before the command (setpriv(1), of util-linux); none if it is
        the daemon's own user.
    """
    if not is_another(user):
        return []
    groups = ",".join(str(gid) for gid in user.groups)
    return [
        "setpriv",
        f"--reuid={user.uid}",
        f"--regid={user.gid}",
        f"--groups={groups}" if groups else "--clear-groups",
        "--inh-caps=-all",
    ]
