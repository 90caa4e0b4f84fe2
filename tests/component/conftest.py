from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.daemon import DaemonProcess, daemon_folder

SETTINGS = """
runtime = "native"
slots = 2
[jobs]
{run_as}
programs = ["sh", "wsclean"]
kill_grace = 0.5
[[mounts]]
host = "{data}"
"""


@pytest.fixture
def idle_daemon() -> Iterator[DaemonProcess]:
    """A daemon with the native runtime that has not been started."""
    with daemon_folder() as folder:
        run_as = 'run_as = "0:0"' if os.geteuid() == 0 else ""
        settings = SETTINGS.format(run_as=run_as, data=folder / "data")
        daemon = DaemonProcess(folder, settings)
        yield daemon
        if daemon.process is not None:
            assert daemon.stop() == 0, daemon.log


@pytest.fixture
def daemon(idle_daemon: DaemonProcess) -> DaemonProcess:
    """A daemon with the native runtime that is ready."""
    idle_daemon.start()
    return idle_daemon
