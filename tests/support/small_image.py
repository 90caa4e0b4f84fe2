"""Images of a few programs of this host, which are there in a second."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Collection, Mapping

from support.programs import find, libraries

PROGRAMS = (
    *("cat", "cut", "find", "grep", "head", "mkfifo", "rm"),
    *("setpriv", "setsid", "sh", "sleep", "sort", "tail"),
)
"""All that the container and its runner need, and what the jobs of tests do."""

WSCLEAN = "#!/bin/sh\necho a wsclean of no use\n"

_PATH = "/usr/bin:/bin"


def import_image(
    engine: str,
    tag: str,
    *,
    without: Collection[str] = (),
    scripts: Mapping[str, str] | None = None,
) -> None:
    """Make an image.

    Args:
        engine: The address of the engine.
        tag: Its name.
        without: Programs to leave out.
        scripts: Scripts to put in, by name, also in the place of programs. There is one
            for `wsclean`, which only says something.
    """
    own = {"wsclean": WSCLEAN, **(scripts or {})}
    wanted = [each for each in PROGRAMS if each not in {*without, *own}]
    content = _archive(wanted, {name: own[name] for name in own if name not in without})
    subprocess.run(
        ["docker", "import", "-", tag],
        input=content,
        capture_output=True,
        check=True,
        env={**os.environ, "DOCKER_HOST": engine},
        timeout=60,
    )


def _archive(programs: Collection[str], scripts: Mapping[str, str]) -> bytes:
    found = {name: find(name, _PATH) for name in programs}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("bin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            archive.addfile(link)
        for name, program in found.items():
            archive.add(program.resolve(), f"usr/bin/{name}")
        for library in sorted({each for program in found.values() for each in libraries(program)}):
            inside = str(library).removeprefix("/usr").lstrip("/")
            archive.add(library.resolve(), f"usr/{inside}")
        for name, text in scripts.items():
            entry = tarfile.TarInfo(f"usr/bin/{name}")
            entry.mode, entry.size = 0o755, len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()
