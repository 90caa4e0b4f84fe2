"""What the daemon does with single containers, and what the engine says of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsclean_workerd.runtime import refusals
from wsclean_workerd.runtime.container import LABEL_INSTANCE
from wsclean_workerd.runtime.engine import EngineRefused

if TYPE_CHECKING:
    from wsclean_workerd.runtime.container import ContainerRecipe
    from wsclean_workerd.runtime.engine import Engine

log = logging.getLogger(__name__)


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

    async def make(self, recipe: ContainerRecipe) -> str:
        """Make and start a container; return its id.

        Raises:
            RuntimeUnavailable: If the engine does not answer.
            EngineRefused: If it answers with an error.
        """
        body = recipe.body()
        created = await self.engine.call(
            lambda client: client.create_container_from_config(body, recipe.name),  # type: ignore[no-untyped-call]
        )
        container: str = created["Id"]
        await self.engine.call(lambda client: client.start(container))
        return container

    async def remove(self, name: str, instance: str) -> None:
        """Remove the container of a name for good, if it belongs to an instance.

        Args:
            name: The name.
            instance: The label by which its daemon knows its own.

        Raises:
            RuntimeUnavailable: If it could not be removed.
        """
        try:
            found = await self.inspect(name)
            if found is None or found["Config"]["Labels"].get(LABEL_INSTANCE) != instance:
                return
            container: str = found["Id"]
            await self.engine.call(lambda it: it.remove_container(container, force=True, v=True))
            log.info("removed container %s (%s)", name, container[:12])
        except EngineRefused as error:
            if not error.not_found:
                raise refusals.engine_error(error) from None
