"""The runner of the present, and its successor when it is gone."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from wsclean_workerd.errors import ProgramsMissing
from wsclean_workerd.model import Reason
from wsclean_workerd.runtime.runner import Runner, RunnerUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.model import Job, User
    from wsclean_workerd.spool import Spool

log = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0

NO_SWITCH = "setpriv"
NO_SESSION = "setsid"
_MISSING = {
    NO_SWITCH: "a setpriv that turns into the jobs' user (of util-linux)",
    NO_SESSION: "setsid",
    "setsid--fork": "a setsid that knows --fork (of util-linux)",
}


class Runners:
    """The runner of the present, and its successor when it is gone.

    Args:
        spool: Where their folders are.
        disk: Access to the state disk.
        user: Whom jobs run as.
        programs: Those that jobs may run, if it is to be found out whether any is there.
    """

    def __init__(self, spool: Spool, disk: Disk, user: User, programs: Sequence[str] = ()) -> None:
        self._spool = spool
        self._disk = disk
        self._user = user
        self._programs = programs
        self._current: Runner | None = None
        self._where: str | None = None

    async def launch(self, job: Job) -> bool:
        """Have a job started, whose folder is prepared.

        Returns:
            Whether a runner took it; if not, it is to be started without one.
        """
        try:
            await self._runner().launch(job)
        except RunnerUnavailable as error:
            log.debug(
                "job %s is started without the runner: %s", job.id, error, extra={"job": job.id}
            )
            return False
        return True

    async def ask(self, instance: str, job: Job, verb: str) -> int | None:
        """Have a signal sent to all processes of a job, or have them looked for.

        Returns:
            The exit status of what has done it, or None if it is to be done without a
            runner; see `Runner.ask`.
        """
        try:
            return await self._runner().ask(instance, job, verb)
        except RunnerUnavailable as error:
            log.debug(
                "job %s gets %s without the runner: %s",
                job.id,
                verb,
                error,
                extra={"job": job.id},
            )
            return None

    async def ensure(
        self, where: str | None, start_script: Callable[[list[str]], Awaitable[None]]
    ) -> list[str]:
        """Have a runner in a container.

        Args:
            where: The id of the container, None on the host.
            start_script: Starts a command there, and does not wait for it.

        Returns:
            What it needs and has not found; nothing if there was one already.

        Raises:
            RuntimeUnavailable: If it cannot be started.
            ProgramsMissing: If it has found none of the programs.
        """
        if self._current is not None:
            if self._where == where and not self._current.gone.is_set():
                return []
            self.drop()
        name = os.urandom(6).hex()
        runner = Runner(self._spool, name, self._disk, self._user, self._programs)
        try:
            missing = await runner.start(start_script)
            self._check_programs(runner)
        except BaseException:
            runner.close()
            raise
        if missing:
            runner.close()
            return missing
        self._current, self._where = runner, where
        return []

    async def lost(self) -> None:
        """Wait until the runner is gone, or one that could not be started may be tried again."""
        if self._current is not None:
            await self._current.gone.wait()
        else:
            await asyncio.sleep(_RETRY_SECONDS)

    def release(self, job: Job, *, reusable: bool) -> None:
        """Take note that the command of a job has ended; see `Runner.release`."""
        if self._current is not None:
            self._current.release(job.last_launch, reusable=reusable)

    def give_up(self) -> None:
        """Take the runner for stuck, so that another one is started."""
        if self._current is not None and not self._current.gone.is_set():
            log.warning("the runner does nothing: starting another one")
            self._current.give_up()

    def drop(self) -> None:
        """Let go of the runner."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def _check_programs(self, runner: Runner) -> None:
        if self._programs and not runner.programs:
            raise ProgramsMissing(f"none of {', '.join(self._programs)} is to be found")

    def _runner(self) -> Runner:
        if self._current is None or self._current.gone.is_set():
            raise RunnerUnavailable("there is no runner")
        return self._current


def lacking(missing: Sequence[str]) -> str:
    """What a runner needs and has not found, for people.

    Args:
        missing: What `Runners.ensure` has returned.
    """
    return ", ".join(_MISSING.get(each, each) for each in missing)


def no_runner(why: str, more: str = "") -> Reason:
    """What people should know of jobs that are started without a runner.

    Args:
        why: Why there is none.
        more: What else is special about these jobs.
    """
    return Reason(
        "NO_RUNNER", f"jobs start more slowly than they could, without a runner{more}: {why}"
    )
