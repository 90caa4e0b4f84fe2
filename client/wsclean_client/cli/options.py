"""The options that several verbs share."""

from __future__ import annotations

import pwd
import shlex
from typing import TYPE_CHECKING, Any, TypedDict

import click

from wsclean_client import durations

if TYPE_CHECKING:
    from collections.abc import Callable

JOB_SETTINGS: dict[str, Any] = {"allow_interspersed_args": False}
"""The context settings of verbs that take a command: what follows its program is
the program's."""


if TYPE_CHECKING:
    _FloatType = click.ParamType[float]
else:
    # Generic only in newer releases of click than the oldest that will do.
    _FloatType = click.ParamType


class JobOptions(TypedDict):
    """The options of a job, named as `WSCleanClient.submit` names them."""

    timeout: float | None
    queue_timeout: float | None
    cwd: str | None
    env: dict[str, str]
    locks: tuple[str, ...]
    retries: int


class Duration(_FloatType):
    """A length of time such as `90`, `15m` or `1h30m`, in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        if isinstance(value, float):
            return value
        try:
            return durations.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def example(*lines: str) -> str:
    """Write the example that ends the help of a verb."""
    # The backspace tells click to leave the lines as they are.
    return "\n".join(["\b", "Example:", *(f"  {line}" for line in lines)])


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(
        function
    )


def job_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a job and its command."""
    for decorate in (
        click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED),
        click.option(
            "--env",
            "-e",
            metavar="K=V",
            multiple=True,
            callback=_environment,
            help="Add a variable to the job's environment. Repeatable.",
        ),
        click.option(
            "--lock",
            "locks",
            metavar="LOCK",
            multiple=True,
            help="Let no other job with this lock run meanwhile: the path of a Measurement Set "
            "or of images (their -name) with a / in it, or a plain name. Repeatable.",
        ),
        click.option(
            "--retries",
            type=click.IntRange(0, 2**32 - 1),
            metavar="N",
            default=0,
            help="Run the command again, up to N times, if nobody can say how it ended: its "
            "container died, say, or the host was restarted. Never after an exit status.",
        ),
        click.option(
            "--cwd",
            metavar="DIR",
            help="The working directory. Default: the current one.",
        ),
        click.option(
            "--queue-timeout",
            type=Duration(),
            metavar="T",
            help="How long the job may wait in the queue. Default: the daemon's.",
        ),
        click.option(
            "--timeout",
            type=Duration(),
            metavar="T",
            help="How long the command may run, such as 90, 15m or 1h30m. Default: the daemon's.",
        ),
    ):
        function = decorate(function)
    return function


def words(command: tuple[str, ...]) -> str:
    """Write a command in one line, as a shell would read it and a terminal bears it."""
    return printable(shlex.join(command))


def user(number: int | None) -> str:
    """Write a user as people know him; the number if he has no name here."""
    if number is None:
        return ""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def printable(text: str) -> str:
    """Escape what could move a terminal's cursor or change its colours."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _environment(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{value!r}: expected NAME=VALUE", ctx, param)
        pairs[name] = content
    return pairs
