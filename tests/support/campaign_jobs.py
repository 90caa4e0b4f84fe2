"""The jobs of the crash campaign: what they do, and what must come of them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsclean_client import JobInfo

TOKEN = "CRASH_CAMPAIGN"  # noqa: S105 - no secret
"""The environment variable that all processes of all jobs of a campaign have."""

KILLED = 137
TERMINATED = 143
RUN_TIMEOUT = 0.4
SHORT_ESCAPE = 0.2
"""Ends by itself within the grace period."""
LONG_ESCAPE = 3.0
"""Ends by itself too, so that daemons that die before the grace period is over run on."""
ENDLESS_ESCAPE = 1000.0
"""Only the daemon ends it."""
NOISE_SIZE = 1 << 20
LOCKS = ("a", "b")

SCRIPT = """\
# KEY STATUS PIECES FIRST SIZE PAUSE ESCAPE LOCK: see Plan. Runs in the folder with log and noise.
# The kernel knows whether a process of another job that has the same lock is left.
if [ "$8" != - ]; then
    exec 5>"lock-$8"
    flock --nonblock 5 || echo "$1 overlaps" >>log
fi
echo "$1 start" >>log
if [ "$7" != 0 ]; then
    (setsid sh -c 'sleep "$1"; echo "$0 escaped" >>log' "$1" "$7" </dev/null >/dev/null 2>&1 &)
fi
piece=0
while [ "$piece" -lt "$3" ]; do
    block=$(($4 + 2 * piece))
    dd if=noise bs="$5" skip="$block" count=1 status=none
    dd if=noise bs="$5" skip=$((block + 1)) count=1 status=none >&2
    sleep "$6"
    piece=$((piece + 1))
done
echo "$1 end $2" >>log
[ "$2" != 137 ] || kill -KILL $$
exit "$2"
"""


@dataclass(frozen=True)
class Plan:
    """One job, and how its caller behaves.

    Attributes:
        key: Its name, also its request id.
        status: The exit status that it ends with; 137 is by a KILL to itself.
        pieces: How many pieces it writes to each output.
        first: The block of the noise that is the first piece.
        size: How long a piece is, in bytes.
        pause: Seconds after each piece.
        escape: Seconds that a process of its own session lives, 0 for none.
        overdue: Whether it exceeds its run timeout.
        cancel: When it is cancelled: "at once", when it is "running", or "" for never.
        twice: When it is submitted again: "at once", "later" or "" for never.
        follow: Whether its output is read while it grows.
        careless: Whether its caller gives up when the submission is not answered.
        lock: The file that it locks, or "" for none.
    """

    key: str
    status: int = 0
    pieces: int = 1
    first: int = 0
    size: int = 64
    pause: float = 0.0
    escape: float = 0.0
    overdue: bool = False
    cancel: str = ""
    twice: str = ""
    follow: bool = False
    careless: bool = False
    lock: str = ""

    @property
    def command(self) -> list[str]:
        words = (self.status, self.pieces, self.first, self.size, self.pause, self.escape)
        return ["sh", "job.sh", self.key, *(f"{word:g}" for word in words), self.lock or "-"]

    @property
    def ends_by_itself(self) -> bool:
        return not (self.cancel or self.overdue)

    def output(self, noise: bytes, stream: str) -> bytes:
        """What it writes, if nobody ends it."""
        begin = self.first + (stream == "stderr")
        blocks = range(begin, begin + 2 * self.pieces, 2)
        return b"".join(noise[self.size * each : self.size * (each + 1)] for each in blocks)


@dataclass
class Record:
    """What a caller was told of one job.

    Attributes:
        plan: The job.
        ids: The numbers that its submissions were answered with; one if all is well.
        info: The job as it ended.
        output: What was read of its outputs.
        repeated: How often a call had to be made again because no answer came.
        trouble: What went wrong.
    """

    plan: Plan
    ids: set[str] = field(default_factory=set)
    info: JobInfo | None = None
    output: dict[str, bytearray] = field(
        default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()},
    )
    repeated: int = 0
    trouble: list[str] = field(default_factory=list)


def make_plan(key: str, chance: random.Random) -> Plan:
    """Think of a job: most are short, some write some 100 KB, some misbehave."""
    if chance.random() < 0.07:
        return Plan(key, TERMINATED, pieces=9, pause=30.0, overdue=True, follow=True)
    long = chance.random() < 0.25
    pieces = chance.randint(3, 5) if long else 1
    size = 13_000 if long and chance.random() < 0.5 else 64
    return Plan(
        key=key,
        status=chance.choice([0, 0, 0, 0, 1, 3, 42, 126, 200, KILLED]),
        pieces=pieces,
        first=chance.randrange(NOISE_SIZE // size - 2 * pieces),
        size=size,
        pause=0.1 if long else 0.0,
        escape=chance.choices([0.0, SHORT_ESCAPE, LONG_ESCAPE], [88, 10, 2])[0],
        cancel=chance.choices(["", "at once", "running"], [80, 10, 10])[0],
        twice=chance.choices(["", "at once", "later"], [80, 10, 10])[0],
        follow=chance.random() < 0.5,
        careless=chance.random() < 0.1,
        lock=chance.choice(["", "", "", "", *LOCKS]),
    )


def make_last_plan(key: str) -> Plan:
    """The last job of a caller, which leaves behind what nothing but the daemon ends."""
    return Plan(key, escape=ENDLESS_ESCAPE)


def is_planned(job: JobInfo) -> bool:
    """Whether a job was made from a plan."""
    return len(job.command) > 1 and job.command[1].endswith("/job.sh")


def lay_out(folder: Path, noise: bytes) -> None:
    """Put what the jobs need into the folder that they run in."""
    folder.mkdir(exist_ok=True)
    (folder / "job.sh").write_text(SCRIPT, encoding="utf-8")
    (folder / "noise").write_bytes(noise)
    for name in ("log", *(f"lock-{lock}" for lock in LOCKS)):
        (folder / name).touch()
        # For whomever they run as.
        (folder / name).chmod(0o666)


def processes_with(token: str) -> dict[int, str]:
    """The processes of this host, and of all its containers, that have the token."""
    mark = f"{TOKEN}={token}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = os.fsdecode(words).strip()
        except OSError:
            continue
    return found


def own_words(lines: Iterable[str]) -> Mapping[str, list[str]]:
    """What every job itself wrote into the log, by its key."""
    found: dict[str, list[str]] = {}
    for line in lines:
        key, _, words = line.partition(" ")
        found.setdefault(key, []).append(words)
    return found
