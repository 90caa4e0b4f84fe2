"""`wsclean-ctl status`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from wsclean_client import durations
from wsclean_client.cli import draw
from wsclean_client.cli.options import example, json_option
from wsclean_client.cli.session import Session, pass_session

if TYPE_CHECKING:
    from wsclean_client.jobs import Reason
    from wsclean_client.status import RuntimeStatus, Status

_CONNECT_SECONDS = 1.0
"""Shorter than elsewhere: who asks how things are wants to know how they are now."""


@click.command("status", epilog=example("wsclean-ctl status --json | jq .runtime.ready"))
@json_option
@pass_session
def command(session: Session, as_json: bool) -> None:
    """Show the daemon, its container, its queue and its mounts."""
    with session.client(_CONNECT_SECONDS) as client:
        status = client.status()
    if as_json:
        draw.as_json(status.as_dict())
    else:
        draw.pairs(_rows(status))


def _rows(status: Status) -> list[tuple[str, str]]:
    up = durations.write((datetime.now(UTC) - status.started_at).total_seconds())
    rows = [
        ("daemon", f"wsclean-workerd {status.version}, up {up}"),
        *_runtime_rows(status.runtime),
        ("slots", f"{status.slots_used} of {status.slots} taken"),
        ("jobs", ", ".join(f"{n} {state}" for state, n in status.jobs.items()) or "none"),
    ]
    if status.configuration:
        rows.insert(1, ("config", _words(status.configuration)))
    if status.refusing:
        rows.insert(1, ("refusing", _words(status.refusing)))
    mounts = [
        f"{mount.host} as {mount.container}{' (read-only)' if mount.read_only else ''}"
        for mount in status.mounts
    ] or ["none"]
    rows += zip(["mounts", *[""] * (len(mounts) - 1)], mounts, strict=True)
    rows.append(("programs", " ".join(status.programs)))
    return rows


def _runtime_rows(runtime: RuntimeStatus) -> list[tuple[str, str]]:
    ready = "ready" if runtime.ready else "NOT READY"
    rows = [("runtime", f"{runtime.kind}, {ready}")]
    if runtime.condition:
        rows.append(("", _words(runtime.condition)))
    if runtime.image:
        rows.append(("image", runtime.image))
    if runtime.container_name:
        identity = runtime.container_id[:12] or "not there"
        rows.append(("container", f"{runtime.container_name} ({identity})"))
    return rows


def _words(reason: Reason) -> str:
    return f"{reason.code}: {reason.message}"
