"""`wsclean-ctl run`."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, Unpack

import click

from wsclean_client.cli import exits, remark
from wsclean_client.cli.options import JOB_SETTINGS, JobOptions, example, job_options
from wsclean_client.cli.passing import pass_on
from wsclean_client.cli.session import Session, pass_session
from wsclean_client.errors import DaemonNotReachable
from wsclean_client.handle import left_behind
from wsclean_client.jobs import JobInfo, JobState

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from wsclean_client.handle import JobHandle

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNALLED = 128
_NOTICE_SECONDS = 0.25
_ONE_WISH_SECONDS = 0.5
"""Signals that arrive together are one wish: timeout(1), for example, sends its
signal to the process and again to the group that the process is in."""


@dataclass(frozen=True)
class _Arrived:
    """A signal, and when it came (monotonic clock)."""

    number: signal.Signals
    at: float


_Event: TypeAlias = "_Arrived | JobHandle | JobInfo | Exception"


@click.command(
    "run",
    context_settings=JOB_SETTINGS,
    epilog=example(
        "wsclean-ctl run --timeout 2h wsclean -size 512 512 -scale 2asec -name img sim.ms"
    ),
)
@job_options
@pass_session
def command(session: Session, command: tuple[str, ...], **options: Unpack[JobOptions]) -> int:
    """Run a command as if it ran here.

    What the command writes is passed on as it comes, and its exit status at the
    end. Interrupting wsclean-ctl (Ctrl-C, SIGTERM, closing the terminal or the
    pipe that it writes to) cancels the job and waits for its end; a second
    interrupt stops waiting.
    """
    with session.client() as client:
        return _Run(lambda: client.submit(command, **options)).finish()


class _Run:
    """Attends to one job and to the signals that may arrive meanwhile.

    The job is followed by a thread and the signals only leave a note, so nothing
    is ever interrupted in the middle: what has happened is dealt with one by one.
    """

    def __init__(self, submit: Callable[[], JobHandle]) -> None:
        self._submit = submit
        # Unlike queue.Queue this may be used by a signal handler.
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._job: JobHandle | None = None
        self._stopped_by: signal.Signals | None = None
        self._patient_until = 0.0

    def finish(self) -> int:
        """Run the job to its end and tell the exit status that stands for it."""
        for number in _SIGNALS:
            # What the caller wants ignored (nohup, for example) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)
        threading.Thread(target=self._follow, daemon=True).start()
        while True:
            match self._next():
                case _Arrived() as arrived:
                    self._interrupt(arrived)
                case JobInfo() as info:
                    return self._status(info)
                case BrokenPipeError():
                    self._stop(signal.SIGPIPE)
                case DaemonNotReachable() as error if self._job is not None:
                    raise DaemonNotReachable(left_behind(error, self._job.id)) from error
                case Exception() as error:
                    raise error
                case job:
                    self._accepted(job)

    def _next(self) -> _Event:
        while True:
            with contextlib.suppress(queue.Empty):
                # Python runs a signal's handler before or after a wait. One that arrives
                # just as the wait begins must not be left until something else happens.
                return self._events.get(timeout=_NOTICE_SECONDS)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._events.put(_Arrived(signal.Signals(number), time.monotonic()))

    def _follow(self) -> None:
        """Submit the job and pass its output on (in a thread of its own)."""
        try:
            job = self._submit()
            self._events.put(job)
            try:
                for chunk in job.logs(follow=True):
                    pass_on(chunk)
            except BrokenPipeError as error:
                self._events.put(error)
            self._events.put(job.wait())
        except Exception as error:  # noqa: BLE001 - raised again by the main thread
            self._events.put(error)

    def _accepted(self, job: JobHandle) -> None:
        self._job = job
        if self._stopped_by is not None:
            self._cancel(job)

    def _cancel(self, job: JobHandle) -> None:
        try:
            job.cancel()
        except DaemonNotReachable as error:
            raise DaemonNotReachable(
                f"job {job.id} is not cancelled and goes on: {error}"
            ) from error

    def _interrupt(self, arrived: _Arrived) -> None:
        if self._stopped_by is None:
            self._patient_until = arrived.at + _ONE_WISH_SECONDS
        elif arrived.at > self._patient_until:
            self._leave(arrived.number)
        self._stop(arrived.number)

    def _stop(self, number: signal.Signals) -> None:
        if self._stopped_by is not None:
            return
        self._stopped_by = number
        if self._job is not None:
            self._cancel(self._job)

    def _leave(self, number: signal.Signals) -> None:
        state = f"Job {self._job.id} has been told to end" if self._job else "Nothing is running"
        remark.complain(f"interrupted twice: not waiting any longer. {state}")
        # The thread may be in the middle of a call; nothing here needs cleaning up.
        os._exit(_SIGNALLED + number)

    def _status(self, job: JobInfo) -> int:
        if self._stopped_by is not None and job.state is JobState.CANCELLED:
            return _SIGNALLED + self._stopped_by
        remark.unless_exited(job)
        return exits.of_job(job)
