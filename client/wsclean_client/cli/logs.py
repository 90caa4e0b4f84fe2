"""`wsclean-ctl logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wsclean_client.cli.options import example
from wsclean_client.cli.passing import pass_on
from wsclean_client.cli.session import Session, pass_session

if TYPE_CHECKING:
    from wsclean_client.jobs import StreamName


@click.command("logs", epilog=example("wsclean-ctl logs -f 17"))
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@click.option("--stdout", "stream", flag_value="stdout", help="Only its standard output.")
@click.option("--stderr", "stream", flag_value="stderr", help="Only its standard error.")
@click.argument("id_", metavar="ID")
@pass_session
def command(session: Session, follow: bool, stream: StreamName | None, id_: str) -> None:
    """Print what a job has written, byte for byte.

    Its standard output goes to standard output, its standard error to standard
    error. To stop following does not stop the job.
    """
    with session.client() as client:
        for chunk in client.job(id_).logs(follow=follow, stream=stream):
            pass_on(chunk)
