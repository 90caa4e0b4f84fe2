"""`wsclean-ctl shutdown`."""

from __future__ import annotations

import click

from wsclean_client.cli.options import example
from wsclean_client.cli.session import Session, pass_session


@click.command("shutdown", epilog=example("wsclean-ctl shutdown --now"))
@click.option(
    "--now", is_flag=True, help="Tell jobs that run to end: TERM, then KILL. They end CANCELLED."
)
@pass_session
def command(session: Session, now: bool) -> None:
    """Wait until no job runs, remove the container and end the daemon.

    Jobs are accepted meanwhile and wait for its next start. systemd does not start it again.
    It goes on if this is interrupted; `wsclean-ctl resume` calls it off while jobs run.
    """
    with session.client() as client:
        for used in client.shut_down(now=now):
            if used:
                click.echo(f"shutting down: {used} slots taken")
        click.echo("shut down")
