"""`wsclean-ctl doctor`, called for a daemon of the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.daemon import DEADLINE, DaemonProcess

CTL = Path(sys.executable).with_name("wsclean-ctl")


def doctor(daemon: DaemonProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Call it for a daemon that may not run."""
    return subprocess.run(
        [CTL, "--socket", daemon.socket, "doctor", "--config", daemon.config, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def findings(daemon: DaemonProcess, *, status: int = 0) -> dict[str, Any]:
    """What it finds, by name and subject; of the service nothing, whose daemon it is not."""
    done = doctor(daemon, "--json")
    assert done.returncode == status, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is (status == 0)
    found = {f"{each['name']} {each['subject']}".strip(): each for each in told["findings"]}
    assert len(found) == len(told["findings"])
    found.pop("service", None)
    return found
