"""The daemon, killed by itself when it passes a named point. No hook is in the product.

Run as a program instead of `wsclean-workerd`, this wraps one method of the daemon and runs it.
`POINTS` is all there is to adapt when the daemon's parts change: an attribute that is not there
any more ends the program at once, and `wrapped` fails.

The environment says what to do: `CRASH_POINT` names the point, `CRASH_PASSAGE` counts from 1
which passage of it is the last, and `CRASH_MARK` is a file that gets the name just before.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

POINT = "CRASH_POINT"
PASSAGE = "CRASH_PASSAGE"
MARK = "CRASH_MARK"

BEFORE: Literal["before"] = "before"
AFTER: Literal["after"] = "after"


@dataclass(frozen=True)
class Point:
    """One place in the daemon.

    Attributes:
        target: The function, as `module:Class.method`.
        when: Whether the daemon dies before the call or after it.
        most: The last passage of one life that may be the one.
        carrying: Only calls with an argument of the type of this name count.
        given: Only calls since the last of which this function was called count.
        still: Seconds for which the calling thread stands still first, so that whatever
            should wait for it and does not has time to happen. For calls in threads.
    """

    target: str
    when: Literal["before", "after"]
    most: int = 4
    carrying: str = ""
    given: str = ""
    still: float = 0.0


_OWN = "wsclean_workerd"
_COMMIT = f"{_OWN}.journal_db:JournalDb.commit"
_INSERT = f"{_OWN}.journal_db:JournalDb.insert"
_UPDATE = f"{_OWN}.journal_db:JournalDb.update"
_PREPARE = f"{_OWN}.spool:JobFolder.prepare"
_CLAIM = f"{_OWN}.spool:JobFolder.claim"
_LAUNCH = f"{_OWN}.runtime.docker:DockerRuntime.launch"
_REQUEST = f"{_OWN}.runtime.runner:Runner._write"
_SIGNAL = f"{_OWN}.runtime.docker:DockerRuntime.signal"
_START = f"{_OWN}.supervisor:Supervisor.start"
_TELL = f"{_OWN}.supervisor:Supervisor.tell"
_ANNOUNCE = f"{_OWN}.announcer:Announcer.announce"
_MAKE = "docker.api.container:ContainerApiMixin.start"

CONTAINER_POINTS: Mapping[str, Point] = {
    "container: made, not started": Point(_MAKE, BEFORE, most=1),
    "container: started, not known": Point(_MAKE, AFTER, most=1),
}
"""Passed only while there is no container, which is before the first job."""

JOB_POINTS: Mapping[str, Point] = {
    "submission: before commit": Point(_COMMIT, BEFORE, most=8, given=_INSERT, still=0.1),
    "submission: after commit": Point(_COMMIT, AFTER, most=8, given=_INSERT),
    "submission: before answer": Point(f"{_OWN}.supervisor:Supervisor.submit", AFTER, most=8),
    "change: before commit": Point(_COMMIT, BEFORE, most=20, given=_UPDATE, still=0.1),
    "change: after commit": Point(_COMMIT, AFTER, most=20, given=_UPDATE),
    "folder: before prepare": Point(_PREPARE, BEFORE, still=0.1),
    "folder: after prepare": Point(_PREPARE, AFTER),
    # Each leaves a job that is starting, and its start is claimed by what comes next.
    "launch: before": Point(_LAUNCH, BEFORE),
    "claim: before": Point(_CLAIM, BEFORE, most=1, still=0.1),
    "launch: before, again": Point(_LAUNCH, BEFORE, most=2),
    "claim: after": Point(_CLAIM, AFTER, most=1),
    "launch: before, once more": Point(_LAUNCH, BEFORE, most=3),
    "never ran: before telling": Point(_TELL, BEFORE, most=1, carrying="LaunchFailed"),
    "launch: after": Point(_LAUNCH, AFTER),
    "request: before": Point(_REQUEST, BEFORE),
    "request: after": Point(_REQUEST, AFTER),
    "start: look after": Point(f"{_OWN}.spool:JobFolder.look", AFTER),
    "start: before telling": Point(_TELL, BEFORE, carrying="JobStarted"),
    "start: after telling": Point(_TELL, AFTER, carrying="JobStarted"),
    "exit: before telling": Point(_TELL, BEFORE, carrying="JobExited"),
    "exit: after telling": Point(_TELL, AFTER, carrying="JobExited"),
    "gone: before telling": Point(_TELL, BEFORE, carrying="JobGone"),
    "gone: after telling": Point(_TELL, AFTER, carrying="JobGone"),
    "signal: before": Point(_SIGNAL, BEFORE, most=2),
    "signal: after": Point(_SIGNAL, AFTER, most=2),
    "announcement: before": Point(_ANNOUNCE, BEFORE, most=20),
    "announcement: after": Point(_ANNOUNCE, AFTER, most=20),
    "recovery: before": Point(_START, BEFORE, most=1),
    "recovery: journal read": Point(f"{_OWN}.journal:Journal.load", AFTER, most=1),
    "recovery: some jobs": Point(f"{_OWN}.supervisor:recover", AFTER, most=3),
    "recovery: after": Point(_START, AFTER, most=1),
    "recovery: socket serves": Point(f"{_OWN}.server:Server.start", AFTER, most=1),
}
"""Passed again and again while jobs run."""

POINTS: Mapping[str, Point] = {**CONTAINER_POINTS, **JOB_POINTS}


@dataclass
class _Fuse:
    """Counts passages, and kills this process at the last one."""

    name: str
    point: Point
    left: int
    mark: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    prepared: bool = False

    def pass_by(self, values: tuple[object, ...]) -> None:
        with self.lock:
            if not self._counts(values):
                return
            self.left -= 1
            if self.left:
                return
        time.sleep(self.point.still)
        with self.mark.open("a", encoding="utf-8") as mark:
            mark.write(f"{self.name}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def _counts(self, values: tuple[object, ...]) -> bool:
        point = self.point
        if point.carrying and point.carrying not in {type(value).__name__ for value in values}:
            return False
        prepared, self.prepared = self.prepared, False
        return prepared or not point.given

    def prepare(self, _values: tuple[object, ...]) -> None:
        self.prepared = True


def holder(target: str) -> tuple[Any, str]:
    """Whose attribute a target is, and its name.

    Raises:
        AttributeError: If it has gone: the table has to be adapted.
        TypeError: If it is no function any more.
    """
    module, _, path = target.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in outer:
        owner = getattr(owner, each)
    if not callable(getattr(owner, name)):
        raise TypeError(f"{target} is no function")
    return owner, name


def wrap(target: str, when: str, do: Callable[[tuple[object, ...]], None]) -> None:
    """Do something before or after every call of a function."""
    owner, name = holder(target)
    inner = getattr(owner, name)

    if inspect.iscoroutinefunction(inner):

        @functools.wraps(inner)
        async def waiting(*values: Any, **named: Any) -> Any:
            if when == BEFORE:
                do(values)
            result = await inner(*values, **named)
            if when == AFTER:
                do(values)
            return result

        setattr(owner, name, waiting)
        return

    @functools.wraps(inner)
    def calling(*values: Any, **named: Any) -> Any:
        if when == BEFORE:
            do(values)
        result = inner(*values, **named)
        if when == AFTER:
            do(values)
        return result

    setattr(owner, name, calling)


def main() -> None:
    """Wrap the point that the environment names, and run the daemon."""
    name = os.environ[POINT]
    point = POINTS[name]
    fuse = _Fuse(name, point, int(os.environ[PASSAGE]), Path(os.environ[MARK]))
    if point.given:
        wrap(point.given, AFTER, fuse.prepare)
    wrap(point.target, point.when, fuse.pass_by)
    from wsclean_workerd.app import main as run  # noqa: PLC0415 - after the wrapping

    run()


if __name__ == "__main__":
    main()
