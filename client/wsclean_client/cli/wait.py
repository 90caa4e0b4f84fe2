"""`wsclean-ctl wait`."""

from __future__ import annotations

import time

import click

from wsclean_client.cli import exits, remark
from wsclean_client.cli.options import Duration, example
from wsclean_client.cli.session import Session, pass_session
from wsclean_client.errors import WaitTimeout


@click.command("wait", epilog=example("wsclean-ctl wait --timeout 2h 17 18"))
@click.option(
    "--timeout",
    type=Duration(),
    metavar="T",
    help="How long to wait at most, such as 90, 15m or 1h30m. The jobs go on.",
)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@pass_session
def command(session: Session, timeout: float | None, ids: tuple[str, ...]) -> int:
    """Wait until jobs have ended.

    Ends with the exit status of the first job, in the order given, that did not
    succeed.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    status = 0
    with session.client() as client:
        for id_ in ids:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                job = client.job(id_).wait(left)
            except WaitTimeout:
                remark.complain(f"job {id_} has not ended in the time given. It goes on")
                return status or exits.TIMED_OUT
            remark.unless_succeeded(job)
            status = status or exits.of_job(job)
    return status
