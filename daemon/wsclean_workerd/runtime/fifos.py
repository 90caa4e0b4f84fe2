"""FIFOs in a folder of their own, by which the daemon talks to a script beside the jobs.

What makes and opens them blocks on the state disk: call it in a thread.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from wsclean_workerd.accounts import is_another

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wsclean_workerd.model import User

_FOLDER_MODE = 0o700
_FIFO_MODE = 0o600
# Root may have no right to open what is another user's: it does so by its group.
_SHARED_FOLDER_MODE = 0o711
_SHARED_FIFO_MODE = 0o660
_READ_SIZE = 4096


def make_fifos(folder: Path, *names: str, user: User | None = None) -> None:
    """Make a folder with FIFOs in it, for the daemon's own user.

    Args:
        folder: The folder, which is not there yet.
        names: The names of the FIFOs.
        user: Who is to open them as well.

    Raises:
        OSError: If the disk does not take it.
    """
    shared = user is not None and is_another(user)
    folder.mkdir(mode=_FOLDER_MODE)
    for name in names:
        os.mkfifo(folder / name, _FIFO_MODE)
        if user is not None and shared:
            os.chown(folder / name, user.uid, os.getegid())
            (folder / name).chmod(_SHARED_FIFO_MODE)
    if shared:
        folder.chmod(_SHARED_FOLDER_MODE)


def open_fifo(path: Path, flags: int) -> int:
    """Open a FIFO and return its descriptor; neither this nor its use ever waits.

    Args:
        path: The FIFO.
        flags: `os.O_RDONLY`; or `os.O_RDWR`, to write also while nobody reads.

    Raises:
        OSError: If it is not there.
    """
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def open_fifos(folder: Path, *ends: tuple[str, int]) -> tuple[int, ...]:
    """Open some FIFOs of a folder, or none; see `open_fifo`.

    Args:
        folder: The folder.
        ends: The name of each FIFO, with the flags to open it with.

    Returns:
        Their descriptors, in this order.
    """
    with ExitStack() as stack:
        opened = []
        for name, flags in ends:
            opened.append(open_fifo(folder / name, flags))
            stack.callback(os.close, opened[-1])
        stack.pop_all()
        return tuple(opened)


def close_all(descriptors: Iterable[int]) -> None:
    """Close some descriptors."""
    for each in descriptors:
        os.close(each)


async def first_words(descriptor: int) -> bytes:
    """Wait for the first that is written to a FIFO. For use on the event loop.

    Args:
        descriptor: The open read end.

    Returns:
        What it is; nothing if whoever opened it for writing has gone without a word.
    """
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        try:
            words = os.read(descriptor, _READ_SIZE)
        except BlockingIOError:
            return
        # A FIFO that has ended is ready for ever.
        loop.remove_reader(descriptor)
        if not heard.done():
            heard.set_result(words)

    # Nothing is to be read of one that nobody has opened for writing yet.
    loop.add_reader(descriptor, read)
    try:
        return await heard
    finally:
        loop.remove_reader(descriptor)
