"""`wsclean-ctl drain`."""

from __future__ import annotations

import click

from wsclean_client.cli.options import example
from wsclean_client.cli.session import Session, pass_session


@click.command("drain", epilog=example("wsclean-ctl drain && umount /stage"))
@click.option("--no-wait", is_flag=True, help="Do not wait until the jobs that run have ended.")
@pass_session
def command(session: Session, no_wait: bool) -> None:
    """Start no further jobs, and wait until those that run have ended.

    Jobs are accepted and wait. The daemon stays drained, also if this is interrupted,
    until `wsclean-ctl resume` or its restart.
    """
    with session.client() as client:
        for used in client.drain():
            click.echo(f"draining: {used} slots taken" if used else "drained")
            if no_wait:
                break
