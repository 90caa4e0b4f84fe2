"""A Docker engine of the tests' own, which can be stopped, killed and kept from answering."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.daemon import DEADLINE, daemon_folder, until
from support.small_image import import_image

SMALL_IMAGE = "wsclean-workerd/small:test"


class PrivateEngine:
    """An engine with folders of its own, and a containerd of its own that it does not end.

    Args:
        folder: Where everything of it is; short, because of the sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._containerd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def start(self, *, live_restore: bool = False) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if self._process is not None:
            return
        below = self.folder / "containerd"
        words: list[str | Path]
        if self._containerd is None:
            words = ["--root", below / "root", "--state", below / "state"]
            self._containerd = self._spawn("containerd", *words, "--address", below / "sock")
        words = ["--data-root", self.folder / "data", "--exec-root", self.folder / "exec"]
        words += ["--pidfile", self.folder / "pid", "--containerd", below / "sock"]
        more = ["--host", self.url, "--iptables=false", "--bridge=none"]
        more += ["--live-restore"] if live_restore else []
        self._process = self._spawn("dockerd", *words, *more)
        until(self._answers, bool)

    def stop(self) -> None:
        """Stop it as a service manager does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL it; the containers go on."""
        self._end(signal.SIGKILL)
        # It would be taken for one that runs.
        (self.folder / "pid").unlink(missing_ok=True)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Keep it from answering; connections are taken by the kernel meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def docker(self, *words: str) -> str:
        """Run the docker command against it; return what it prints."""
        done = subprocess.run(
            ["docker", *words],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "DOCKER_HOST": self.url},
            timeout=DEADLINE,
        )
        return done.stdout.strip()

    def clean_up(self) -> None:
        """End it and all that it has started, and unmount what it has mounted."""
        self.start()
        if left := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", *left)
        self.stop()
        assert self._containerd is not None
        self._containerd.terminate()
        self._containerd.wait(DEADLINE)
        for line in reversed(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()):
            if (target := line.split()[1]).startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", target], check=True)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")
        asked = subprocess.run(
            ["docker", "version"],
            capture_output=True,
            check=False,
            env={**os.environ, "DOCKER_HOST": self.url},
            timeout=DEADLINE,
        )
        return asked.returncode == 0

    def _spawn(self, *words: str | Path) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(DEADLINE)
        self._process = None


@contextmanager
def private_engine() -> Iterator[PrivateEngine]:
    """An engine that has the small image, and in the end is gone with all that it had."""
    with daemon_folder() as folder:
        engine = PrivateEngine(folder)
        try:
            engine.start()
            import_image(engine.url, SMALL_IMAGE)
            yield engine
        finally:
            engine.clean_up()
