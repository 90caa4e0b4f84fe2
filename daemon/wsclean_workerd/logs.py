"""Reads what jobs have written, at once or as it grows, without polling."""

from __future__ import annotations

import asyncio
import enum
import logging
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asyncinotify import Inotify, Mask

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from typing import Any

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.spool import JobFolder

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2

CHUNK_SIZE = 64 * 1024
"""The most bytes in one piece."""


class Output(enum.Enum):
    """One of the two outputs of a job; the values are names of files."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of output and where in it this begins, in bytes."""

    output: Output
    offset: int
    data: bytes


class GrowthWatch:
    """Tells when files grow: one inotify instance for all followers.

    A host allows few such instances for each user (fs.inotify.max_user_instances),
    so followers share one. It is made when it is first needed, and without it the
    daemon goes on.
    """

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._wakes: dict[int, tuple[Any, set[asyncio.Event]]] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, path: str, wake: asyncio.Event) -> Callable[[], None]:
        """Set an event whenever a file grows.

        Args:
            path: The file.
            wake: The event.

        Returns:
            What ends this.

        Raises:
            OSError: If the kernel cannot watch more files.
        """
        if self._inotify is None:
            self._inotify = Inotify()
            self._task = asyncio.create_task(
                self._dispatch(self._inotify),
                name="growth of outputs",
            )
        inotify = self._inotify
        watch = inotify.add_watch(path, Mask.MODIFY)
        # The kernel gives one number to all watches on one file.
        _, wakes = self._wakes.setdefault(watch.wd, (watch, set()))
        wakes.add(wake)

        def end() -> None:
            wakes.discard(wake)
            if not wakes and watch.wd in self._wakes:
                first, _ = self._wakes.pop(watch.wd)
                with suppress(OSError):  # the file, and with it the watch, may be gone
                    inotify.rm_watch(first)

        return end

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._inotify is not None:
            self._inotify.close()

    async def _dispatch(self, inotify: Inotify) -> None:
        async for event in inotify:
            if event.watch is None:
                # The kernel's queue was full: anything may have grown.
                for _, wakes in self._wakes.values():
                    _set_all(wakes)
            elif event.watch.wd in self._wakes:
                _set_all(self._wakes[event.watch.wd][1])


def _set_all(events: set[asyncio.Event]) -> None:
    for event in events:
        event.set()


class OutputReader:
    """Reads the output of one job.

    Args:
        folder: The job's.
        offsets: Where to begin in each output that is wanted, in bytes.
        disk: Access to the state disk.
        growth: What tells when files grow.
    """

    def __init__(
        self,
        folder: JobFolder,
        offsets: Mapping[Output, int],
        *,
        disk: Disk,
        growth: GrowthWatch,
    ) -> None:
        self._folder = folder
        self._offsets = dict(offsets)
        self._disk = disk
        self._growth = growth
        self._files: dict[Output, int] = {}
        self._blind = False

    async def read(self) -> AsyncGenerator[Chunk, None]:
        """Read what has been written so far."""
        with ExitStack() as stack:
            await self._open(stack, None)
            async for chunk in self._drain():
                yield chunk

    async def follow(
        self, wake: asyncio.Event, ended: Callable[[], bool]
    ) -> AsyncGenerator[Chunk, None]:
        """Read what is written until the job has ended.

        Args:
            wake: Is set when the state of the job has changed.
            ended: Returns whether the job has ended. What it wrote is complete then.
        """
        with ExitStack() as stack:
            while True:
                # Asked before reading, so that the last read comes after the end.
                over = ended()
                wake.clear()
                await self._open(stack, wake)
                async for chunk in self._drain():
                    yield chunk
                if over:
                    return
                # Where the kernel tells nothing there is no other way than to look.
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), _LOOK_SECONDS if self._blind else None)

    async def _drain(self) -> AsyncGenerator[Chunk, None]:
        progress = True
        while progress:
            progress = False
            for output, file in self._files.items():
                offset = self._offsets[output]
                data = await self._disk.run(os.pread, file, CHUNK_SIZE, offset)
                if data:
                    progress = True
                    self._offsets[output] = offset + len(data)
                    yield Chunk(output, offset, data)

    async def _open(self, stack: ExitStack, wake: asyncio.Event | None) -> None:
        """Open what is there and not yet open; a waiting job has no files."""
        for output in self._offsets:
            if output in self._files:
                continue
            try:
                file = await self._disk.open(self._folder.open_output, output.value)
            except FileNotFoundError:
                continue
            stack.callback(os.close, file)
            self._files[output] = file
            if wake is not None:
                self._watch_growth(stack, file, wake)

    def _watch_growth(self, stack: ExitStack, file: int, wake: asyncio.Event) -> None:
        try:
            # By descriptor: nothing a job does to names can lead elsewhere.
            stack.callback(self._growth.watch(f"/proc/self/fd/{file}", wake))
        except OSError as error:
            log.warning(
                "the kernel does not tell when outputs grow (fs.inotify limits): %s; looking every "
                "%g s instead",
                error,
                _LOOK_SECONDS,
            )
            self._blind = True
