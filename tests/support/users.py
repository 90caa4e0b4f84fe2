"""Other users of the host: processes that are theirs, in which parts of tests are run."""

from __future__ import annotations

import codecs
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from support.daemon import DEADLINE
from wsclean_workerd.model import User

T = TypeVar("T")

USERS = 4900
"""The group that may connect."""

STAFF, RADIO = 4901, 4902
ALICE = User(uid=4711, gid=4711, groups=(USERS, RADIO))
BOB = User(uid=4712, gid=4712, groups=(USERS,))
EVE = User(uid=4713, gid=4713, groups=(USERS, STAFF))


class Process:
    """A process of a user, which does one thing after the other.

    Args:
        process: It, in `serve`.
        thread: Talks to it.
    """

    def __init__(self, process: subprocess.Popen[bytes], thread: ThreadPoolExecutor) -> None:
        self._process = process
        self._thread = thread

    def begin(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Have a function of `support.acts` run there."""
        return self._thread.submit(self._ask, function, args)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function of `support.acts` there; return or raise what it does."""
        return self.begin(function, *args).result(DEADLINE)

    def _ask(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((function, args), self._process.stdin)
        self._process.stdin.flush()
        error, value = pickle.load(self._process.stdout)  # noqa: S301 - the test's own
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]


@contextmanager
def process_of(user: User) -> Iterator[Process]:
    """A process of a user, with his groups and nothing of root's."""
    command = [sys.executable, "-c", f"import support.users as u; u.serve(u.{user!r})"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (
        ThreadPoolExecutor(1) as thread,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as process,
    ):
        try:
            yield Process(process, thread)
        finally:
            process.kill()


def serve(user: User) -> None:
    """Turn into a user and do what standard input says."""
    # Nothing else gets to the one who reads the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    become(user)
    while True:
        try:
            function, args = pickle.load(sys.stdin.buffer)  # noqa: S301 - the test's own
        except EOFError:
            return
        answer: tuple[Exception | None, Any]
        try:
            answer = (None, function(*args))
        except Exception as error:  # noqa: BLE001 - raised there
            answer = (error, None)
        pickle.dump(answer, answers)
        answers.flush()


def become(user: User) -> None:
    """Turn this process into one of a user, who may not be able to read Python's own files."""
    import wsclean_client.transport  # noqa: F401, PLC0415

    for encoding in ("ascii", "idna", "latin-1"):
        codecs.lookup(encoding)
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def daemon_of(user: User) -> tuple[str, ...]:
    """The program that is a daemon of a user; see `DaemonProcess.program`."""
    code = f"import support.users as u, wsclean_workerd.app as app;u.become(u.{user!r}); app.main()"
    return (sys.executable, "-c", code)
