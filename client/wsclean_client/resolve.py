"""What the paths of a command mean on the caller's side, at the moment of the call.

The daemon maps host paths to container paths by their names alone. So before a
command leaves the caller, this module replaces what a name alone does not tell:
symlinks, `..` and, where it could matter, the folder a relative path starts from.

It changes as little as it can. An argument that is no path, or might be a path
inside the container, goes to the daemon as it was written:

- the program, and whatever begins with `container:`, is never touched;
- an absolute path is resolved if anything of it below its first folder exists
  here; otherwise it may well be a path inside the container;
- a relative argument becomes absolute if it goes up (`../sim.ms`), passes a
  symlink, or names something that exists and looks like a path (has a `.` or a `/`);
- for `key=/path` and for lists with commas the same holds for each part;
- what `-name` and its like take is the beginning of file names rather than a
  path, so only its folder is resolved.

The functions look at the file system but never fail because of it.
"""

# Arguments are texts, and stay exactly as written unless they are resolved:
# pathlib would already drop what is meant by "./" or "//".
# ruff: noqa: PTH112, PTH118, PTH120

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

INSIDE = "container:"
"""The prefix that says of a path that it is meant inside the image."""

PREFIX_OPTIONS = frozenset({"-name", "-reuse-psf", "-reuse-dirty"})
"""WSClean's options whose value is the beginning of several file names."""

_KEY = re.compile(r"(?P<key>[A-Za-z0-9_.+-]+=)(?P<value>/.*)", re.DOTALL)


def resolve_command(command: Sequence[str], folder: str) -> tuple[str, ...]:
    """Resolve the arguments of a command.

    Args:
        command: The program and its arguments.
        folder: The working directory, absolute and without symlinks.

    Returns:
        The command for the daemon.
    """
    resolver = _Resolver(folder)
    resolved = list(command[:1])
    for previous, argument in itertools.pairwise(command):
        option = previous.replace("--", "-", 1) if previous.startswith("--") else previous
        if option in PREFIX_OPTIONS:
            resolved.append(resolver.prefix(argument))
        else:
            resolved.append(resolver.argument(argument))
    return tuple(resolved)


def resolve_lock(lock: str, folder: str) -> str:
    """Resolve what is to be locked: a path if there is a `/` in it, else a plain name.

    Args:
        lock: The lock.
        folder: The working directory, absolute and without symlinks.

    Returns:
        The lock for the daemon.
    """
    if "/" not in lock or lock.startswith(INSIDE) or "\0" in lock:
        return lock
    return _absolute(lock) if lock.startswith("/") else os.path.realpath(f"{folder}/{lock}")


def resolve_folder(folder: str) -> str:
    """Resolve a working directory: absolute, without symlinks."""
    return folder if "\0" in folder else os.path.realpath(folder)


@dataclass(frozen=True)
class _Resolver:
    """Resolves what is relative against one folder."""

    folder: str

    def argument(self, argument: str) -> str:
        if _is_opaque(argument):
            return argument
        if match := _KEY.fullmatch(argument):
            return match["key"] + self._values(match["value"])
        if argument.startswith("-"):
            return argument
        return self._values(argument)

    def prefix(self, argument: str) -> str:
        """Resolve the folder of a file name prefix, leaving its last part alone."""
        head, slash, last = argument.rpartition("/")
        if _is_opaque(argument) or not slash or not head or last in {"", ".", ".."}:
            return self.argument(argument)
        resolved = self._path(head) if head.startswith("/") else self._prefix_folder(head)
        return f"{resolved.rstrip('/')}/{last}"

    def _values(self, text: str) -> str:
        """Resolve one path or a list of them."""
        parts = text.split(",")
        if len(parts) == 1 or os.path.lexists(os.path.join(self.folder, text)):
            return self._path(text)
        # A comma may also be part of a name: below an absolute path only a second
        # absolute path makes a list.
        if text.startswith("/") and not any(part.startswith("/") for part in parts[1:]):
            return self._path(text)
        return ",".join(part if part.startswith(INSIDE) else self._path(part) for part in parts)

    def _path(self, path: str) -> str:
        return _absolute(path) if path.startswith("/") else self._relative(path)

    def _relative(self, path: str) -> str:
        if not path or not ("/" in path or "." in path) or _is_number(path):
            return path
        joined = os.path.join(self.folder, path)
        if os.path.lexists(joined) or _goes_up(path) or self._passes_symlink(path):
            return os.path.realpath(joined)
        return path

    def _prefix_folder(self, head: str) -> str:
        if _goes_up(head) or self._passes_symlink(f"{head}/x"):
            return os.path.realpath(os.path.join(self.folder, head))
        return head

    def _passes_symlink(self, path: str) -> bool:
        joined = os.path.join(self.folder, path)
        return (
            "/" in path
            and os.path.isdir(os.path.dirname(joined))
            and os.path.realpath(joined) != os.path.normpath(joined)
        )


def _absolute(path: str) -> str:
    components = [part for part in path.split("/") if part]
    # Many hosts have a /data of their own; that alone does not make /data/x/y a
    # path of the host.
    if os.path.lexists("/" + "/".join(components[:2])):
        return os.path.realpath(path)
    return path


def _is_opaque(argument: str) -> bool:
    # A NUL is refused by the daemon, with the number of the argument.
    inside = argument.startswith(INSIDE) and ",/" not in argument
    return not argument or inside or "\0" in argument


def _goes_up(path: str) -> bool:
    return ".." in path.split("/")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
