"""`wsclean-ctl list`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from wsclean_client import durations
from wsclean_client.cli import draw
from wsclean_client.cli.options import example, json_option, user, words
from wsclean_client.cli.session import Session, pass_session
from wsclean_client.jobs import JobInfo, JobState

_NEWEST = 50
_STATES = [str(state) for state in JobState if state is not JobState.UNKNOWN]
_HEADER = ("id", "state", "owner", "submitted", "queued", "ran", "exit", "command")


@click.command("list", epilog=example("wsclean-ctl list --state RUNNING --state QUEUED"))
@json_option
@click.option(
    "--state",
    "states",
    type=click.Choice(_STATES, case_sensitive=False),
    metavar="STATE",
    multiple=True,
    help=f"Only jobs in this state. Repeatable. One of {', '.join(_STATES)}.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=_NEWEST,
    show_default=True,
    help="How many jobs at most.",
)
@pass_session
def command(session: Session, as_json: bool, states: tuple[str, ...], limit: int) -> None:
    """List jobs, newest first."""
    with session.client() as client:
        jobs = list(client.list(states=[JobState(state) for state in states], limit=limit))
    if as_json:
        draw.as_json([job.as_dict() for job in jobs])
    else:
        now = datetime.now(UTC)
        draw.table(_HEADER, [_row(job, now) for job in jobs])


def _row(job: JobInfo, now: datetime) -> list[str]:
    queued, ran = job.queue_seconds, job.run_seconds
    if queued is None:
        queued = (now - job.submitted_at).total_seconds()
    if ran is None and job.started_at and not job.ended:
        ran = (now - job.started_at).total_seconds()
    return [
        job.id,
        str(job.state),
        user(job.owner),
        job.submitted_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        durations.write(queued),
        durations.write(ran),
        "" if job.exit_status is None else str(job.exit_status),
        words(job.command),
    ]
