"""How long a real job takes: imaging a Measurement Set."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from figures import TIMES, Finding, Goal, Section, ratios, spread
from instance import DATA_INSIDE, BenchFailed, job_user
from timer import in_container, waiting_shell

if TYPE_CHECKING:
    from instance import Bench, Instance
    from timer import Timer
    from wsclean_client import WSCleanClient

ROOT = Path(__file__).resolve().parent.parent
SIMULATED = ROOT / ".dev" / "sim" / "demo.ms"
"""The Measurement Set that `make dev` has simulated."""

_DECONVOLVE = "-weight briggs 0 -niter 1000 -mgain 0.8 -auto-threshold 4"
_NAME = "observation.ms"
_PIXELS = 3456
"""Along each side: so many that it takes half a minute."""


def measure(bench: Bench) -> Section:
    """Image through the daemon and natively in turns."""
    pixels, rounds = bench.count(_PIXELS, 256), bench.count(3, 2)
    daemon, native = [], []
    with bench.instance() as instance:
        instance.start()
        _put_measurement_set(bench, instance)
        place = in_container(instance.container_id(), job_user(), DATA_INSIDE)
        with (
            instance.client() as client,
            waiting_shell(_command(pixels, "native", _NAME), place) as timer,
        ):
            for turn in range(rounds):
                # Neither always comes second, after the other has warmed things up.
                if turn % 2:
                    daemon.append(_through_daemon(instance, client, pixels))
                    native.append(_natively(instance, timer))
                else:
                    native.append(_natively(instance, timer))
                    daemon.append(_through_daemon(instance, client, pixels))
    finding = Finding(
        name=f"Imaging the demo with {pixels} {TIMES} {pixels} pixels through the "
        "daemon, against natively in the same container",
        short="imaging",
        goal=Goal(1.01, TIMES),
        samples=ratios(daemon, native),
        compared=f"from call to exit status {spread(daemon, 's')}, natively {spread(native, 's')}",
    )
    return Section([finding])


def _command(pixels: int, name: str, measurement_set: str) -> list[str]:
    size = ["-size", str(pixels), str(pixels), "-scale", "1asec"]
    return ["wsclean", *size, *_DECONVOLVE.split(), "-name", name, measurement_set]


def _through_daemon(instance: Instance, client: WSCleanClient, pixels: int) -> float:
    before = time.perf_counter()
    client.run(_command(pixels, "daemon", _NAME), cwd=instance.data)
    seconds = time.perf_counter() - before
    _take_image(instance, "daemon")
    return seconds


def _natively(instance: Instance, timer: Timer) -> float:
    seconds, _ = timer.measure()
    _take_image(instance, "native")
    return seconds


def _take_image(instance: Instance, name: str) -> None:
    """See that there is an image, and make room for the next one."""
    if not (instance.data / f"{name}-image.fits").exists():
        raise BenchFailed(f"{name}-image.fits has not been made")
    for path in instance.data.glob(f"{name}-*.fits"):
        path.unlink()


def _put_measurement_set(bench: Bench, instance: Instance) -> None:
    """A Measurement Set that belongs to the jobs' user."""
    path = instance.data / _NAME
    if SIMULATED.exists() and not bench.quick:
        shutil.copytree(SIMULATED, path)
    else:
        small = ["--antennas", "10", "--times", "2", "--channels", "2"] if bench.quick else []
        words = [sys.executable, str(ROOT / "tools" / "simulate_ms.py"), str(path), *small]
        subprocess.run(words, capture_output=True, text=True, check=True)
    if os.geteuid() == 0:
        uid, gid = map(int, job_user().split(":"))
        for each in (path, *path.rglob("*")):
            os.chown(each, uid, gid)
