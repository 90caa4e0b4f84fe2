"""Why the processes of a job have gone: what has become of the container they were in."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.model import Reason
from wsclean_workerd.runtime.containers import Containers
from wsclean_workerd.runtime.engine import EngineRefused
from wsclean_workerd.tasks import pauses

if TYPE_CHECKING:
    from wsclean_workerd.runtime.engine import Engine

# The jobs notice the death of the container before the engine does, and the kernel may need
# as long to end the rest of it after its main process.
_DEATH_SECONDS = 3
# An engine that is restarted takes its containers with it, and then can say so.
_RETURN_SECONDS = 8.0


class Losses:
    """Knows how containers have ended, from the engine or from an earlier look.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._containers = Containers(engine)
        # For good, since a job may ask late; they are few.
        self._ends: dict[str, Reason] = {}

    def note(self, found: Any) -> None:
        """Remember how a container has ended that is about to be removed."""
        self._ends.setdefault(found["Id"], _died(found))

    async def explain(self, container: str) -> Reason:
        """Say what has become of a container all of whose processes seem to be gone."""
        deadline = time.monotonic() + _RETURN_SECONDS
        for pause in pauses():
            try:
                return self._ends.get(container) or await self._ask(container)
            except EngineRefused as error:
                # The daemon may have removed it itself meanwhile.
                return self._ends.get(container) or _refused(container, error)
            except RuntimeUnavailable as error:
                if time.monotonic() + pause > deadline:
                    return Reason(
                        "CONTAINER_UNKNOWN",
                        "its processes ended and left no exit status, and the engine that could "
                        f"say why is away: {error}",
                    )
            await asyncio.sleep(pause)
        raise AssertionError("the pauses have no end")

    async def init_is_gone(self, container: str) -> bool:
        """Whether a container that the engine says runs has lost its main process.

        The kernel lets that end only after all others, and one may wait for storage.

        Raises:
            RuntimeUnavailable: If the engine does not tell.
            EngineRefused: If it answers with an error.
        """
        found = await self._containers.inspect(container)
        if found is None or not found["State"]["Running"]:
            return False
        listed = await self._engine.call(lambda it: it.top(container, "-eo pid,stat"))
        init = str(found["State"]["Pid"])
        if any(pid == init and stat[0] not in "ZX" for pid, stat in listed["Processes"]):
            return False
        # One that simply ends is about to be known to have ended.
        return not await self._engine.until_stopped(container, at_most=_DEATH_SECONDS)

    async def is_over(self, container: str) -> bool:
        """Whether nothing goes on in a container in which nothing could be started.

        Raises:
            RuntimeUnavailable: If the engine does not tell.
        """
        try:
            if await self._engine.until_stopped(container, at_most=_DEATH_SECONDS):
                return True
            # With the main process the kernel has sent KILL to all others.
            return await self.init_is_gone(container)
        except EngineRefused as error:
            return error.not_found

    async def _ask(self, container: str) -> Reason:
        await self._engine.until_stopped(container, at_most=_DEATH_SECONDS)
        # An engine that is silent has not said that it has stopped either.
        found = await self._engine.call(lambda it: it.inspect_container(container))
        if not found["State"]["Running"]:
            return _died(found)
        return Reason(
            "PROCESSES_GONE",
            "its processes ended and left no exit status: something killed the wrapper, or the "
            "state disk was full",
        )


def _refused(container: str, error: EngineRefused) -> Reason:
    short = container[:12]
    if error.not_found:
        return Reason("CONTAINER_REMOVED", f"its container {short} was removed")
    return Reason("CONTAINER_UNKNOWN", f"its container {short} is in doubt: {error}")


def _died(found: Any) -> Reason:
    # The engine does not tell whether that was the main process or one before.
    memory = ", after a process of it was killed because memory ran out"
    state = found["State"]
    return Reason(
        "CONTAINER_DIED",
        f"its container {found['Id'][:12]} ended with exit status {state.get('ExitCode')}"
        + (memory if state.get("OOMKilled") else ""),
    )
