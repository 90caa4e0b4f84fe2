"""`wsclean-ctl uninstall`."""

from __future__ import annotations

import click

from wsclean_client.cli.hosting import call_daemon, dry_run_option, instance_option, root_option
from wsclean_client.cli.options import example


@click.command("uninstall", epilog=example("wsclean-ctl uninstall --dry-run"))
@dry_run_option
@root_option
@instance_option
def command(*, dry_run: bool, root: str, instance: str | None) -> int:
    """Take away what `install` has put in place.

    Ends the daemon and its instances, or the one that is named. The journal, the outputs
    of jobs, configurations that were edited and the containers stay. Needs root.
    """
    return call_daemon("uninstall", dry_run=dry_run, root=root, instance=instance)
