"""Asks the storage behind each mount whether it answers, without ever waiting for it.

A process beside the jobs (`probe.sh`) does the asking, one for each mount: if the storage
hangs then that process does, and nothing else. It is asked by a FIFO and answers by
another, so a late answer is an event like any other, and it is never asked twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd.alive import AliveWatch
from wsclean_workerd.errors import LaunchRefused, RuntimeUnavailable
from wsclean_workerd.runtime.fifos import close_all, make_fifos, open_fifos
from wsclean_workerd.runtime.launching import probe_command
from wsclean_workerd.tasks import complain, pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.model import Mount, User
    from wsclean_workerd.runtime import Runtime
    from wsclean_workerd.spool import Spool
    from wsclean_workerd.storage import Storage, Touched

log = logging.getLogger(__name__)

_HELLO_SECONDS = 10.0
# So that storage that hangs is known even if nobody wants to start a job on it.
_IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What all probes have in common; see `StorageProbes`."""

    storage: Storage
    spool: Spool
    disk: Disk
    runtime: Runtime
    user: User
    changed: Callable[[], None]


class StorageProbes:
    """The probes of all mounts.

    Args:
        storage: What is known, which is told here.
        spool: Where the FIFOs are.
        disk: Access to the state disk.
        runtime: What starts the processes.
        user: Whom jobs run as, and so do the probes.
        changed: Called when jobs may start that could not, or no longer can.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        spool: Spool,
        disk: Disk,
        runtime: Runtime,
        user: User,
        changed: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._around = _Surroundings(storage, spool, disk, runtime, user, changed)
        self._place: str | None = None
        self._probes: dict[str, _Probe] = {}

    def renew(self, place: str | None) -> None:
        """Have probes where jobs run, new ones if that is somewhere else than before.

        Args:
            place: The id of the container, None on the host.
        """
        if self._probes and place == self._place:
            return
        self._place = place
        for probe in self._probes.values():
            probe.drop()
        mounts = self._storage.mounts
        self._probes = {mount.container: _Probe(mount, self._around) for mount in mounts}

    def unproven(self, mounts: Collection[str]) -> Touched:
        """Those of some mounts that no job may be started on yet; they are asked to answer.

        Args:
            mounts: The mounts, each by its folder in the container.
        """
        now = time.monotonic()
        for each in self._storage.due(mounts, now):
            if each in self._probes:
                self._probes[each].ask()
        return self._storage.unproven(mounts, now)

    async def close(self) -> None:
        """Let go of the probes, which end when they can."""
        tasks = [probe.drop() for probe in self._probes.values()]
        await asyncio.gather(*tasks, return_exceptions=True)


class _Probe:
    """The probe of one mount, made anew when it is gone.

    Args:
        mount: The mount.
        around: What all of them have in common.
    """

    def __init__(self, mount: Mount, around: _Surroundings) -> None:
        self._around = around
        self._storage = around.storage
        self._mount = mount.container
        self._host = mount.host
        self._requests = -1
        self._deadline: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._storage.watched(self._mount)
        self._task = asyncio.create_task(self._run(), name=f"probe {self._mount}")
        self._task.add_done_callback(complain)

    def drop(self) -> asyncio.Task[None]:
        """Let go of it."""
        self._task.cancel()
        return self._task

    def ask(self) -> None:
        """Ask, unless it has not come up yet."""
        if self._requests < 0:
            return
        # A name that nobody has ever looked up is in no cache.
        with suppress(BlockingIOError):
            os.write(self._requests, f"{os.urandom(8).hex()}\n".encode())
        self._storage.asked(self._mount, time.monotonic())
        self._wait(self._storage.timeout)

    def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        # A moment later than the deadline, which is then over by any rounding.
        self._deadline = loop.call_later(seconds + 0.01, self._overdue)

    async def _run(self) -> None:
        for pause in pauses():
            try:
                await self._serve()
            except (OSError, RuntimeUnavailable, LaunchRefused) as error:
                log.warning("cannot tell whether the storage of %s answers: %s", self._host, error)
            self._storage.unwatched(self._mount)
            self._around.changed()
            await asyncio.sleep(pause)
            self._storage.watched(self._mount)

    async def _serve(self) -> None:
        """Have a probe until it is gone."""
        around = self._around
        folder = around.spool.runner_folder / f"probe-{os.urandom(6).hex()}"
        opening = around.disk.acquire(close_all, _prepare, folder, around.user)
        requests, answers = await opening
        try:
            with AliveWatch(answers) as watch:
                watch.begin(begun=False)
                command = probe_command(around.spool, folder.name, self._mount)
                await around.runtime.start_aside(command, around.user)
                await self._hello(watch)
                self._requests = requests
                self.ask()
                while await watch.news():
                    self._answered()
                raise RuntimeUnavailable("PROBE_GONE", "the process that asks is gone")
        finally:
            self._requests = -1
            self._disarm()
            os.close(requests)

    async def _hello(self, watch: AliveWatch) -> None:
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                up = await watch.news()
        except TimeoutError:
            up = False
        if not up:
            raise RuntimeUnavailable("PROBE_SILENT", "the process that asks does not come up")

    def _answered(self) -> None:
        self._disarm()
        hung = self._storage.why([self._mount])
        if self._storage.answered(self._mount, time.monotonic()):
            if hung:
                log.warning("the storage of %s answers again", self._host)
            self._around.changed()
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._ask_if_due)

    def _ask_if_due(self) -> None:
        if self._storage.due([self._mount], time.monotonic()):
            self.ask()

    def _overdue(self) -> None:
        now = time.monotonic()
        if self._storage.overdue(self._mount, now):
            reason = self._storage.why([self._mount])
            log.error("%s", reason.message if reason else "")
            self._around.changed()
        elif (left := self._storage.patience(self._mount, now)) is not None:
            # It may take longer now than when it was asked.
            self._wait(left)

    def _disarm(self) -> None:
        for timer in (self._deadline, self._idle):
            if timer is not None:
                timer.cancel()


def _prepare(folder: Path, user: User) -> tuple[int, ...]:
    """Make the FIFOs of a probe; return the ends of the daemon."""
    make_fifos(folder, "requests", "answers", user=user)
    return open_fifos(folder, ("requests", os.O_RDWR), ("answers", os.O_RDONLY))
