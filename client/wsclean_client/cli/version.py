"""`wsclean-ctl version`."""

from __future__ import annotations

import click

from wsclean_client.cli.options import example
from wsclean_workerd_api import __version__


@click.command("version", epilog=example("wsclean-ctl version"))
def command() -> None:
    """Print the version of wsclean-ctl.

    `status` shows that of the daemon.
    """
    click.echo(f"wsclean-ctl {__version__}")
