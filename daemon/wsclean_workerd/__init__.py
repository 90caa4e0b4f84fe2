"""The daemon: one per host, owner of the container and of the queue in front of it."""

from wsclean_workerd_api import __version__

__all__ = ["__version__"]
