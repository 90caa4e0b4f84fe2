"""`wsclean-ctl resume`."""

from __future__ import annotations

import click

from wsclean_client.cli.options import example
from wsclean_client.cli.session import Session, pass_session


@click.command("resume", epilog=example("wsclean-ctl resume"))
@pass_session
def command(session: Session) -> None:
    """Start jobs again after `drain`, or call off a `shutdown` that waits for jobs."""
    with session.client() as client:
        client.resume()
