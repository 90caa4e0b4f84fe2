"""What the engine says of containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsclean_workerd.runtime.engine import EngineRefused

if TYPE_CHECKING:
    from wsclean_workerd.runtime.engine import Engine


@dataclass(frozen=True, slots=True)
class Containers:
    """The containers of an engine.

    Args:
        engine: The engine.
    """

    engine: Engine

    async def inspect(self, container: str) -> Any:
        """What the engine says of a container by name or id, None if there is no such one."""
        try:
            return await self.engine.call(lambda client: client.inspect_container(container))
        except EngineRefused as error:
            if error.not_found:
                return None
            raise

    async def runs(self, container: str | None) -> bool:
        """Whether there is such a container, and it runs."""
        found = None if container is None else await self.inspect(container)
        return found is not None and found["State"]["Running"] is True
