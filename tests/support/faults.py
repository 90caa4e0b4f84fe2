"""A runtime with scripted faults, for what a real one cannot be made to do on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.events import Signal
from wsclean_workerd.model import Job, JobId, Reason, RuntimeCondition, User
from wsclean_workerd.runtime.native import NativeRuntime

AWAY = RuntimeUnavailable("ENGINE_UNREACHABLE", "the engine is away")


@dataclass
class FaultyRuntime:
    """Runs real processes, but for the faults that a test has put into its script.

    Attributes:
        real: What runs them.
        launches: What happens to the next launches: an error to raise before it took
            effect, "late" to raise one although it takes effect, "never" to do nothing,
            "slow" to raise one when it is released, or "hand over".
        released: Set to release slow launches.
        signals: Errors to raise by the next signals.
        searches: Errors to raise by the next searches.
        searched: The jobs whose processes were searched for.
        ensures: Errors to raise by the next calls to make it ready.
        breaks: Set to lose the container.
        ensured: How often it was made ready.
    """

    real: NativeRuntime
    launches: list[Exception | str] = field(default_factory=list)
    signals: list[Exception] = field(default_factory=list)
    searches: list[Exception] = field(default_factory=list)
    searched: list[JobId] = field(default_factory=list)
    ensures: list[Exception] = field(default_factory=list)
    breaks: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    ensured: int = 0
    late: list[Job] = field(default_factory=list)
    kind: str = "faulty"

    def environment(self, user: User) -> Mapping[str, str]:
        return self.real.environment(user)

    async def ensure(self, *, busy: bool) -> RuntimeCondition:
        if self.ensures:
            raise self.ensures.pop(0)
        self.ensured += 1
        await self.real.ensure(busy=busy)
        return RuntimeCondition(ready=True, container=f"container-{self.ensured}")

    async def lost(self) -> None:
        await self.breaks.wait()
        self.breaks.clear()

    async def launch(self, job: Job) -> None:
        fault = self.launches.pop(0) if self.launches else "hand over"
        if isinstance(fault, Exception):
            raise fault
        if fault == "never":
            return
        if fault == "slow":
            # The engine refuses it when nobody asks any more.
            await self.released.wait()
            raise RuntimeUnavailable("ENGINE_SILENT", "the engine did not answer")
        if fault == "late":
            # The engine did it, and only its answer got lost.
            self.late.append(job)
            raise RuntimeUnavailable("ENGINE_SILENT", "the engine did not answer")
        await self.real.launch(job)

    async def launch_late(self) -> None:
        """Let the launches take effect that were answered with an error."""
        for job in self.late:
            await self.real.launch(job)
        self.late.clear()

    def release(self, job: Job, *, reusable: bool) -> None:
        self.real.release(job, reusable=reusable)

    def suspect(self) -> None:
        self.real.suspect()

    async def start_aside(self, command: list[str], user: User) -> None:
        await self.real.start_aside(command, user)

    async def signal(self, job: Job, signal: Signal) -> None:
        if self.signals:
            raise self.signals.pop(0)
        await self.real.signal(job, signal)

    async def search(self, job: Job) -> bool:
        self.searched.append(job.id)
        if self.searches:
            raise self.searches.pop(0)
        return await self.real.search(job)

    async def explain_loss(self, container: str | None) -> Reason:
        return Reason("CONTAINER_DIED", f"{container} died")

    async def remove(self) -> None:
        await self.real.remove()

    async def close(self) -> None:
        await self.real.close()
