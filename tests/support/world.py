"""A simulated host for the pure core: a clock, a disk, and the processes of jobs.

Nothing in here knows the state machine. It is the truth that the daemon, which is
simulated in `support.machine`, hears of late, twice or never.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from support.jobs import at
from wsclean_workerd.model import Instant, Job, JobId, Launch

KILLED = 137


class Claimant(enum.Enum):
    """Who claimed a start."""

    WRAPPER = "it happened"
    DAEMON = "it never will"


@dataclass(slots=True)
class Processes:
    """What there is of one attempt of a job outside the daemon: its folder and processes.

    Attributes:
        claims: Who claimed which start.
        coming: The starts in the hands of the engine, whose wrapper may come yet.
        commands: How often the command began.
        begun: When it began, or None.
        status: The exit status that the wrapper wrote, or None.
        exited: When it wrote that, or None.
        wrapper: Whether the wrapper is alive.
        command: Whether the command is.
        escapees: Whether something that the command left behind is.
        strays: Whether something is that has let go of the FIFO, too.
        stuck: Whether all of them wait in the kernel and nothing ends them.
        kills: When KILL was delivered.
    """

    claims: dict[int, Claimant] = field(default_factory=dict)
    coming: list[int] = field(default_factory=list)
    commands: int = 0
    begun: float | None = None
    status: int | None = None
    exited: float | None = None
    wrapper: bool = False
    command: bool = False
    escapees: bool = False
    strays: bool = False
    stuck: bool = False
    kills: list[float] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether anything holds the FIFO of the job."""
        return self.wrapper or self.command or self.escapees

    @property
    def alive(self) -> bool:
        """Whether there is any process of the job."""
        return self.held or self.strays

    def claim(self, launch: int, claimant: Claimant) -> bool:
        """Claim a start, unless somebody has; return whether it is the claimant's."""
        return self.claims.setdefault(launch, claimant) is claimant

    def wrapper_comes(self, launch: int, now: float) -> None:
        """Let the engine do a start: the wrapper begins the command or goes away again."""
        self.coming.remove(launch)
        if launch not in self.claims:
            self.claims[launch] = Claimant.WRAPPER
            self.commands += 1
            self.begun = now
            self.wrapper = self.command = True

    def exit(
        self, status: int, now: float, *, leaving: bool = False, straying: bool = False
    ) -> None:
        """End the command, which may leave processes behind."""
        self.command = False
        self.escapees = self.escapees or leaving
        self.strays = self.strays or straying
        if self.wrapper:
            self.status, self.exited = status, now
            self.wrapper = False

    def vanish(self) -> None:
        """End everything with nobody left to write a status."""
        self.wrapper = self.command = self.escapees = self.strays = self.stuck = False

    def receive_kill(self, now: float) -> None:
        """End what KILL ends: all but the wrapper, which writes the status and goes."""
        self.kills.append(now)
        if self.stuck:
            return
        self.escapees = self.strays = False
        if self.command:
            self.exit(KILLED, now)


@dataclass(slots=True)
class Host:
    """What a daemon that was killed finds when it comes back.

    Attributes:
        now: Seconds since the beginning of the run, which only go forward.
        booted: When the machine was started, as `now`.
        journal: The jobs as they were last written.
        processes: What there is of each attempt of each job.
        attempts: To which attempt each start belongs.
    """

    now: float = 0.0
    booted: float = 0.0
    journal: dict[JobId, Job] = field(default_factory=dict)
    processes: dict[tuple[JobId, int], Processes] = field(default_factory=dict)
    attempts: dict[Launch, int] = field(default_factory=dict)

    def instant(self, seconds: float | None = None) -> Instant:
        """A time of this host, by default the present, on the clocks that it has now."""
        moment = at(self.now if seconds is None else seconds)
        return replace(moment, boot=moment.boot - self.booted)

    def folder(self, job: Job) -> Processes:
        """What there is of the present attempt of a job."""
        self.attempts.setdefault(job.last_launch, job.attempt)
        return self.processes.setdefault((job.id, job.attempt), Processes())

    def of_start(self, launch: Launch) -> Processes:
        """What there is of the attempt that a start belongs to."""
        return self.processes[launch[0], self.attempts[launch]]

    def reboot(self) -> None:
        """Start the machine anew: only what is on disk stays."""
        self.booted = self.now
        for each in self.processes.values():
            each.vanish()
            each.coming.clear()
