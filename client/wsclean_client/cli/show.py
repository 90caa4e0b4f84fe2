"""`wsclean-ctl show`."""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING

import click

from wsclean_client import durations
from wsclean_client.cli import draw
from wsclean_client.cli.options import example, json_option, user, words
from wsclean_client.cli.session import Session, pass_session
from wsclean_client.errors import describe_exit
from wsclean_client.jobs import iso

if TYPE_CHECKING:
    from wsclean_client.jobs import JobInfo


@click.command("show", epilog=example("wsclean-ctl show --json 17 | jq -r .state"))
@json_option
@click.argument("id_", metavar="ID")
@pass_session
def command(session: Session, as_json: bool, id_: str) -> None:
    """Show one job: what it runs, how it is and how it ended."""
    with session.client() as client:
        job = client.job(id_).refresh()
    if as_json:
        draw.as_json(job.as_dict())
    else:
        draw.pairs(_rows(job))


def _rows(job: JobInfo) -> list[tuple[str, str]]:
    rows = [
        ("id", job.id),
        ("state", str(job.state)),
        ("reason", f"{job.reason.code}: {job.reason.message}" if job.reason else ""),
        ("attempt", _attempt(job)),
        ("exit", "" if job.exit_status is None else describe_exit(job.exit_status)),
        ("command", words(job.command)),
        ("runs as", words(job.mapped_command)),
        ("in", job.working_directory),
        ("inside", job.mapped_working_directory),
        ("variables", " ".join(f"{name}={value}" for name, value in job.environment.items())),
        ("owner", user(job.owner)),
        ("submitted", iso(job.submitted_at) or ""),
        ("started", iso(job.started_at) or ""),
        ("ended", iso(job.ended_at) or ""),
        ("queued for", durations.write(job.queue_seconds)),
        ("ran for", durations.write(job.run_seconds)),
        ("may run", durations.write(job.run_timeout)),
        *zip(chain(["locks"], repeat("")), job.locks, strict=False),
        ("container", job.container_id[:12]),
        ("lingering", "some of its processes are still there" if job.lingering else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _attempt(job: JobInfo) -> str:
    """Which of how many attempts this is, if there may be several, and why it is needed."""
    if not job.retries:
        return ""
    text = f"{job.attempt} of {1 + job.retries}"
    return f"{text}, the one before was lost: {job.last_loss.message}" if job.last_loss else text
