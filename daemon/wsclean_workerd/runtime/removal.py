"""Removes the container for good, when the daemon is shut down."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.runtime.container import LABEL_INSTANCE
from wsclean_workerd.runtime.engine import EngineRefused

if TYPE_CHECKING:
    from wsclean_workerd.runtime.engine import Engine

log = logging.getLogger(__name__)


async def remove_container(engine: Engine, name: str, instance: str) -> None:
    """Remove the container of a name if it belongs to an instance.

    Args:
        engine: Where it is.
        name: The name.
        instance: The label by which its daemon knows its own.

    Raises:
        RuntimeUnavailable: If it could not be removed.
    """
    try:
        found = await engine.call(lambda it: it.inspect_container(name))
        if found["Config"]["Labels"].get(LABEL_INSTANCE) != instance:
            return
        container: str = found["Id"]
        await engine.call(lambda it: it.remove_container(container, force=True, v=True))
        log.info("removed container %s (%s)", name, container[:12])
    except EngineRefused as error:
        if not error.not_found:
            raise RuntimeUnavailable(
                "ENGINE_ERROR", f"the Docker engine cannot do it: {error}"
            ) from None
