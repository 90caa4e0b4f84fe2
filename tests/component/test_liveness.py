"""A daemon that is only there does not count as alive: real ones, broken while they run."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.daemon import DEADLINE, DaemonProcess, daemon_folder, until
from support.jobs import make_job
from support.wedges import arm_by_path, wedge
from wsclean_client import JobHandle, WSCleanClient
from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.keeper import RuntimeKeeper
from wsclean_workerd.liveness import Liveness
from wsclean_workerd.model import Job, JobId, JobState, RuntimeCondition

INTERVAL = 0.1
"""Seconds after which a daemon that lives says so again."""

SILENCE = 2.5
"""Seconds without a word after which none will come: more than a proof may take."""


class Manager:
    """Systemd, as far as a daemon knows it."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self.environment = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": str(round(3 * INTERVAL * 1e6)),
        }

    def await_life(self) -> None:
        """Wait for a sign of life that comes from now on."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while self._socket.recv(4096):
                pass
        self._socket.settimeout(DEADLINE)
        while self._socket.recv(4096) != b"WATCHDOG=1":
            pass

    def is_silent(self) -> bool:
        """Whether there is no sign of life, once those that were on their way have come."""
        self._socket.settimeout(SILENCE)
        with suppress(TimeoutError):
            # No life says so often in so short a time.
            for _ in range(round(2 * SILENCE / INTERVAL)):
                while self._socket.recv(4096) != b"WATCHDOG=1":
                    pass
            return False
        return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    with daemon_folder() as folder:
        manager = Manager(folder)
        yield manager
        manager.close()


@pytest.fixture
def armed(idle_daemon: DaemonProcess, manager: Manager) -> Iterator[DaemonProcess]:
    """A daemon that can be broken, and says to the manager that it lives."""
    idle_daemon.environment = {**manager.environment, **arm_by_path(idle_daemon.folder / "wedges")}
    idle_daemon.start()
    yield idle_daemon
    idle_daemon.kill()


def begin_two(daemon: DaemonProcess, client: WSCleanClient) -> list[JobHandle]:
    """Take all slots; the jobs read the gate."""
    os.mkfifo(daemon.data / "gate")
    return [daemon.begin(client, f"read line <{daemon.data}/gate") for _ in range(2)]


def test_one_that_works_says_so_with_jobs_and_without(
    armed: DaemonProcess, manager: Manager
) -> None:
    manager.await_life()
    with armed.client() as client:
        jobs = begin_two(armed, client)
        waiting = client.submit(["sh", "-c", "true"], cwd=armed.data)
        for _ in range(5):
            manager.await_life()
        assert "sign of life" not in armed.log
        assert "is to be done" not in armed.log
        for each in (*jobs, waiting):
            each.cancel()
            each.wait(DEADLINE)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("loop", ""),
        ("state-disk", "no sign of life from the state disk's threads for 5 s"),
        ("journal", "no sign of life from the journal for 5 s"),
        ("schedule", "job 3 waits although it could start"),
        ("instructions", "job 3 is STARTING, and nobody attends to it"),
        ("on-disk", "job 3 is STARTING, which is not written down"),
    ],
)
def test_one_whose_parts_do_nothing_is_silent_and_says_which_in_its_log(
    armed: DaemonProcess, manager: Manager, name: str, says: str
) -> None:
    with armed.client() as client:
        jobs = begin_two(armed, client)
        waiting = client.submit(["sh", "-c", "true"], cwd=armed.data)
        manager.await_life()
        wedge(armed.folder / "wedges", name, until)
        if name == "loop":
            assert manager.is_silent()
        # A slot is free for what waits. With some wedges nobody is told of this end.
        (armed.data / "gate").write_text("go\n")
        if name != "loop":
            until(lambda: armed.log, lambda log: says in log)
            assert manager.is_silent()
    # Whoever starts it anew finds everything as it should be.
    armed.kill()
    armed.start()
    manager.await_life()
    with armed.client() as client:
        assert client.job(waiting.id).result().returncode == 0
        for each in jobs:
            client.job(each.id).cancel()
            client.job(each.id).wait(DEADLINE)


# -- a state disk that takes nothing, and other conditions -----------------------


@dataclass
class Parts:
    """The parts of a daemon, as they say they are."""

    failure: str | None = None
    waiting: JobId | None = None
    slots: list[tuple[Job, Job | None]] = field(default_factory=list)
    overdue: str | None = None

    async def prove_life(self) -> None:
        await asyncio.sleep(0)

    def startable(self) -> JobId | None:
        return self.waiting

    def on_slots(self) -> list[tuple[Job, Job | None]]:
        return self.slots

    def attends(self, job: Job) -> bool:
        del job
        return True

    async def prove(self) -> None:
        liveness = Liveness(
            journal=self, supervisor=self, attendant=self, keeper=self, patience=0, pause=0.01
        )
        async with asyncio.timeout(0.2):
            await liveness.prove()


@pytest.mark.parametrize(
    "parts",
    [
        Parts(waiting=JobId(1)),
        Parts(slots=[(make_job(), None)]),
        Parts(slots=[(make_job(), make_job(state=JobState.STARTING))]),
    ],
)
async def test_what_waits_is_overdue_unless_it_waits_for_a_disk_that_is_full(parts: Parts) -> None:
    with pytest.raises(TimeoutError):
        await parts.prove()
    parts.failure = "the disk is full"
    await parts.prove()


async def test_what_is_only_just_under_way_is_not_overdue() -> None:
    parts = Parts(waiting=JobId(1))
    numbers = iter(range(2, 1000))

    def next_one() -> JobId:
        return JobId(next(numbers))

    # At each look something waits, but never the same.
    parts.startable = next_one  # type: ignore[method-assign]
    await parts.prove()


async def test_a_keeper_that_has_ended_or_does_not_come_back_is_overdue() -> None:
    class Runtime:
        """One that can be made ready never, or not at all."""

        def __init__(self, error: BaseException | None) -> None:
            self.error = error
            self.asked = asyncio.Event()

        async def ensure(self, *, busy: bool) -> RuntimeCondition:
            del busy
            self.asked.set()
            if self.error is None:
                await asyncio.Event().wait()
            raise self.error  # type: ignore[misc]

    runtimes = [
        Runtime(None),
        Runtime(None),
        Runtime(RuntimeUnavailable("AWAY", "the engine is away")),
    ]
    hanging, patient, failing = (
        RuntimeKeeper(
            runtime,  # type: ignore[arg-type]
            busy=lambda: False,
            lost=lambda: None,
            changed=lambda: None,
            longest=longest,
        )
        for runtime, longest in zip(runtimes, (0.0, 60.0, 0.0), strict=True)
    )
    tasks = [asyncio.create_task(each.run()) for each in (hanging, patient, failing)]
    async with asyncio.timeout(DEADLINE):
        for runtime in runtimes:
            await runtime.asked.wait()
    assert hanging.overdue == "the runtime has been made ready for more than 0 s"
    # An engine that is away is asked again and again, and that is all that can be done.
    assert (patient.overdue, failing.overdue) == (None, None)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert failing.overdue == "nobody keeps the runtime ready any more"
