"""`wsclean-ctl cancel`."""

from __future__ import annotations

import click

from wsclean_client.cli import exits, remark
from wsclean_client.cli.options import example
from wsclean_client.cli.session import Session, pass_session
from wsclean_client.errors import JobNotFound, RequestRefused


@click.command("cancel", epilog=example("wsclean-ctl cancel 17 && wsclean-ctl wait 17"))
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@pass_session
def command(session: Session, ids: tuple[str, ...]) -> int:
    """Tell jobs to end, and print the state that each is in then.

    It does not wait for their ends. A job that has ended stays as it is.
    """
    status = 0
    with session.client() as client:
        for id_ in ids:
            try:
                job = client.job(id_).cancel()
            except (JobNotFound, RequestRefused) as error:
                remark.complain(str(error))
                status = exits.DAEMON
            else:
                click.echo(f"{job.id} {job.state}")
    return status
