"""Containers that have given up their name and are removed when that is possible.

One whose storage hangs cannot be stopped: the engine tries for long and gives up. It
is tried again, at growing intervals, until it is gone; nothing waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.runtime.container import LABEL_INSTANCE
from wsclean_workerd.runtime.engine import EngineRefused
from wsclean_workerd.tasks import complain, pauses

if TYPE_CHECKING:
    from wsclean_workerd.runtime.engine import Engine

log = logging.getLogger(__name__)

_WORD = "-retired-"


def retired_name(name: str, container: str) -> str:
    """The name that a container gets when another takes its own."""
    return f"{name}{_WORD}{container[:12]}"


class RetiredContainers:
    """Removes what has been retired, by this daemon and by those before it.

    Args:
        engine: The engine.
        instance: The label by which this daemon knows its own.
    """

    def __init__(self, engine: Engine, instance: str) -> None:
        self._engine = engine
        self._instance = instance
        self._found = False
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # One after the other: each attempt may keep a thread for many seconds.
        self._one = asyncio.Lock()

    async def find(self, *, apart_from: str | None) -> None:
        """Remove what earlier daemons could not remove; once.

        Raises:
            RuntimeUnavailable: If the engine does not tell.
            EngineRefused: If it answers with an error.
        """
        if self._found:
            return
        filters = {"label": f"{LABEL_INSTANCE}={self._instance}"}
        found = await self._engine.call(lambda it: it.containers(all=True, filters=filters))
        for each in found:
            # By name as well: one that was renamed by hand may have jobs in it.
            retired = any(_WORD in name for name in each["Names"] or [])
            if retired and each["Id"] != apart_from:
                self.remove(each["Id"])
        self._found = True

    def remove(self, container: str) -> None:
        """Remove a container in the background, sooner or later."""
        if container not in self._tasks:
            task = asyncio.create_task(self._remove(container), name=f"remove {container[:12]}")
            self._tasks[container] = task
            task.add_done_callback(lambda _: self._tasks.pop(container))
            task.add_done_callback(complain)

    def close(self) -> None:
        """Leave the rest to the next daemon."""
        for task in self._tasks.values():
            task.cancel()

    async def _remove(self, container: str) -> None:
        for pause in pauses():
            try:
                async with self._one:
                    await self._engine.call(
                        lambda it: it.remove_container(container, force=True, v=True)
                    )
            except EngineRefused as error:
                if error.not_found:
                    return
                self._report(container, error)
            except RuntimeUnavailable as error:
                self._report(container, error)
            else:
                log.info("removed the retired container %s", container[:12])
                return
            await asyncio.sleep(pause)

    @staticmethod
    def _report(container: str, error: Exception) -> None:
        log.warning("cannot remove the retired container %s yet: %s", container[:12], error)
