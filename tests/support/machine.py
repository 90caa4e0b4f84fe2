"""A daemon around the pure core, for tests that decide when each of its parts gets on.

It does what supervisor, attendant and timers do, on a simulated host. What takes time
in reality (a write, a start, a look at the disk, a signal) is kept here as a thing to
be done until the test lets it happen.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from support.jobs import make_job
from support.queueing import Queue
from support.world import Claimant, Host
from wsclean_workerd.admission import Admission
from wsclean_workerd.events import (
    ArmTimer,
    AttachJob,
    DeadlinePassed,
    DisarmTimer,
    Event,
    ForgetLaunch,
    Instruction,
    JobChosen,
    JobExited,
    JobGone,
    JobStarted,
    KillDelivered,
    LaunchFailed,
    ResolveLaunch,
    Signal,
    SignalJob,
    StartJob,
    StatusLost,
    Timer,
)
from wsclean_workerd.model import Instant, Job, JobId, JobState, Launch, Mount, Patience, Reason
from wsclean_workerd.recovery import rebase, recover
from wsclean_workerd.state_machine import step
from wsclean_workerd.storage import Storage

FOLDERS = ("/stage", "/data")
STORAGE = Storage([Mount(folder, folder) for folder in FOLDERS], timeout=1, proof_age=1)
PATIENCE = Patience(start=60, grace=10, kill=5, rekill=30, refusals=2)

NOT_STARTED = Reason("NOT_STARTED", "it was not started")
VANISHED = Reason("CONTAINER_DIED", "its container died")
PROCESSES_GONE = Reason("PROCESSES_GONE", "all its processes have ended")

Armed = tuple[JobId, Timer]


class Taken(NamedTuple):
    """One event that a job has taken, when, and what came of it."""

    now: float
    before: Job
    event: Event
    after: Job
    instructions: list[Instruction]


class Admitted(NamedTuple):
    """A queue, what was chosen from it, and the slots that were then taken."""

    queue: Queue
    chosen: list[JobId]
    on_slots: int
    slots: int


class Found(NamedTuple):
    """One job found in the journal, when, and what was to be done for it."""

    now: float
    job: Job
    instructions: list[Instruction]


class Write(NamedTuple):
    """A change on its way to the disk, and what is to be done when it is there."""

    job: Job
    instructions: list[Instruction]


class Start(NamedTuple):
    """A job that is being handed to the engine."""

    job: Job

    def __repr__(self) -> str:
        return f"start {self.job.launch} of job {self.job.id}"


class Resolve(NamedTuple):
    """A start that is being claimed, and whether that counts against the job."""

    job: Job
    refused: bool

    def __repr__(self) -> str:
        return f"claim of start {self.job.launch} of job {self.job.id}, refused: {self.refused}"


@dataclass(slots=True, eq=False)
class Daemon:
    """One life of the daemon, and what every life has in common.

    Attributes:
        host: What it runs on.
        slots: How many jobs may run at once.
        admission: Who may take one.
        hung: The folders whose storage does not answer, so that no job starts there.
        times: How often it carries out each instruction.
        stalled: How many changes wait for the disk before it takes them all.
        jobs: The jobs as events have left them.
        writes: What is not on disk yet, in order.
        timers: When the armed timers run out, on the boot clock.
        passed: All timers that were ever armed and the times they were armed for.
        starts: What is being handed to the engine.
        resolves: What is being claimed.
        watches: The starts that are watched and the events that were told of them.
        found_left: The starts of which a search has found something since the last KILL.
        claimed: The starts that the daemon knows to be its own.
        signals: What is being sent.
        news: What has happened and was not told yet.
        told: What was told.
        woke: When this life began.
        before: How much had been taken by then.
        taken: What was taken by the state machine, by all lives.
        found: What was found in the journal, by all lives.
        admitted: How slots were given out, by all lives.
    """

    host: Host = field(default_factory=Host)
    slots: int = 1
    admission: Admission = field(init=False)
    hung: set[str] = field(default_factory=set)
    times: int = 1
    stalled: int = 0
    jobs: dict[JobId, Job] = field(default_factory=dict)
    writes: deque[Write] = field(default_factory=deque)
    timers: dict[Armed, float] = field(default_factory=dict)
    passed: list[tuple[Armed, float]] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    resolves: list[Resolve] = field(default_factory=list)
    watches: dict[Launch, set[type[Event]]] = field(default_factory=dict)
    found_left: set[Launch] = field(default_factory=set)
    claimed: set[Launch] = field(default_factory=set)
    signals: list[tuple[Launch, Signal]] = field(default_factory=list)
    news: list[tuple[JobId, Event]] = field(default_factory=list)
    told: list[tuple[JobId, Event]] = field(default_factory=list)
    woke: float = 0.0
    before: int = 0
    taken: list[Taken] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    admitted: list[Admitted] = field(default_factory=list)

    # -- the supervisor ----------------------------------------------------------

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.admission = Admission(
            slots=self.slots, storage=STORAGE, unproven=lambda _: frozenset(self.hung)
        )

    def submit(self, folder: str, *, retries: int = 0, **fields: Any) -> Job:
        """Accept a job, which starts at once if it can."""
        job = make_job(len(self.host.journal) + 1, submitted=self.host.instant())
        order = replace(job.order, command=("wsclean",), working_directory=folder, **fields)
        job = replace(job, order=order, spec=replace(job.spec, retries=retries))
        self.host.folder(job)
        self.admission.slots = self.slots
        # What is written later than this must not be older.
        if not self.writes and self.admission.passes(job):
            self._start_at_once(job)
        else:
            self.host.journal[job.id] = job
            self._keep(job)
            self._recover(job, job.submitted)
        return job

    def _start_at_once(self, job: Job) -> None:
        queue, chosen = self.queue(job), JobChosen(self.host.instant(), "container")
        starting, instructions = step(job, chosen, PATIENCE)
        self.taken.append(Taken(self.host.now, job, chosen, starting, instructions))
        self.host.journal[job.id] = starting
        self._keep(starting)
        self.admitted.append(Admitted(queue, [job.id], self.on_slots(), self.slots))
        self._carry_out(starting, instructions)

    def _keep(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.admission.keep(job)

    def handle(self, job_id: JobId, event: Event) -> Job:
        """Let something happen to a job; return what it is then."""
        before = self.jobs[job_id]
        after, instructions = step(before, event, PATIENCE)
        self.taken.append(Taken(self.host.now, before, event, after, instructions))
        if after is before:
            self._carry_out(after, instructions)
        else:
            self._keep(after)
            self.writes.append(Write(after, instructions))
            if self.stalled:
                self.stalled -= 1
            else:
                self.write()
        return after

    def write(self) -> None:
        """Let everything get to the disk, and do what had to wait for that."""
        while self.writes:
            job, instructions = self.writes.popleft()
            self.host.journal[job.id] = job
            self._carry_out(job, instructions)

    def settled(self) -> list[Job]:
        """The jobs of which everything is on disk and carried out."""
        under_way = {job.id for job, _ in self.writes}
        return [job for job in self.jobs.values() if job.id not in under_way]

    def queue(self, *new: Job) -> Queue:
        """Those that wait now and whom they wait for."""
        jobs = [*self.jobs.values(), *new]
        return Queue(
            waiting=[each for each in jobs if each.state is JobState.QUEUED],
            on_slots=[each for each in jobs if each.on_slot],
            hung=frozenset(self.hung),
            slots=self.slots,
        )

    def on_slots(self) -> int:
        """How many slots are taken."""
        return sum(each.on_slot for each in self.jobs.values())

    def admit(self) -> None:
        """Start what the scheduler chooses."""
        queue = self.queue()
        self.admission.slots = self.slots
        chosen = self.admission.choose()
        for job_id in chosen:
            self.handle(job_id, JobChosen(self.host.instant(), "container"))
        self.admitted.append(Admitted(queue, chosen, self.on_slots(), self.slots))

    def _carry_out(self, job: Job, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            for _ in range(self.times):
                self._do(job, instruction)

    def _do(self, job: Job, instruction: Instruction) -> None:
        match instruction:
            case StartJob():
                self.starts.append(Start(job))
            case ResolveLaunch(refused):
                self.resolves.append(Resolve(job, refused))
            case AttachJob():
                self._attach(job)
            case SignalJob(signal):
                self.host.folder(job)
                if (job.last_launch, signal) not in self.signals:
                    self.signals.append((job.last_launch, signal))
            case ForgetLaunch():
                self.signals = [each for each in self.signals if each[0] != job.last_launch]
                self.watches.pop(job.last_launch, None)
            case ArmTimer(timer, due):
                # A start is waited for from the moment at which it is handed over.
                handed_over = self.host.instant().boot + PATIENCE.start
                self.timers[job.id, timer] = handed_over if timer is Timer.START else due
                self.passed.append(((job.id, timer), self.timers[job.id, timer]))
            case DisarmTimer(timer):
                self.timers.pop((job.id, timer), None)

    # -- the timers --------------------------------------------------------------

    def deadline(self, armed: Armed, *, late: float = 0.0) -> None:
        """Wait until a timer runs out, and some time longer."""
        due = self.timers.pop(armed)
        self.host.now += max(0.0, due - self.host.instant().boot) + late
        self.handle(armed[0], DeadlinePassed(self.host.instant(), armed[1]))

    def stale_deadlines(self) -> list[Armed]:
        """Timers that ran out or would have if they had not been disarmed."""
        boot = self.host.instant().boot
        due = dict.fromkeys(armed for armed, due in self.passed if due <= boot)
        return [armed for armed in due if armed not in self.timers]

    # -- the attendant -----------------------------------------------------------

    def hand_over(self, start: Start, *, taken: bool, refused: bool | None) -> None:
        """Let the engine have a start.

        Args:
            start: The start.
            taken: Whether the engine does it, sooner or later.
            refused: Whether it says that it refuses it (True), that it is away
                (False), or says nothing (None).
        """
        self.starts.remove(start)
        job = start.job
        if job.last_launch in self.claimed:
            return
        self._attach(job)
        if taken:
            self.host.folder(job).coming.append(job.launch)
        if refused is not None:
            self.resolves.append(Resolve(job, refused))

    def doubt(self) -> None:
        """Claim all starts that were handed over and not seen to happen."""
        for (job_id, launch), told in self.watches.items():
            if not told:
                attempt = self.host.attempts[job_id, launch]
                job = replace(self.jobs[job_id], launch=launch, attempt=attempt)
                self.resolves.append(Resolve(job, refused=False))

    def resolve(self, resolve: Resolve) -> None:
        """Let an attempt to claim a start get through."""
        self.resolves.remove(resolve)
        job, refused = resolve
        if self.host.folder(job).claim(job.launch, Claimant.DAEMON):
            self.claimed.add(job.last_launch)
            self.watches.pop(job.last_launch, None)
            failed = LaunchFailed(self.host.instant(), NOT_STARTED, refused, launch=job.launch)
            self.news.append((job.id, failed))
        else:
            self._attach(job)

    def deliver(self, signal: tuple[Launch, Signal]) -> None:
        """Let a signal get to all processes of a job that heed it: nobody heeds TERM."""
        self.signals.remove(signal)
        if signal[1] is Signal.KILL:
            launch = signal[0]
            self.host.of_start(launch).receive_kill(self.host.now)
            self.found_left.discard(launch)
            self.news.append((launch[0], KillDelivered(self.host.instant(), launch=launch[1])))

    def tell(self, news: tuple[JobId, Event]) -> None:
        """Tell what came of a claim or a signal."""
        self.news.remove(news)
        self._tell(*news)

    def watches_with_news(self) -> list[Launch]:
        """The watched starts of which there is something to tell."""
        return [launch for launch in self.watches if self._next(launch) is not None]

    def tell_next(self, launch: Launch) -> None:
        """Tell the next thing that can be seen of a start."""
        event = self._next(launch)
        assert event is not None, launch
        self.watches[launch].add(type(event))
        if isinstance(event, JobGone):
            del self.watches[launch]
        elif isinstance(event, StatusLost):
            self.found_left.add(launch)
            if self.host.of_start(launch).status is not None:
                return
        self._tell(launch[0], event)

    def _next(self, launch: Launch) -> Event | None:
        processes, told = self.host.of_start(launch), self.watches[launch]
        number = launch[1]
        if processes.claims.get(number) is not Claimant.WRAPPER:
            return None
        if processes.status is not None and JobExited not in told:
            begun = self.host.instant(processes.begun)
            exited = self.host.instant(processes.exited)
            return JobExited(exited, processes.status, begun, launch=number)
        if processes.status is None and JobStarted not in told:
            return JobStarted(self.host.instant(processes.begun), launch=number)
        if processes.held or launch in self.found_left:
            return None
        if processes.strays:
            return StatusLost(self.host.instant(), VANISHED, launch=number)
        lost = processes.status is None
        reason = VANISHED if lost else PROCESSES_GONE
        return JobGone(self.host.instant(), reason, launch=number)

    def _tell(self, job_id: JobId, event: Event) -> None:
        self.told.append((job_id, event))
        self.handle(job_id, event)

    def _attach(self, job: Job) -> None:
        self.host.folder(job)
        if job.last_launch not in self.claimed:
            self.watches.setdefault(job.last_launch, set())

    # -- death and life ----------------------------------------------------------

    def crash(self, *, written: int, finished: bool) -> None:
        """Forget everything that is not on disk.

        Args:
            written: How many of the changes under way still got there.
            finished: Whether what was under way outside the daemon was still done,
                with nobody there to hear of it.
        """
        for job, _ in list(self.writes)[:written]:
            self.host.journal[job.id] = job
        if finished:
            for start in list(self.starts):
                self.hand_over(start, taken=True, refused=None)
            for resolve in list(self.resolves):
                self.resolve(resolve)
            for signal in list(self.signals):
                self.deliver(signal)
        self.jobs = {}
        self._begin()
        self.stalled = 0
        self.claimed.clear()
        self.found_left.clear()
        for memory in (self.writes, self.timers, self.watches):
            memory.clear()
        for things in (self.passed, self.starts, self.resolves, self.signals):
            things.clear()
        for heard in (self.news, self.told):
            heard.clear()

    def restart(self, *, slots: int, rebooted: bool = False) -> None:
        """Load the journal and bring every job back to where it was."""
        self.slots = slots
        self.woke, self.before = self.host.now, len(self.taken)
        now = self.host.instant()
        for job_id, job in self.host.journal.items():
            self.host.journal[job_id] = rebase(job, now) if rebooted else job
            self._keep(self.host.journal[job_id])
        self.recover_all()

    def recover_all(self) -> None:
        """Do what is to be done for each job that is in the journal."""
        for job in self.jobs.values():
            self._recover(job, self.host.instant())

    def undertakings(self) -> tuple[object, ...]:
        """What the daemon is about to do; two claims of one start are as good as one."""
        claims = {(each.job.id, each.job.launch, each.refused) for each in self.resolves}
        return dict(self.timers), set(self.watches), list(self.signals), list(self.starts), claims

    def _recover(self, job: Job, now: Instant) -> None:
        instructions = recover(job, now, PATIENCE)
        self.found.append(Found(self.host.now, job, instructions))
        self._carry_out(job, instructions)
