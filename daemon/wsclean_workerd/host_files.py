"""The files that make the daemon a service of a host: what is in them, and where they belong.

Their texts are in the folder `host`. Those of an environment elsewhere than in
/opt/wsclean-workerd and those of further instances are made from the same texts. Pure, but for
reading them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

UNIT = "wsclean-workerd.service"
"""The unit of the daemon that a host usually has."""

TEMPLATE = "wsclean-workerd@.service"
"""The unit of all further instances."""

_UNITS = "/etc/systemd/system"

STATE = "/var/lib/wsclean-workerd"
"""Where journal and jobs are, followed by "-NAME" for an instance; nothing removes it."""

_USUAL_PROGRAMS = "/opt/wsclean-workerd/bin"
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file that is put in place.

    Attributes:
        path: Where on the host, absolute.
        text: What is in it.
    """

    path: str
    text: str


def is_instance(name: str) -> bool:
    """Whether an instance can have this name, which is part of names of units and containers."""
    return _INSTANCE.fullmatch(name) is not None


def unit_name(instance: str | None) -> str:
    """The unit of an instance; None is the one without a name."""
    return UNIT if instance is None else f"wsclean-workerd@{instance}.service"


def unit_path(instance: str | None) -> str:
    """The file of the unit of an instance; all that have a name share one."""
    return f"{_UNITS}/{UNIT if instance is None else TEMPLATE}"


def service_files(programs: str) -> list[HostFile]:
    """The files of the service itself, which hold nothing that a person edits.

    Args:
        programs: The folder of the daemon's program.
    """
    return [
        HostFile(f"{_UNITS}/{UNIT}", _unit(programs)),
        HostFile(f"{_UNITS}/{TEMPLATE}", _template(programs)),
        HostFile("/etc/sysusers.d/wsclean-workerd.conf", _read("sysusers.d/wsclean-workerd.conf")),
        HostFile("/etc/tmpfiles.d/wsclean-workerd.conf", _read("tmpfiles.d/wsclean-workerd.conf")),
    ]


def config_file(instance: str | None) -> HostFile:
    """The commented configuration of an instance, to be edited."""
    text = _read("wsclean-workerd.toml")
    if instance is None:
        return HostFile("/etc/wsclean-workerd.toml", text)
    for key, folder in (("state_dir", STATE), ("runtime_dir", "/run/wsclean-workerd")):
        text = _replace(text, f'#{key} = "{folder}"', f'{key} = "{folder}-{instance}"')
    name = "wsclean-workerd"
    text = _replace(text, f'#container = "{name}"', f'container = "{name}-{instance}"')
    path = f"/etc/wsclean-workerd-{instance}.toml"
    return HostFile(path, _replace(text, "/etc/wsclean-workerd.toml", path))


def native_file(instance: str | None) -> HostFile:
    """What gives the unit of an instance the room that jobs on the host itself need."""
    folder = f"{_UNITS}/{unit_name(instance)}.d"
    return HostFile(f"{folder}/wsclean-native.conf", _read("native.conf"))


def _unit(programs: str) -> str:
    return _replace(_read(UNIT), f"={_USUAL_PROGRAMS}/", f"={_word(programs)}/")


def _template(programs: str) -> str:
    text = _unit(programs)
    text = _replace(text, "systemctl edit wsclean-workerd", "systemctl edit wsclean-workerd@NAME")
    text = _replace(text, "one queue\n", "one queue (%i)\n")
    text = _replace(text, "/etc/wsclean-workerd.toml", "/etc/wsclean-workerd-%i.toml")
    for key in ("RuntimeDirectory", "StateDirectory"):
        text = _replace(text, f"{key}=wsclean-workerd\n", f"{key}=wsclean-workerd-%i\n")
    return text


def _word(path: str) -> str:
    """A path as a unit file wants it (systemd.service(5), COMMAND LINES)."""
    text = path.replace("%", "%%").replace("\\", "\\\\")
    return re.sub(r"[\s\"';]", lambda match: f"\\x{ord(match[0]):02x}", text)


def _replace(text: str, old: str, new: str) -> str:
    if old not in text:
        raise AssertionError(f"the file of the host has no {old!r}")
    return text.replace(old, new)


def _read(name: str) -> str:
    return resources.files("wsclean_workerd").joinpath("host", name).read_text(encoding="utf-8")
