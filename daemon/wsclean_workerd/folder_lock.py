"""Sees to it that there is one daemon for one socket and one journal."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from wsclean_workerd.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path


def lock_folder(folder: Path, purpose: str) -> int:
    """Lock a folder for the life of this process.

    gRPC lets a second server bind the same path and take the calls over without a
    word; only a lock that is taken before tells.

    Args:
        folder: Where the lock file is made.
        purpose: What the folder is, for the message.

    Returns:
        The descriptor that holds the lock.

    Raises:
        StartError: If another daemon has it, or the folder cannot be used.
    """
    path = folder / "workerd.lock"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StartError(f"cannot use {folder} as {purpose}: {error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StartError(
            f"cannot use {folder} as {purpose}: another wsclean-workerd (process {other}) does. "
            "Stop it, or give this one folders of its own",
        ) from None
    # Who it is is only told to people: a full disk is no reason not to start.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor
