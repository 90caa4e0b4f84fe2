"""Looks that hang, cannot begin or come too late, with a scripted runtime and real FIFOs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from support.daemon import DEADLINE
from wsclean_workerd.config import Config
from wsclean_workerd.diagnosis import Seen, Verdict
from wsclean_workerd.disk import Disk
from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.examination import Examiner
from wsclean_workerd.looks import Looks
from wsclean_workerd.model import RuntimeCondition, User
from wsclean_workerd.runtime import Runtime
from wsclean_workerd.spool import Spool
from wsclean_workerd.storage import Storage

SHORT = 0.5


USER = User(uid=os.geteuid(), gid=os.getegid())


class ScriptedRuntime:
    """Starts nothing: what the script would say is said here.

    Attributes:
        say: What is said at once.
        hang: Whether the script then hangs.
        begun: The commands that were started.
        held: The FIFOs of scripts that hang.
        users: Whom each of them was for.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.say = b"up\nend\n"
        self.hang = False
        self.trouble: Exception | None = None
        self.begun: list[list[str]] = []
        self.held: list[int] = []
        self.users: list[User] = []

    async def start_aside(self, command: list[str], user: User) -> None:
        self.users.append(user)
        self.begun.append(command)
        if self.trouble is not None:
            raise self.trouble
        folder = self._spool.runner_folder / Path(command[2]).name
        answers = os.open(folder / "answers", os.O_WRONLY)
        os.write(answers, self.say)
        if self.hang:
            self.held.append(answers)
        else:
            os.close(answers)

    def release(self) -> None:
        while self.held:
            os.close(self.held.pop())


@pytest.fixture
def disk() -> Iterator[Disk]:
    with ThreadPoolExecutor(2) as threads:
        yield Disk(threads)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", "/inside")
    spool.prepare()
    return spool


@pytest.fixture
def runtime(spool: Spool) -> Iterator[ScriptedRuntime]:
    runtime = ScriptedRuntime(spool)
    yield runtime
    runtime.release()


@pytest.fixture
async def looks(spool: Spool, disk: Disk, runtime: ScriptedRuntime) -> AsyncIterator[Looks]:
    looks = Looks(spool, disk, cast("Runtime", runtime))
    yield looks
    looks.close()


def command(name: str) -> list[str]:
    return ["/bin/sh", "look.sh", f"/inside/runner/{name}"]


async def test_what_is_said_is_seen(looks: Looks, runtime: ScriptedRuntime, spool: Spool) -> None:
    runtime.say = b"up\nthere\nend\n"
    seen = await looks.look("/data", command, DEADLINE, USER)
    assert seen == Seen(frozenset({"up", "there", "end"}), complete=True)
    assert not list(spool.runner_folder.glob("look-*"))


async def test_a_look_that_hangs_is_not_repeated_until_it_has_ended(
    looks: Looks, runtime: ScriptedRuntime
) -> None:
    runtime.say, runtime.hang = b"up\n", True
    for _ in range(3):
        seen = await looks.look("/data", command, SHORT, USER)
        assert seen == Seen(frozenset({"up"}))
    assert len(runtime.begun) == 1
    # Another thing is looked at meanwhile.
    await looks.look("/stage", command, SHORT, USER)
    assert len(runtime.begun) == 2
    runtime.hang, runtime.say = False, b"up\nend\n"
    stuck = looks._stuck["/data"]
    runtime.release()
    async with asyncio.timeout(DEADLINE):
        await stuck.ended.wait()
    assert (await looks.look("/data", command, DEADLINE, USER)).complete
    assert len(runtime.begun) == 3


async def test_what_cannot_be_started_is_told(looks: Looks, runtime: ScriptedRuntime) -> None:
    runtime.trouble = RuntimeUnavailable("NO_CONTAINER", "there is no container")
    assert await looks.look("/data", command, DEADLINE, USER) == Seen(
        trouble="there is no container"
    )


