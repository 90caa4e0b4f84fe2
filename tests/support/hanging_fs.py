"""A passthrough filesystem that answers nothing while a file exists.

Run as a program: SOURCE is shown at TARGET; while FLAG exists every call waits, except for
the attributes of the top folder, which kernels keep. Whoever calls is then in
uninterruptible sleep, as with any storage that hangs.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mfusepy

_LOOK_SECONDS = 0.02


def hanging(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let a call wait while the file exists, and give it the path behind."""

    @functools.wraps(call)
    def wrapper(self: HangingPassthrough, path: str, *args: Any) -> Any:
        if (call.__name__, path) != ("getattr", "/"):
            while self.flag.exists():
                time.sleep(_LOOK_SECONDS)
        return call(self, self.source + path, *args)

    return wrapper


class HangingPassthrough(mfusepy.Operations):  # type: ignore[misc]
    """Shows a folder.

    Args:
        source: The folder.
        flag: The file.
    """

    use_ns = True

    def __init__(self, source: str, flag: Path) -> None:
        self.source = source
        self.flag = flag

    @hanging
    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        del fh
        found = os.lstat(path)
        names = ("mode", "nlink", "size", "uid", "gid")
        times = {
            f"st_{name}": getattr(found, f"st_{name}_ns") for name in ("atime", "ctime", "mtime")
        }
        return {**{f"st_{name}": getattr(found, f"st_{name}") for name in names}, **times}

    @hanging
    def readdir(self, path: str, fh: int) -> list[str]:
        del fh
        return [".", "..", *(each.name for each in Path(path).iterdir())]

    @hanging
    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags)

    @hanging
    def create(self, path: str, mode: int, fi: Any = None) -> int:
        del fi
        return os.open(path, os.O_RDWR | os.O_CREAT, mode)

    @hanging
    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        del path
        return os.pread(fh, size, offset)

    @hanging
    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        del path
        return os.pwrite(fh, data, offset)

    @hanging
    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        del fh
        os.truncate(path, length)
        return 0

    @hanging
    def flush(self, path: str, fh: int) -> int:
        del path, fh
        return 0

    @hanging
    def release(self, path: str, fh: int) -> int:
        del path
        os.close(fh)
        return 0

    @hanging
    def unlink(self, path: str) -> int:
        Path(path).unlink()
        return 0

    @hanging
    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(path)
        names = ("bsize", "blocks", "bfree", "bavail", "files", "ffree", "namemax")
        return {f"f_{name}": getattr(found, f"f_{name}") for name in names}


if __name__ == "__main__":
    source_, target_, flag_ = sys.argv[1:]
    mfusepy.FUSE(
        HangingPassthrough(source_, Path(flag_)), target_, foreground=True, allow_other=True
    )
