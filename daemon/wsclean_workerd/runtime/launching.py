"""What every runtime needs to start a job and to find its processes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsclean_workerd.accounts import is_another
from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.spool import BECOMER, KILLER, LOOK, PROBE, RUNNER, WRAPPER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsclean_workerd.model import Job, User
    from wsclean_workerd.spool import Spool

MARK = "WSCLEAN_WORKERD_MARK"
"""The environment variable by which the processes of a job are found."""

FIND = "FIND"
"""What `kill.sh` is told instead of a signal if it is only to look."""

SOME_LEFT = 0
NONE_LEFT = 3
"""How `kill.sh` ends if it was told to look."""


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
    start = [spool.attempt_name(job), str(job.launch)]
    return [*_wrapper(spool, "one"), *start, *switch_user(job.order.user)]


def pair_commands(spool: Spool, job: Job, name: str) -> tuple[list[str], list[str]]:
    """The commands that start one job together where no command turns into its user.

    Args:
        spool: Where its folder is.
        job: The job.
        name: The name of the folder where the two find each other.

    Returns:
        The command for the daemon's own user and that for the job's.
    """
    folder = f"{spool.runner_inside}/{name}"
    return (
        [*_wrapper(spool, "pair"), spool.attempt_name(job), str(job.launch), folder],
        ["/bin/sh", spool.script_inside(BECOMER), "pair", folder],
    )


def _wrapper(spool: Spool, mode: str) -> list[str]:
    return ["/bin/sh", spool.script_inside(WRAPPER), mode, spool.jobs_inside]


def runner_command(spool: Spool, name: str, user: User, programs: Sequence[str] = ()) -> list[str]:
    """The command that starts the runner, for the daemon's own user.

    Args:
        spool: Where its folder is.
        name: The name of its folder.
        user: Whom jobs run as.
        programs: The programs of which it says whether they are there.
    """
    return [
        "/bin/sh",
        spool.script_inside(RUNNER),
        f"{spool.runner_inside}/{name}",
        spool.jobs_inside,
        spool.runner_inside,
        str(len(programs)),
        *programs,
        *switch_user(user),
    ]


def probe_command(spool: Spool, name: str, mount: str) -> list[str]:
    """The command that starts the probe of a mount, without what turns into the jobs' user.

    Args:
        spool: Where its folder is.
        name: The name of its folder.
        mount: The mount as a job sees it.
    """
    return ["/bin/sh", spool.script_inside(PROBE), f"{spool.runner_inside}/{name}", mount]


def look_for_programs_command(spool: Spool, name: str, programs: Sequence[str]) -> list[str]:
    """The command that looks which programs are there, for the jobs' user.

    Args:
        spool: Where its folder is.
        name: The name of its folder.
        programs: The programs.
    """
    return [*_look(spool, name), "programs", str(len(programs)), *programs]


def look_at_mount_command(spool: Spool, name: str, mount: str) -> list[str]:
    """The command that looks what jobs can do in a mount, for the jobs' user.

    Args:
        spool: Where its folder is.
        name: The name of its folder.
        mount: The mount as a job sees it.
    """
    return [*_look(spool, name), "mount", mount]


def _look(spool: Spool, name: str) -> list[str]:
    return ["/bin/sh", spool.script_inside(LOOK), f"{spool.runner_inside}/{name}"]


def kill_command(
    spool: Spool, instance: str, job: Job, verb: str, answer: str | None = None
) -> list[str]:
    """The command that sends a signal to all processes of a job, for the job's user.

    Args:
        spool: Where its folder is.
        instance: The daemon that the job belongs to.
        job: The job.
        verb: The signal by name, or `FIND`.
        answer: The FIFO that its exit status is written to, as the job sees it.
    """
    return [
        "/bin/sh",
        spool.script_inside(KILLER),
        spool.attempt_inside(job),
        mark_entry(instance, job),
        verb,
        *([] if answer is None else [answer]),
    ]


def signalled(status: int) -> None:
    """Judge how `kill.sh` ended that was told to send a signal.

    Args:
        status: Its exit status.

    Raises:
        RuntimeUnavailable: If it could not do it.
    """
    if status:
        raise _killer_failed(status)


def found_any(status: int) -> bool:
    """Judge how `kill.sh` ended that was told to look.

    Args:
        status: Its exit status.

    Returns:
        Whether there is any process of the job.

    Raises:
        RuntimeUnavailable: If it could not look.
    """
    if status not in (SOME_LEFT, NONE_LEFT):
        raise _killer_failed(status)
    return status == SOME_LEFT


def _killer_failed(status: int) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        "CANNOT_SIGNAL",
        f"the script that looks for a job's processes ({KILLER}) ended with {status}",
    )


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
