"""Which settings can change while the daemon runs, and what differs between two files. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from wsclean_workerd.command import CommandRules
from wsclean_workerd.paths import PathMapper
from wsclean_workerd.runtime.container import TEMPORARY_INSIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wsclean_workerd.config import Config

RELOADABLE = frozenset(
    {
        "slots",
        "log_level",
        "socket.group",
        "socket.mode",
        "socket.operators",
        "jobs.allow_root",
        "jobs.programs",
        "jobs.umask",
        "jobs.run_timeout",
        "jobs.queue_timeout",
        "jobs.kill_grace",
        "jobs.output_limit",
        "storage.probe_timeout",
        "storage.proof_age",
        "history.keep",
        "history.keep_age",
    }
)
"""The keys whose values hold as soon as they are read again. What is not named here is built into
the container, the journal's place or the socket's, and holds from the next start on."""

_MODES = frozenset({"socket.mode", "jobs.umask"})


@dataclass(frozen=True, slots=True)
class Changes:
    """What a configuration has other than the one before.

    Attributes:
        config: The one to go by from now on.
        made: What changes by that, a text for each key.
        pending: The keys that would change with a new start of the daemon.
    """

    config: Config
    made: tuple[str, ...]
    pending: tuple[str, ...]


def compare(old: Config, new: Config) -> Changes:
    """Say what becomes of a configuration that was read again.

    Args:
        old: What the daemon goes by.
        new: What was read, valid.
    """
    before, after = dict(_flat(old)), dict(_flat(new))
    changed = [key for key in before if before[key] != after[key]]
    made = [key for key in changed if key in RELOADABLE]
    return Changes(
        _taken_over(old, {key: after[key] for key in made}),
        tuple(f"{key} is {_text(key, after[key])}, was {_text(key, before[key])}" for key in made),
        tuple(key for key in changed if key not in RELOADABLE),
    )


def _flat(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _taken_over(config: Config, values: dict[str, object]) -> Config:
    """A configuration with other values of some keys, each of them checked already."""
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        update = {name: value}
        if section:
            update = {section: getattr(config, section).model_copy(update=update)}
        config = config.model_copy(update=update)
    return config


def _text(key: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:04o}" if key in _MODES else f"{value}"


def command_rules(config: Config) -> CommandRules:
    """What a configuration says of commands."""
    jobs = config.jobs
    return CommandRules(
        programs=jobs.programs,
        mapper=PathMapper(config.job_mounts),
        elsewhere=TEMPORARY_INSIDE,
        run_as=config.run_as,
        umask=jobs.umask,
        run_timeout=jobs.run_timeout,
        queue_timeout=jobs.queue_timeout,
    )
