"""Images that lack what jobs are usually started with, made without a registry."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Sequence

from support.docker_daemon import IMAGE
from support.programs import find, libraries

_ENVIRONMENT = {**os.environ, "DOCKER_BUILDKIT": "0"}


def busybox_image(tag: str) -> None:
    """Make an image in which BusyBox is all there is."""
    busybox = find("busybox")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path in (busybox, *libraries(busybox)):
                inside = "bin/busybox" if path == busybox else str(path)[1:]
                tar.add(path.resolve(), inside)
            for name in listed.stdout.split():
                if name != "busybox":
                    link = tarfile.TarInfo(f"bin/{name}")
                    link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                    tar.addfile(link)
        _docker("import", "-", tag, data=buffer.getvalue())


def image_without(tag: str, programs: Sequence[str]) -> None:
    """Make an image like that of WSClean, but without some programs."""
    words = " ".join(programs)
    dockerfile = f"FROM {IMAGE}\nRUN for each in {words}; do rm $(command -v $each); done\n"
    _docker("build", "--network", "none", "--tag", tag, "-", data=dockerfile.encode())


def _docker(*words: str, data: bytes) -> None:
    subprocess.run(
        ["docker", *words], input=data, capture_output=True, check=True, env=_ENVIRONMENT
    )
