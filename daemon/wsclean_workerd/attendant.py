"""Attends to the processes of jobs: starts and signals them, and settles doubts."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from typing import TYPE_CHECKING

from wsclean_workerd import clock
from wsclean_workerd.command import script
from wsclean_workerd.errors import LaunchRefused, RuntimeUnavailable
from wsclean_workerd.events import (
    AttachJob,
    ForgetLaunch,
    KillDelivered,
    LaunchFailed,
    ResolveLaunch,
    Signal,
    SignalJob,
    StartJob,
)
from wsclean_workerd.model import Reason
from wsclean_workerd.runtime.launching import MARK, mark_value
from wsclean_workerd.tasks import complain, pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.events import Tell
    from wsclean_workerd.model import Job, JobId, Launch
    from wsclean_workerd.runtime import Runtime
    from wsclean_workerd.spool import Spool
    from wsclean_workerd.watcher import Watcher

log = logging.getLogger(__name__)

# A start takes milliseconds. One that takes this long was handed to something that
# does nothing.
_START_SECONDS = 5.0
_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


class Attendant:
    """Carries out what the state machine wants of a job's processes.

    Nothing here raises: what comes of it is told as events.

    Args:
        instance: The name of this daemon, for the mark of its jobs' processes.
        spool: The job folders.
        runtime: What runs the jobs.
        watcher: Watches what has been started.
        disk: Access to the state disk.
        tell: Called with what has happened to a job.
        runtime_failed: Called when the runtime turned out not to be ready.
    """

    def __init__(
        self,
        *,
        instance: str,
        spool: Spool,
        runtime: Runtime,
        watcher: Watcher,
        disk: Disk,
        tell: Tell,
        runtime_failed: Callable[[RuntimeUnavailable], None],
    ) -> None:
        self._instance = instance
        self._spool = spool
        self._runtime = runtime
        self._watcher = watcher
        self._disk = disk
        self._tell = tell
        self._runtime_failed = runtime_failed
        # The starts that the daemon has claimed: they never happen. Kept for good, since
        # one may still be on its way when its job is forgotten; they are few.
        self._claimed: set[Launch] = set()
        self._prepared: dict[Launch, asyncio.Task[int]] = {}
        self._signals: dict[tuple[Launch, Signal], asyncio.Task[None]] = {}
        self._tasks: dict[asyncio.Task[None], JobId] = {}
        self._check: asyncio.TimerHandle | None = None

    def prepare(self, job: Job) -> None:
        """Prepare the folder of a job that is about to be started, while that is written."""
        task = asyncio.create_task(self._prepare(job), name=f"prepare job {job.id}")
        self._prepared[job.last_launch] = task

    def discard(self, job: Job, *, known: bool) -> None:
        """Take note that a job whose folder was prepared is not to be started after all.

        Args:
            job: The job.
            known: Whether there is such a job. If not, its folder is removed.
        """
        if task := self._prepared.pop(job.last_launch, None):
            self._spawn(self._discard(job, task, known=known), "discard", job)

    def carry_out(
        self,
        job: Job,
        instruction: StartJob | ResolveLaunch | AttachJob | SignalJob | ForgetLaunch,
    ) -> None:
        """Do what the state machine wants done with the processes of a job."""
        match instruction:
            case StartJob():
                self.start(job)
            case ResolveLaunch(refused):
                self.resolve(job, refused=refused)
            case AttachJob():
                self.attach(job)
            case SignalJob(signal):
                self.signal(job, signal)
            case ForgetLaunch():
                self.forget(job)

    def start(self, job: Job) -> None:
        """Prepare the job's folder and hand it to the runtime."""
        self._spawn(self._start(job), "start", job)

    def resolve(self, job: Job, *, refused: bool) -> None:
        """Find out whether the job was started, and see to it that it never will be if not.

        Args:
            job: The job.
            refused: Whether it counts against the job if it was not.
        """
        reason = Reason("START_TIMEOUT", "its command did not begin in time")
        self._spawn(self._resolve(job, reason, refused=refused), "resolve", job)

    def attach(self, job: Job) -> None:
        """Watch the processes of a job from now on, if they are not watched yet."""
        if job.last_launch not in self._claimed:
            self._watcher.watch(job)

    def host_restarted(self, jobs: Iterable[Job]) -> None:
        """Take note that the processes of some jobs have ended with the host."""
        self._watcher.host_restarted(jobs)

    def signal(self, job: Job, signal: Signal) -> None:
        """Send a signal to every process of the job, KILL until it could be sent."""
        what = job.last_launch, signal
        if what not in self._signals:
            task = asyncio.create_task(self._signal(job, signal), name=f"{signal} job {job.id}")
            self._signals[what] = task
            task.add_done_callback(lambda done: self._signalled(what, done))

    def forget(self, job: Job) -> None:
        """Stop attending to a job that is over, or to a start of it that is."""
        for signal in Signal:
            if task := self._signals.get((job.last_launch, signal)):
                task.cancel()
        self._watcher.stop(job.last_launch)

    def doubt(self) -> None:
        """Settle all starts that have not happened: what was to do them is gone."""
        self._doubt(0.0)

    def attends(self, job: Job) -> bool:
        """Whether anything is being done about a job that has processes, or may have."""
        return self._watcher.watches(job.last_launch) or job.id in self._tasks.values()

    async def prove_life(self) -> None:
        """Return when what is to be done on the state disk has been seen to get its turn."""
        await self._disk.run(_nothing)

    async def close(self) -> None:
        """Stop attending to everything; whatever runs goes on."""
        if self._check is not None:
            self._check.cancel()
        await self._watcher.close()
        for prepared in self._prepared.values():
            prepared.add_done_callback(_close)
        tasks = [*self._signals.values(), *self._tasks, *self._prepared.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- starting ----------------------------------------------------------------

    async def _prepare(self, job: Job) -> int:
        return await self._disk.open(self._make_folder, job)

    def _make_folder(self, job: Job) -> int:
        user = job.order.user
        environment = {
            **self._runtime.environment(user),
            **dict(job.spec.environment),
            MARK: mark_value(self._instance, job),
        }
        folder = self._spool.attempt(job)
        return folder.prepare_and_open(script(job.order, environment, folder.outputs), user)

    async def _discard(self, job: Job, prepared: asyncio.Task[int], *, known: bool) -> None:
        await asyncio.wait([prepared])
        _close(prepared)
        if not known:
            await self._disk.run(self._spool.job(job.id).remove)

    async def _start(self, job: Job) -> None:
        prepared = self._prepared.pop(job.last_launch, None)
        try:
            alive = await (prepared or self._prepare(job))
        except OSError as error:
            self._unprepared(job, error)
            return
        if job.last_launch in self._claimed:
            os.close(alive)
            return
        self._watcher.watch(job, alive)
        try:
            await self._runtime.launch(job)
            self._handed_over(job.last_launch)
        except RuntimeUnavailable as error:
            await self._not_launched(job, error)
        except LaunchRefused as error:
            await self._resolve(job, Reason("LAUNCH_REFUSED", str(error)), refused=True)

    def _unprepared(self, job: Job, error: OSError) -> None:
        """Tell that a job has no folder: nothing was handed over, so no claim is in doubt."""
        problem = RuntimeUnavailable("SPOOL_UNUSABLE", f"cannot make the job's folder: {error}")
        # What is wrong with the disk is wrong for all jobs, and passes; anything else is
        # this job's own trouble and must not hold up the others.
        of_all = error.errno in _DISK_TROUBLE
        if of_all:
            self._runtime_failed(problem)
        reason = Reason(problem.code, str(problem))
        self._tell(job.id, LaunchFailed(clock.now(), reason, not of_all, launch=job.launch))

    async def _not_launched(self, job: Job, error: RuntimeUnavailable) -> None:
        # Told first, so that nothing else is handed to a runtime that is not there.
        self._runtime_failed(error)
        await self._resolve(job, Reason(error.code, str(error)), refused=False)

    async def _resolve(self, job: Job, reason: Reason, *, refused: bool) -> None:
        if await self._claim(job):
            self._claimed.add(job.last_launch)
            self._watcher.stop(job.last_launch)
            self._runtime.release(job, reusable=False)
            failed = LaunchFailed(clock.now(), reason, refused, launch=job.launch)
            self._tell(job.id, failed)
        else:
            self.attach(job)

    async def _claim(self, job: Job) -> bool:
        """Try to claim a start, again and again until the disk lets that be settled."""
        folder = self._spool.attempt(job)
        for pause in pauses():
            try:
                return await self._disk.run(folder.claim, job.launch)
            except OSError as error:
                log.error("cannot claim job %s: %s", job.id, error, extra={"job": job.id})
            await asyncio.sleep(pause)
        raise AssertionError("the pauses have no end")

    # -- starts that do not happen -----------------------------------------------

    def _handed_over(self, launch: Launch) -> None:
        self._watcher.handed_over(launch)
        if self._check is None:
            loop = asyncio.get_running_loop()
            self._check = loop.call_later(_START_SECONDS, self._check_starts)

    def _check_starts(self) -> None:
        """Look whether a start is overdue, again for as long as any is to come."""
        self._check = None
        if self._doubt(_START_SECONDS):
            self._runtime.suspect()
        elif self._watcher.overdue(0.0):
            loop = asyncio.get_running_loop()
            self._check = loop.call_later(_START_SECONDS, self._check_starts)

    def _doubt(self, seconds: float) -> bool:
        reason = Reason("NOT_STARTED", "what was to start it was gone or did nothing")
        overdue = self._watcher.overdue(seconds)
        for job in overdue:
            # Nobody can tell whether it begins at this moment: its claim does.
            self._spawn(self._resolve(job, reason, refused=False), "resolve", job)
        return bool(overdue)

    # -- signalling --------------------------------------------------------------

    async def _signal(self, job: Job, signal: Signal) -> None:
        for pause in pauses():
            try:
                await self._runtime.signal(job, signal)
            except Exception as error:  # noqa: BLE001 - whatever it is, KILL has to get through
                log.warning(
                    "cannot send %s to job %s: %s",
                    signal.value,
                    job.id,
                    error,
                    extra={"job": job.id},
                )
                if signal is not Signal.KILL:
                    return
                await asyncio.sleep(pause)
            else:
                break
        if signal is Signal.KILL:
            self._tell(job.id, KillDelivered(clock.now(), launch=job.launch))
            self._watcher.killed(job.last_launch)

    def _signalled(self, what: tuple[Launch, Signal], task: asyncio.Task[None]) -> None:
        del self._signals[what]
        complain(task)

    # -- small things ------------------------------------------------------------

    def _spawn(self, work: Coroutine[None, None, None], purpose: str, job: Job) -> None:
        task = asyncio.create_task(work, name=f"{purpose} job {job.id}")
        self._tasks[task] = job.id
        task.add_done_callback(self._tasks.pop)
        task.add_done_callback(complain)


def _nothing() -> None:
    return


def _close(prepared: asyncio.Task[int]) -> None:
    if not prepared.cancelled() and prepared.exception() is None:
        os.close(prepared.result())
