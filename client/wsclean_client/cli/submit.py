"""`wsclean-ctl submit`."""

from __future__ import annotations

from typing import Unpack

import click

from wsclean_client.cli import draw
from wsclean_client.cli.options import JOB_SETTINGS, JobOptions, example, job_options, json_option
from wsclean_client.cli.session import Session, pass_session


@click.command(
    "submit",
    context_settings=JOB_SETTINGS,
    epilog=example(
        "id=$(wsclean-ctl submit wsclean -predict -name model sim.ms)", "wsclean-ctl wait $id"
    ),
)
@json_option
@job_options
@pass_session
def command(
    session: Session, as_json: bool, command: tuple[str, ...], **options: Unpack[JobOptions]
) -> None:
    """Hand a command to the daemon and print the id of its job.

    When it returns, the job is on the daemon's disk.
    """
    with session.client() as client:
        job = client.submit(command, **options).info
    if as_json:
        draw.as_json(job.as_dict())
    else:
        click.echo(job.id)
