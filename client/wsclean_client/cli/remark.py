"""What `wsclean-ctl` says on standard error."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from wsclean_client.cli.options import printable
from wsclean_client.errors import JobEnded
from wsclean_client.outcome import complete

if TYPE_CHECKING:
    from wsclean_client.jobs import JobInfo

NAME = "wsclean-ctl"


def complain(message: str) -> None:
    """Write an error as one line, whatever it contains."""
    _write(f"error: {message}")


def unless_succeeded(job: JobInfo) -> None:
    """Say how a job ended, unless it succeeded."""
    try:
        complete(job, b"", b"", check=True)
    except JobEnded as error:
        complain(str(error))


def unless_exited(job: JobInfo) -> None:
    """Say how a job ended, unless its exit status says it."""
    try:
        complete(job, b"", b"", check=False)
    except JobEnded as error:
        complain(str(error))


def _write(message: str) -> None:
    line = printable(" ".join(message.split()))
    with contextlib.suppress(OSError):
        click.echo(f"{NAME}: {line}", err=True)
