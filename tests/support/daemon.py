"""A real daemon in a process of its own, to be asked, killed and started again."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from wsclean_client import JobHandle, WSCleanClient
from wsclean_client.authorized import AuthorizedChannel
from wsclean_client.identity import Identity
from wsclean_workerd_api.v1 import worker_pb2

SERVICE = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name
DEADLINE = 60.0
"""Seconds after which anything waited for in a test has failed."""

COUNTING = "i=0; until [ -e gate ]; do i=$((i + 1)); echo $i; sleep 0.02; done; exit 7"
"""A job that counts until it is let go, and ends with a status that nothing else has."""

_PAUSE_SECONDS = 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class Gate:
    """Where jobs wait until a test lets one of them go on.

    Args:
        path: A FIFO in the folder where they work.
    """

    path: Path

    @property
    def wait(self) -> str:
        """What a script does to wait."""
        return f"read -r line <{self.path.name}"

    def open(self) -> None:
        """Let a job go on that waits, or that is about to."""
        self.path.write_text("go\n", encoding="ascii")


@dataclass
class DaemonProcess:
    """One daemon with folders of its own.

    Args:
        folder: Where everything of it is; short, because of the socket.
        settings: The configuration without the folders, as TOML.
        environment: Variables in addition to those of the test.
        program: What to run as the daemon.
    """

    folder: Path
    settings: str
    environment: dict[str, str] = field(default_factory=dict)
    program: tuple[str | Path, ...] = (Path(sys.executable).with_name("wsclean-workerd"),)
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "workerd.sock"

    @property
    def config(self) -> Path:
        return self.folder / "workerd.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def spool(self) -> Path:
        return self.folder / "state" / "spool"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def write_config(self) -> None:
        self.data.mkdir(exist_ok=True)
        folders = f'state_dir = "{self.folder}/state"\nruntime_dir = "{self.folder}/run"\n'
        self.config.write_text(folders + self.settings, encoding="utf-8")

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process and do not wait for anything."""
        self.write_config()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "--config", self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        return self.process

    def start(self, *, ready: bool = True) -> None:
        """Start the daemon and wait until it serves, and unless told otherwise is ready."""
        self.spawn()
        self.await_health(SERVICE if ready else "")

    def await_health(
        self,
        service: str = SERVICE,
        wanted: int = health_pb2.HealthCheckResponse.SERVING,
    ) -> None:
        """Wait until the daemon itself says that a part of it is healthy, or is not."""
        with grpc.insecure_channel(
            f"unix:{self.socket}",
            options=[("grpc.initial_reconnect_backoff_ms", 50)],
        ) as channel:
            request = health_pb2.HealthCheckRequest(service=service)
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                for answer in stub.Watch(request, timeout=DEADLINE, wait_for_ready=True):
                    if answer.status == wanted:
                        return
            except grpc.RpcError as error:
                raise AssertionError(f"{service or 'daemon'} is not healthy: {self.log}") from error

    def channel(self) -> AuthorizedChannel:
        """A channel for calls without the client, which say whose they are."""
        plain = grpc.insecure_channel(f"unix:{self.socket}")
        return AuthorizedChannel(plain, Identity(str(self.socket)))

    def kill(self) -> None:
        """SIGKILL the daemon."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM the daemon; return its exit status."""
        return self._end(signal.SIGTERM)

    def client(self) -> WSCleanClient:
        return WSCleanClient(self.socket)

    def begin(self, client: WSCleanClient, script: str) -> JobHandle:
        """Submit a script and wait until it has begun."""
        job = client.submit(["sh", "-c", f"echo up; {script}"], cwd=self.data)
        self.await_output(job.id, "up")
        return job

    def gate(self, name: str = "gate") -> Gate:
        """Have something where jobs of any user can wait."""
        path = self.data / name
        os.mkfifo(path)
        path.chmod(0o666)
        return Gate(path)

    def await_output(self, job_id: str, wanted: str) -> None:
        """Wait until a job has written a line to stdout."""
        await_line(self.spool / "jobs" / job_id / "stdout", wanted)

    def _end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        self.process = None
        return status


@contextmanager
def daemon_folder(where: str = "/tmp") -> Iterator[Path]:
    """A folder with a short path that job users can reach."""
    folder = Path(tempfile.mkdtemp(prefix="ww-", dir=where))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def holders(fifo: Path) -> set[int]:
    """The processes of this host that hold a FIFO open for writing."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == fifo and link.lstat().st_mode & 0o200:
                found.add(int(link.parts[2]))
        except OSError:
            continue
    return found


def until(look: Callable[[], T], wanted: Callable[[T], object]) -> T:
    """Wait for what nobody tells of: look again and again.

    Args:
        look: Returns how it is now.
        wanted: Says of that whether it is what is waited for.

    Returns:
        How it is in the end.
    """
    deadline = time.monotonic() + DEADLINE
    while not wanted(found := look()):
        assert time.monotonic() < deadline, f"not what was waited for: {found}"
        time.sleep(_PAUSE_SECONDS)
    return found


def await_line(path: Path, wanted: str) -> None:
    """Wait until a job has written a line; its output is followed, not polled."""
    with subprocess.Popen(
        ["tail", "--follow=name", "--retry", "--lines=+1", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Unbuffered, so that select sees all that has not been looked at.
        bufsize=0,
    ) as tail:
        assert tail.stdout is not None
        try:
            while select.select([tail.stdout], [], [], DEADLINE)[0]:
                if tail.stdout.readline().decode().strip() == wanted:
                    return
            raise AssertionError(f"{path} has no line {wanted!r}")
        finally:
            tail.kill()
