"""`wsclean-ctl install`."""

from __future__ import annotations

import click

from wsclean_client.cli.hosting import call_daemon, dry_run_option, instance_option, root_option
from wsclean_client.cli.options import example


@click.command("install", epilog=example("wsclean-ctl install --dry-run"))
@dry_run_option
@root_option
@instance_option
@click.option(
    "--native", is_flag=True, help='Give the unit the room that runtime = "native" needs.'
)
def command(*, dry_run: bool, root: str, instance: str | None, native: bool) -> int:
    """Make the daemon a service of this host.

    Puts the systemd unit, the group, the folders and a commented configuration in
    place, for the environment that wsclean-ctl runs from. A configuration that was
    edited is kept, and the new one put beside it. Needs root.
    """
    return call_daemon("install", dry_run=dry_run, root=root, instance=instance, native=native)
