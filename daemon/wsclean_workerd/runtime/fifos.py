"""FIFOs in a folder of their own, by which the daemon talks to a script beside the jobs.

All functions here block on the state disk: call them in a thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER_MODE = 0o700
_FIFO_MODE = 0o600


def make_fifos(folder: Path, *names: str) -> None:
    """Make a folder with FIFOs in it, for the daemon's own user.

    Args:
        folder: The folder, which is not there yet.
        names: The names of the FIFOs.

    Raises:
        OSError: If the disk does not take it.
    """
    folder.mkdir(mode=_FOLDER_MODE)
    for name in names:
        os.mkfifo(folder / name, _FIFO_MODE)


def open_fifo(path: Path, flags: int) -> int:
    """Open a FIFO and return its descriptor; neither this nor its use ever waits.

    Args:
        path: The FIFO.
        flags: `os.O_RDONLY`; or `os.O_RDWR`, to write also while nobody reads.

    Raises:
        OSError: If it is not there.
    """
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
