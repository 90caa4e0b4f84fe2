"""How long `wsclean --version` takes by each way of running it, on the instance of `make dev`.

python bench/latency.py [--rounds N] [--warm-up N]

The ways take turns, so that whatever else the machine does hits all of them alike.
Writes results.md and results.png beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

import docker
import docker.errors
import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator

from wsclean_client import WSCleanClient, WSCleanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wsclean_client import RuntimeStatus

mpl.use("Agg")

HERE = Path(__file__).resolve().parent
ENV = HERE.parent / ".dev" / "env"
TABLE = HERE / "results.md"
FIGURE = HERE / "results.png"

COMMAND = ("wsclean", "--version")
EXPECTED = "WSClean version"
"""What every single run has to print: a failure is quick, and no figure."""

BASELINE = "docker exec"
"""The way that the others are compared with."""

# Without a container engine: this shell waits inside the container, so what it times
# is a fork, an exec, and the reading of the output. It answers each line with the
# microseconds and all that was printed, on one line.
TIMER = r"""
LC_ALL=C
while read -r; do
    before=$EPOCHREALTIME
    text=$(wsclean --version) || exit
    after=$EPOCHREALTIME
    echo $((${after/./} - ${before/./})) ${text//$'\n'/ }
done
"""


@dataclass(frozen=True)
class Way:
    """A way of running the command.

    Attributes:
        name: What it is called in table and figure.
        note: What is counted.
        measure: Runs the command once and returns the seconds that it took.
        ours: Whether it goes through the daemon.
    """

    name: str
    note: str
    measure: Callable[[], float]
    ours: bool = False


@dataclass(frozen=True)
class Figures:
    """What was measured of one way, in milliseconds."""

    way: Way
    samples: Sequence[float]

    @property
    def median(self) -> float:
        """The middle of the samples."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """What a quarter of the samples is below, and above."""
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, high


# -- the ways --------------------------------------------------------------------


def through_client(client: WSCleanClient) -> float:
    """Through a client that is connected already."""
    before = time.perf_counter()
    done = client.run(COMMAND)
    seconds = time.perf_counter() - before
    _require(done.stdout)
    return seconds


def through_process(words: Sequence[str], environment: Mapping[str, str]) -> float:
    """A whole process of the host, from its start to its end."""
    before = time.perf_counter()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - before
    _require(done.stdout)
    return seconds


def through_sdk(engine: docker.APIClient, container: str) -> float:
    """Three calls of the Docker SDK: create an exec, start it, look how it ended."""
    before = time.perf_counter()
    started = engine.exec_create(container, list(COMMAND))
    output: bytes = engine.exec_start(started["Id"])
    status = engine.exec_inspect(started["Id"])["ExitCode"]
    seconds = time.perf_counter() - before
    if status != 0:
        _fail(f"the command ended with {status} through the Docker SDK")
    _require(output.decode())
    return seconds


def inside(timer: subprocess.Popen[str]) -> float:
    """A fork and an exec by a process that is inside the container already."""
    requests, answers = _pipe(timer.stdin), _pipe(timer.stdout)
    try:
        requests.write("\n")
        requests.flush()
    except BrokenPipeError:
        _fail("the shell inside the container has ended, see above")
    microseconds, _, output = answers.readline().partition(" ")
    _require(output)
    return int(microseconds) / 1e6


@contextlib.contextmanager
def timer_inside(container: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The process that `inside` asks; it ends with the end of its input."""
    words = ["docker", "exec", "--interactive", container, "bash", "-c", TIMER]
    process = subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        # The end of its input is the end of it.
        process.communicate()


@contextlib.contextmanager
def all_ways(
    client: WSCleanClient,
    runtime: RuntimeStatus,
    environment: Mapping[str, str],
) -> Iterator[list[Way]]:
    """Every way of running the command, in the order of the table."""
    container, image = runtime.container_id, runtime.image
    control = str(Path(sys.executable).with_name("wsclean-ctl"))
    with (
        contextlib.closing(docker.APIClient(environment["DOCKER_HOST"], version="auto")) as engine,
        timer_inside(container, environment) as timer,
    ):
        yield [
            Way(
                "no engine per call",
                "fork and exec by a process inside the daemon's container, timed there",
                lambda: inside(timer),
            ),
            Way(
                "Python client",
                "`WSCleanClient.run`, connected",
                lambda: through_client(client),
                ours=True,
            ),
            Way(
                "wsclean-ctl run",
                "the whole process, start of Python included",
                lambda: through_process([control, "run", "--", *COMMAND], environment),
                ours=True,
            ),
            Way(
                "docker SDK, exec",
                "create, start, inspect in the daemon's container",
                lambda: through_sdk(engine, container),
            ),
            Way(
                "docker exec",
                "the whole process, in the daemon's container",
                lambda: through_process(["docker", "exec", container, *COMMAND], environment),
            ),
            Way(
                "docker run --rm",
                "the whole process with `--network none`, the same image",
                lambda: through_process(
                    ["docker", "run", "--rm", "--network", "none", image, *COMMAND],
                    environment,
                ),
            ),
        ]


def measure(ways: Sequence[Way], *, rounds: int, warm_up: int) -> list[Figures]:
    """Run every way once per round, in an order that changes from round to round.

    Args:
        ways: What takes turns.
        rounds: How many rounds count.
        warm_up: How many go before and do not count.

    Returns:
        The figures in the order of the ways.
    """
    # Shuffled, so that none always comes after the one that leaves the engine busy.
    order, shuffle = list(ways), random.Random(0).shuffle  # noqa: S311 - no secret
    samples: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(warm_up + rounds):
        shuffle(order)
        for way in order:
            seconds = way.measure()
            if number >= warm_up:
                samples[way.name].append(1000 * seconds)
    return [Figures(way, samples[way.name]) for way in ways]


# -- what is written -------------------------------------------------------------


def write_table(figures: Sequence[Figures], machine: Mapping[str, str], rounds: int) -> None:
    """Write the figures, and what they were measured on, as Markdown."""
    baseline = next(each.median for each in figures if each.way.name == BASELINE)
    rows = [
        f"| {each.way.name} | {each.way.note} | {each.median:.1f} | "
        f"{each.quartiles[0]:.1f} to {each.quartiles[1]:.1f} | {min(each.samples):.1f} | "
        f"{each.median / baseline:.2f} |"
        for each in figures
    ]
    explanation = (
        f"Written by `make bench`: {rounds} rounds in which each way of running the command "
        "has one turn, in shuffled order. Milliseconds as the caller sees them; compare the "
        "ratios, since absolute figures are those of this machine."
    )
    native = (
        "The first row is native speed: the host has no `wsclean` of its own, so a shell that "
        "waits inside the container starts the same binary of the same image and takes the "
        "time itself. No engine, no queue and no journal has a part in it."
    )
    lines = [
        "# How long `wsclean --version` takes",
        "",
        explanation,
        "",
        f"| way | what is counted | median | quartiles | least | ratio to `{BASELINE}` |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        native,
        "",
        "![The same as bars](results.png)",
        "",
        "## Measured on",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        "",
    ]
    TABLE.write_text("\n".join(lines), encoding="utf-8")


def draw(figures: Sequence[Figures], rounds: int) -> None:
    """Draw the medians as bars on a logarithmic scale, quartiles as whiskers."""
    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    medians = [each.median for each in figures]
    below = [each.median - each.quartiles[0] for each in figures]
    above = [each.quartiles[1] - each.median for each in figures]
    axes.barh(
        [each.way.name for each in figures],
        medians,
        xerr=(below, above),
        color=["#c1440e" if each.way.ours else "#8a9ba8" for each in figures],
        error_kw={"ecolor": "#222222", "elinewidth": 1.2, "capsize": 4},
    )
    for row, each in enumerate(figures):
        axes.annotate(
            f"{each.median:.3g} ms",
            (each.quartiles[1], row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xscale("log")
    axes.set_xlim(min(medians) / 4, max(medians) * 2.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.invert_yaxis()
    axes.set_xlabel(f"milliseconds, median and quartiles of {rounds} runs")
    axes.set_title("wsclean --version; through the daemon in red")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(FIGURE, dpi=120)
    plt.close(figure)


def describe_machine(environment: Mapping[str, str], version: str) -> dict[str, str]:
    """What the figures depend on.

    Args:
        environment: With DOCKER_HOST.
        version: What WSClean says of itself.
    """
    with contextlib.closing(docker.APIClient(environment["DOCKER_HOST"], version="auto")) as engine:
        docker_version = engine.version()["Version"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "Memory": f"{memory / 2**30:.0f} GiB",
        "Kernel": platform.release(),
        "Docker": f"{docker_version} (engine)",
        "WSClean": version,
        "Python": platform.python_version(),
        "Load before": f"{os.getloadavg()[0]:.2f} (one minute)",
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


# -- the instance ----------------------------------------------------------------


def dev_environment() -> dict[str, str]:
    """The environment that `make dev` has left in .dev/env."""
    try:
        lines = ENV.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        _fail(f"{ENV} is not there: start an instance with `make dev`")
    found = dict(os.environ)
    for line in lines:
        name, _, value = line.removeprefix("export ").partition("=")
        if name in {"DOCKER_HOST", "WSCLEAN_WORKERD_SOCKET"}:
            found[name] = " ".join(shlex.split(value))
    return found


def find_runtime(client: WSCleanClient) -> RuntimeStatus:
    """The container that the daemon runs, or the end with what is the matter."""
    try:
        runtime = client.status().runtime
    except WSCleanError as error:
        _fail(f"{error}\nstart an instance with `make dev`")
    if runtime.kind != "docker":
        _fail("the instance has no container: `make dev` starts one that has")
    if not runtime.ready:
        reason = runtime.condition.message if runtime.condition else "no reason is known"
        _fail(f"the container is not ready ({reason}): see whether `make dev` helps")
    return runtime


def _require(output: str) -> None:
    if EXPECTED not in output:
        _fail(f"expected {EXPECTED!r} to be printed, got {output!r}")


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise TypeError("the stream is no pipe")
    return stream


def _fail(message: str) -> NoReturn:
    sys.exit(f"error: {message}")


def _count(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is too few: at least {least}")
        return value

    return count


def run(
    environment: Mapping[str, str],
    *,
    rounds: int,
    warm_up: int,
) -> tuple[list[Figures], dict[str, str]]:
    """Measure all ways on the instance; return the figures and what they depend on."""
    with WSCleanClient(environment["WSCLEAN_WORKERD_SOCKET"], connect_timeout=1) as client:
        runtime = find_runtime(client)
        version = client.run(COMMAND).stdout.partition(EXPECTED)[2].partition("\n")[0].strip()
        machine = describe_machine(environment, version)
        with all_ways(client, runtime, environment) as ways:
            return measure(ways, rounds=rounds, warm_up=warm_up), machine


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=_count(2), default=20, help="rounds that count")
    parser.add_argument("--warm-up", type=_count(0), default=3, help="rounds before them")
    words = parser.parse_args()
    environment = dev_environment()
    if shutil.which("docker") is None:
        _fail("the docker command is not there: `make dev` installs it")
    try:
        figures, machine = run(environment, rounds=words.rounds, warm_up=words.warm_up)
    except subprocess.CalledProcessError as error:
        _fail(f"{shlex.join(error.cmd)} ended with {error.returncode}: {error.stderr.strip()}")
    except (WSCleanError, docker.errors.DockerException) as error:
        _fail(str(error))
    write_table(figures, machine, words.rounds)
    draw(figures, words.rounds)
    for each in figures:
        sys.stdout.write(f"{each.way.name:<20} {each.median:8.1f} ms\n")
    sys.stdout.write(f"written: {TABLE.name} and {FIGURE.name} in {HERE}\n")


if __name__ == "__main__":
    main()
