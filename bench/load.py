"""Client processes that all press on one daemon at once.

python bench/load.py SOCKET run|submit COUNT   is one of them; `press` starts them
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instance import BenchFailed
from wsclean_client import WSCleanClient

if TYPE_CHECKING:
    from instance import Instance

CLIENTS = 8


@dataclass(frozen=True, slots=True)
class Pressure:
    """What the clients did together.

    Attributes:
        jobs: How many jobs.
        seconds: From the first call of the first client to the last answer to the last.
    """

    jobs: int
    seconds: float

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds


def press(instance: Instance, kind: str, jobs: int) -> Pressure:
    """Let all clients do their share at once.

    Args:
        instance: The daemon.
        kind: What they do: "run", or "submit" alone.
        jobs: How many jobs together, a multiple of the number of clients.
    """
    words = [sys.executable, __file__, str(instance.socket), kind, str(jobs // CLIENTS)]
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(
                subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                ),
            )
            for _ in range(CLIENTS)
        ]
        # If something goes wrong, none of them goes on.
        for client in clients:
            stack.callback(client.kill)
        for client in clients:
            _answer(client)
        for client in clients:
            _tell(client)
        times = [json.loads(_answer(client)) for client in clients]
    seconds = max(end for _, end in times) - min(begin for begin, _ in times)
    return Pressure(jobs // CLIENTS * CLIENTS, seconds)


def _answer(client: subprocess.Popen[str]) -> str:
    line = client.stdout.readline() if client.stdout else ""
    if not line:
        raise BenchFailed("a client process has failed, see above")
    return line


def _tell(client: subprocess.Popen[str]) -> None:
    if client.stdin is not None:
        client.stdin.write("go\n")
        client.stdin.flush()


# -- one client ------------------------------------------------------------------


def submit(client: WSCleanClient, count: int) -> None:
    """Submit jobs, one after the other."""
    for _ in range(count):
        client.submit(["true"], cwd="/")


def run(client: WSCleanClient, count: int) -> None:
    """Run jobs, one after the other, as a pipeline does."""
    for _ in range(count):
        client.run(["true"], cwd="/")


def main() -> None:
    """Connect, wait for the others, and do this process's share."""
    path, kind, count = sys.argv[1:]
    work = {"run": run, "submit": submit}[kind]
    with WSCleanClient(Path(path)) as client:
        client.status()
        print("connected", flush=True)
        sys.stdin.readline()
        begin = time.monotonic()
        work(client, int(count))
        print(json.dumps([begin, time.monotonic()]), flush=True)


if __name__ == "__main__":
    main()
