"""The configuration is read again by a daemon that runs: all of it, or nothing."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import pytest

from support.daemon import DEADLINE, DaemonProcess, daemon_folder, until
from wsclean_client import JobFailed, JobState, JobTimedOut, RequestRefused, WSCleanClient


def reload(daemon: DaemonProcess, *changes: tuple[str, str], done: str = "reloaded: ") -> str:
    """Change the configuration and have it read again; return what the log says of that."""
    text = daemon.config.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    daemon.config.write_text(text, encoding="utf-8")
    before = len(daemon.log)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    return until(lambda: daemon.log[before:], lambda log: done in log)


def test_more_slots_start_what_waits_and_fewer_end_nothing(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        jobs = [client.submit(["sh", "-c", "sleep 600"], cwd=daemon.data) for _ in range(3)]
        assert client.status().slots_used == 2
        assert "slots is 3, was 2" in reload(daemon, ("slots = 2", "slots = 3"))
        for job in jobs:
            until(job.refresh, lambda found: found.state is JobState.RUNNING)
        reload(daemon, ("slots = 3", "slots = 1"))
        status = client.status()
        assert (status.slots, status.slots_used) == (1, 3)
        for job in jobs:
            job.cancel()
            job.wait(DEADLINE)


def test_limits_hold_for_what_comes_and_not_for_what_runs(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        writing = "until [ -e end ]; do head -c 10000 /dev/zero; sleep 0.05; done"
        old = daemon.begin(client, writing)
        # It is looked after from then on.
        until(old.refresh, lambda found: found.state is JobState.RUNNING)
        told = reload(
            daemon, ("kill_grace = 0.5", "kill_grace = 0.5\nrun_timeout = 1\noutput_limit = 50000")
        )
        assert "jobs.run_timeout is 1.0, was 86400.0" in told
        with pytest.raises(JobTimedOut):
            client.run(["sh", "-c", "sleep 600"], cwd=daemon.data)
        with pytest.raises(JobFailed) as caught:
            client.run(["sh", "-c", "head -c 100000 /dev/zero; sleep 600"], cwd=daemon.data)
        assert caught.value.job.reason is not None
        assert caught.value.job.reason.code == "OUTPUT_LIMIT"
        # Meanwhile it has written more than they may, and goes on.
        until((daemon.spool / "jobs" / old.id / "stdout").stat, lambda found: found.st_size > 2e5)
        (daemon.data / "end").touch()
        assert old.wait(DEADLINE).state is JobState.SUCCEEDED


def test_programs_history_and_log_level_are_those_that_were_read_last(
    daemon: DaemonProcess,
) -> None:
    with daemon.client() as client:
        client.run(["sh", "-c", "true"], cwd=daemon.data)
        reload(
            daemon,
            ('"sh", "wsclean"', '"wsclean", "true"'),
            ("slots = 2", 'slots = 2\nlog_level = "debug"\n[history]\nkeep = 0'),
        )
        with pytest.raises(RequestRefused, match="programs that may run are wsclean, true"):
            client.run(["sh", "-c", "true"], cwd=daemon.data)
        assert client.status().programs == ("wsclean", "true")
        until(lambda: list(client.list()), lambda jobs: not jobs)
        client.run(["true"], cwd=daemon.data)
        assert " DEBUG " in daemon.log


def test_access_is_that_which_was_read_last(daemon: DaemonProcess) -> None:
    assert daemon.socket.stat().st_mode & 0o777 == 0o660
    reload(daemon, ("[jobs]", '[socket]\nmode = "0600"\n[jobs]'))
    assert daemon.socket.stat().st_mode & 0o777 == 0o600


def condition(client: WSCleanClient) -> tuple[str, str] | None:
    found = client.status().configuration
    return (found.code, found.message) if found else None


def test_what_takes_a_restart_is_named_until_it_is_taken_back(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        assert condition(client) is None
        extra = '[docker]\nimage = "other"\n[jobs]'
        told = reload(daemon, ("[jobs]", extra), ("slots = 2", "slots = 3"))
        assert "slots is 3, was 2" in told
        code, message = condition(client) or ("", "")
        assert code == "RESTART_NEEDED"
        assert "docker.image" in message
        reload(daemon, (extra, "[jobs]"), done="nothing has changed")
        assert condition(client) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("slots = 2", "slots = 0"), "slots: expected"),
        (("slots = 2", "slots = "), "not valid TOML"),
        (("kill_grace = 0.5", 'kill_grace = 0.5\nrun_as = "nobody-there"'), "jobs.run_as"),
    ],
)
def test_an_invalid_configuration_changes_nothing_and_is_told(
    daemon: DaemonProcess, change: tuple[str, str], says: str
) -> None:
    if "run_as" in change[1] and os.geteuid() == 0:
        change = ('run_as = "0:0"', 'run_as = "nobody-there"')
    with daemon.client() as client:
        # The other change is valid, and not made either.
        told = reload(
            daemon, change, ('"sh", "wsclean"', '"wsclean"'), done="cannot reload the configuration"
        )
        assert says in told
        code, message = condition(client) or ("", "")
        assert code == "CONFIG_INVALID"
        assert says in message
        assert client.status().slots == 2
        assert client.run(["sh", "-c", "echo on"], cwd=daemon.data).stdout == "on\n"
        # As it was again, nothing is left of it.
        daemon.write_config()
        reload(daemon, done="nothing has changed")
        assert condition(client) is None


def test_access_that_cannot_be_given_changes_nothing(daemon: DaemonProcess) -> None:
    daemon.socket.unlink()
    told = reload(
        daemon,
        ("slots = 2", 'slots = 5\nlog_level = "debug"'),
        done="cannot reload the configuration",
    )
    assert "workerd.sock" in told
    assert "slots is 5" not in daemon.log


def test_systemd_hears_when_it_begins_and_ends(idle_daemon: DaemonProcess) -> None:
    with daemon_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(DEADLINE)
        idle_daemon.environment = {"NOTIFY_SOCKET": str(folder / "notify")}
        idle_daemon.start()

        def hear(wanted: Callable[[str], bool]) -> str:
            while not wanted(message := manager.recv(4096).decode()):
                pass
            return message

        hear(lambda message: message == "READY=1")
        reload(idle_daemon, ("[jobs]", '[docker]\nimage = "other"\n[jobs]'))
        begun, stamp = hear(lambda message: "RELOADING" in message).splitlines()
        assert begun == "RELOADING=1"
        assert stamp.startswith("MONOTONIC_USEC=")
        assert stamp.partition("=")[2].isdecimal()
        hear(lambda message: message == "READY=1")
        hear(lambda message: message.startswith("STATUS=") and "docker.image" in message)
