"""Reads what jobs have written, at once or as it grows, without polling."""

from __future__ import annotations

import enum
import logging
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd.tasks import wait

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Mapping

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.growth import GrowthWatch
    from wsclean_workerd.model import JobId
    from wsclean_workerd.spool import JobFolder, Spool

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2

CHUNK_SIZE = 64 * 1024
"""The most bytes in one piece."""

BATCH = 8
"""The most pieces of each output that are read at once."""

PACE_SECONDS = 0.03
"""How long a follower leaves what comes to gather while the job runs.

What it reads meanwhile costs time that the job may need: with `BATCH` this is what it
reads at most, some 17 MB/s of each output. The rest waits for the job's end.
"""


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
            async for chunk in self._drain(stack):
                yield chunk

    async def whole(self) -> dict[Output, bytes] | None:
        """Read all of it, from where to begin; None if one output has `CHUNK_SIZE` or more."""
        with ExitStack() as stack:
            chunks = await self._next(stack)
        if any(len(chunk.data) == CHUNK_SIZE for chunk in chunks):
            return None
        return {chunk.output: chunk.data for chunk in chunks}

    async def follow(
        self, wake: asyncio.Event, ended: Callable[[], bool]
    ) -> AsyncGenerator[Chunk, None]:
        """Read what is written until the job has ended.

        What comes after a silence is read at once, what comes then at a pace that the job
        does not feel, and what is left in the end as fast as can be.

        Args:
            wake: Is set when the state of the job has changed.
            ended: Returns whether the job has ended. What it wrote is complete then.
        """
        with ExitStack() as stack:
            stack.callback(self._growth.forget, wake)
            silent = True
            # Asked before reading, so that the last read comes after the end.
            while not ended():
                wake.clear()
                await self._open(stack)
                if silent:
                    # Before reading, so that nothing falls in between.
                    self._watch_growth(wake)
                chunks = await self._next(stack)
                for chunk in chunks:
                    yield chunk
                if chunks:
                    silent = False
                    await wait(wake, PACE_SECONDS)
                elif silent:
                    # Where the kernel tells nothing there is no other way than to look.
                    await wait(wake, _LOOK_SECONDS if self._blind else None)
                else:
                    silent = True
            async for chunk in self._drain(stack):
                yield chunk

    async def _drain(self, stack: ExitStack) -> AsyncGenerator[Chunk, None]:
        more = True
        while more:
            chunks = await self._next(stack)
            for chunk in chunks:
                yield chunk
            # A piece that is not full was the last one at the time.
            more = any(len(chunk.data) == CHUNK_SIZE for chunk in chunks)

    async def _next(self, stack: ExitStack) -> list[Chunk]:
        """Read what comes next; nothing if there is no more at the time."""
        # Together, since most jobs write little and every hop to a thread has its price.
        opened, chunks = await self._disk.acquire(
            lambda result: _close_all(result[0]), self._open_and_read
        )
        self._take(stack, opened)
        for chunk in chunks:
            self._offsets[chunk.output] = chunk.offset + len(chunk.data)
        return chunks

    def _open_and_read(self) -> tuple[dict[Output, int], list[Chunk]]:
        opened = self._open_files()
        try:
            return opened, self._read(self._files | opened)
        except OSError:
            _close_all(opened)
            raise

    def _read(self, files: Mapping[Output, int]) -> list[Chunk]:
        """Read some pieces of each output in turns, in a thread."""
        chunks: list[Chunk] = []
        offsets = {output: self._offsets[output] for output in files}
        for _ in range(BATCH):
            for output, offset in list(offsets.items()):
                data = os.pread(files[output], CHUNK_SIZE, offset)
                if data:
                    chunks.append(Chunk(output, offset, data))
                if len(data) == CHUNK_SIZE:
                    offsets[output] += CHUNK_SIZE
                else:
                    del offsets[output]
        return chunks

    async def _open(self, stack: ExitStack) -> None:
        """Open what is there and not yet open, to watch it."""
        if len(self._files) < len(self._offsets):
            self._take(stack, await self._disk.acquire(_close_all, self._open_files))

    def _take(self, stack: ExitStack, opened: dict[Output, int]) -> None:
        stack.callback(_close_all, opened)
        self._files |= opened

    def _open_files(self) -> dict[Output, int]:
        """Open what is there and not yet open; a waiting job has no files."""
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

    def _watch_growth(self, wake: asyncio.Event) -> None:
        if self._blind:
            return
        try:
            for file in self._files.values():
                # By descriptor: nothing a job does to names can lead elsewhere.
                self._growth.once(f"/proc/self/fd/{file}", wake)
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
