"""The ways of running a command: through the daemon, and those it is compared with."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import docker

from figures import WayFigures
from instance import IMAGE, BenchFailed, job_user
from machine import await_rest
from timer import in_container, waiting_shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from instance import Instance
    from timer import Timer
    from wsclean_client import WSCleanClient

HOST = "fork + exec, host"
INSIDE = "fork + exec, container"
CLIENT = "Python client"
DOCKER_EXEC = "docker exec"
DOCKER_RUN = "docker run --rm"
ALONE = "docker run --rm, no network"
SPOOLER = "task-spooler"
NQ = "nq"

_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Command:
    """What is run.

    Attributes:
        words: Program and arguments.
        expected: What every single run has to print: a failure is quick, and no figure.
        on_host: Whether the host has it too.
    """

    words: Sequence[str]
    expected: str = ""
    on_host: bool = False

    def check(self, output: str) -> None:
        """See that it did what it does."""
        if self.expected not in output:
            raise BenchFailed(f"expected {self.expected!r} to be printed, got {output!r}")

    @property
    def no_builtin(self) -> list[str]:
        """The same for a shell, which has a `true` of its own that costs nothing."""
        program, *rest = self.words
        return [f"/bin/{program}" if self.on_host else program, *rest]


@dataclass(frozen=True, slots=True)
class Way:
    """A way of running the command.

    Attributes:
        name: What it is called.
        note: What is counted.
        measure: Runs the command once and returns the seconds that it took.
        ours: Whether it goes through the daemon.
        pause: Seconds in which nothing runs before each.
    """

    name: str
    note: str
    measure: Callable[[], float]
    ours: bool = False
    pause: float = 0.0


def through_client(client: WSCleanClient, command: Command) -> float:
    """Through a client that is connected already."""
    before = time.perf_counter()
    done = client.run(command.words, cwd="/")
    seconds = time.perf_counter() - before
    command.check(done.stdout)
    return seconds


def through_process(
    words: Sequence[str],
    command: Command,
    environment: Mapping[str, str] | None = None,
) -> float:
    """A whole process of the host, from its start to its end."""
    before = time.perf_counter()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - before
    command.check(done.stdout)
    return seconds


def through_shell(timer: Timer, command: Command) -> float:
    """A fork and an exec by a shell that waits."""
    seconds, output = timer.measure()
    command.check(output)
    return seconds


def through_sdk(engine: docker.APIClient, container: str, command: Command) -> float:
    """Three calls of the Docker SDK: create an exec, start it, look how it ended."""
    before = time.perf_counter()
    started = engine.exec_create(container, list(command.words), user=job_user())
    output: bytes = engine.exec_start(started["Id"])
    status = engine.exec_inspect(started["Id"])["ExitCode"]
    seconds = time.perf_counter() - before
    if status != 0:
        raise BenchFailed(f"the command ended with {status} through the Docker SDK")
    command.check(output.decode())
    return seconds


def through_nq(command: Command, environment: Mapping[str, str]) -> float:
    """Two processes: one queues the command, the other waits for its end."""
    before = time.perf_counter()
    words = ["nq", "-c", *command.words]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    words = ["nq", "-w", done.stdout.strip()]
    subprocess.run(words, env=environment, capture_output=True, check=True)
    return time.perf_counter() - before


@contextlib.contextmanager
def all_ways(instance: Instance, command: Command) -> Iterator[list[Way]]:
    """Every way of running a command, in the order of the table."""
    container = instance.container_id()
    with contextlib.ExitStack() as stack:
        ways: list[Way] = []
        if command.on_host:
            here = stack.enter_context(waiting_shell(command.no_builtin))
            note = "by a shell that waits, timed by itself"
            ways.append(Way(HOST, note, lambda: through_shell(here, command)))
        place = in_container(container, job_user())
        inside = stack.enter_context(waiting_shell(command.no_builtin, place))
        note = "by a shell that waits in the daemon's container, timed by itself"
        ways.append(Way(INSIDE, note, lambda: through_shell(inside, command)))
        ways += _ours(instance, command, stack)
        if command.on_host:
            ways += _spoolers(command, stack)
        ways += _dockers(instance, container, command, stack)
        yield ways


def _ours(instance: Instance, command: Command, stack: contextlib.ExitStack) -> list[Way]:
    client = stack.enter_context(instance.client())
    environment = {**os.environ, "WSCLEAN_WORKERD_SOCKET": str(instance.socket)}
    control = str(Path(sys.executable).with_name("wsclean-ctl"))
    words = [control, "run", "--", *command.words]
    return [
        Way(
            CLIENT, "`WSCleanClient.run`, connected", lambda: through_client(client, command), True
        ),
        Way(
            "Python client, rested",
            f"the same, each after {1000 * _PAUSE:g} ms in which nothing has run",
            lambda: through_client(client, command),
            ours=True,
            pause=_PAUSE,
        ),
        Way(
            "wsclean-ctl run",
            "the whole process, start of Python included",
            lambda: through_process(words, command, environment),
            ours=True,
        ),
    ]


def _spoolers(command: Command, stack: contextlib.ExitStack) -> list[Way]:
    """Queues without a container, without a daemon's guarantees, on the host."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="wb-"))
    environment = {**os.environ, "TS_SOCKET": f"{folder}/tsp", "TMPDIR": folder, "NQDIR": folder}
    # Its server starts with the first call, and ends with this.
    stack.callback(subprocess.run, ["tsp", "-K"], env=environment, check=False)
    words = ["tsp", "-nf", *command.words]
    return [
        Way(
            SPOOLER,
            "`tsp -nf`, the whole process, on the host",
            lambda: through_process(words, command, environment),
        ),
        Way(
            NQ,
            "`nq -c` and `nq -w`, two whole processes, on the host",
            lambda: through_nq(command, environment),
        ),
    ]


