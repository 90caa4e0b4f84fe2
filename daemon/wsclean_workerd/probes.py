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
from typing import TYPE_CHECKING

from wsclean_workerd.alive import AliveWatch
from wsclean_workerd.errors import LaunchRefused, RuntimeUnavailable
from wsclean_workerd.runtime.launching import probe_command
from wsclean_workerd.tasks import complain, pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.model import Mount, User
    from wsclean_workerd.runtime import Runtime
    from wsclean_workerd.spool import Spool
    from wsclean_workerd.storage import Storage

log = logging.getLogger(__name__)

_HELLO_SECONDS = 10.0
# So that storage that hangs is known even if nobody wants to start a job on it.
_IDLE_SECONDS = 30.0
_FOLDER_MODE = 0o711
_FIFO_MODE = 0o600


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
        self._spool = spool
        self._disk = disk
        self._runtime = runtime
        self._user = user
        self._changed = changed
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
        self._probes = {mount.container: _Probe(self, mount) for mount in self._storage.mounts}

    def ask(self, mounts: Collection[str]) -> None:
        """Ask those of some mounts that are due."""
        for each in self._storage.due(mounts, time.monotonic()):
            if each in self._probes:
                self._probes[each].ask()

    async def close(self) -> None:
        """Let go of the probes, which end when they can."""
        tasks = [probe.drop() for probe in self._probes.values()]
        await asyncio.gather(*tasks, return_exceptions=True)


class _Probe:
    """The probe of one mount, made anew when it is gone.

    Args:
        all_probes: What all of them have in common.
        mount: The mount.
    """

    def __init__(self, all_probes: StorageProbes, mount: Mount) -> None:
        self._all = all_probes
        self._storage = all_probes._storage  # noqa: SLF001 - it is a part of it
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
        """Ask, unless it has not come up yet or has still to answer."""
        if self._requests < 0:
            return
        # A name that nobody has ever looked up is in no cache.
        with suppress(BlockingIOError):
            os.write(self._requests, f"{os.urandom(8).hex()}\n".encode())
        self._storage.asked(self._mount, time.monotonic())
        loop = asyncio.get_running_loop()
        # A moment later than the deadline, which is then over by any rounding.
        self._deadline = loop.call_later(self._storage.timeout + 0.01, self._overdue)

    async def _run(self) -> None:
        for pause in pauses():
            try:
                await self._serve()
            except (OSError, RuntimeUnavailable, LaunchRefused) as error:
                log.warning("cannot tell whether the storage of %s answers: %s", self._host, error)
            self._storage.unwatched(self._mount)
            self._all._changed()  # noqa: SLF001
            await asyncio.sleep(pause)
            self._storage.watched(self._mount)

    async def _serve(self) -> None:
        """Have a probe until it is gone."""
        every = self._all
        folder = every._spool.runner_folder / f"probe-{os.urandom(6).hex()}"  # noqa: SLF001
        requests, answers = await every._disk.acquire(_close, _prepare, folder)  # noqa: SLF001
        try:
            with AliveWatch(answers) as watch:
                watch.begin(begun=False)
                command = probe_command(every._spool, folder.name, self._mount, every._user)  # noqa: SLF001
                await every._runtime.start_aside(command)  # noqa: SLF001
                await self._hello(watch)
                self._requests = requests
                self.ask()
                while await watch.news():
                    self._answered()
                raise RuntimeUnavailable("PROBE_GONE", "the process that asks is gone")
        finally:
            self._requests = -1
            for timer in (self._deadline, self._idle):
                if timer is not None:
                    timer.cancel()
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
        for timer in (self._deadline, self._idle):
            if timer is not None:
                timer.cancel()
        hung = self._storage.why([self._mount])
        if self._storage.answered(self._mount, time.monotonic()):
            if hung:
                log.warning("the storage of %s answers again", self._host)
            self._all._changed()  # noqa: SLF001
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(_IDLE_SECONDS, self._all.ask, [self._mount])

    def _overdue(self) -> None:
        if self._storage.overdue(self._mount, time.monotonic()):
            reason = self._storage.why([self._mount])
            log.error("%s", reason.message if reason else "")
            self._all._changed()  # noqa: SLF001


def _prepare(folder: Path) -> tuple[int, int]:
    """Make the FIFOs of a probe; return the ends of the daemon."""
    folder.mkdir(mode=_FOLDER_MODE)
    for name in ("requests", "answers"):
        os.mkfifo(folder / name, _FIFO_MODE)
    flags = os.O_NONBLOCK | os.O_CLOEXEC
    requests = os.open(folder / "requests", os.O_RDWR | flags)
    try:
        return requests, os.open(folder / "answers", os.O_RDONLY | flags)
    except OSError:
        os.close(requests)
        raise


def _close(descriptors: tuple[int, int]) -> None:
    for each in descriptors:
        os.close(each)
