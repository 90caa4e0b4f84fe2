"""The service under a systemd that ignores what the oldest one does not know."""

from __future__ import annotations

import time

import pytest

from support.daemon import DEADLINE, until
from support.systemd_host import UNIT, SystemdHost
from support.systemd_versions import OLDEST, as_seen_by
from wsclean_client import JobState

pytestmark = pytest.mark.timeout(240)

QUICK = 5.0
"""Seconds that a stop may take, whatever runs."""

WATCHDOG = "[Service]\nWatchdogSec=4\nRestartSec=0\n"

IGNORED = {
    "PrivateMounts": "no",
    "ProtectClock": "no",
    "ProtectHostname": "no",
    "ProtectKernelLogs": "no",
    "ProtectProc": "default",
    "RestrictSUIDSGID": "no",
}
"""What the unit asks for and the oldest systemd does not do: it is as if nobody had."""


def age(host: SystemdHost) -> None:
    """Let systemd see of the service what the oldest one would."""
    folder = host.root / "etc/systemd/system"
    for path in (folder / UNIT, *folder.glob(f"{UNIT}.d/*.conf")):
        path.write_text(as_seen_by(OLDEST, path.read_text())[0])
    (folder / f"{UNIT}.d").mkdir(exist_ok=True)
    (folder / f"{UNIT}.d/watchdog.conf").write_text(WATCHDOG)
    host.systemctl("daemon-reload")


@pytest.mark.parametrize("native", [False, True])
def test_it_starts_reloads_is_watched_and_stops(systemd_host: SystemdHost, native: bool) -> None:
    host = systemd_host
    host.install(*["--native"] * native)
    age(host)
    daemon = host.daemon()
    daemon.native = native
    # Ends when systemd was told READY=1.
    daemon.start()
    assert host.show(UNIT, *IGNORED) == IGNORED
    first = daemon.main_pid
    with daemon.client() as client:
        gate = daemon.gate()
        job = daemon.begin(client, f"{gate.wait}; exit 7")

        text = daemon.config.read_text(encoding="utf-8")
        for slots in (5, 0):
            changed = text.replace("slots = 4", f"slots = {slots}")
            assert changed != text
            daemon.config.write_text(changed, encoding="utf-8")
            # Invalid is what fails; what holds goes on to hold.
            reload = host.run("systemctl", "reload", UNIT, check=False)
            assert (reload.returncode == 0) is (slots == 5)
            until(lambda: client.status().slots, lambda number: number == 5)
        daemon.config.write_text(text, encoding="utf-8")
        assert daemon.main_pid == first

        host.systemctl("kill", "--kill-who=main", "--signal=STOP", UNIT)
        until(lambda: daemon.main_pid, lambda pid: pid not in {0, first})
        daemon.await_health()
        said = [entry["MESSAGE"] for entry in host.journal("-u", UNIT, "_PID=1")]
        assert any("Watchdog timeout" in line for line in said), said

    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < QUICK
    assert host.show(UNIT, "Result") == {"Result": "success"}
    gate.open()
    daemon.start()
    with daemon.client() as client:
        ended = client.job(job.id).wait(DEADLINE)
    assert (ended.state, ended.exit_status) == (JobState.FAILED, 7)