async def test_what_says_nothing_is_forgotten(looks: Looks, runtime: ScriptedRuntime) -> None:
    runtime.say, runtime.hang = b"", True
    assert await looks.look("/data", command, SHORT, USER) == Seen()
    assert await looks.look("/data", command, SHORT, USER) == Seen()
    assert len(runtime.begun) == 2


async def test_a_start_that_hangs_is_given_up(
    looks: Looks, runtime: ScriptedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(command: list[str], user: User) -> None:
        del command, user
        await asyncio.Event().wait()

    monkeypatch.setattr(runtime, "start_aside", never)
    async with asyncio.timeout(DEADLINE):
        assert await looks.look("/data", command, SHORT, USER) == Seen()


@pytest.fixture
async def examiner(
    tmp_path: Path, spool: Spool, disk: Disk, runtime: ScriptedRuntime
) -> AsyncIterator[Callable[..., Examiner]]:
    made: list[Examiner] = []

    def make(storage: Storage | None = None, **config: Any) -> Examiner:
        settings = Config.model_validate(
            {
                "runtime": "native",
                "state_dir": str(tmp_path),
                "jobs": {"run_as": f"{os.geteuid()}:{os.getegid()}", "programs": ["sh"]},
                "mounts": [{"host": "/stage"}],
                **config,
            }
        )
        examiner = Examiner(
            lambda: settings,
            runtime=cast("Runtime", runtime),
            spool=spool,
            disk=disk,
            storage=storage or Storage(settings.job_mounts, timeout=1, proof_age=1),
            condition=lambda: RuntimeCondition(ready=True),
            refusing=lambda: None,
        )
        made.append(examiner)
        return examiner

    yield make
    for each in made:
        await each.aclose()


async def test_whoever_asks_meanwhile_gets_the_same_examination(
    examiner: Callable[..., Examiner], runtime: ScriptedRuntime
) -> None:
    asked = examiner()
    first, second = await asyncio.gather(asked.examine(USER), asked.examine(USER))
    assert first is second
    assert len(runtime.begun) == 2
    assert await asked.examine(USER) is not first


@pytest.mark.parametrize(
    ("caller", "looks_as", "found"),
    [
        (User(uid=4711, gid=4711, groups=(42,)), User(uid=4711, gid=4711, groups=(42,)), "cannot"),
        # His jobs would be refused: somebody looks who may have less rights than others.
        (User(uid=0, gid=0), User(uid=65534, gid=65534, groups=(os.getegid(),)), "users who ask"),
    ],
)
async def test_mounts_are_looked_at_as_the_jobs_of_whoever_asks_would(
    examiner: Callable[..., Examiner],
    runtime: ScriptedRuntime,
    caller: User,
    looks_as: User,
    found: str,
) -> None:
    assert os.geteuid() == 0, "only root can run jobs as others: run the tests as root"
    runtime.say = b"up\nthere\nend\n"
    (*_, mount) = await examiner(jobs={"programs": ["sh"]}).examine(caller)
    assert found in mount.found
    assert looks_as in runtime.users


async def test_storage_that_is_known_to_hang_is_not_touched(
    examiner: Callable[..., Examiner], runtime: ScriptedRuntime
) -> None:
    storage = Storage(Config.model_validate(HUNG).job_mounts, timeout=1, proof_age=1)
    storage.watched("/stage")
    storage.asked("/stage", 0)
    assert storage.overdue("/stage", 2)
    (*_, mount) = await examiner(storage).examine(USER)
    assert (mount.name, mount.subject, mount.verdict) == ("mount", "/stage", Verdict.PROBLEM)
    assert [command[3] for command in runtime.begun] == ["programs"]


HUNG = {
    "runtime": "native",
    "mounts": [{"host": "/stage"}],
    "jobs": {"run_as": f"{os.geteuid()}:{os.getegid()}"},
}
