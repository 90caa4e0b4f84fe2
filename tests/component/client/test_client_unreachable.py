from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from component.client.fake_worker import FakeWorker
from wsclean_client import DaemonNotReachable, WSCleanClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def message_for(path: Path) -> str:
    with (
        WSCleanClient(path, connect_timeout=0.1) as client,
        pytest.raises(DaemonNotReachable) as caught,
    ):
        client.status()
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def bound(folder: Path) -> Iterator[Path]:
    path = folder / "w.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        yield path


def test_missing_socket(folder: Path) -> None:
    message = message_for(folder / "none.sock")
    assert "there is no such socket" in message
    assert "systemctl start wsclean-workerd" in message
    assert "WSCLEAN_WORKERD_SOCKET" in message


def test_socket_that_nobody_listens_on(bound: Path) -> None:
    assert "nobody listens there" in message_for(bound)


def test_file_that_is_no_socket(folder: Path) -> None:
    (folder / "file").touch()
    assert "nobody listens there" in message_for(folder / "file")


def test_path_that_is_too_long_for_a_socket(folder: Path) -> None:
    path = folder / ("x" * 120)
    assert "Unix socket can have 107" in message_for(path)


def test_giving_up_takes_as_long_as_one_is_willing_to_wait(folder: Path) -> None:
    began = time.monotonic()
    message_for(folder / "none.sock")
    assert 0.1 <= time.monotonic() - began < 5


def test_listener_that_is_no_daemon(bound: Path) -> None:
    # Nobody accepts, so the kernel refuses as soon as its short queue is full.
    with socket.socket(socket.AF_UNIX) as listener:
        os.unlink(bound)  # noqa: PTH108
        listener.bind(str(bound))
        listener.listen(8)
        assert "it listens but does not answer" in message_for(bound)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("folder_mode", "socket_mode", "expected"),
    [
        (0o755, 0o660, "The group daemon may"),
        (0o750, 0o666, "The group daemon may"),
        (0o755, 0o600, "let only its owner in"),
    ],
)
def test_user_who_may_not_connect_learns_which_group_may(
    folder: Path, bound: Path, folder_mode: int, socket_mode: int, expected: str
) -> None:
    os.chown(folder, 0, 1)
    os.chown(bound, 0, 1)
    folder.chmod(folder_mode)
    bound.chmod(socket_mode)
    # Root may always connect, and a change of user holds for the whole process.
    code = (
        "import os, sys; from wsclean_client.address import diagnose;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); print(diagnose(sys.argv[1]))"
    )
    message = run_python(code, str(bound))
    assert "this user may not connect" in message
    assert expected in message


def run_python(code: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout


@pytest.mark.parametrize("name", ["a b.sock", "50%25.sock", "q?x#y.sock", "\u00e4.sock"])
def test_path_with_letters_that_mean_something_in_a_uri(folder: Path, name: str) -> None:
    # gRPC's server would read its address as a URI too, so it gets a plain name.
    worker = FakeWorker(str(folder / "plain.sock"))
    worker.start()
    (folder / name).symlink_to("plain.sock")
    with WSCleanClient(folder / name) as client:
        client.status()
    worker.stop()


def test_environment_tells_the_socket(
    worker: FakeWorker, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("WSCLEAN_WORKERD_SOCKET", worker.path)
    with WSCleanClient() as client:
        client.status()
    with WSCleanClient("/elsewhere.sock") as client:
        assert client.socket == "/elsewhere.sock"
    monkeypatch.setenv("WSCLEAN_WORKERD_SOCKET", "")
    assert WSCleanClient().socket == "/run/wsclean-workerd/workerd.sock"
    monkeypatch.chdir(folder)
    with WSCleanClient("w.sock") as client:
        monkeypatch.chdir("/")
        client.status()
