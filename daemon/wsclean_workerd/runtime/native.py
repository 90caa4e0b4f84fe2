"""Runs jobs on the host itself, with the host's own programs and no container."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import pwd
import shutil
import subprocess
from typing import TYPE_CHECKING

from wsclean_workerd.accounts import is_another
from wsclean_workerd.errors import LaunchRefused, RuntimeUnavailable
from wsclean_workerd.model import Reason, RuntimeCondition
from wsclean_workerd.runtime.launching import (
    FIND,
    found_any,
    kill_command,
    signalled,
    switch_user,
    wrapper_command,
)
from wsclean_workerd.runtime.runners import Runners, lacking, no_runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.events import Signal
    from wsclean_workerd.model import Job, User
    from wsclean_workerd.spool import Spool

log = logging.getLogger(__name__)

_SPAWN_SECONDS = 15.0

# What service managers tell the daemon is not meant for its jobs.
_DAEMON_ONLY = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "INVOCATION_ID", "JOURNAL_STREAM")


class NativeRuntime:
    """The host as a runtime. It is always ready and never lost.

    Args:
        instance: The label by which the processes of this daemon's jobs are known.
        spool: Where the job folders are.
        disk: Access to the state disk.
        programs: The programs that may run, to say which of them are missing.
        user: Whom it is tried with whether the host can turn into another user.
    """

    kind = "native"

    def __init__(
        self, *, instance: str, spool: Spool, disk: Disk, programs: Sequence[str], user: User
    ) -> None:
        self._instance = instance
        self._spool = spool
        self._runners = Runners(spool, disk, user)
        self.programs = programs

    def environment(self, user: User) -> Mapping[str, str]:
        """The variables that every job of a user gets; see `Runtime.environment`."""
        try:
            return {"HOME": pwd.getpwuid(user.uid).pw_dir}
        except KeyError:
            return {"HOME": "/"}

    async def ensure(self, *, busy: bool) -> RuntimeCondition:
        """Look which programs there are; see `Runtime.ensure`."""
        del busy
        found = [program for program in self.programs if shutil.which(program)]
        if not found:
            raise RuntimeUnavailable(
                "PROGRAMS_MISSING",
                f"none of {', '.join(self.programs)} is on this host's PATH: install WSClean, or "
                'use runtime = "docker"',
            )
        try:
            missing = await self._runners.ensure(None, self._start_script)
        except (RuntimeUnavailable, LaunchRefused) as error:
            return RuntimeCondition(ready=True, reason=no_runner(str(error)))
        reason = no_runner(f"the host lacks {lacking(missing)}") if missing else None
        return RuntimeCondition(ready=True, reason=reason)

    async def lost(self) -> None:
        """Wait for the end of the runner: the host is lost together with the daemon."""
        await self._runners.lost()

    async def launch(self, job: Job) -> None:
        """Start the wrapper in a session of its own; see `Runtime.launch`."""
        if not await self._runners.launch(job):
            await self._start_script(wrapper_command(self._spool, job))

    def release(self, job: Job, *, reusable: bool) -> None:
        """Take note that the command of a job has ended; see `Runtime.release`."""
        self._runners.release(job, reusable=reusable)

    def suspect(self) -> None:
        """Take note that starts do not happen; see `Runtime.suspect`."""
        self._runners.give_up()

    async def start_aside(self, command: list[str], user: User) -> None:
        """Start a command of the daemon's own; see `Runtime.start_aside`."""
        await self._start_script([*command, *switch_user(user)])

    async def signal(self, job: Job, signal: Signal) -> None:
        """Run the killer as the job's user; see `Runtime.signal`."""
        signalled(await self._ask(job, signal.value))

    async def search(self, job: Job) -> bool:
        """Have the killer look as the job's user; see `Runtime.search`."""
        return found_any(await self._ask(job, FIND))

    async def _ask(self, job: Job, verb: str) -> int:
        status = await self._runners.ask(self._instance, job, verb)
        if status is not None:
            return status
        user = job.order.user
        command = kill_command(self._spool, self._instance, job, verb)
        work = functools.partial(self._call, command, environment=_environment())
        if is_another(user):
            work = functools.partial(
                work, user=user.uid, group=user.gid, extra_groups=list(user.groups)
            )
        return await self._spawn(work)

    async def explain_loss(self, container: str | None) -> Reason:
        """Say what is known of a loss, which is little."""
        del container
        return Reason(
            "PROCESSES_GONE",
            "its processes ended and left no exit status: the host was restarted, or something "
            "killed the wrapper",
        )

    async def remove(self) -> None:
        """Let the runner end; see `Runtime.remove`."""
        self._runners.drop()

    async def close(self) -> None:
        """Let go of the runner; whatever runs goes on."""
        self._runners.drop()

    async def _start_script(self, words: list[str]) -> None:
        # It forks and its parent ends at once, so that it is nobody's child here: it
        # neither dies with the daemon nor has to be reaped.
        command = ["setsid", "--fork", *words]
        work = functools.partial(self._call, command, environment=_environment())
        if status := await self._spawn(work):
            raise LaunchRefused(f"{command[0]} ended with {status}")

    @staticmethod
    async def _spawn(work: functools.partial[int]) -> int:
        try:
            return await asyncio.to_thread(work)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeUnavailable(
                "CANNOT_SPAWN", f"the host starts no processes: {error}"
            ) from None

    @staticmethod
    def _call(
        command: list[str],
        *,
        environment: Mapping[str, str],
        user: int | None = None,
        group: int | None = None,
        extra_groups: list[int] | None = None,
    ) -> int:
        done = subprocess.run(  # noqa: S603 - the daemon's own scripts
            command,
            check=False,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SPAWN_SECONDS,
            user=user,
            group=group,
            extra_groups=extra_groups,
            cwd="/",
        )
        return done.returncode


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_DAEMON_ONLY)}
