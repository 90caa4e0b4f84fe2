"""Checks what a caller wants run and makes it ready to be sent.

Shared by every kind of client; it looks at the file system but calls nobody.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from wsclean_client.errors import RequestRefused
from wsclean_client.resolve import resolve_command, resolve_folder, resolve_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PathArgument: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""What may stand in a command: as in `subprocess`, text or a path."""

Seconds: TypeAlias = float | timedelta
"""A length of time: seconds, or a timedelta."""

_LONGEST = 315_576_000_000.0
"""The longest google.protobuf.Duration in seconds, 10000 years."""

_LARGEST = 2**32 - 1
"""The largest number that can be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """A command that is ready to be sent.

    Attributes:
        command: The program and its arguments, resolved.
        working_directory: An absolute host path without symlinks.
        environment: Variables to add to the job's environment.
        timeout: Seconds that it may run, or None for the daemon's default.
        queue_timeout: Seconds that it may wait, or None for the daemon's default.
        umask: The file mode creation mask, or None for the daemon's.
        tied: Whether the job is to end with the call that submits it.
        locks: What no other job may hold meanwhile, paths resolved.
        retries: How often the command may be run again after it was lost.
    """

    command: tuple[str, ...]
    working_directory: str
    environment: Mapping[str, str]
    timeout: float | None = None
    queue_timeout: float | None = None
    umask: int | None = None
    tied: bool = False
    locks: tuple[str, ...] = ()
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller may say about a command; see `WSCleanClient.submit`."""

    cwd: PathArgument | None = None
    env: Mapping[str, str] | None = None
    timeout: Seconds | None = None
    queue_timeout: Seconds | None = None
    umask: int | None = None
    tied: bool = False
    locks: Iterable[PathArgument] = ()
    retries: int = 0


def prepare(args: Iterable[PathArgument], options: Options) -> CommandSpec:
    """Check and resolve a command.

    Args:
        args: The program and its arguments.
        options: What else the caller says about it.

    Returns:
        The command, ready to be sent.

    Raises:
        TypeError: If `args` or `locks` is no list of texts and paths, or `retries` no
            number of times.
        ValueError: If a timeout is no finite number, or `retries` below 0.
        RequestRefused: If something cannot be sent: a name that is no UTF-8, a
            working directory that has been removed.
    """
    folder = _working_directory(options.cwd)
    return CommandSpec(
        command=resolve_command(_texts(args), folder),
        working_directory=folder,
        environment=_environment(options.env or {}),
        timeout=_seconds("timeout", options.timeout),
        queue_timeout=_seconds("queue_timeout", options.queue_timeout),
        umask=own_umask() if options.umask is None else options.umask,
        tied=options.tied,
        locks=_locks(options.locks, folder),
        retries=_retries(options.retries),
    )


def own_umask() -> int | None:
    """Read the file mode creation mask of this process.

    `os.umask` could tell it only by changing it, for all threads at once.

    Returns:
        The mask, or None if the kernel does not tell it.
    """
    try:
        with Path("/proc/self/status").open(encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError, IndexError):
        pass
    return None


def _texts(args: Iterable[PathArgument]) -> tuple[str, ...]:
    if isinstance(args, (str, bytes, os.PathLike)):
        raise TypeError(
            f"a command is a list of arguments, not one text: pass shlex.split({args!r})",
        )
    return tuple(_text(f"argument {number}", argument) for number, argument in enumerate(args))


def _locks(locks: Iterable[PathArgument], folder: str) -> tuple[str, ...]:
    if isinstance(locks, (str, bytes, os.PathLike)):
        raise TypeError(
            f"locks is {locks!r}: expected a list of paths and names, as in [{locks!r}]"
        )
    return tuple(_lock(number, lock, folder) for number, lock in enumerate(locks))


def _lock(number: int, lock: PathArgument, folder: str) -> str:
    text = _text(f"lock {number}", lock)
    # A text without a slash is a name, a path object never is.
    if isinstance(lock, os.PathLike) and "/" not in text:
        text = f"./{text}"
    return resolve_lock(text, folder)


def _retries(value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"retries is {value!r}: expected a whole number, as in retries=1")
    # How many are allowed is for the daemon to say.
    if not 0 <= value <= _LARGEST:
        raise ValueError(f"retries is {value}: expected 0 or more, as in retries=1")
    return value


def _text(what: str, value: PathArgument) -> str:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(
            f"{what} is {value!r}, of type {type(value).__name__}: expected str, bytes or "
            "os.PathLike; turn it into text, as in str(value)",
        )
    text = os.fsdecode(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestRefused(
            f"cannot send the command: {what} is not valid UTF-8: {os.fsencode(text)!r}. "
            "Rename the file",
            reason="NOT_UTF8",
        ) from None
    return text


def _working_directory(cwd: PathArgument | None) -> str:
    try:
        return resolve_folder(_text("the working directory", Path.cwd() if cwd is None else cwd))
    except FileNotFoundError:
        raise RequestRefused(
            "cannot tell the working directory: it has been removed. Change to one that exists "
            "or pass an absolute one",
            reason="NO_WORKING_DIRECTORY",
        ) from None


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    for name, value in env.items():
        for what, text in (("the name", name), ("the value", value)):
            if not isinstance(text, str):
                raise TypeError(
                    f"{what} of the environment variable {name!r} is of type "
                    f"{type(text).__name__}: expected str",
                )
            _text(f"{what} of the environment variable {name!r}", text)
    return dict(env)


def _seconds(what: str, value: Seconds | None) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not math.isfinite(seconds) or abs(seconds) > _LONGEST:
        raise ValueError(
            f"{what} is {value!r}: expected a finite number of seconds. Leave it out to get the "
            "daemon's default",
        )
    return seconds
