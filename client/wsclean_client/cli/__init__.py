"""`wsclean-ctl`, the command line of wsclean-workerd: one file per verb."""

from wsclean_client.cli.app import main

__all__ = ["main"]
