"""`wsclean-ctl doctor`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click

from wsclean_client.address import cause
from wsclean_client.cli import draw, host_checks
from wsclean_client.cli.host_checks import Installation
from wsclean_client.cli.options import example, json_option, printable
from wsclean_client.cli.session import Session, pass_session
from wsclean_client.diagnosis import Finding, Verdict
from wsclean_client.errors import DaemonFailed, DaemonNotReachable, WSCleanError
from wsclean_workerd_api import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsclean_client.client import WSCleanClient

PROBLEMS = 1
"""The exit status if there are any."""

_CONNECT_SECONDS = 1.0
_OLD = "UNIMPLEMENTED"
_STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.PROBLEM: "bold red",
    Verdict.UNKNOWN: "magenta",
}

_HELP = """\b
--json prints an object with
  ok        whether there is no problem
  findings  a list of objects, each with name, subject (the folder of a
            "mount", else empty), verdict ("ok", "warning", "problem" or
            "unknown"), found and mend (texts; mend may be empty)
Exit status: 0 if there is no problem (warnings are none), 1 if there is.
"""


@click.command("doctor", epilog=f"{_HELP}\n{example('wsclean-ctl doctor')}")
@json_option
@click.option("--unit", metavar="UNIT", help="The daemon's unit. Default: by its socket.")
@click.option("--config", metavar="FILE", help="Its configuration. Default: by its socket.")
@pass_session
def command(session: Session, as_json: bool, unit: str | None, config: str | None) -> int:
    """Say what is wrong with an installation, and how to mend it.

    Looks at service, configuration and socket itself, and has the daemon look at
    the rest from where jobs run. Takes ten seconds at most, whatever hangs.
    """
    with session.client(_CONNECT_SECONDS) as client:
        findings = examine(client, Installation.of(client.socket, unit, config))
    problems = any(each.verdict is Verdict.PROBLEM for each in findings)
    if as_json:
        listed = [each.as_dict() for each in findings]
        draw.as_json({"ok": not problems, "findings": listed})
    else:
        _show(findings)
    return PROBLEMS if problems else 0


def examine(client: WSCleanClient, place: Installation) -> list[Finding]:
    """Look at everything at once.

    Args:
        client: Asks the daemon.
        place: Where the parts of the installation are.

    Returns:
        What was found, causes before what follows from them.
    """
    with ThreadPoolExecutor(3) as threads:
        asked = threads.submit(_ask_daemon, client)
        config = threads.submit(host_checks.check_config, place)
        service = host_checks.check_service(place.unit)
        sockets = host_checks.check_sockets(place.socket)
        found = [] if service is None else [service]
        return [*found, config.result(), *sockets, *asked.result()]


def _ask_daemon(client: WSCleanClient) -> list[Finding]:
    """Have the daemon look, or say why it does not."""
    try:
        diagnosis = client.diagnose()
    except DaemonNotReachable:
        why, way_out = cause(client.socket)
        return [Finding("daemon", Verdict.PROBLEM, why, way_out)]
    except DaemonFailed as error:
        if error.reason != _OLD:
            return [Finding("daemon", Verdict.PROBLEM, str(error))]
        return [_answers(client), judge_versions(__version__, "")]
    except WSCleanError as error:
        return [Finding("daemon", Verdict.PROBLEM, str(error))]
    versions = judge_versions(__version__, diagnosis.version)
    return [_answers(client), versions, *diagnosis.findings]


def _answers(client: WSCleanClient) -> Finding:
    return Finding("daemon", Verdict.OK, f"answers at {client.socket}")


def judge_versions(client: str, daemon: str) -> Finding:
    """Judge whether client and daemon are of one version.

    Args:
        client: That of the client.
        daemon: That of the daemon, or the empty string if it is too old to be asked.
    """
    if client == daemon:
        return Finding("versions", Verdict.OK, f"client and daemon are {client}")
    older = daemon or "older, and cannot look at the rest"
    return Finding(
        "versions",
        Verdict.WARNING,
        f"the client is {client}, the daemon is {older}",
        "upgrade the older one; a daemon that was upgraded has to be restarted",
    )


def _show(findings: Sequence[Finding]) -> None:
    rows = [row for each in findings for row in lines(each)]
    if not sys.stdout.isatty():
        for text, _ in rows:
            click.echo(text)
        return
    # Imported where it draws: it takes longer than a pipe takes to be served.
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    for text, style in rows:
        drawn = Text(text)
        drawn.stylize(style, 0, _MARK)
        console.print(drawn, soft_wrap=True)


_MARK = max(len(each) for each in Verdict)


def lines(finding: Finding) -> list[tuple[str, str]]:
    """Write a finding: a line, and one more for the mend; each with the style of its mark."""
    subject = f" {finding.subject}" if finding.subject else ""
    first = f"{finding.verdict:{_MARK}}  {finding.name}{subject}: {finding.found}"
    written = [(printable(first), _STYLES[finding.verdict])]
    if finding.mend:
        written.append((printable(f"{'':{_MARK}}    mend: {finding.mend}"), ""))
    return written
