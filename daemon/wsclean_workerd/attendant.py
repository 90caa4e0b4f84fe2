"""Attends to the processes of jobs: starts, watches and signals them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from wsclean_workerd import clock
from wsclean_workerd.alive import AliveWatch
from wsclean_workerd.command import script
from wsclean_workerd.errors import LaunchRefused, RuntimeUnavailable
from wsclean_workerd.events import (
    Event,
    JobExited,
    JobGone,
    JobStarted,
    KillDelivered,
    LaunchFailed,
    Signal,
)
from wsclean_workerd.model import Instant, Reason
from wsclean_workerd.runtime.launching import MARK, mark_value

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.model import Job, JobId
    from wsclean_workerd.runtime import Runtime
    from wsclean_workerd.spool import JobFolder, Look, Spool

log = logging.getLogger(__name__)

T = TypeVar("T")

Launch = tuple["JobId", int]
"""One start of a job: its number and that of the start."""

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0


class Attendant:
    """Carries out what the state machine wants of a job's processes.

    Nothing here raises: what comes of it is told as events.

    Args:
        instance: The name of this daemon, for the mark of its jobs' processes.
        spool: The job folders.
        runtime: What runs the jobs.
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
        disk: Disk,
        tell: Callable[[JobId, Event], None],
        runtime_failed: Callable[[RuntimeUnavailable], None],
    ) -> None:
        self._instance = instance
        self._spool = spool
        self._runtime = runtime
        self._disk = disk
        self._tell = tell
        self._runtime_failed = runtime_failed
        self._watches: dict[Launch, asyncio.Task[None]] = {}
        # The starts that the daemon has claimed: they never happen. Kept for good, since
        # one may still be on its way when its job is forgotten; they are few.
        self._claimed: set[Launch] = set()
        self._signals: dict[tuple[JobId, Signal], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, job: Job) -> None:
        """Prepare the job's folder and hand it to the runtime."""
        self._spawn(self._start(job), f"start job {job.id}")

    def resolve(self, job: Job, *, refused: bool) -> None:
        """Find out whether the job was started, and see to it that it never will be if not.

        Args:
            job: The job.
            refused: Whether it counts against the job if it was not.
        """
        reason = Reason("START_TIMEOUT", "its command did not begin in time")
        self._spawn(self._resolve(job, reason, refused=refused), f"resolve job {job.id}")

    def attach(self, job: Job) -> None:
        """Watch the processes of a job from now on, if they are not watched yet."""
        launch = _launch(job)
        if launch not in self._watches and launch not in self._claimed:
            task = asyncio.create_task(self._watch(job), name=f"watch job {job.id}")
            self._watches[launch] = task
            task.add_done_callback(lambda done: self._unwatched(launch, done))

    def signal(self, job: Job, signal: Signal) -> None:
        """Send a signal to every process of the job, KILL until it could be sent."""
        if (job.id, signal) not in self._signals:
            task = asyncio.create_task(self._signal(job, signal), name=f"{signal} job {job.id}")
            self._signals[job.id, signal] = task
            task.add_done_callback(lambda done: self._signalled(job.id, signal, done))

    def forget(self, job_id: JobId) -> None:
        """Stop attending to a job that is over."""
        for signal in Signal:
            if task := self._signals.get((job_id, signal)):
                task.cancel()
        for launch in [each for each in self._watches if each[0] == job_id]:
            self._watches[launch].cancel()

    async def close(self) -> None:
        """Stop attending to everything; whatever runs goes on."""
        tasks = [*self._watches.values(), *self._signals.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- starting ----------------------------------------------------------------

    async def _start(self, job: Job) -> None:
        folder = self._spool.job(job.id)
        environment = {
            **self._runtime.environment,
            **dict(job.spec.environment),
            MARK: mark_value(self._instance, job),
        }
        try:
            await self._disk.run(folder.prepare, script(job.order, environment), job.order.user)
            if _launch(job) in self._claimed:
                return
            self.attach(job)
            await self._runtime.launch(job)
        except OSError as error:
            problem = RuntimeUnavailable("SPOOL_UNUSABLE", f"cannot use {folder.path}: {error}")
            await self._not_launched(job, problem)
        except RuntimeUnavailable as error:
            await self._not_launched(job, error)
        except LaunchRefused as error:
            await self._resolve(job, Reason("LAUNCH_REFUSED", str(error)), refused=True)

    async def _not_launched(self, job: Job, error: RuntimeUnavailable) -> None:
        # Told first, so that nothing else is handed to a runtime that is not there.
        self._runtime_failed(error)
        await self._resolve(job, Reason(error.code, str(error)), refused=False)

    async def _resolve(self, job: Job, reason: Reason, *, refused: bool) -> None:
        folder = self._spool.job(job.id)
        if await self._patiently(f"claim job {job.id}", folder.claim, job.launch):
            launch = _launch(job)
            self._claimed.add(launch)
            if task := self._watches.get(launch):
                task.cancel()
            self._tell(job.id, LaunchFailed(clock.now(), reason, refused, job.launch))
        else:
            self.attach(job)

    async def _patiently(self, what: str, work: Callable[..., T], *args: object) -> T:
        """Do something on the state disk, again and again until the disk lets it be done."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._disk.run(work, *args)
            except OSError as error:
                log.error("cannot %s: %s", what, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    # -- watching ----------------------------------------------------------------

    async def _watch(self, job: Job) -> None:
        folder = self._spool.job(job.id)
        pause = _FIRST_PAUSE
        while True:
            try:
                while not await self._watch_once(job, folder):
                    # A wrapper came, found the job claimed by somebody else, and went.
                    pass
            except FileNotFoundError as error:
                reason = Reason("FOLDER_GONE", f"its folder is not there any more: {error}")
                self._tell(job.id, JobGone(clock.now(), reason))
            except OSError as error:
                # Not being able to ask is no answer: it may well be running.
                log.error("cannot watch job %s: %s", job.id, error, extra={"job": job.id})
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            return

    async def _watch_once(self, job: Job, folder: JobFolder) -> bool:
        """Watch until the FIFO has no writer; return whether the job had been started."""
        descriptor = await self._disk.open(folder.open_alive)
        with AliveWatch(descriptor) as watch:
            # Looked at after opening: who comes after this is seen by epoll.
            begun = (await self._disk.run(folder.look, job.launch)).claimed
            watch.begin(begun=begun)
            told: set[type[Event]] = set()
            held = True
            while held:
                held = await watch.news()
                look = await self._disk.run(folder.look, job.launch)
                for event in self._events(look):
                    if type(event) not in told:
                        told.add(type(event))
                        self._tell(job.id, event)
        if not look.claimed:
            return False
        await self._tell_gone(job, look)
        return True

    def _events(self, look: Look) -> list[Event]:
        events: list[Event] = []
        now = clock.now()
        if look.claimed_at is not None:
            at = Instant(min(look.claimed_at, now.wall), now.boot)
            events.append(JobStarted(at))
        if look.status is not None and look.status_at is not None:
            at = Instant(min(look.status_at, now.wall), now.boot)
            events.append(JobExited(at, look.status))
        return events

    async def _tell_gone(self, job: Job, look: Look) -> None:
        if look.status is None:
            reason = await self._runtime.explain_loss(job.container)
        else:
            reason = Reason("PROCESSES_GONE", "all its processes have ended")
        self._tell(job.id, JobGone(clock.now(), reason))

    def _unwatched(self, launch: Launch, task: asyncio.Task[None]) -> None:
        self._watches.pop(launch, None)
        _complain(task)

    # -- signalling --------------------------------------------------------------

    async def _signal(self, job: Job, signal: Signal) -> None:
        pause = _FIRST_PAUSE
        while True:
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
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                break
        if signal is Signal.KILL:
            self._tell(job.id, KillDelivered(clock.now()))

    def _signalled(self, job_id: JobId, signal: Signal, task: asyncio.Task[None]) -> None:
        del self._signals[job_id, signal]
        _complain(task)

    # -- small things ------------------------------------------------------------

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_complain)


def _launch(job: Job) -> Launch:
    return job.id, job.launch


def _complain(task: asyncio.Task[None]) -> None:
    """Log what a task died of: a defect, since none of them raises."""
    if not task.cancelled() and (error := task.exception()):
        log.error("task %r failed", task.get_name(), exc_info=error)
