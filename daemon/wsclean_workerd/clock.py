"""The present, on the two clocks of `wsclean_workerd.model.Instant`."""

from __future__ import annotations

import time
from pathlib import Path

from wsclean_workerd.model import Instant


def now() -> Instant:
    """The present."""
    return Instant(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


def boot_id() -> str:
    """What tells this start of the machine from all others (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
