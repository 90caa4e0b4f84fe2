"""The warm runner: starts jobs and sends signals without a process from the engine for each.

It is a shell script (`runner.sh`) that reads requests from a FIFO. Jobs run in *lanes*: a
lane is a shell (`wrapper.sh`) that runs one job after the other for one user, and keeps a
process ready that becomes the next one. Runner and idle lanes end when the daemon does;
what runs in a lane ends first.

Nothing here waits for the other side: a FIFO that takes no more means that nobody reads
it, and then the runner is given up and another one started.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd.alive import AliveWatch
from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.runtime.fifos import close_all, make_fifos, open_fifo, open_fifos
from wsclean_workerd.runtime.launching import mark_entry, runner_command, switch_user

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.model import Job, Launch, User
    from wsclean_workerd.spool import Spool

log = logging.getLogger(__name__)

_READY_SECONDS = 15.0
_ANSWER_SECONDS = 15.0
_READ_SIZE = 65536
# Three processes each. One user alone has no more of them than he has had jobs at once.
_SPARE_LANES = 16


class RunnerUnavailable(Exception):
    """The runner is not there or takes nothing: the engine has to do it."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """A shell that runs one job after the other for one user.

    Attributes:
        prefix: What turns into that user.
        descriptor: The daemon's end of the FIFO from which it reads jobs.
    """

    prefix: tuple[str, ...]
    descriptor: int


class Runner:
    """One process of the runner.

    Args:
        spool: Where its folder is made.
        name: The name of the folder, which no other runner has had.
        disk: Access to the state disk.
        user: Whom jobs run as.
        programs: The programs of which it says whether they are there.
    """

    def __init__(
        self, spool: Spool, name: str, disk: Disk, user: User, programs: Sequence[str] = ()
    ) -> None:
        self._spool = spool
        self._programs = programs
        self._name = name
        self._folder = spool.runner_folder / name
        self._disk = disk
        self._user = user
        self._loop = asyncio.get_running_loop()
        self._descriptors: tuple[int, ...] = ()
        self._requests = -1
        self._ready: asyncio.Future[list[str]] = self._loop.create_future()
        self._answers: dict[str, asyncio.Future[int]] = {}
        self._unread = b""
        self._tokens = 0
        self._lanes = 0
        self._idle: dict[tuple[str, ...], list[_Lane]] = {}
        self._busy: dict[Launch, _Lane] = {}
        self._alive: AliveWatch | None = None
        self._watch: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        self.programs: list[str] = []

    async def start(self, start_script: Callable[[list[str]], Awaitable[None]]) -> list[str]:
        """Start the process and wait until it takes requests.

        Args:
            start_script: Starts a command where jobs run, and does not wait for it.

        Returns:
            What it needs and has not found.

        Raises:
            RuntimeUnavailable: If it cannot be started, or does not say that it is ready.
        """
        try:
            requests, answers, alive = await self._disk.acquire(close_all, self._prepare)
        except OSError as error:
            raise RuntimeUnavailable(
                "SPOOL_UNUSABLE", f"cannot use {self._folder}: {error}"
            ) from None
        # From here on `close` closes all of them.
        self._requests, self._descriptors = requests, (requests, answers)
        self._alive = AliveWatch(alive)
        self._loop.add_reader(answers, self._read_answers, answers)
        self._watch = asyncio.create_task(self._await_end(self._alive), name=f"runner {self._name}")
        await start_script(runner_command(self._spool, self._name, self._user, self._programs))
        try:
            async with asyncio.timeout(_READY_SECONDS):
                return await self._ready
        except TimeoutError:
            raise RuntimeUnavailable(
                "RUNNER_SILENT",
                f"the runner does not say that it is ready; {self._folder}/log may say why",
            ) from None

    async def launch(self, job: Job) -> None:
        """Let a lane start a job whose folder is prepared.

        Raises:
            RunnerUnavailable: If it takes nothing.
        """
        prefix = switch_user(job.order.user)
        idle = self._idle.get(tuple(prefix))
        lane = idle.pop() if idle else await self._make_lane(prefix)
        self._busy[job.last_launch] = lane
        self._write(lane.descriptor, [self._spool.attempt_name(job), str(job.launch)])

    def release(self, launch: Launch, *, reusable: bool) -> None:
        """Take note that the command of a job has ended.

        Args:
            launch: The start of the job.
            reusable: Whether it left a status, so that its lane waits for another job.
        """
        lane = self._busy.pop(launch, None)
        if lane is None:
            return
        if reusable:
            # Behind those of the users whose jobs ended before.
            idle = self._idle.pop(lane.prefix, [])
            self._idle[lane.prefix] = [*idle, lane]
        else:
            os.close(lane.descriptor)

    async def ask(self, instance: str, job: Job, verb: str) -> int:
        """Have a signal sent to all processes of a job, or have them looked for.

        Args:
            instance: The daemon that the job belongs to.
            job: The job.
            verb: What to do; see `kill_command`.

        Returns:
            The exit status of what has done it.

        Raises:
            RunnerUnavailable: If it is not known to have been done.
        """
        self._tokens += 1
        token = str(self._tokens)
        answer: asyncio.Future[int] = self._loop.create_future()
        self._answers[token] = answer
        try:
            what = [token, self._spool.attempt_name(job), mark_entry(instance, job), verb]
            self._write(self._requests, ["kill", *what, *switch_user(job.order.user)])
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            raise RunnerUnavailable("the runner does not answer") from None
        finally:
            del self._answers[token]

    def give_up(self) -> None:
        """Ask nothing of it any more, and wait for no answer."""
        self.gone.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RunnerUnavailable("the runner is gone"))

    def close(self) -> None:
        """Let go of it: it ends, and so does each lane when it has no job."""
        self.give_up()
        if self._watch is not None:
            self._watch.cancel()
        for lane in [*itertools.chain(*self._idle.values()), *self._busy.values()]:
            os.close(lane.descriptor)
        self._idle.clear()
        self._busy.clear()
        if self._alive is not None:
            self._alive.close()
        if self._descriptors:
            self._loop.remove_reader(self._descriptors[-1])
        close_all(self._descriptors)
        self._descriptors = ()
        self._requests = -1

    # -- small things ------------------------------------------------------------

    def _prepare(self) -> tuple[int, ...]:
        """Make the folder and open the FIFOs; return requests, answers and alive."""
        make_fifos(self._folder, "requests", "answers", "alive")
        # Held for reading as well, so that writing never fails while nobody reads yet.
        # That nobody reads any more is told by `alive`.
        return open_fifos(
            self._folder,
            ("requests", os.O_RDWR),
            ("answers", os.O_RDWR),
            ("alive", os.O_RDONLY),
        )

    async def _make_lane(self, prefix: list[str]) -> _Lane:
        self._trim_idle()
        self._lanes += 1
        name = f"lane-{self._lanes}"
        folder = self._folder / name

        def make() -> int:
            make_fifos(folder, "jobs", "go", "said")
            return open_fifo(folder / "jobs", os.O_RDWR)

        try:
            descriptor = await self._disk.open(make)
        except OSError as error:
            raise RunnerUnavailable(f"cannot make {folder}: {error}") from None
        try:
            self._write(self._requests, ["lane", name, *prefix])
        except RunnerUnavailable:
            os.close(descriptor)
            raise
        return _Lane(tuple(prefix), descriptor)

    def _trim_idle(self) -> None:
        """Let lanes end of users who have had no job for longest, so that few are kept in vain."""
        while sum(map(len, self._idle.values())) >= _SPARE_LANES:
            prefix = next(prefix for prefix, idle in self._idle.items() if idle)
            os.close(self._idle[prefix].pop(0).descriptor)
        self._idle = {prefix: idle for prefix, idle in self._idle.items() if idle}

    def _write(self, descriptor: int, words: list[str]) -> None:
        line = (" ".join(words) + "\n").encode()
        # More than this would not go in one piece.
        if self.gone.is_set() or len(line) > os.fpathconf(descriptor, "PC_PIPE_BUF"):
            raise RunnerUnavailable("the runner is gone" if self.gone.is_set() else "too long")
        try:
            os.write(descriptor, line)
        except BlockingIOError:
            # Nobody has read for hundreds of requests.
            self.give_up()
            raise RunnerUnavailable("the runner takes no more requests") from None

    def _read_answers(self, descriptor: int) -> None:
        with suppress(BlockingIOError):
            *lines, self._unread = (self._unread + os.read(descriptor, _READ_SIZE)).split(b"\n")
            for line in lines:
                self._take_answer(line.decode("ascii", "replace").split())

    def _take_answer(self, words: list[str]) -> None:
        match words:
            case ["programs", *there]:
                self.programs = there
            case ["ready", *missing] if not self._ready.done():
                self._ready.set_result(missing)
            case ["done", token, status] if token in self._answers and status.isdecimal():
                if not self._answers[token].done():
                    self._answers[token].set_result(int(status))
            case _:
                log.debug("the runner says %s", words)

    async def _await_end(self, alive: AliveWatch) -> None:
        alive.begin(begun=False)
        while await alive.news():
            pass
        self.give_up()
        if not self._ready.done():
            error = RuntimeUnavailable("RUNNER_GONE", "the runner ended before it was ready")
            self._ready.set_exception(error)
