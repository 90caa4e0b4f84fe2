"""Watches the processes of jobs, and tells what their folders say has happened."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wsclean_workerd import clock
from wsclean_workerd.alive import AliveWatch
from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.events import Event, JobExited, JobGone, JobStarted, StatusLost
from wsclean_workerd.model import Instant, Reason
from wsclean_workerd.oom import OomKills
from wsclean_workerd.spool import NOTHING
from wsclean_workerd.tasks import complain, pauses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.events import Tell
    from wsclean_workerd.model import Job, Launch
    from wsclean_workerd.output_guard import OutputGuard
    from wsclean_workerd.runtime import Runtime
    from wsclean_workerd.spool import JobFolder, Look, Spool

log = logging.getLogger(__name__)

_SHORT_SECONDS = 0.005


@dataclass(slots=True, eq=False)
class _Watch:
    """What is known of a start.

    Attributes:
        job: The job.
        task: What watches.
        handed_over: When the runtime took it, on the loop's clock, or None.
        begun: Whether its claim has been seen.
        over: Whether its exit status has been told.
        guard: What looks after its output.
        killed: Set when KILL was sent to its processes.
    """

    job: Job
    task: asyncio.Task[None] | None = None
    handed_over: float | None = None
    begun: bool = False
    over: bool = False
    guard: asyncio.Task[None] | None = None
    killed: asyncio.Event = field(default_factory=asyncio.Event)

    def unguard(self) -> None:
        """Look after its output no longer."""
        if self.guard is not None:
            self.guard.cancel()


class Watcher:
    """One watch for each job that has processes, or may have.

    Args:
        spool: The job folders.
        runtime: What runs the jobs.
        disk: Access to the state disk.
        guard: Looks after the output of running jobs.
        tell: Called with what has happened to a job.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        runtime: Runtime,
        disk: Disk,
        guard: OutputGuard,
        tell: Tell,
    ) -> None:
        self._spool = spool
        self._runtime = runtime
        self._disk = disk
        self._guard = guard
        self._tell = tell
        self._watches: dict[Launch, _Watch] = {}
        self._oom_kills = OomKills()
        self._outlived: set[Launch] = set()

    def watch(self, job: Job, alive: int | None = None) -> None:
        """Watch a start of a job from now on, if it is not watched yet.

        Args:
            job: The job.
            alive: The open `alive` of a start that was not handed over yet, which is
                closed in the end, or None for one that may have happened already.
        """
        launch = job.last_launch
        fresh = None if alive is None else AliveWatch(alive)
        if launch in self._watches:
            if fresh is not None:
                fresh.close()
            return
        watch = _Watch(job)
        self._watches[launch] = watch
        watch.task = asyncio.create_task(self._watch(watch, fresh), name=f"watch job {job.id}")
        watch.task.add_done_callback(lambda done: self._ended(launch, fresh, done))

    def watches(self, launch: Launch) -> bool:
        """Whether a start of a job is watched."""
        return launch in self._watches

    def handed_over(self, launch: Launch) -> None:
        """Take note that a start was handed over and should happen from now on."""
        if watch := self._watches.get(launch):
            watch.handed_over = asyncio.get_running_loop().time()

    def host_restarted(self, jobs: Iterable[Job]) -> None:
        """Take note that the processes of some jobs have ended with the host."""
        self._outlived = {job.last_launch for job in jobs}

    def overdue(self, seconds: float) -> list[Job]:
        """The jobs that were handed over so many seconds ago and have not begun."""
        limit = asyncio.get_running_loop().time() - seconds
        return [
            each.job
            for each in self._watches.values()
            if not each.begun and each.handed_over is not None and each.handed_over <= limit
        ]

    def killed(self, launch: Launch) -> None:
        """Take note that KILL was sent to all processes of a start that could be found."""
        if watch := self._watches.get(launch):
            watch.killed.set()

    def stop(self, launch: Launch) -> None:
        """Watch a start no longer."""
        watch = self._watches.get(launch)
        if watch is not None and watch.task is not None:
            watch.task.cancel()

    async def close(self) -> None:
        """Stop watching everything."""
        tasks = [each.task for each in self._watches.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one watch ---------------------------------------------------------------

    async def _watch(self, watch: _Watch, fresh: AliveWatch | None) -> None:
        job = watch.job
        folder = self._spool.attempt(job)
        for pause in pauses():
            try:
                alive = fresh or AliveWatch(await self._disk.open(folder.open_alive))
                with alive:
                    look = NOTHING if fresh else await self._disk.run(folder.look, job.launch)
                    over = await self._until_gone(watch, folder, alive, look)
                fresh = None
                if over:
                    return
                # A wrapper came, found the start claimed by somebody else, and went.
            except FileNotFoundError as error:
                reason = Reason("FOLDER_GONE", f"its folder is not there any more: {error}")
                await self._until_nothing_left(watch, reason)
                self._tell(job.id, JobGone(clock.now(), reason, launch=job.launch))
                return
            except Exception as error:  # noqa: BLE001 - not being able to ask is no answer
                # It may well be running, whatever went wrong here.
                log.error("cannot watch job %s: %r", job.id, error, extra={"job": job.id})
                fresh = None
                await asyncio.sleep(pause)

    async def _until_gone(
        self, watch: _Watch, folder: JobFolder, alive: AliveWatch, look: Look
    ) -> bool:
        """Watch until nobody holds the FIFO; return whether there was such a start."""
        job = watch.job
        # What was written down as started had a wrapper, even if its claim did not
        # survive a loss of power.
        alive.begin(begun=look.claimed or job.started is not None)
        while True:
            held = await alive.news() and await self._settled(alive)
            if look.status is None:
                # Looked at after the news: what is there now is at least as new.
                look = await self._disk.run(folder.look, job.launch)
            news = self._news(watch, look)
            if not held:
                break
            self._tell(job.id, *news)
        if not look.claimed and job.started is None:
            return False
        await self._tell_gone(watch, look, news)
        return True

    @staticmethod
    async def _settled(alive: AliveWatch) -> bool:
        """Wait for what may follow at once, so that it can be told together.

        A short command has ended when its start is known, and most have no process left
        when their exit status is there.

        Returns:
            Whether a process still holds the FIFO.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_SHORT_SECONDS):
                while await alive.news():
                    pass
                return False
        return True

    def _news(self, watch: _Watch, look: Look) -> list[Event]:
        """What is new of a start."""
        job = watch.job
        if look.claimed_at is None or watch.over:
            return []
        started = _instant(job, look.claimed_at)
        if look.status is not None and look.status_at is not None:
            self._runtime.release(job, reusable=True)
            watch.over = True
            watch.unguard()
            watch.begun = True
            memory = look.oom_kills is not None and self._oom_kills.explain(
                job.container, look.status_at, *look.oom_kills
            )
            ended = _instant(job, look.status_at)
            return [JobExited(ended, look.status, started, memory, launch=job.launch)]
        if watch.begun:
            return []
        watch.begun = True
        self._guard_output(watch)
        return [JobStarted(started, launch=job.launch)]

    def _guard_output(self, watch: _Watch) -> None:
        guarding = self._guard.watch(watch.job)
        watch.guard = asyncio.create_task(guarding, name=f"output of job {watch.job.id}")
        watch.guard.add_done_callback(complain)

    async def _tell_gone(self, watch: _Watch, look: Look, news: list[Event]) -> None:
        """Tell that nothing of a job is left once that is certain, and its end before."""
        job = watch.job
        outlived = job.last_launch in self._outlived
        # Nothing outlives the host.
        alone = look.alone or outlived
        if not alone:
            self._tell(job.id, *news)
            news = []
        if look.status is None and outlived:
            reason = Reason("HOST_RESTARTED", "the host was restarted before it had ended")
        elif look.status is None:
            self._runtime.release(job, reusable=False)
            reason = await self._runtime.explain_loss(job.container)
        else:
            reason = Reason("PROCESSES_GONE", "all its processes have ended")
        if not alone:
            await self._until_nothing_left(watch, reason)
        self._tell(job.id, *news, JobGone(clock.now(), reason, launch=job.launch))

    async def _until_nothing_left(self, watch: _Watch, reason: Reason) -> None:
        """Wait for processes of a job that do not hold the FIFO: nobody tells of their end.

        They are looked for now and after each KILL.
        """
        job = watch.job
        watch.killed.clear()
        while await self._any_left(watch, reason):
            log.info("job %s has left processes", job.id, extra={"job": job.id})
            self._tell_loss(watch, reason)
            await watch.killed.wait()
            watch.killed.clear()

    async def _any_left(self, watch: _Watch, reason: Reason) -> bool:
        """Search for processes of a job, again and again until somebody can be asked."""
        job = watch.job
        for pause in pauses():
            try:
                return await self._runtime.search(job)
            except RuntimeUnavailable as error:
                log.warning(
                    "cannot search for processes of job %s: %s",
                    job.id,
                    error,
                    extra={"job": job.id},
                )
            # What it has come to is known, if not what it has left.
            self._tell_loss(watch, reason)
            await asyncio.sleep(pause)
        raise AssertionError("the pauses have no end")

    def _tell_loss(self, watch: _Watch, reason: Reason) -> None:
        """Tell once that a job whose main process has gone left no status."""
        if not watch.over:
            watch.over = True
            job = watch.job
            self._tell(job.id, StatusLost(clock.now(), reason, launch=job.launch))

    def _ended(self, launch: Launch, fresh: AliveWatch | None, task: asyncio.Task[None]) -> None:
        self._watches.pop(launch).unguard()
        # It may have been cancelled before it began.
        if fresh is not None:
            fresh.close()
        complain(task)


def _instant(job: Job, wall: float) -> Instant:
    """When a file was written, on both clocks, though its time is on one that may step."""
    now = clock.now()
    wall = min(wall, now.wall)
    # It was not before the job was there, whatever the wall clock says.
    ago = min(now.wall - wall, max(0.0, now.boot - job.submitted.boot))
    return Instant(wall, now.boot - ago)