def _dockers(
    instance: Instance,
    container: str,
    command: Command,
    stack: contextlib.ExitStack,
) -> list[Way]:
    engine = docker.APIClient(instance.url, version="auto")
    stack.callback(engine.close)
    execute = ["docker", "exec", "--user", job_user(), container, *command.words]
    run = ["docker", "run", "--rm", "--user", job_user()]
    bridged = any(each["Driver"] == "bridge" for each in engine.networks())
    network = "with a network, as it has by default" if bridged else "the engine has no network"
    return [
        Way(
            "Docker SDK, exec",
            "create, start, inspect in the daemon's container",
            lambda: through_sdk(engine, container, command),
        ),
        Way(
            "docker exec, rested",
            f"the whole process, each after {1000 * _PAUSE:g} ms in which nothing has run",
            lambda: through_process(execute, command),
            pause=_PAUSE,
        ),
        Way(
            DOCKER_EXEC,
            "the whole process, in the daemon's container",
            lambda: through_process(execute, command),
        ),
        Way(
            ALONE,
            "the whole process with `--network none`, the same image",
            lambda: through_process([*run, "--network", "none", IMAGE, *command.words], command),
        ),
        Way(
            DOCKER_RUN,
            f"the whole process, the same image; {network}",
            lambda: through_process([*run, IMAGE, *command.words], command),
        ),
    ]


def take_turns(ways: Sequence[Way], *, rounds: int, series: int = 1) -> list[WayFigures]:
    """Let all ways take turns, in an order that changes from round to round.

    A turn is a series of runs, one after the other, as whoever has many commands has them. It
    begins when what the way before has left to the engine is done, with a run that does not
    count: that one pays for the caches.

    Args:
        ways: What takes turns, so that whatever else the machine does hits all alike.
        rounds: How many turns each of them has.
        series: How many runs of a turn count.

    Returns:
        The figures in the order of the ways.
    """
    # Shuffled, so that none always comes after the one that leaves the engine busy.
    order, shuffle = list(ways), random.Random(0).shuffle  # noqa: S311 - no secret
    samples: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        shuffle(order)
        for way in order:
            await_rest()
            way.measure()
            for _ in range(series):
                time.sleep(way.pause)
                samples[way.name].append(1000 * way.measure())
    return [
        WayFigures(name=way.name, note=way.note, samples=samples[way.name], ours=way.ours)
        for way in ways
    ]


def missing_peers() -> list[str]:
    """The commands of peers that are not installed."""
    return [name for name in ("docker", "tsp", "nq") if shutil.which(name) is None]
