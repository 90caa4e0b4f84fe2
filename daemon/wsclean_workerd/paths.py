"""From the names that files have on the host to the names that they have for a job.

Purely lexical: no file system is asked, because the caller has already resolved
symlinks and relative paths on its side, and because storage that hangs must not
hang the daemon.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd.errors import UnmappedPath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsclean_workerd.model import Mount

INSIDE = "container:"
"""The prefix by which a caller says that a path is meant inside the image."""

_KEY = re.compile(r"(?P<key>[A-Za-z0-9_.+-]+=)(?P<path>/.*)", re.DOTALL)


def inner_paths(argument: str) -> list[str]:
    """The absolute paths in an argument that has been mapped: itself, those of a list, `key=/path`.

    Args:
        argument: An argument as a job sees it.

    Returns:
        The paths, normalised; a comma that is part of a name yields one that is a prefix.
    """
    if "/" not in argument:
        # Most are options and numbers, and a hundred thousand jobs are looked at in a start.
        return []
    text = match["path"] if (match := _KEY.fullmatch(argument)) else argument
    return [normalise(part) for part in text.split(",") if part.startswith("/")]


def is_below(path: str, folder: str) -> bool:
    """Whether a normalised absolute path is a folder or something below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def normalise(path: str) -> str:
    """Remove `.`, `..`, repeated and trailing slashes from an absolute path."""
    # POSIX leaves the meaning of exactly two leading slashes open, and so does
    # normpath; on Linux they are one.
    return posixpath.normpath("/" + path.lstrip("/"))


@dataclass(frozen=True)
class PathMapper:
    """Maps paths by the longest mount that they are below.

    Args:
        mounts: The mounts, in any order. With the native runtime every mount is
            seen at its own path.
    """

    mounts: Sequence[Mount]

    def map_path(self, path: str) -> str:
        """Map one absolute path.

        Args:
            path: A host path below a mount, a path that a job already sees below
                a mount, or `container:` and a path inside the image.

        Returns:
            The path as a job sees it.

        Raises:
            UnmappedPath: If no job could see it.
        """
        if path.startswith(INSIDE):
            return self._map_inside(path)
        normal = normalise(path)
        by_host = [mount for mount in self.mounts if is_below(normal, mount.host)]
        if by_host:
            mount = max(by_host, key=lambda each: len(each.host))
            return _moved(normal, mount.host, mount.container)
        if any(is_below(normal, mount.container) for mount in self.mounts):
            return normal
        raise UnmappedPath(
            f"cannot use the path {path!r}: it is not below a mount. {self.describe()}, "
            f"or write {INSIDE}{path} if it is meant inside the image",
            path=path,
        )

    def host_path(self, path: str) -> str:
        """The one name that a file has on the host, however a command may name it.

        Args:
            path: A host path, a path that a job sees below a mount, or `container:` and
                a path inside the image.

        Returns:
            The host path of what a job would find there. What is below no mount keeps
            its name, normalised.

        Raises:
            UnmappedPath: If no absolute path follows `container:`.
        """
        if path.startswith(INSIDE):
            inside = normalise(self._map_inside(path))
            elsewhere = INSIDE + inside
        else:
            # Not every host path is its own name: a mount may hide a part of another.
            elsewhere = normalise(path)
            inside = self.map_folder(path) or elsewhere
        by_container = [mount for mount in self.mounts if is_below(inside, mount.container)]
        if not by_container:
            return elsewhere
        mount = max(by_container, key=lambda each: len(each.container))
        return _moved(inside, mount.container, mount.host)

    def map_argument(self, argument: str) -> str:
        """Map an argument of a command: a path, a list of them, or `key=/path`.

        Args:
            argument: Any argument.

        Returns:
            The argument with every absolute path in it mapped. What is no
            absolute path stays as it is.

        Raises:
            UnmappedPath: If it holds a path that no job could see.
        """
        if match := _KEY.fullmatch(argument):
            return match["key"] + self._map_list(match["path"])
        return self._map_list(argument)

    def map_folder(self, folder: str) -> str | None:
        """Map a working directory.

        Args:
            folder: An absolute path.

        Returns:
            The folder as a job sees it, or None if no job could see it.
        """
        try:
            return self.map_path(folder)
        except UnmappedPath:
            return None

    def _map_list(self, text: str) -> str:
        parts = text.split(",")
        # A comma may also be part of a name: only more than one absolute path
        # makes a list.
        if sum(_is_absolute(part) for part in parts) > 1 or not _is_absolute(text):
            return ",".join(self.map_path(part) if _is_absolute(part) else part for part in parts)
        return self.map_path(text)

    def _map_inside(self, path: str) -> str:
        inside = path.removeprefix(INSIDE)
        if not inside.startswith("/"):
            raise UnmappedPath(
                f"cannot use the path {path!r}: an absolute path has to follow {INSIDE}",
                path=path,
            )
        return inside

    def describe(self) -> str:
        """List the mounts in a sentence."""
        if not self.mounts:
            return "No mounts are configured"
        listed = ", ".join(
            mount.host if mount.host == mount.container else f"{mount.host} (as {mount.container})"
            for mount in self.mounts
        )
        return f"Use a path below one of these: {listed}"


def _moved(path: str, old: str, new: str) -> str:
    """Where a normalised path is if the folder that it is below has another name."""
    return normalise(posixpath.join(new, posixpath.relpath(path, old)))


def _is_absolute(text: str) -> bool:
    return text.startswith(("/", INSIDE))
