"""What a job may lock, and the one name that it has for all jobs. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wsclean_workerd.errors import InvalidRequest
from wsclean_workerd.paths import INSIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsclean_workerd.paths import PathMapper

MOST_LOCKS = 64
"""How many locks a job may ask for."""

LONGEST_PATH = 4096
"""In bytes, as for Linux."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_EXPECTED = (
    "expected an absolute path, or a plain name of at most 128 letters, digits and characters of "
    "'._-:' that begins with a letter or a digit"
)


def lock_keys(locks: Sequence[str], mapper: PathMapper) -> tuple[str, ...]:
    """The names under which locks are held.

    Args:
        locks: What a caller wants locked.
        mapper: The mounts.

    Returns:
        The name of each, once and sorted. A path is that of the host, whichever mount it
        is named by, so that two names of one Measurement Set are one lock.

    Raises:
        InvalidRequest: If something cannot be locked, with the words for the caller.
    """
    if len(locks) > MOST_LOCKS:
        raise InvalidRequest(
            f"cannot hold {len(locks)} locks for one job, the first of them {locks[0][:80]!r}: "
            f"expected at most {MOST_LOCKS}. Give a name to what is used together, and lock that",
            reason="INVALID_LOCK",
        )
    return tuple(sorted({_key(lock, mapper) for lock in locks}))


def _key(lock: str, mapper: PathMapper) -> str:
    if lock.startswith(("/", INSIDE)):
        _check_path(lock)
        return mapper.host_path(lock)
    if not _NAME.fullmatch(lock):
        raise InvalidRequest(f"cannot lock {lock[:80]!r}: {_EXPECTED}", reason="INVALID_LOCK")
    return lock


def _check_path(path: str) -> None:
    if len(path.encode()) > LONGEST_PATH:
        raise InvalidRequest(
            f"cannot lock the path {path[:80]!r}…: expected at most {LONGEST_PATH} bytes, not "
            f"{len(path.encode())}",
            reason="INVALID_LOCK",
        )
    if "\0" in path or "\n" in path:
        raise InvalidRequest(
            f"cannot lock the path {path[:80]!r}: expected no NUL and no newline character in it",
            reason="INVALID_LOCK",
        )
