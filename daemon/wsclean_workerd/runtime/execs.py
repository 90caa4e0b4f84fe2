"""What the engine does for single jobs in the container where no runner can do it.

Nothing is read from the streams of what it executes, and it is not asked how that ended:
it forgets both when it is started anew. What has to be known comes by FIFOs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsclean_workerd.errors import LaunchRefused, RuntimeUnavailable
from wsclean_workerd.runtime.fifos import close_all, first_words, make_fifos, open_fifos
from wsclean_workerd.runtime.launching import pair_commands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.model import Job, User
    from wsclean_workerd.runtime.engine import Engine
    from wsclean_workerd.spool import Spool

_ANSWER_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Execs:
    """Starts commands in a container.

    Args:
        engine: The engine that does it.
        spool: Where the FIFOs are made.
        disk: Access to the state disk.
    """

    engine: Engine
    spool: Spool
    disk: Disk

    async def run(self, container: str | None, command: list[str], user: User | None) -> None:
        """Start a command and do not wait for it.

        Args:
            container: The id of the container.
            command: The command.
            user: Whom it runs as, or None for the daemon's own user.

        Raises:
            RuntimeUnavailable: If there is no container, or the engine does not answer.
            EngineRefused: If it answered with an error.
        """
        if container is None:
            raise RuntimeUnavailable("NO_CONTAINER", "there is no container")
        uid, gid = (os.geteuid(), os.getegid()) if user is None else (user.uid, user.gid)

        def start(client: Any) -> None:
            created = client.exec_create(
                container, command, stdout=False, stderr=False, user=f"{uid}:{gid}"
            )
            client.exec_start(created["Id"], detach=True)

        await self.engine.call(start)

    async def ask(
        self, container: str | None, command: Callable[[str], list[str]], user: User
    ) -> int:
        """Run `kill.sh` and wait until it has ended.

        Args:
            container: The id of the container.
            command: Makes the command from the FIFO that it is to write its status to.
            user: Whom it runs as.

        Returns:
            Its exit status.

        Raises:
            RuntimeUnavailable: If that is not known.
            EngineRefused: If the engine answered with an error.
        """
        async with self._meeting(user, ("answer", os.O_RDONLY)) as (name, (answer,)):
            inside = f"{self.spool.runner_inside}/{name}/answer"
            await self.run(container, command(inside), user)
            words = await _heard(answer)
        if not words.strip().isdigit():
            raise RuntimeUnavailable(
                "NO_ANSWER", "the script that looks for a job's processes does not answer"
            )
        return int(words)

    async def launch_pair(self, job: Job) -> None:
        """Start a job by two processes, one of each user, as neither can become the other.

        Until they have found each other they end when the daemon lets go of their FIFOs,
        and the claim is only made then. So nothing is left of a start of which one half
        never comes, whatever becomes of the daemon.

        Raises:
            RuntimeUnavailable: If the engine does not answer.
            EngineRefused: If it answered with an error.
            LaunchRefused: If it took both and they have not found each other.
        """
        ends = (("joined", os.O_RDONLY), ("said", os.O_RDWR), ("go", os.O_RDWR))
        async with self._meeting(job.order.user, *ends) as (name, (joined, _, _)):
            wrapper, starter = pair_commands(self.spool, job, name)
            started = await asyncio.gather(
                self.run(job.container, wrapper, None),
                self.run(job.container, starter, job.order.user),
                return_exceptions=True,
            )
            for each in started:
                if isinstance(each, BaseException):
                    raise each
            words = await _heard(joined)
        if not words:
            raise LaunchRefused(
                f"the two processes that start it as user {job.order.user.uid} did not find each "
                f"other in the container within {_ANSWER_SECONDS:g} s: a shell that the user can "
                "run and that reads the scripts in the spool folder is needed"
            )

    @asynccontextmanager
    async def _meeting(
        self, user: User, *ends: tuple[str, int]
    ) -> AsyncIterator[tuple[str, tuple[int, ...]]]:
        """Have FIFOs by which processes of a user in the container can be met.

        Args:
            user: The user.
            ends: The name of each FIFO, with the flags that the daemon opens it with.

        Yields:
            The name of their folder, and the descriptors of the FIFOs.
        """
        folder = self.spool.runner_folder / f"meeting-{os.urandom(6).hex()}"
        opening = self.disk.acquire(close_all, _prepare, folder, user, ends)
        try:
            descriptors = await opening
        except OSError as error:
            raise RuntimeUnavailable("SPOOL_UNUSABLE", f"cannot use {folder}: {error}") from None
        try:
            yield folder.name, descriptors
        finally:
            close_all(descriptors)
            # Whoever comes too late finds nothing, and who was in time has opened them.
            await self.disk.run(_remove, folder)


async def _heard(descriptor: int) -> bytes:
    """The first words in a FIFO, none if nobody says any in time."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await first_words(descriptor)
    except TimeoutError:
        return b""


def _prepare(folder: Path, user: User, ends: tuple[tuple[str, int], ...]) -> tuple[int, ...]:
    try:
        make_fifos(folder, *(name for name, _ in ends), user=user)
        return open_fifos(folder, *ends)
    except OSError:
        _remove(folder)
        raise


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
