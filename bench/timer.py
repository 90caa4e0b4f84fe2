"""A shell that waits, on the host or inside a container, and times a command there.

What it times is a fork, an exec, the reading of the output and the wait for the end, as
the caller of a native program has it. No engine, no queue and no journal has a part in it.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import IO, TYPE_CHECKING

from instance import BenchFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Answers each line with the microseconds and the output on one line, or the status if
# that is not 0.
_SCRIPT = r"""
LC_ALL=C
while read -r; do
    before=$EPOCHREALTIME
    text=$("$@" 2>&1) || { echo "$? ${text//$'\n'/ }" >&2; exit 1; }
    after=$EPOCHREALTIME
    echo $((${after/./} - ${before/./})) ${text//$'\n'/ }
done
"""


class Timer:
    """The waiting shell.

    Args:
        process: It, with its input and output as pipes.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def measure(self) -> tuple[float, str]:
        """Run the command once; return the seconds that it took and what it printed."""
        requests, answers = _pipe(self._process.stdin), _pipe(self._process.stdout)
        try:
            requests.write("\n")
            requests.flush()
        except BrokenPipeError:
            raise BenchFailed("the shell that takes the time has ended, see above") from None
        microseconds, _, output = answers.readline().partition(" ")
        if not microseconds.strip():
            raise BenchFailed("the command that was to be timed has failed, see above")
        return int(microseconds) / 1e6, output


@contextlib.contextmanager
def waiting_shell(command: Sequence[str], place: Sequence[str] = ()) -> Iterator[Timer]:
    """A shell that ends with the end of its input.

    Args:
        command: What it runs when it is asked to.
        place: The words that start a program where it is to wait; nothing for here.
    """
    words = [*place, "bash", "-c", _SCRIPT, "bash", *command]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Timer(process)
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.communicate()


def in_container(container: str, user: str, folder: str = "/tmp") -> list[str]:  # noqa: S108 - the container's
    """The words that start a program with open input in a container.

    Args:
        container: Which one.
        user: Whom it runs as.
        folder: Its working directory.
    """
    return ["docker", "exec", "--interactive", "--user", user, "--workdir", folder, container]


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise TypeError("the stream is no pipe")
    return stream
