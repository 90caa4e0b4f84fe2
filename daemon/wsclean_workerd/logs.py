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

    from asyncinotify import Event

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.model import JobId
    from wsclean_workerd.spool import JobFolder, Spool

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
_PACE_SECONDS = 0.01

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
            # Without waiting it gives what has gathered.
            self._inotify = Inotify(sync_timeout=0, cache_size=256)
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
        while True:
            self._take(await inotify.get())
            # A job that writes in small pieces must not have the daemon woken by each.
            await asyncio.sleep(_PACE_SECONDS)
            for event in inotify:
                self._take(event)

    def _take(self, event: Event) -> None:
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
            async for chunk in self._drain(stack, None):
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
                async for chunk in self._drain(stack, wake):
                    yield chunk
                if over:
                    return
                # Where the kernel tells nothing there is no other way than to look.
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), _LOOK_SECONDS if self._blind else None)

    async def _drain(
        self, stack: ExitStack, wake: asyncio.Event | None
    ) -> AsyncGenerator[Chunk, None]:
        more = True
        while more:
            if len(self._files) < len(self._offsets):
                await self._open(stack, wake)
            chunks = await self._disk.run(self._read) if self._files else []
            for chunk in chunks:
                self._offsets[chunk.output] = chunk.offset + len(chunk.data)
                yield chunk
            # A piece that is not full was the last one at the time.
            more = any(len(chunk.data) == CHUNK_SIZE for chunk in chunks)

    def _read(self) -> list[Chunk]:
        """Read a piece of each output, in a thread."""
        pieces = (
            Chunk(output, self._offsets[output], os.pread(file, CHUNK_SIZE, self._offsets[output]))
            for output, file in self._files.items()
        )
        return [piece for piece in pieces if piece.data]

    async def _open(self, stack: ExitStack, wake: asyncio.Event | None) -> None:
        """Open what is there and not yet open; a waiting job has no files."""
        opened = await self._disk.acquire(_close_all, self._open_files)
        stack.callback(_close_all, opened)
        for output, file in opened.items():
            self._files[output] = file
            if wake is not None:
                self._watch_growth(stack, file, wake)

    def _open_files(self) -> dict[Output, int]:
        opened: dict[Output, int] = {}
        try:
            for output in self._offsets:
                if output not in self._files:
                    with suppress(FileNotFoundError):
                        opened[output] = self._folder.open_output(output.value)
        except OSError:
            _close_all(opened)
            raise
        return opened

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


class Outputs:
    """What the jobs write.

    Args:
        spool: The job folders.
        disk: Access to the state disk.
        growth: What tells when outputs grow.
    """

    def __init__(self, spool: Spool, disk: Disk, growth: GrowthWatch) -> None:
        self._spool = spool
        self._disk = disk
        self._growth = growth

    def reader(self, job_id: JobId, offsets: Mapping[Output, int]) -> OutputReader:
        """Read the output of a job.

        Args:
            job_id: The job.
            offsets: Where to begin in each output that is wanted, in bytes.
        """
        folder = self._spool.job(job_id)
        return OutputReader(folder, offsets, disk=self._disk, growth=self._growth)


def _close_all(files: dict[Output, int]) -> None:
    for file in files.values():
        os.close(file)
