"""What the errors of the engine mean, as conditions of the runtime with a way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsclean_workerd.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from wsclean_workerd.runtime.engine import EngineRefused

_CONFLICT = 409


def exec_failed(error: EngineRefused) -> bool:
    """Whether the container, as opposed to the engine, did not start a program."""
    return "OCI runtime exec failed" in str(error)


def unavailable(error: EngineRefused) -> RuntimeUnavailable:
    """The condition in which a command could not be started."""
    if error.not_found or error.status == _CONFLICT or exec_failed(error):
        return RuntimeUnavailable("CONTAINER_GONE", f"the container does not run: {error}")
    return engine_error(error)


def engine_error(error: EngineRefused) -> RuntimeUnavailable:
    """The condition in which the engine answers with an error of its own."""
    return RuntimeUnavailable("ENGINE_ERROR", f"the Docker engine cannot do it: {error}")


def mount_missing(error: EngineRefused) -> RuntimeUnavailable | None:
    """The condition in which a container could not be made, if a folder is missing."""
    if "bind source path does not exist" not in str(error):
        return None
    return RuntimeUnavailable("MOUNT_MISSING", f"a mounted folder is not there: {error}")


def unsuitable(image: str, what: str, code: str = "IMAGE_UNSUITABLE") -> RuntimeUnavailable:
    """The condition in which the image is there and of no use.

    Args:
        image: Its name.
        what: What is wrong with it.
        code: What that is called.
    """
    return RuntimeUnavailable(
        code,
        f"the image {image} cannot be used, {what}: build one with image/build under that name, or "
        "name another one in docker.image",
    )
