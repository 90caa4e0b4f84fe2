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
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd.alive import AliveWatch
from wsclean_workerd.errors import ProgramsMissing, RuntimeUnavailable
from wsclean_workerd.model import Reason
from wsclean_workerd.runtime.fifos import make_fifos, open_fifo
from wsclean_workerd.runtime.launching import mark_entry, runner_command, switch_user

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.events import Signal
    from wsclean_workerd.model import Job, Launch
    from wsclean_workerd.spool import Spool

log = logging.getLogger(__name__)

_READY_SECONDS = 15.0
_ANSWER_SECONDS = 15.0
_RETRY_SECONDS = 30.0
_READ_SIZE = 65536


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
        programs: The programs of which it says whether they are there.
    """

    def __init__(self, spool: Spool, name: str, disk: Disk, programs: Sequence[str] = ()) -> None:
        self._spool = spool
        self._programs = programs
        self._name = name
        self._folder = spool.runner_folder / name
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._descriptors: list[int] = []
        self._requests = -1
        self._ready: asyncio.Future[list[str]] = self._loop.create_future()
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._unread = b""
        self._tokens = 0
        self._lanes = 0
        self._idle: dict[tuple[str, ...], list[_Lane]] = {}
        self._busy: dict[Launch, _Lane] = {}
        self._watch: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        self.programs: list[str] = []

    async def start(self, start_script: Callable[[list[str]], Awaitable[None]]) -> list[str]:
        """Start the process and wait until it takes requests.

        Args:
            start_script: Starts a command where jobs run, and does not wait for it.

        Returns:
            The programs it needs and has not found.

        Raises:
            RuntimeUnavailable: If it cannot be started, or does not say that it is ready.
        """
        try:
            self._requests, answers, alive = await self._disk.run(self._prepare)
        except OSError as error:
            raise RuntimeUnavailable(
                "SPOOL_UNUSABLE", f"cannot use {self._folder}: {error}"
            ) from None
        self._descriptors += [self._requests, answers]
        self._loop.add_reader(answers, self._read_answers, answers)
        self._watch = asyncio.create_task(self._await_end(alive), name=f"runner {self._name}")
        await start_script(runner_command(self._spool, self._name, self._programs))
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
        idle = self._idle.setdefault(tuple(prefix), [])
        lane = idle.pop() if idle else await self._make_lane(prefix)
        self._busy[job.last_launch] = lane
        self._write(lane.descriptor, [str(job.id), str(job.launch)])

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
            self._idle[lane.prefix].append(lane)
        else:
            os.close(lane.descriptor)

    async def signal(self, instance: str, job: Job, signal: Signal) -> None:
        """Send a signal to all processes of a job; returns when it has been sent.

        Args:
            instance: The daemon that the job belongs to.
            job: The job.
            signal: What to send.

        Raises:
            RunnerUnavailable: If it is not known to have been sent.
        """
        self._tokens += 1
        token = str(self._tokens)
        answer = self._answers[token] = self._loop.create_future()
        try:
            what = [token, str(job.id), mark_entry(instance, job), signal.value]
            self._write(self._requests, ["signal", *what, *switch_user(job.order.user)])
            async with asyncio.timeout(_ANSWER_SECONDS):
                await answer
        except TimeoutError:
            raise RunnerUnavailable("the runner does not answer") from None
        finally:
            del self._answers[token]

    def close(self) -> None:
        """Let go of it: it ends, and so does each lane when it has no job."""
        self.gone.set()
        if self._watch is not None:
            self._watch.cancel()
        for lane in [*itertools.chain(*self._idle.values()), *self._busy.values()]:
            os.close(lane.descriptor)
        self._idle.clear()
        self._busy.clear()
        if self._descriptors:
            self._loop.remove_reader(self._descriptors[-1])
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._requests = -1

    # -- small things ------------------------------------------------------------

    def _prepare(self) -> tuple[int, int, int]:
        """Make the folder and open the FIFOs; return requests, answers and alive."""
        make_fifos(self._folder, "requests", "answers", "alive")
        # Held for reading as well, so that writing never fails while nobody reads yet.
        # That nobody reads any more is told by `alive`.
        requests = open_fifo(self._folder / "requests", os.O_RDWR)
        answers = open_fifo(self._folder / "answers", os.O_RDWR)
        return requests, answers, open_fifo(self._folder / "alive", os.O_RDONLY)

    async def _make_lane(self, prefix: list[str]) -> _Lane:
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

    def _write(self, descriptor: int, words: list[str]) -> None:
        line = (" ".join(words) + "\n").encode()
        # More than this would not go in one piece.
        if self.gone.is_set() or len(line) > os.fpathconf(descriptor, "PC_PIPE_BUF"):
            raise RunnerUnavailable("the runner is gone" if self.gone.is_set() else "too long")
        try:
            os.write(descriptor, line)
        except BlockingIOError:
            # Nobody has read for hundreds of requests.
            self.gone.set()
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
            case ["done", token] if token in self._answers:
                if not self._answers[token].done():
                    self._answers[token].set_result(None)
            case _:
                log.debug("the runner says %s", words)

    async def _await_end(self, alive: int) -> None:
        with AliveWatch(alive) as watch:
            watch.begin(begun=False)
            while await watch.news():
                pass
        self.gone.set()
        if not self._ready.done():
            error = RuntimeUnavailable("RUNNER_GONE", "the runner ended before it was ready")
            self._ready.set_exception(error)


class Runners:
    """The runner of the present, and its successor when it is gone.

    Args:
        spool: Where their folders are.
        disk: Access to the state disk.
        programs: Those that jobs may run, if it is to be found out whether any is there.
    """

    def __init__(self, spool: Spool, disk: Disk, programs: Sequence[str] = ()) -> None:
        self._spool = spool
        self._disk = disk
        self._programs = programs
        self._current: Runner | None = None
        self._where: str | None = None
        self._swept = False

    async def launch(self, job: Job) -> bool:
        """Have a job started, whose folder is prepared.

        Returns:
            Whether a runner took it; if not, it is to be started without one.
        """
        try:
            await self._runner().launch(job)
        except RunnerUnavailable as error:
            log.debug(
                "job %s is started without the runner: %s", job.id, error, extra={"job": job.id}
            )
            return False
        return True

    async def signal(self, instance: str, job: Job, signal: Signal) -> bool:
        """Send a signal to all processes of a job; see `Runner.signal`.

        Returns:
            Whether it is known to have been sent; if not, it is to be sent without a runner.
        """
        try:
            await self._runner().signal(instance, job, signal)
        except RunnerUnavailable as error:
            log.debug(
                "job %s gets %s without the runner: %s",
                job.id,
                signal,
                error,
                extra={"job": job.id},
            )
            return False
        return True

    async def ensure(
        self, where: str | None, start_script: Callable[[list[str]], Awaitable[None]]
    ) -> list[str]:
        """Have a runner in a container.

        Args:
            where: The id of the container, None on the host.
            start_script: Starts a command there, and does not wait for it.

        Returns:
            The programs it needs and has not found; none if there was one already.

        Raises:
            RuntimeUnavailable: If it cannot be started.
            ProgramsMissing: If it has found none of the programs.
        """
        await self._sweep()
        if self._current is not None:
            if self._where == where and not self._current.gone.is_set():
                return []
            self.drop()
        runner = Runner(self._spool, os.urandom(6).hex(), self._disk, self._programs)
        try:
            missing = await runner.start(start_script)
            self._check_programs(runner)
        except BaseException:
            runner.close()
            raise
        if missing:
            runner.close()
            return missing
        self._current, self._where = runner, where
        return []

    async def lost(self) -> None:
        """Wait until the runner is gone, or one that could not be started may be tried again."""
        if self._current is not None:
            await self._current.gone.wait()
        else:
            await asyncio.sleep(_RETRY_SECONDS)

    def release(self, job: Job, *, reusable: bool) -> None:
        """Take note that the command of a job has ended; see `Runner.release`."""
        if self._current is not None:
            self._current.release(job.last_launch, reusable=reusable)

    def give_up(self) -> None:
        """Take the runner for stuck, so that another one is started."""
        if self._current is not None and not self._current.gone.is_set():
            log.warning("the runner does nothing: starting another one")
            self._current.gone.set()

    def drop(self) -> None:
        """Let go of the runner."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def _check_programs(self, runner: Runner) -> None:
        if self._programs and not runner.programs:
            raise ProgramsMissing(f"none of {', '.join(self._programs)} is to be found")

    def _runner(self) -> Runner:
        if self._current is None or self._current.gone.is_set():
            raise RunnerUnavailable("there is no runner")
        return self._current

    async def _sweep(self) -> None:
        """Remove what earlier daemons left, whose runners have ended with them."""
        if not self._swept:
            self._swept = True
            await self._disk.run(self._remove_all, self._spool.runner_folder)

    @staticmethod
    def _remove_all(folder: Path) -> None:
        for each in folder.iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)


def no_runner(why: str) -> Reason:
    """What people should know of jobs that are started without a runner."""
    return Reason("NO_RUNNER", f"jobs start more slowly than they could, without a runner: {why}")
