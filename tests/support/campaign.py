"""The crash campaign: many callers, and a daemon that is killed again and again.

Eight callers submit jobs of all kinds, follow and cancel them, while the daemon is killed at every
point of `crash_points` and at random moments, and started again each time. In the end everything
that was asked for, acknowledged, run and told is compared; see `account`.

It takes part in the tests with 100 random kills. For a longer one, or another one:

    CAMPAIGN_KILLS=1000 CAMPAIGN_SEED=7 make test ARGS=tests/e2e/test_crash_campaign.py

The seed fixes the jobs and the choice of moments. When these fall, and so what they hit, is up to
the machine.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from support import crash_points
from support.account import Account
from support.callers import JOB_SECONDS, Caller
from support.campaign_jobs import (
    NOISE_SIZE,
    TOKEN,
    is_planned,
    lay_out,
    own_words,
    processes_with,
)
from support.crash_points import CONTAINER_POINTS, JOB_POINTS, POINTS, Point
from support.daemon import DEADLINE
from support.docker_daemon import DockerDaemon
from wsclean_client import JobInfo, WSCleanClient
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1.worker_pb2_grpc import WorkerServiceStub

CALLERS = 8
KILLS_FOR_A_ROUND = 34
"""After so many random kills each point has its turn again."""

_DRIVER = (sys.executable, "-P", crash_points.__file__)
# Every so often the daemon dies before it serves; otherwise it lives for a while.
_EARLY_SHARE = 0.25
_EARLY_SECONDS = 0.6
_LIFE_SECONDS = 0.8
_SENT_AGAIN = 50
_LOG_TAIL = 2000


@dataclass
class Campaign:
    """One campaign.

    Args:
        daemon: The daemon, not started.
        seed: Fixes the choices.
        kills: How often it is killed at random moments.
    """

    daemon: DockerDaemon
    seed: int
    kills: int
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    missed: list[str] = field(default_factory=list)
    passed: int = 0
    struck: int = 0
    early: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - no secrets
        self._noise = self._chance.randbytes(NOISE_SIZE)
        self._mark = self.daemon.folder / "mark"
        self._program = self.daemon.program

    def run(self) -> Account:
        """Carry it out, and compare."""
        began = time.monotonic()
        lay_out(self.daemon.data, self._noise)
        self._mark.touch()
        self._crash_at_all(CONTAINER_POINTS)
        # Callers need somebody there the first time.
        self.daemon.start()
        container = self.daemon.container()
        callers = [
            Caller(f"c{n}", self.daemon.socket, self.daemon.data, self.token, str(self.seed))
            for n in range(CALLERS)
        ]
        with _at_work(callers):
            self._kill(callers)
            self.daemon.start()
        self._send_some_again(callers)
        listed, orphans = self._settle()
        if self.daemon.container() != container:
            self.missed.append("the container is another one than in the beginning")
        return Account(
            headline=(
                f"crash campaign, seed {self.seed}: killed {self.struck} times at random moments "
                f"({self.early} of them while starting) and {self.passed} times at "
                f"{len(POINTS)} points, in {time.monotonic() - began:.0f} s"
            ),
            records=[record for caller in callers for record in caller.records],
            listed=listed,
            said=own_words((self.daemon.data / "log").read_text(encoding="ascii").splitlines()),
            noise=self._noise,
            orphans=orphans,
            failures=[
                *self.missed,
                *(f"caller {each.name} {each.failure}" for each in callers if each.failure),
            ],
        )

    # -- kills -------------------------------------------------------------------

    def _kill(self, callers: Iterable[Caller]) -> None:
        self.daemon.kill()
        for done in range(self.kills):
            if done % KILLS_FOR_A_ROUND == 0:
                self._crash_at_all(JOB_POINTS)
            if self.missed or not all(each.is_alive() for each in callers):
                # It has failed: more of it would only take longer.
                return
            self._crash_at_random()

    def _crash_at_random(self) -> None:
        self.struck += 1
        self.daemon.spawn()
        if self._chance.random() < _EARLY_SHARE:
            self.early += 1
            time.sleep(self._chance.uniform(0, _EARLY_SECONDS))
        else:
            self.daemon.await_health()
            time.sleep(self._chance.uniform(0, _LIFE_SECONDS))
        self.daemon.kill()

    def _crash_at_all(self, points: Mapping[str, Point]) -> None:
        for name, point in points.items():
            if self.missed:
                return
            self._crash_at(name, self._chance.randint(1, point.most))

    def _crash_at(self, name: str, passage: int) -> None:
        """Let the daemon kill itself; being killed by nobody else is the proof that it did."""
        self.daemon.program = _DRIVER
        self.daemon.environment = {
            crash_points.POINT: name,
            crash_points.PASSAGE: str(passage),
            crash_points.MARK: str(self._mark),
        }
        process = self.daemon.spawn()
        self.daemon.program, self.daemon.environment = self._program, {}
        try:
            status = process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.missed.append(f"passage {passage} of the point {name!r} was never reached")
            self.daemon.kill()
            return
        self.daemon.process = None
        last = self._mark.read_text(encoding="utf-8").splitlines()[-1:]
        if status != -signal.SIGKILL or last != [name]:
            said = self.daemon.log[-_LOG_TAIL:]
            self.missed.append(f"instead of dying at {name!r} it ended with {status}: {said}")
            return
        self.passed += 1

    # -- the end -----------------------------------------------------------------

    def _send_some_again(self, callers: Iterable[Caller]) -> None:
        known = [record for caller in callers for record in caller.records if record.ids]
        with WSCleanClient(self.daemon.socket) as client:
            for record in self._chance.sample(known, min(_SENT_AGAIN, len(known))):
                job = client.submit(
                    record.plan.command,
                    cwd=self.daemon.data,
                    env={TOKEN: self.token},
                    request_id=record.plan.key,
                )
                record.ids.add(job.id)

    def _settle(self) -> tuple[list[JobInfo], list[str]]:
        """Wait until nothing lingers; return all jobs, and what is left of them."""
        with (
            WSCleanClient(self.daemon.socket) as client,
            self.daemon.channel() as channel,
        ):
            self._await_quiet(client, WorkerServiceStub(channel))
            orphans = [f"{pid}: {words}" for pid, words in processes_with(self.token).items()]
            status = client.status()
            if status.slots_used:
                orphans.append(f"{status.slots_used} slots are taken")
            orphans += [f"{n} jobs are {state}" for state, n in status.jobs.items() if n]
            return [job for job in client.list() if is_planned(job)], orphans

    def _await_quiet(self, client: WSCleanClient, stub: WorkerServiceStub) -> None:
        """Wait until no job is live, told by the daemon and not by asking again and again.

        A job that waits for this shows that the news come from now on.
        """
        gate = self.daemon.data / "gate"
        os.mkfifo(gate)
        gate.chmod(0o666)
        opened = os.open(gate, os.O_RDWR)
        try:
            news = stub.WatchJobs(pb.WatchJobsRequest(), timeout=DEADLINE)
            last = client.submit(["sh", "-c", "read -r line <gate"], cwd=self.daemon.data)
            changes = (message.job for message in news)
            while next(changes).id != last.id:
                pass
            live = {job.id for job in client.list() if not job.ended or job.lingering}
            os.write(opened, b"\n")
            while live:
                job = next(changes)
                if job.HasField("end_time") and not job.lingering:
                    live.discard(job.id)
            news.cancel()
        except grpc.RpcError as error:
            self.missed.append(f"jobs stay live: {error.details()}")
        finally:
            os.close(opened)


@contextmanager
def _at_work(callers: Iterable[Caller]) -> Iterator[None]:
    """Have callers at work; wait in the end until all they asked for is done."""
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        for caller in callers:
            caller.stop()
        deadline = time.monotonic() + JOB_SECONDS
        for caller in callers:
            caller.finish(deadline)
