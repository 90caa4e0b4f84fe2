"""Gathers the facts for a diagnosis: asks engine, image, mounts and disk, each with a deadline."""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
from typing import TYPE_CHECKING, Any

from docker.errors import NotFound

from wsclean_workerd import diagnosis
from wsclean_workerd.accounts import NOBODY, is_another
from wsclean_workerd.diagnosis import DiskFacts, Finding, Seen
from wsclean_workerd.errors import RuntimeUnavailable, WorkerdError
from wsclean_workerd.looks import Looks
from wsclean_workerd.runtime.engine import Engine, EngineRefused
from wsclean_workerd.runtime.launching import look_at_mount_command, look_for_programs_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wsclean_workerd.config import Config
    from wsclean_workerd.disk import Disk
    from wsclean_workerd.model import Mount, Reason, RuntimeCondition, User
    from wsclean_workerd.runtime import Runtime
    from wsclean_workerd.spool import Spool
    from wsclean_workerd.storage import Storage

# One after the other they stay within what worker.proto promises.
_ENGINE_SECONDS = 3.0
_LOOK_SECONDS = 4.0
_DISK_SECONDS = 3.0
_BLOCK = 4096


class Examiner:
    """Finds out what is wrong.

    Args:
        config: Returns what the daemon was told last.
        runtime: What runs the jobs.
        spool: The folder that is shared with it.
        disk: Access to the state disk.
        storage: What is known of the storage behind the mounts.
        condition: Returns the condition of the runtime.
        refusing: Returns why no jobs are accepted, or None.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        runtime: Runtime,
        spool: Spool,
        disk: Disk,
        storage: Storage,
        condition: Callable[[], RuntimeCondition],
        refusing: Callable[[], Reason | None],
    ) -> None:
        self._config = config
        self._spool = spool
        self._disk = disk
        self._storage = storage
        self._condition = condition
        self._refusing = refusing
        self._looks = Looks(spool, disk, runtime)
        # Threads and a deadline of its own: jobs do not wait for it, nor it for them.
        timeout = min(config().docker.call_timeout, _ENGINE_SECONDS)
        docker = config().runtime == "docker"
        self._engine = Engine(config().docker.url, timeout) if docker else None
        self._running: dict[User, asyncio.Task[list[Finding]]] = {}

    async def examine(self, caller: User) -> list[Finding]:
        """Look at everything, as jobs of whoever asks would see it.

        Whoever asks for the same user while that goes on gets the same answer.

        Args:
            caller: Who asks.
        """
        user = self._user_of_jobs(caller)
        running = self._running.get(user)
        if running is None:
            running = asyncio.create_task(self._examine(user), name="examination")
            self._running[user] = running
            running.add_done_callback(lambda _: self._running.pop(user))
        # Goes on for the others if one of those who asked goes away.
        return await asyncio.shield(running)

    async def aclose(self) -> None:
        """Let go of everything; what hangs ends when it can."""
        running = list(self._running.values())
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._looks.close()
        if self._engine is not None:
            self._engine.close()

    def _user_of_jobs(self, caller: User) -> User:
        """Whom jobs of a caller run as, or a stand-in if none would."""
        config = self._config()
        try:
            return config.run_as.user_for(caller)
        except WorkerdError:
            return config.user

    async def _examine(self, user: User) -> list[Finding]:
        disk = asyncio.create_task(self._disk_facts(), name="state disk")
        engine = await self._ask_engine()
        condition = self._condition()
        container = "" if self._engine is None else self._config().docker.container
        looks = await self._look_around(condition, user)
        journal = diagnosis.judge_journal(str(self._config().journal_path), self._refusing())
        return [
            journal,
            diagnosis.judge_disk(await disk),
            *engine,
            diagnosis.judge_runtime(condition, container),
            *looks,
        ]

    # -- the engine --------------------------------------------------------------

    async def _ask_engine(self) -> list[Finding]:
        if self._engine is None:
            return []
        docker, image = self._config().docker, self._config().docker.image

        def ask(client: Any) -> tuple[str, bool]:
            version = str(client.version(api_version=False)["Version"])
            try:
                client.inspect_image(image)
            except NotFound:
                return version, False
            return version, True

        try:
            version, there = await self._engine.call(ask)
        except (RuntimeUnavailable, EngineRefused) as error:
            return [
                diagnosis.judge_engine(docker.url, "", str(error)),
                diagnosis.judge_image(image, there=None),
            ]
        return [
            diagnosis.judge_engine(docker.url, version, ""),
            diagnosis.judge_image(image, there=there),
        ]

    # -- what jobs see -----------------------------------------------------------

    async def _look_around(self, condition: RuntimeCondition, user: User) -> Sequence[Finding]:
        mounts = self._config().job_mounts
        return await asyncio.gather(
            self._programs(condition), *(self._mount(each, condition, user) for each in mounts)
        )

    async def _programs(self, condition: RuntimeCondition) -> Finding:
        jobs = self._config().jobs
        switch = (diagnosis.USER_SWITCH,) if is_another(self._config().user) else ()
        tools = (*diagnosis.TOOLS, *switch)
        wanted = (*tools, *jobs.programs)
        seen = await self._look(
            "programs",
            functools.partial(look_for_programs_command, self._spool, programs=wanted),
            condition,
            self._config().user,
        )
        return diagnosis.judge_programs(
            seen,
            tools=tools,
            programs=jobs.programs,
            chosen="programs" in jobs.model_fields_set,
            where="this host" if self._engine is None else self._config().docker.image,
            spare=self._engine is not None,
        )

    async def _mount(self, mount: Mount, condition: RuntimeCondition, user: User) -> Finding:
        hung = self._storage.why([mount.container])
        seen = Seen()
        # What is known to hang is not touched once more.
        if hung is None:
            command = functools.partial(look_at_mount_command, self._spool, mount=mount.container)
            seen = await self._look(mount.container, command, condition, user)
        stand_in = user.uid == NOBODY and self._config().run_as.fixed is None
        return diagnosis.judge_mount(mount, seen, user=None if stand_in else user, hung=hung)

    async def _look(
        self,
        subject: str,
        command: Callable[[str], list[str]],
        condition: RuntimeCondition,
        user: User,
    ) -> Seen:
        if not condition.ready:
            return Seen(trouble="there is nothing to look from before jobs can run")
        return await self._looks.look(subject, command, _LOOK_SECONDS, user)

    # -- the state disk ----------------------------------------------------------

    async def _disk_facts(self) -> DiskFacts:
        folder = self._config().state_dir
        try:
            async with asyncio.timeout(_DISK_SECONDS):
                return await self._disk.run(_measure, folder)
        except TimeoutError:
            return DiskFacts(folder=folder, trouble="it does not answer")


def _measure(folder: str) -> DiskFacts:
    """See how much room there is, and whether it can be written."""
    try:
        room = os.statvfs(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_BLOCK))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return DiskFacts(folder=folder, trouble=error.strerror or str(error))
    # Some file systems make room for files as they are needed, and count none.
    free_files = room.f_favail if room.f_files else None
    return DiskFacts(folder=folder, free_bytes=room.f_bavail * room.f_frsize, free_files=free_files)
