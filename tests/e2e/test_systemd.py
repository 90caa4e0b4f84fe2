"""The daemon on a host that boots systemd, installed and driven as an operator does it."""

from __future__ import annotations

from support.systemd_host import SystemdHost


def test_the_host_boots(systemd_host: SystemdHost) -> None:
    assert systemd_host.systemctl("is-system-running").strip() == "running"
    assert systemd_host.run("/opt/wsclean-workerd/bin/wsclean-workerd", "--version").stdout
