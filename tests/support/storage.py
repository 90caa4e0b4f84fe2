"""Storage that hangs for real, on demand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from support import hanging_fs
from support.daemon import DEADLINE, daemon_folder, until
from support.docker_daemon import DockerDaemon
from wsclean_client import JobHandle
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1 import worker_pb2_grpc

_SETTINGS = """
[[mounts]]
host = "{mount}"
container = "/slow"
[storage]
probe_timeout = 1
proof_age = 0.1
"""


@dataclass(frozen=True)
class HangingStorage:
    """A mounted filesystem.

    Args:
        folder: Where everything of it is.
    """

    folder: Path

    @property
    def mount(self) -> Path:
        """Where it is mounted."""
        return self.folder / "mount"

    @property
    def behind(self) -> Path:
        """What it shows, which never hangs."""
        return self.folder / "behind"

    def hang(self) -> None:
        """Answer nothing from now on."""
        (self.folder / "hang").touch()

    def release(self) -> None:
        """Answer again, also what was asked meanwhile."""
        (self.folder / "hang").unlink(missing_ok=True)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Answer nothing meanwhile."""
        self.hang()
        try:
            yield
        finally:
            self.release()


@contextmanager
def hanging_storage() -> Iterator[HangingStorage]:
    """Storage that is mounted, and in the end released and unmounted whatever happened."""
    with daemon_folder() as folder:
        storage = HangingStorage(folder)
        for each in (storage.mount, storage.behind):
            each.mkdir()
        words = [storage.behind, storage.mount, folder / "hang"]
        with subprocess.Popen([sys.executable, hanging_fs.__file__, *words]) as process:
            try:
                until(lambda: process.poll() is not None or storage.mount.is_mount(), bool)
                assert process.poll() is None, "the filesystem has ended"
                yield storage
            finally:
                storage.release()
                # Lazily: containers of a test that failed may still have it.
                subprocess.run(["fusermount3", "-uz", storage.mount], check=False)
                process.terminate()
                process.wait(DEADLINE)


@contextmanager
def daemon_on(storage: HangingStorage, daemon: DockerDaemon) -> Iterator[DockerDaemon]:
    """A daemon made ready with two mounts, /data and /slow; storage is released in the end."""
    daemon.extra = _SETTINGS.format(mount=storage.mount)
    try:
        daemon.start()
        yield daemon
    finally:
        # Before the daemon and its containers are to end.
        storage.release()


def submit(
    daemon: DockerDaemon,
    script: str,
    folder: Path,
    *paths: Path,
    seconds: int | None = None,
    locks: Iterable[str] = (),
) -> JobHandle:
    """Submit a job without looking at its paths, which the client's own way would hang on.

    Args:
        daemon: Whose job it is to be.
        script: What it does.
        folder: Where.
        paths: The arguments of the script.
        seconds: How long it may run.
        locks: What no other job may have meanwhile.
    """
    with daemon.channel() as channel:
        spec = pb.JobSpec(
            command=["sh", "-c", script, *map(str, paths)],
            working_directory=str(folder),
            run_timeout=None if seconds is None else Duration(seconds=seconds),
            locks=locks,
        )
        answer = worker_pb2_grpc.WorkerServiceStub(channel).SubmitJob(
            pb.SubmitJobRequest(spec=spec), timeout=DEADLINE
        )
    return daemon.client().job(answer.job.id)


def await_stuck(daemon: DockerDaemon, container: str) -> None:
    """Wait until a process of a container waits for storage and cannot be ended."""
    # Its state is D only once somebody tries to end it.
    until(
        lambda: daemon.docker("top", container, "-eo", "pid,wchan:30"),
        lambda shown: "request_wait" in shown,
    )
