"""What the kernel watches for the daemon."""

from __future__ import annotations

import re
from pathlib import Path

from wsclean_workerd.growth import GrowthWatch


def is_watched(growth: GrowthWatch, path: Path) -> bool:
    """Whether the kernel would tell of the next write to a file."""
    if growth._inotify is None:
        return False
    text = Path(f"/proc/self/fdinfo/{growth._inotify.fd}").read_text(encoding="ascii")
    watched = {int(number, 16) for number in re.findall(r"ino:([0-9a-f]+) ", text)}
    return path.stat().st_ino in watched
