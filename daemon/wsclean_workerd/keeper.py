"""Keeps the runtime ready, and knows whether it is."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.model import Reason, RuntimeCondition

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsclean_workerd.runtime import Runtime

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
# A runtime that was ready for so long is not one that fails again and again.
_STEADY_SECONDS = 30.0


class RuntimeKeeper:
    """Makes the runtime ready, again whenever it is lost, at a pace that harms nobody.

    Args:
        runtime: What to keep ready.
        busy: Returns whether jobs run in it.
        lost: Called whenever it was lost, and with it what had been handed to it.
        changed: Called whenever the condition has changed.
        longest: Seconds after which an attempt to make it ready should be over.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        busy: Callable[[], bool],
        lost: Callable[[], None],
        changed: Callable[[], None],
        longest: float,
    ) -> None:
        self._runtime = runtime
        self._busy = busy
        self._lost = lost
        self._changed = changed
        self._failed = asyncio.Event()
        self._pause = 0.0
        self._longest = longest
        self._tried: float | None = None
        self._ended = False
        self.condition = RuntimeCondition(
            ready=False,
            reason=Reason("STARTING", "the runtime has not been looked at yet"),
        )

    def failed(self, error: RuntimeUnavailable) -> None:
        """Take note that the runtime turned out not to be ready."""
        self._set(_not_ready(error))
        self._failed.set()

    @property
    def overdue(self) -> str | None:
        """What it should have done long ago, or None."""
        if self._ended:
            return "nobody keeps the runtime ready any more"
        now = asyncio.get_running_loop().time()
        if self._tried is not None and now - self._tried > self._longest:
            return f"the runtime has been made ready for more than {self._longest:g} s"
        return None

    async def run(self) -> None:
        """Keep the runtime ready until cancelled."""
        try:
            await self._run()
        finally:
            self._ended = True

    async def _run(self) -> None:
        while True:
            self._failed.clear()
            try:
                condition = await self._ensure()
            except RuntimeUnavailable as error:
                self._set(_not_ready(error))
            except Exception:
                # The daemon has to stay up and say what is wrong, whatever it is.
                log.exception("the runtime failed in an unforeseen way")
                problem = RuntimeUnavailable("RUNTIME_DEFECT", "unforeseen: see the log")
                self._set(_not_ready(problem))
            else:
                await self._ready_until_lost(condition)
            await self._wait()

    async def _ensure(self) -> RuntimeCondition:
        self._tried = asyncio.get_running_loop().time()
        try:
            return await self._runtime.ensure(busy=self._busy())
        finally:
            self._tried = None

    async def _ready_until_lost(self, condition: RuntimeCondition) -> None:
        if self._failed.is_set():
            return
        self._set(condition)
        since = asyncio.get_running_loop().time()
        waits = {
            asyncio.create_task(self._runtime.lost(), name="runtime lost"),
            asyncio.create_task(self._failed.wait(), name="runtime failed"),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._lost()
        if asyncio.get_running_loop().time() - since > _STEADY_SECONDS:
            self._pause = 0.0

    async def _wait(self) -> None:
        await asyncio.sleep(self._pause)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    def _set(self, condition: RuntimeCondition) -> None:
        if condition == self.condition:
            return
        self.condition = condition
        reason = condition.reason
        if condition.ready and reason is None:
            log.info("the runtime is ready")
        elif reason is not None:
            log.warning("the runtime is %s: %s", _word(condition), reason.message)
        self._changed()


def _not_ready(error: RuntimeUnavailable) -> RuntimeCondition:
    return RuntimeCondition(ready=False, reason=Reason(error.code, str(error)))


def _word(condition: RuntimeCondition) -> str:
    return "ready" if condition.ready else "not ready"
