"""Other users of the host: processes that are theirs, in which parts of tests are run."""

from __future__ import annotations

import codecs
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from support.daemon import DEADLINE
from wsclean_workerd.model import User

T = TypeVar("T")


class Process:
    """A process of a user.

    Args:
        pool: Has that process alone.
    """

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function of a module there; return or raise what it does."""
        return self._pool.submit(function, *args).result(DEADLINE)


@contextmanager
def process_of(user: User) -> Iterator[Process]:
    """A process of a user, with his groups and nothing of root's."""
    # Not forked: it is to have nothing of this process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=become, initargs=(user,)) as pool:
        yield Process(pool)


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
    code = (
        "import support.users, wsclean_workerd.app as app;"
        "from wsclean_workerd.model import User;"
        f"support.users.become({user!r});"
        "app.main()"
    )
    return (sys.executable, "-c", code)
