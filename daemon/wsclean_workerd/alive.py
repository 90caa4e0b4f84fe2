"""Watches the processes of a job through the FIFO that all of them hold open."""

from __future__ import annotations

import asyncio
import os
from typing import Self

_READ_SIZE = 65536


class AliveWatch:
    """Waits for news on a job's `alive`. For use on the event loop.

    What is written there is only a wake-up, since the job can write there as well;
    the truth is in the job's folder.

    Args:
        descriptor: The open read end, which the watch closes.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ended = False
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no longer; doing it again does nothing."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def begin(self, *, begun: bool) -> None:
        """Begin to listen.

        Args:
            begun: Whether a writer may have come and gone already. A FIFO that nobody
                has opened for writing yet reads as ended, so with a job that is about
                to start the first event has to be awaited.
        """
        # epoll says nothing of a FIFO without a writer until one has come and gone
        # since it was opened here.
        self._loop.add_reader(self._descriptor, self._drain)
        if begun:
            self._drain()
            self._news.set()

    async def news(self) -> bool:
        """Wait until something happened.

        Returns:
            True if a process still holds the FIFO, False if none does.
        """
        await self._news.wait()
        self._news.clear()
        return not self._ended

    def _drain(self) -> None:
        # Once for each call: a job that writes without end must not keep the loop here.
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            # epoll reports end-of-file for as long as it lasts: stop listening.
            self._loop.remove_reader(self._descriptor)
            self._ended = True
        self._news.set()
