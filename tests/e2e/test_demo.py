"""The development instance and the demo, as the README has them, in a folder of their own."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.io import fits

from support.daemon import daemon_folder

TOOLS = Path(__file__).resolve().parents[2] / "tools"


class Instance:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, tool: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, TOOLS / tool, *words],
            capture_output=True,
            text=True,
            check=check,
            env={**os.environ, "DEV_DIR": str(self.folder)},
            timeout=100,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a shell has after sourcing the file."""
        done = subprocess.run(
            ["bash", "-c", f". {shlex.quote(str(self.folder / 'env'))}; env"],
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    @property
    def pid(self) -> int:
        return int((self.folder / "workerd.pid").read_text())

    def ctl(self, *words: str) -> str:
        environment = self.environment
        done = subprocess.run(
            ["wsclean-ctl", *words],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            cwd=self.folder / "data",
            timeout=100,
        )
        return done.stdout


@pytest.fixture
def instance() -> Iterator[Instance]:
    with daemon_folder() as folder:
        instance = Instance(folder)
        try:
            yield instance
        finally:
            instance.run("dev.py", "down")


def test_the_demo_checks_what_it_made_and_can_be_run_again(instance: Instance) -> None:
    for number in (1, 2):
        instance.run("dev.py", "up")
        printed = instance.run("demo.py").stdout
        assert re.search(r"draw-model .* ms", printed)
        assert re.search(r"mean amplitude of MODEL_DATA: 1\.\d+ Jy, expected 1\.5", printed)
        assert re.search(r"peak of bright: 1\.\d+ Jy/beam, expected 1\.5", printed)
        assert Path(instance.environment["DEMO_MS"]).name == f"demo-{number}.ms"
    results = instance.folder / "demo"
    assert fits.getdata(results / "image-image.fits").shape == (1, 1, 512, 512)
    assert (results / "image.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_fails_when_its_result_is_wrong(instance: Instance) -> None:
    instance.run("dev.py", "up")
    # The flux of a source that is not the one that was observed.
    broken = """
import dataclasses, demo
one, two = demo.DEMO_SKY.sources
sources = (dataclasses.replace(one, flux=2.0), two)
demo.DEMO_SKY = dataclasses.replace(demo.DEMO_SKY, sources=sources)
demo.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", broken],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DEV_DIR": str(instance.folder), "PYTHONPATH": str(TOOLS)},
        timeout=100,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: peak of bright: ")
    assert "expected 2.0000 Jy/beam" in done.stderr


def test_up_changes_nothing_that_is_there_and_starts_what_is_gone(instance: Instance) -> None:
    instance.run("dev.py", "up")
    pid, environment = instance.pid, instance.environment
    container = re.search(r"container +(\S+ \(\w+\))", instance.ctl("status"))
    assert container
    instance.run("dev.py", "up")
    assert (instance.pid, instance.environment) == (pid, environment)
    assert "of 4 taken" in instance.ctl("status")

    os.kill(pid, signal.SIGKILL)
    instance.run("dev.py", "up")
    assert instance.pid != pid
    assert container[1] in instance.ctl("status")
    assert instance.environment == environment


def test_down_ends_daemon_and_container(instance: Instance) -> None:
    instance.run("dev.py", "up")
    pid, environment = instance.pid, instance.environment
    name = re.search(r'container = "(.*)"', (instance.folder / "workerd.toml").read_text())
    assert name
    instance.run("dev.py", "down")
    # Whoever inherits it may not have buried it yet; then nothing is left but its number.
    cmdline = Path(f"/proc/{pid}/cmdline")
    assert not cmdline.exists() or not cmdline.read_bytes()
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"name={name[1]}"],
        capture_output=True,
        check=True,
        env=environment,
    )
    assert listed.stdout == b""
    assert instance.run("dev.py", "down").returncode == 0


def test_a_daemon_that_cannot_start_is_noticed_at_once(instance: Instance) -> None:
    # Something that is no folder is where its state should be.
    instance.folder.joinpath("state").write_text("")
    done = instance.run("dev.py", "up", check=False)
    assert done.returncode == 1
    assert "state_dir" in done.stderr
    assert "the daemon has ended" in done.stderr
