"""Has a script beside the jobs look at something, and waits for it no longer than one wants.

Whoever looks at storage that hangs cannot be ended. So nothing is looked at again before
the last look at it has come to its end.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

from wsclean_workerd.diagnosis import Seen
from wsclean_workerd.errors import LaunchRefused, RuntimeUnavailable
from wsclean_workerd.runtime.fifos import make_fifos, open_fifo
from wsclean_workerd.tasks import wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.model import User
    from wsclean_workerd.runtime import Runtime
    from wsclean_workerd.spool import Spool

_READ_SIZE = 65536
_MARGIN_SECONDS = 0.25


class Looks:
    """Looks at what jobs need, from where jobs are.

    Args:
        spool: Where the FIFOs are.
        disk: Access to the state disk.
        runtime: What starts the script.
    """

    def __init__(self, spool: Spool, disk: Disk, runtime: Runtime) -> None:
        self._spool = spool
        self._disk = disk
        self._runtime = runtime
        self._stuck: dict[str, _Answers] = {}

    async def look(
        self, subject: str, command: Callable[[str], list[str]], within: float, user: User
    ) -> Seen:
        """Look at something.

        Args:
            subject: What is looked at.
            command: Returns the command that looks, given the name of its folder.
            within: Seconds that it may take.
            user: Who looks.

        Returns:
            What was seen of it.
        """
        earlier = self._stuck.get(subject)
        if earlier is not None and not earlier.ended.is_set():
            return earlier.seen()
        self._stuck.pop(subject, None)
        folder = self._spool.runner_folder / f"look-{os.urandom(6).hex()}"
        try:
            async with asyncio.timeout(within):
                return await self._look(subject, command(folder.name), folder, within, user)
        except TimeoutError:
            return Seen()
        except (OSError, RuntimeUnavailable, LaunchRefused) as error:
            return Seen(trouble=str(error))

    def close(self) -> None:
        """Listen no longer; what hangs ends when it can."""
        for each in self._stuck.values():
            each.close()
        self._stuck.clear()

    async def _look(
        self, subject: str, command: list[str], folder: Path, within: float, user: User
    ) -> Seen:
        deadline = asyncio.get_running_loop().time() + within - _MARGIN_SECONDS
        answers = _Answers(await self._disk.open(_prepare, folder, user))
        try:
            await self._runtime.start_aside(command, user)
            # A moment before the time is up, so that what was said is known.
            await wait(answers.ended, max(0, deadline - asyncio.get_running_loop().time()))
            # Whoever has begun holds what is in it.
            await self._disk.run(_remove, folder)
        finally:
            if answers.begun and not answers.ended.is_set():
                self._stuck[subject] = answers
            else:
                answers.close()
        return answers.seen()


class _Answers:
    """What is said through a FIFO until nobody holds it any more.

    Args:
        descriptor: The open read end, which is closed at the end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._said = b""
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        # epoll says nothing of a FIFO without a writer until one has come and gone.
        self._loop.add_reader(descriptor, self._read)

    @property
    def begun(self) -> bool:
        """Whether anything was said."""
        return bool(self._said)

    def seen(self) -> Seen:
        """What was said so far."""
        lines = frozenset(self._said.decode(errors="replace").splitlines())
        return Seen(lines, complete="end" in lines)

    def close(self) -> None:
        """Listen no longer; doing it again does nothing."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self.ended.set()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return
        self._said += data
        if not data:
            self.close()


def _prepare(folder: Path, user: User) -> int:
    make_fifos(folder, "answers", user=user)
    return open_fifo(folder / "answers", os.O_RDONLY)


def _remove(folder: Path) -> None:
    # What is left is removed when the daemon is started.
    shutil.rmtree(folder, ignore_errors=True)
