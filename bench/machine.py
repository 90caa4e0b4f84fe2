"""What the figures depend on."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import docker

from instance import IMAGE

_REST_SECONDS = 3.0
_LOOK_SECONDS = 0.1
_NEXT_TO_NOTHING = 0.15
"""Processors."""


def describe(url: str, folder: Path) -> dict[str, str]:
    """Describe this machine.

    Args:
        url: The engine's address.
        folder: Where journal and outputs are.
    """
    with contextlib.closing(docker.APIClient(url, version="auto")) as engine:
        docker_version = engine.version()["Version"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "Memory": f"{memory / 2**30:.0f} GiB",
        "Disk of journal and outputs": _file_system(folder),
        "Kernel": platform.release(),
        "Docker": f"{docker_version} (engine)",
        "WSClean": _wsclean(),
        "Python": platform.python_version(),
        "Commit": _commit(),
        "Load before": f"{os.getloadavg()[0]:.2f} (one minute)",
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }


def await_rest() -> None:
    """Wait until the processors have next to nothing to do, a few seconds at most."""
    deadline = time.monotonic() + _REST_SECONDS
    while time.monotonic() < deadline:
        before = _idle_seconds()
        time.sleep(_LOOK_SECONDS)
        idle = (_idle_seconds() - before) / _LOOK_SECONDS
        if idle > len(os.sched_getaffinity(0)) - _NEXT_TO_NOTHING:
            return


def _idle_seconds() -> float:
    """How long the processors have had nothing to do, each counted (proc(5), /proc/uptime)."""
    return float(Path("/proc/uptime").read_text(encoding="ascii").split()[1])


def _wsclean() -> str:
    words = ["docker", "run", "--rm", "--network", "none", IMAGE, "wsclean", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.partition("WSClean version")[2].partition("\n")[0].strip()


def _file_system(folder: Path) -> str:
    words = ["df", "--output=fstype,source", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return ", ".join(done.stdout.splitlines()[-1].split())


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
