"""The callers of the crash campaign: each a thread with clients of its own."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from support.campaign_jobs import RUN_TIMEOUT, TOKEN, Plan, Record, make_last_plan, make_plan
from wsclean_client import DaemonNotReachable, JobHandle, JobState, WSCleanClient, WSCleanError

T = TypeVar("T")

JOB_SECONDS = 120.0
"""Within so many seconds every job has ended and every call is answered."""

# Less than a start of the daemon takes: callers see it, and have to repeat themselves.
_CONNECT_SECONDS = 0.2
_LARGEST_BATCH = 4


class Caller(threading.Thread):
    """Submits jobs, some at a time, and sees them through, until it is told to stop.

    Args:
        name: The beginning of the keys of its jobs.
        socket: The daemon's.
        folder: Where the jobs run, on the host.
        token: What marks all their processes.
        seed: Fixes the jobs.
    """

    def __init__(self, name: str, socket: Path, folder: Path, token: str, seed: str) -> None:
        super().__init__(name=name, daemon=True)
        self.records: list[Record] = []
        self.failure = ""
        self._folder = folder
        self._token = token
        self._chance = random.Random(f"{seed} {name}")  # noqa: S311 - no secrets
        self._stopping = threading.Event()
        self._client = WSCleanClient(socket, connect_timeout=_CONNECT_SECONDS)
        self._careless = WSCleanClient(socket, connect_timeout=0)
        self._pair = ThreadPoolExecutor(2, thread_name_prefix=name)

    def stop(self) -> None:
        """Submit nothing more; what was submitted is seen through."""
        self._stopping.set()

    def finish(self, deadline: float) -> None:
        """Wait until all is seen through, and end what is not by the deadline."""
        self.join(max(0.0, deadline - time.monotonic()))
        if self.is_alive():
            self.failure = self.failure or "had jobs that did not end"
        self._client.close()
        self._careless.close()
        self._pair.shutdown()
        self.join()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                size = self._chance.randint(1, _LARGEST_BATCH)
                self._work_off([make_plan(self._key(n), self._chance) for n in range(size)])
            self._work_off([make_last_plan(self._key())])
        except Exception:  # noqa: BLE001 - told in the account
            self.failure = self.failure or traceback.format_exc()

    # -- one job -----------------------------------------------------------------

    def _key(self, further: int = 0) -> str:
        return f"{self.name}-{len(self.records) + further}"

    def _work_off(self, plans: list[Plan]) -> None:
        batch = [self._submit(plan) for plan in plans]
        for record, job in batch:
            if job is not None:
                self._see_through(record, job)

    def _submit(self, plan: Plan) -> tuple[Record, JobHandle | None]:
        record = Record(plan)
        self.records.append(record)
        try:
            if plan.careless:
                # Careless with this call only.
                job = self._client.job(self._send(self._careless, plan).id)
            elif plan.twice == "at once":
                both = [self._pair.submit(self._send_until_answered, record) for _ in range(2)]
                record.ids.update(each.result(JOB_SECONDS + 1).id for each in both)
                job = both[0].result()
            else:
                job = self._send_until_answered(record)
        except DaemonNotReachable:
            if not plan.careless:
                record.trouble.append("the submission was never answered")
            return record, None
        except WSCleanError as error:
            record.trouble.append(f"the submission was answered by {error!r}")
            return record, None
        record.ids.add(job.id)
        return record, job

    def send_again(self, record: Record) -> None:
        """Submit a job once more."""
        record.ids.add(self._send_until_answered(record).id)

    def _send_until_answered(self, record: Record) -> JobHandle:
        return self._until_answered(record, lambda: self._send(self._client, record.plan))

    def _send(self, client: WSCleanClient, plan: Plan) -> JobHandle:
        return client.submit(
            plan.command,
            cwd=self._folder,
            env={TOKEN: self._token},
            timeout=RUN_TIMEOUT if plan.overdue else None,
            # By either of the names that it has.
            locks=[f"{(self._folder, '/data')[plan.first % 2]}/lock-{plan.lock}"] * bool(plan.lock),
            request_id=plan.key,
        )

    def _until_answered(self, record: Record, call: Callable[[], T]) -> T:
        give_up = time.monotonic() + JOB_SECONDS
        while True:
            try:
                return call()
            except DaemonNotReachable:
                # The client has paused already while it tried.
                record.repeated += 1
                if time.monotonic() > give_up:
                    raise

    def _see_through(self, record: Record, job: JobHandle) -> None:
        plan = record.plan
        try:
            if plan.cancel == "running":
                self._await_start(job)
            if plan.cancel:
                self._until_answered(record, job.cancel)
            if plan.follow:
                self._read(record, job, follow=True)
            record.info = job.wait(JOB_SECONDS)
            if not plan.follow:
                self._until_answered(record, lambda: self._read(record, job, follow=False))
            if plan.twice == "later":
                self.send_again(record)
        except WSCleanError as error:
            record.trouble.append(f"job {job.id}: {error!r}")

    def _await_start(self, job: JobHandle) -> None:
        for info in job.watch(JOB_SECONDS):
            if info.state is JobState.RUNNING:
                return

    def _read(self, record: Record, job: JobHandle, *, follow: bool) -> None:
        """Read on where an earlier try ended."""
        output = record.output
        pieces = job.logs(
            follow=follow,
            stdout_offset=len(output["stdout"]),
            stderr_offset=len(output["stderr"]),
        )
        for chunk in pieces:
            if chunk.offset != len(output[chunk.stream]):
                record.trouble.append(f"a piece of {chunk.stream} came at {chunk.offset}")
            output[chunk.stream] += chunk.data
