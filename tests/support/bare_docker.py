"""What callers do who have Docker and nothing else: call its command, and give up on it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.daemon import DEADLINE, await_line, until
from support.docker_daemon import IMAGE, DockerDaemon


@dataclass(frozen=True)
class Way:
    """A way to run commands by Docker.

    Args:
        name: What people type.
        container: Where commands run by it.
        words: What comes before the command.
        engine: Whose docker command it is.
    """

    name: str
    container: str
    words: Sequence[str]
    engine: DockerDaemon

    def processes(self, script: str) -> list[str]:
        """The processes in the container that run a script, as the engine lists them."""
        listed = self.engine.docker("top", self.container, "-eo", "pid,args").splitlines()
        return [each for each in listed if script in each]

    def attempt(self, *verb: str) -> Attempt:
        """Do with the container what an operator would, and see whether it works."""
        begun = time.monotonic()
        try:
            self.engine.docker(*verb, self.container)
        except subprocess.CalledProcessError as error:
            return Attempt(time.monotonic() - begun, error.stderr.strip())
        except subprocess.TimeoutExpired as error:
            return Attempt(time.monotonic() - begun, str(error))
        return Attempt(time.monotonic() - begun)

    @property
    def is_there(self) -> bool:
        """Whether the engine has the container."""
        return bool(self.engine.docker("ps", "-aq", "--filter", f"name=^{self.container}$"))

    def remove(self) -> None:
        """Remove the container, and wait until it is gone."""
        # It may be on its way out already, which the engine calls an error.
        until(lambda: self.is_there and self.attempt("rm", "-f"), lambda tried: not tried)


@dataclass(frozen=True)
class Attempt:
    """What came of a docker command.

    Attributes:
        seconds: How long it took.
        error: What it complained about.
    """

    seconds: float
    error: str = ""

    def __str__(self) -> str:
        return f"{'fails' if self.error else 'works'} after {self.seconds:.1f} s"


class Call:
    """A call of a docker command, made as by `subprocess.run(…, timeout=…)`.

    Seconds count from the first line of the command, as they do for a job of the daemon, and
    not from the call: a slow start takes nothing from them.

    Args:
        way: How the command is run.
        script: The command; it says "up" when it begins, to a file.
        begins: That file.
    """

    def __init__(self, way: Way, script: str, begins: Path) -> None:
        self.way = way
        # What is there is followed without a delay.
        begins.touch()
        self._process = subprocess.Popen(
            ["docker", *way.words, "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=way.engine.docker_environment,
        )
        try:
            await_line(begins, "up")
        except BaseException:
            self.close()
            raise
        self._begun = time.monotonic()

    def time_out(self, seconds: float) -> float:
        """Give up when the command has had its time; return when the caller can go on."""
        left = self._begun + seconds - time.monotonic()
        try:
            status = self._process.wait(max(left, 0))
        except subprocess.TimeoutExpired:
            self.close()
            return time.monotonic() - self._begun
        raise AssertionError(f"{self.way.name} has ended by itself, with {status}")

    def close(self) -> None:
        """End the docker command, which is all that subprocess.run does if time is over."""
        self._process.kill()
        self._process.wait(DEADLINE)


@contextmanager
def both_ways(daemon: DockerDaemon, mount: Path) -> Iterator[list[Way]]:
    """`docker run --rm`, and `docker exec` in a container that is there already.

    Args:
        daemon: Whose engine is used, and nothing else of it.
        mount: The folder that commands have, and work in.
    """
    one, all_ = f"{daemon.name}-run", f"{daemon.name}-exec"
    with_mount = ["--network", "none", "--volume", f"{mount}:{mount}", "--workdir", str(mount)]
    ways = [
        Way("docker run --rm", one, ["run", "--rm", "--name", one, *with_mount, IMAGE], daemon),
        Way("docker exec", all_, ["exec", all_], daemon),
    ]
    try:
        daemon.docker("run", "--detach", "--name", all_, *with_mount, IMAGE, "sleep", "infinity")
        yield ways
    finally:
        for way in ways:
            way.remove()


def table(title: str, *rows: Sequence[object]) -> str:
    """Rows of which the first is the head, in columns below a title."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in texts]
    return "\n".join([title, *lines])
