"""`wsclean-ctl doctor` as an operator calls it: with a real daemon, and with none."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from component.client.fake_worker import FakeWorker
from support.daemon import DEADLINE, DaemonProcess
from support.doctor import doctor, findings
from wsclean_client import WSCleanClient

LIMIT = 14.0
"""Seconds that it may take on a machine that is busy, whatever hangs; it says ten."""


def test_a_healthy_installation_is_all_ok(daemon: DaemonProcess) -> None:
    # All that is configured is there.
    daemon.stop()
    daemon.settings = daemon.settings.replace('["sh", "wsclean"]', '["sh"]')
    daemon.start()
    found = findings(daemon)
    assert {name: each["verdict"] for name, each in found.items()} == dict.fromkeys(
        [
            "configuration",
            "socket",
            "identity-socket",
            "daemon",
            "versions",
            "journal",
            "state-disk",
            "runtime",
            "programs",
            f"mount {daemon.data}",
        ],
        "ok",
    )
    assert not any(each["mend"] for each in found.values())
    done = doctor(daemon)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == len(found)
    assert all(line.startswith("ok ") for line in lines)
    assert "\x1b" not in done.stdout


def test_a_program_that_is_missing_is_named(daemon: DaemonProcess) -> None:
    found = findings(daemon, status=1)["programs"]
    assert found["verdict"] == "problem"
    assert "lacks wsclean" in found["found"]
    assert "jobs.programs" in found["mend"]
    done = doctor(daemon)
    assert done.returncode == 1
    assert "problem  programs: this host lacks wsclean\n" in done.stdout
    assert "\n           mend: add wsclean to this host" in done.stdout


def test_a_mount_that_is_not_there_is_named(idle_daemon: DaemonProcess) -> None:
    gone = idle_daemon.folder / "gone"
    idle_daemon.settings += f'[[mounts]]\nhost = "{gone}"\n'
    idle_daemon.start()
    found = findings(idle_daemon, status=1)
    assert found[f"mount {gone}"]["verdict"] == "problem"
    assert "no folder is there" in found[f"mount {gone}"]["found"]
    assert str(gone) in found[f"mount {gone}"]["mend"]
    assert found[f"mount {idle_daemon.data}"]["verdict"] == "ok"


def test_a_state_folder_that_is_gone_is_a_problem(daemon: DaemonProcess) -> None:
    state = daemon.folder / "state"
    aside = state.rename(daemon.folder / "aside")
    try:
        found = findings(daemon, status=1)["state-disk"]
        assert found["verdict"] == "problem"
        assert str(state) in found["found"]
    finally:
        aside.rename(state)


def test_without_a_daemon_it_says_so_and_looks_at_the_rest(idle_daemon: DaemonProcess) -> None:
    idle_daemon.write_config()
    found = findings(idle_daemon, status=1)
    assert {name: each["verdict"] for name, each in found.items()} == {
        "configuration": "ok",
        "socket": "problem",
        "daemon": "problem",
    }
    assert "no such socket" in found["daemon"]["found"]
    assert "systemctl start" in found["daemon"]["mend"]


def test_without_the_socket_that_makes_tokens_it_says_so(daemon: DaemonProcess) -> None:
    daemon.socket.with_name("identity.sock").unlink()
    found = findings(daemon, status=1)
    assert found["socket"]["verdict"] == "ok"
    assert found["identity-socket"]["verdict"] == "warning"
    assert found["daemon"]["verdict"] == "problem"
    assert "restart the daemon" in found["identity-socket"]["mend"]


def test_a_broken_configuration_is_told_with_the_key(idle_daemon: DaemonProcess) -> None:
    wrong = idle_daemon.settings.replace("slots = 2", "slots = 0")
    idle_daemon.settings = wrong.replace("kill_grace", "kil_grace")
    idle_daemon.write_config()
    found = findings(idle_daemon, status=1)["configuration"]
    assert found["verdict"] == "problem"
    assert "slots: expected" in found["found"]
    assert "did you mean kill_grace?" in found["found"]
    assert str(idle_daemon.config) in found["mend"]


def test_a_daemon_that_does_not_answer_is_told_in_time(daemon: DaemonProcess) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        found = findings(daemon, status=1)
        assert time.monotonic() - begun < LIMIT
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    assert found["socket"]["verdict"] == "ok"
    assert found["daemon"]["verdict"] == "problem"
    assert "does not answer" in found["daemon"]["found"]


class Mute(FakeWorker):
    """A daemon that takes the call and does not answer it before it is told to."""

    def DiagnoseWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 - the interface's
        assert self.told.wait(DEADLINE)
        return super().DiagnoseWorker(request, context)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.told = threading.Event()


def test_a_call_that_is_not_answered_is_given_up_in_time(idle_daemon: DaemonProcess) -> None:
    idle_daemon.write_config()
    idle_daemon.socket.parent.mkdir()
    worker = Mute(str(idle_daemon.socket))
    worker.start()
    try:
        begun = time.monotonic()
        found = findings(idle_daemon, status=1)
        assert time.monotonic() - begun < LIMIT
    finally:
        worker.told.set()
        worker.stop()
    assert found["daemon"]["found"] == "it listens but does not answer"


@pytest.fixture
def with_engine(idle_daemon: DaemonProcess) -> DaemonProcess:
    """A daemon for an engine at engine.sock, where there is none yet."""
    settings = idle_daemon.settings.replace('"native"', '"docker"')
    idle_daemon.settings = f'{settings}[docker]\nurl = "unix://{idle_daemon.folder}/engine.sock"\n'
    return idle_daemon


ENGINE_VERDICTS = {
    "engine": "problem",
    "image": "unknown",
    "container": "unknown",
    "programs": "unknown",
}


def test_an_engine_that_is_not_there_is_told_and_what_follows_is_unknown(
    with_engine: DaemonProcess,
) -> None:
    with_engine.start(ready=False)
    found = findings(with_engine, status=1)
    assert {name: found[name]["verdict"] for name in ENGINE_VERDICTS} == ENGINE_VERDICTS
    assert "cannot be reached" in found["engine"]["found"]
    assert found[f"mount {with_engine.data}"]["verdict"] == "unknown"


def test_an_engine_that_does_not_answer_is_told_in_time(with_engine: DaemonProcess) -> None:
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(with_engine.folder / "engine.sock"))
        engine.listen()
        with_engine.start(ready=False)
        begun = time.monotonic()
        found = findings(with_engine, status=1)
        assert time.monotonic() - begun < LIMIT
    assert found["daemon"]["verdict"] == "ok"
    assert found["engine"]["verdict"] == "problem"
    assert "timed out" in found["engine"]["found"]


def test_looking_leaves_nothing_behind(daemon: DaemonProcess) -> None:
    assert findings(daemon, status=1)[f"mount {daemon.data}"]["verdict"] == "ok"
    assert not list((daemon.spool / "runner").glob("look-*"))
    assert not list(daemon.data.iterdir())


@pytest.fixture
def old(idle_daemon: DaemonProcess) -> Iterator[DaemonProcess]:
    """A daemon that does not know the call."""
    idle_daemon.write_config()
    idle_daemon.socket.parent.mkdir()
    worker = FakeWorker(str(idle_daemon.socket))
    worker.fail("DiagnoseWorker", grpc.StatusCode.UNIMPLEMENTED, details="Method not found!")
    worker.start()
    yield idle_daemon
    worker.stop()


def test_an_older_daemon_is_a_warning(old: DaemonProcess) -> None:
    found = findings(old)
    assert found["daemon"]["verdict"] == "ok"
    assert found["versions"]["verdict"] == "warning"
    assert "older" in found["versions"]["found"]


def test_who_may_not_connect_is_told_how(daemon: DaemonProcess) -> None:
    script = (
        "import os, sys; from wsclean_client.cli.host_checks import check_socket;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "print(check_socket(sys.argv[1], 'socket'))"
    )
    daemon.socket.chmod(0o660)
    done = subprocess.run(
        [sys.executable, "-c", script, daemon.socket], capture_output=True, text=True, check=True
    )
    assert "usermod -aG root nobody" in done.stdout
    daemon.socket.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-c", script, daemon.socket], capture_output=True, text=True, check=True
    )
    assert "only its owner may connect" in done.stdout


def test_the_client_hands_the_findings_out(daemon: DaemonProcess) -> None:
    with WSCleanClient(daemon.socket) as client:
        diagnosis = client.diagnose()
    assert [each.name for each in diagnosis.findings] == [
        "journal",
        "state-disk",
        "runtime",
        "programs",
        "mount",
    ]
    assert diagnosis.findings[-1].subject == str(daemon.data)
