"""A daemon of the benchmark's own, with folders and a container of its own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from wsclean_client import WSCleanClient
from wsclean_workerd_api.v1 import worker_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = "wsclean-workerd/wsclean:3.7"
SERVICE = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name
SECONDS = 120.0
"""After so long, what is waited for does not happen any more."""

DATA_INSIDE = "/data"
NOBODY = 65534

SETTINGS = """\
slots = {slots}
state_dir = "{state}"
runtime_dir = "{run}"
[docker]
url = "{url}"
image = "{image}"
container = "{container}"
[jobs]
programs = ["true", "sh", "bash", "sleep", "wsclean"]
run_as = "{user}"
[[mounts]]
host = "{data}"
container = "{inside}"
"""


class BenchFailed(Exception):
    """What was to be measured did not happen."""


def job_user() -> str:
    """Whom jobs run as: not root, as in production."""
    return f"{NOBODY}:{NOBODY}" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"


class Notifications:
    """Listens as systemd would; the daemon tells when it is ready.

    Args:
        path: The socket to listen at.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        path.unlink(missing_ok=True)
        self._socket.bind(str(path))
        self._told = threading.Event()
        self.ready_at = 0.0
        # Read to the end, as systemd does: a daemon that nobody hears would wait for it.
        threading.Thread(target=self._listen, daemon=True).start()

    def await_ready(self, process: subprocess.Popen[bytes]) -> float:
        """Wait for READY; return when it came, on the monotonic clock."""
        threading.Thread(target=self._await_death, args=(process,), daemon=True).start()
        if not self._told.wait(SECONDS) or not self.ready_at:
            raise BenchFailed("the daemon has not become ready, see its log")
        return self.ready_at

    def close(self) -> None:
        """Listen no longer."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            if b"READY=1" in message.splitlines():
                self.ready_at = time.perf_counter()
                self._told.set()

    def _await_death(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process.pid)
            select.select([descriptor], [], [])
            os.close(descriptor)
        self._told.set()


@dataclass
class Instance:
    """One daemon.

    Attributes:
        folder: Where journal, job folders and data are, on a real disk.
        run: Where its sockets are: a short path.
        url: The engine's address.
        image: Its image; one that is not there makes all jobs wait.
        slots: How many jobs run at once.
    """

    folder: Path
    run: Path
    url: str
    image: str = IMAGE
    slots: int = 4
    name: str = field(default_factory=lambda: f"wsclean-workerd-bench-{uuid.uuid4().hex[:8]}")
    process: subprocess.Popen[bytes] | None = None
    _notifications: Notifications | None = None

    @property
    def data(self) -> Path:
        """The folder that jobs can reach."""
        return self.folder / "data"

    @property
    def state(self) -> Path:
        """The folder of journal and outputs."""
        return self.folder / "state"

    @property
    def socket(self) -> Path:
        """Where clients connect."""
        return self.run / "workerd.sock"

    @property
    def pid(self) -> int:
        """The daemon's process."""
        if self.process is None:
            raise BenchFailed("the daemon does not run")
        return self.process.pid

    def client(self) -> WSCleanClient:
        """A client that is not connected yet."""
        return WSCleanClient(self.socket)

    def start(self, *, container: bool = True) -> tuple[float, float]:
        """Start the daemon.

        Args:
            container: Whether to wait until jobs can be started.

        Returns:
            When it was executed and when it said that it is ready, on the clock of
            `time.perf_counter`.
        """
        self.data.mkdir(exist_ok=True)
        self.data.chmod(0o777)
        config = self.folder / "workerd.toml"
        config.write_text(self._settings(), encoding="utf-8")
        notifications = self._notifications = Notifications(self.run / "notify.sock")
        with (self.folder / "log").open("ab") as log:
            before = time.perf_counter()
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("wsclean-workerd"), "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(self.run / "notify.sock")},
            )
        try:
            ready = notifications.await_ready(self.process)
            if container:
                self._await_container()
        except BenchFailed as error:
            raise BenchFailed(f"{error}:\n{self._end_of_log()}") from None
        return before, ready

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the daemon; container and jobs go on."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(SECONDS)
            self.process = None
        if self._notifications is not None:
            self._notifications.close()

    def container_id(self) -> str:
        """The container that jobs run in."""
        with self.client() as client:
            return client.status().runtime.container_id

    def remove(self) -> None:
        """End the daemon for good, and remove its container with all that runs in it."""
        self.end(signal.SIGKILL)
        words = ["docker", "ps", "--all", "--quiet", "--filter", f"name={self.name}"]
        found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        if found:
            words = ["docker", "rm", "--force", "--volumes", *found]
            subprocess.run(words, capture_output=True, check=True)

    # -- what it takes -----------------------------------------------------------

    def memory(self) -> dict[str, float]:
        """Rss and Pss of the daemon in MB, and Peak, the highest Rss so far."""
        found = _kilobytes(Path(f"/proc/{self.pid}/smaps_rollup"))
        peak = _kilobytes(Path(f"/proc/{self.pid}/status"))["VmHWM"]
        return {name: value * 1024 / 1e6 for name, value in {**found, "Peak": peak}.items()}

    def forget_peak(self) -> None:
        """Let the highest memory begin at what it is now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def cpu_seconds(self) -> float:
        """The processor time of all threads of the daemon so far."""
        # The clock of another process (clock_getcpuclockid(3)): it counts nanoseconds,
        # where /proc/PID/stat counts hundredths of a second.
        return time.clock_gettime((~self.pid << 3) | 2)

    # -- parts -------------------------------------------------------------------

    def _settings(self) -> str:
        return SETTINGS.format(
            slots=self.slots,
            state=self.state,
            run=self.run,
            url=self.url,
            image=self.image,
            container=self.name,
            user=job_user(),
            data=self.data,
            inside=DATA_INSIDE,
        )

    def _await_container(self) -> None:
        with grpc.insecure_channel(f"unix:{self.socket}") as channel:
            request = health_pb2.HealthCheckRequest(service=SERVICE)
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                for answer in stub.Watch(request, timeout=SECONDS, wait_for_ready=True):
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.RpcError as error:
                raise BenchFailed(f"the container has not become ready: {error}") from None

    def _end_of_log(self) -> str:
        lines = (self.folder / "log").read_text(encoding="utf-8").splitlines()
        return "\n".join(lines[-10:])


@dataclass(frozen=True)
class Bench:
    """What all parts of the benchmark share.

    Attributes:
        folder: Where instances are made.
        url: The engine's address.
        quick: Whether only to show that everything works, with counts that say nothing.
        jobs: How many jobs measure the throughput.
    """

    folder: Path
    url: str
    quick: bool
    jobs: int

    def count(self, full: int, quick: int) -> int:
        """How many of something."""
        return quick if self.quick else full

    @contextlib.contextmanager
    def instance(self, *, container: bool = True, slots: int = 4) -> Iterator[Instance]:
        """An instance that has not been started; only files are left of it in the end.

        They go with `folder`: ext4 avoids what has been removed in the last minutes when it
        makes a file, so that removing thousands slows down what is measured next.

        Args:
            container: Whether jobs can run. Without, the image is missing, and all wait.
            slots: How many jobs run at once.
        """
        folder = tempfile.mkdtemp(dir=self.folder, prefix="instance-")
        # The path of a socket is short.
        with tempfile.TemporaryDirectory(prefix="wb-") as run:
            instance = Instance(Path(folder), Path(run), self.url, slots=slots)
            if not container:
                instance.image = f"{instance.name}:missing"
            try:
                yield instance
            finally:
                instance.remove()


def _kilobytes(path: Path) -> dict[str, float]:
    lines = path.read_text(encoding="ascii").splitlines()
    found = (line.split() for line in lines if line.endswith(" kB"))
    return {words[0].rstrip(":"): float(words[1]) for words in found}
