"""Measures the whole product, beside what else could run the commands, on this machine.

python bench/run.py [--only NAME…] [--quick] [--jobs N] [--output FOLDER]

Needs an engine with the WSClean image: `make bench` sees to both. Every daemon that is
measured is started for it. A whole run writes results.md and results.png beside this file.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import docker.errors

import chart
import idle
import imaging
import latency
import machine
import output
import recovery
import report
import scale
import throughput
from instance import Bench, BenchFailed
from load import CLIENTS
from ways import missing_peers
from wsclean_client import WSCleanError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from figures import Section

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FOLDER = ROOT / ".dev" / "bench"

PARTS: dict[str, Callable[[Bench], Section]] = {
    "latency": latency.measure,
    "throughput": throughput.jobs,
    "submissions": throughput.submissions,
    "recovery": recovery.measure,
    "scale": scale.measure,
    "memory": scale.idle_memory,
    "idle": idle.measure,
    "output": output.measure,
    "imaging": imaging.measure,
}
"""The parts by name, in the order of the report."""


def main() -> None:
    """Measure and write."""
    words = _parse()
    if missing_peers():
        subprocess.run([ROOT / "tools" / "peers"], check=True)
    # What is started here finds the same engine.
    os.environ["DOCKER_HOST"] = url = _engine()
    # Ended by a signal, it still removes its containers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: told to end"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        bench = Bench(Path(folder), url, words.quick, words.jobs)
        results = _measure(bench, words.only or list(PARTS))
    if words.output:
        words.output.mkdir(parents=True, exist_ok=True)
        report.write(results, words.output)
        chart.draw(results, words.output)
        print(f"written: {report.TABLE} and {report.CHART} in {words.output}")
    if results.failures:
        _fail(f"not measured: {', '.join(results.failures)}")


def _measure(bench: Bench, names: Sequence[str]) -> report.Results:
    description = machine.describe(bench.url, bench.folder)
    sections, failures = [], {}
    for name in names:
        before = time.monotonic()
        try:
            section = PARTS[name](bench)
        except subprocess.CalledProcessError as error:
            failures[name] = f"{shlex.join(map(str, error.cmd))} ended with {error.returncode}"
            print(f"{failures[name]}: {error.stderr}", file=sys.stderr)
        except (BenchFailed, WSCleanError, OSError, docker.errors.DockerException) as error:
            failures[name] = str(error)
            print(f"{name} could not be measured: {error}", file=sys.stderr)
        else:
            sections.append(section)
            for finding in section.findings:
                print(report.summary(finding), flush=True)
            print(f"  ({name}: {time.monotonic() - before:.0f} s)", flush=True)
    return report.Results(sections, description, failures, bench.quick)


def _engine() -> str:
    """The address of the engine that tests and development use."""
    words = [str(ROOT / "tools" / "engine"), "host"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        _fail(done.stderr.strip())
    return done.stdout.strip()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, help="measure only these")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="counts too small for figures: shows only that everything works",
    )
    parser.add_argument("--jobs", type=_jobs, help="jobs that measure the throughput")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where the report goes; with --only or --quick there is none without this",
    )
    words = parser.parse_args()
    words.jobs = words.jobs or (2 * CLIENTS if words.quick else 2000)
    if words.output is None and not (words.only or words.quick):
        words.output = HERE
    return words


def _jobs(text: str) -> int:
    value = int(text)
    if value < CLIENTS or value % CLIENTS:
        raise argparse.ArgumentTypeError(f"expected a multiple of {CLIENTS}")
    return value


def _fail(message: str) -> NoReturn:
    sys.exit(f"error: {message}")


if __name__ == "__main__":
    main()
