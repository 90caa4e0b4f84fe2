"""What an operator does to the service while jobs run: reload, restart, stop."""

from __future__ import annotations

import pytest

from support.daemon import until
from support.systemd_host import UNIT, SystemdHost, UnitDaemon
from wsclean_client import JobState

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def host(systemd_host: SystemdHost) -> SystemdHost:
    """A host on which the service was put in place."""
    systemd_host.install()
    return systemd_host


def change(daemon: UnitDaemon, old: str, new: str) -> None:
    text = daemon.config.read_text(encoding="utf-8")
    assert old in text
    daemon.config.write_text(text.replace(old, new), encoding="utf-8")


def test_reloading_changes_what_it_can_and_fails_if_the_configuration_is_invalid(
    host: SystemdHost,
) -> None:
    daemon = host.daemon()
    daemon.start()
    before = daemon.main_pid
    with daemon.client() as client:
        job = daemon.begin(client, "sleep 600")
        change(daemon, "slots = 4", "slots = 5")
        host.systemctl("reload", UNIT)
        until(lambda: client.status().slots, lambda slots: slots == 5)
        assert host.show(UNIT, "ActiveState", "SubState", "ReloadResult") == {
            "ActiveState": "active",
            "SubState": "running",
            "ReloadResult": "success",
        }
        (told,) = [line for line in daemon.log.splitlines() if line.startswith("reloaded: ")]
        assert told == "reloaded: slots is 5, was 4"

        change(daemon, "slots = 5", "slots = 0")
        failed = host.run("systemctl", "reload", UNIT, check=False)
        assert failed.returncode != 0
        errors = [entry["MESSAGE"] for entry in host.journal("-u", UNIT, "-p", "err")]
        # By the daemon, which goes on, and by what systemctl waited for.
        assert len([line for line in errors if "slots: expected" in line]) == 2
        daemon.await_status("what held before goes on to hold")
        assert host.show(UNIT, "ActiveState", "SubState") == {
            "ActiveState": "active",
            "SubState": "running",
        }
        assert client.status().slots == 5
        assert job.refresh().state is JobState.RUNNING
        assert daemon.main_pid == before
        job.cancel()
