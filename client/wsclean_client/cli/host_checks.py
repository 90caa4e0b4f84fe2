"""What `doctor` finds out by itself, since that is when it is needed most: without a daemon.

Each check has a part that looks, with a deadline where it could last, and a part that judges
what was seen.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wsclean_client.address import cause
from wsclean_client.diagnosis import Finding, Verdict
from wsclean_client.identity import SOCKET_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTITY = "identity-socket"
"""What the socket that makes tokens is called in findings."""

_BOOTED = Path("/run/systemd/system")
_SYSTEMCTL_SECONDS = 4.0
_CONFIG_SECONDS = 9.0
_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "NeedDaemonReload",
)
_STANDARD = re.compile(r"/run/wsclean-workerd(?:-([A-Za-z0-9_.:-]+))?/workerd\.sock")
_ENABLED = frozenset({"enabled", "enabled-runtime", "static", "linked", "alias", "generated"})


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the parts of an installation are.

    Attributes:
        socket: The daemon's socket.
        unit: Its unit, or None if that is not known.
        config: Its configuration, or None if that is not known.
    """

    socket: str
    unit: str | None
    config: str | None

    @classmethod
    def of(cls, socket: str, unit: str | None, config: str | None) -> Installation:
        """Complete what is known by where `wsclean-ctl install` puts things.

        Args:
            socket: The daemon's socket.
            unit: Its unit, if somebody said so.
            config: Its configuration, if somebody said so.
        """
        if match := _STANDARD.fullmatch(socket):
            name = match[1]
            unit = unit or f"wsclean-workerd{f'@{name}' if name else ''}.service"
            config = config or f"/etc/wsclean-workerd{f'-{name}' if name else ''}.toml"
        return cls(socket, unit, config)


# -- the service -----------------------------------------------------------------


def check_service(unit: str | None) -> Finding | None:
    """Ask systemd how the service is; None where there is no systemd."""
    if not _BOOTED.is_dir() or not (systemctl := shutil.which("systemctl")):
        return None
    if unit is None:
        return Finding(
            "service",
            Verdict.UNKNOWN,
            "the socket is not that of an installed service",
            "wsclean-ctl doctor --unit UNIT, if it has a unit",
        )
    words = [systemctl, "show", f"--property={','.join(_PROPERTIES)}", "--", unit]
    done = _run(words, _SYSTEMCTL_SECONDS)
    if isinstance(done, str) or done.returncode:
        why = done if isinstance(done, str) else done.stderr.strip()
        return Finding("service", Verdict.UNKNOWN, f"systemd does not tell of {unit}: {why}")
    lines = (line.partition("=") for line in done.stdout.splitlines())
    return judge_service(unit, {name: value for name, _, value in lines})


def judge_service(unit: str, properties: Mapping[str, str]) -> Finding:
    """Judge a unit.

    Args:
        unit: Its name.
        properties: What systemd knows of it.
    """
    load, active = properties.get("LoadState", ""), properties.get("ActiveState", "")
    if load != "loaded":
        mend = {
            "not-found": "wsclean-ctl install, as root",
            "masked": f"systemctl unmask {unit}",
        }.get(load, f"systemctl status {unit}")
        return Finding("service", Verdict.PROBLEM, f"{unit} is not loaded: {load}", mend)
    if active not in {"active", "reloading"}:
        return _judge_inactive(unit, active, properties)
    enabled = properties.get("UnitFileState", "")
    if properties.get("NeedDaemonReload") == "yes":
        mend = f"systemctl daemon-reload && systemctl restart {unit}"
        return Finding(
            "service", Verdict.WARNING, f"{unit} was changed after systemd read it", mend
        )
    if enabled not in _ENABLED:
        found = f"{unit} is active, but does not start with the host: {enabled or 'not enabled'}"
        return Finding("service", Verdict.WARNING, found, f"systemctl enable {unit}")
    return Finding("service", Verdict.OK, f"{unit} is active and {enabled}")


def _judge_inactive(unit: str, active: str, properties: Mapping[str, str]) -> Finding:
    log = f"journalctl -u {unit} -e"
    result = properties.get("Result", "success")
    if active == "inactive":
        mend = f"systemctl enable --now {unit}"
        return Finding("service", Verdict.PROBLEM, f"{unit} is not started", mend)
    if active == "failed" or result not in {"", "success"}:
        found = f"{unit} fails to run ({result}): {active}, {properties.get('SubState', '')}"
        return Finding("service", Verdict.PROBLEM, found, log)
    return Finding("service", Verdict.WARNING, f"{unit} is {active}", f"ask again, or {log}")


# -- the configuration -----------------------------------------------------------


def check_config(place: Installation) -> Finding:
    """Have the daemon's own program check the configuration."""
    if place.config is None:
        return Finding(
            "configuration",
            Verdict.UNKNOWN,
            "the socket is not that of an installed service",
            "wsclean-ctl doctor --config FILE",
        )
    program = Path(sys.executable).with_name("wsclean-workerd")
    if not program.exists():
        found = f"{place.config} cannot be checked: no wsclean-workerd beside this wsclean-ctl"
        mend = f"/opt/wsclean-workerd/bin/wsclean-workerd --check-config --config {place.config}"
        return Finding("configuration", Verdict.UNKNOWN, found, mend)
    owner = _owner(place)
    if owner not in {None, os.geteuid()}:
        # What is valid depends on who the daemon is.
        return Finding(
            "configuration",
            Verdict.UNKNOWN,
            f"only the daemon's own account ({_user_name(owner)}) can check {place.config}",
            "sudo wsclean-ctl doctor",
        )
    done = _run([str(program), "--check-config", "--config", place.config], _CONFIG_SECONDS)
    return judge_config(place.config, done)


def judge_config(config: str, done: subprocess.CompletedProcess[str] | str) -> Finding:
    """Judge what `--check-config` said.

    Args:
        config: The file.
        done: How it ended, or why it did not.
    """
    if isinstance(done, str):
        return Finding("configuration", Verdict.UNKNOWN, f"{config} could not be checked: {done}")
    if done.returncode == 0:
        return Finding("configuration", Verdict.OK, f"{config} is valid")
    lines = [
        line.removeprefix("wsclean-workerd: error: ").strip() for line in done.stderr.splitlines()
    ]
    return Finding(
        "configuration",
        Verdict.PROBLEM,
        "; ".join(filter(None, lines)) or f"{config}: exit status {done.returncode}",
        f"edit {config}, then restart the daemon",
    )


def _owner(place: Installation) -> int | None:
    """The account of the daemon, as far as its files tell."""
    for path in (place.socket, place.config or ""):
        try:
            return Path(path).stat().st_uid
        except OSError:
            continue
    return None


# -- the socket ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketFacts:
    """What is known of a socket file.

    Attributes:
        path: Where it is.
        name: What it is called in findings.
        error: Why it cannot be looked at, or the empty string.
        is_socket: Whether it is a socket.
        mode: Its permissions.
        group: The name of its group.
        may_connect: Whether this process may.
        is_member: Whether this user is a member of the group, in this session or not yet.
    """

    path: str
    name: str = "socket"
    error: str = ""
    is_socket: bool = True
    mode: int = 0o660
    group: str = ""
    may_connect: bool = True
    is_member: bool = False


def check_sockets(path: str) -> list[Finding]:
    """Look at the daemon's socket file, and if that is there at the one that makes tokens."""
    found = check_socket(path, "socket")
    if found.verdict is Verdict.PROBLEM:
        return [found]
    return [found, check_socket(str(Path(path).with_name(SOCKET_NAME)), IDENTITY)]


def check_socket(path: str, name: str) -> Finding:
    """Look at a socket file."""
    try:
        found = Path(path).stat()
    except PermissionError:
        return Finding(name, Verdict.PROBLEM, *cause(path))
    except OSError as error:
        return judge_socket(SocketFacts(path=path, name=name, error=error.strerror or str(error)))
    return judge_socket(
        SocketFacts(
            path=path,
            name=name,
            is_socket=stat.S_ISSOCK(found.st_mode),
            mode=stat.S_IMODE(found.st_mode),
            group=_group_name(found.st_gid),
            may_connect=os.access(path, os.W_OK, effective_ids=True),
            is_member=found.st_gid in _groups_of_user(),
        )
    )


def judge_socket(facts: SocketFacts) -> Finding:
    """Judge a socket file."""
    path = facts.path
    if facts.error:
        return _missing(facts)
    if not facts.is_socket:
        return Finding(facts.name, Verdict.PROBLEM, f"{path} is no socket", f"rm {path}")
    found = f"{path}, mode {facts.mode:04o}, group {facts.group}"
    if facts.may_connect and facts.mode & 0o002:
        mend = 'set socket.mode = "0660" and restart the daemon'
        return Finding(facts.name, Verdict.WARNING, f"{found}: everybody may connect", mend)
    if facts.may_connect:
        return Finding(facts.name, Verdict.OK, found)
    if not facts.mode & 0o020:
        mend = 'set socket.mode = "0660" and restart the daemon'
        return Finding(facts.name, Verdict.PROBLEM, f"{found}: only its owner may connect", mend)
    mend = (
        "log in again: this session began before the user was a member"
        if facts.is_member
        else f"usermod -aG {facts.group} {_user_name(os.geteuid())}, and log in again"
    )
    return Finding(facts.name, Verdict.PROBLEM, f"{found}: this user may not connect", mend)


def _missing(facts: SocketFacts) -> Finding:
    found = f"{facts.path}: {facts.error}"
    if facts.name == IDENTITY:
        # If the daemon wants tokens, it says itself that it cannot be called without.
        mend = "restart the daemon: it makes this socket when it starts, unless it is an older one"
        return Finding(IDENTITY, Verdict.WARNING, found, mend)
    mend = "start the daemon, or name its socket by --socket or $WSCLEAN_WORKERD_SOCKET"
    return Finding(facts.name, Verdict.PROBLEM, found, mend)


def _groups_of_user() -> set[int]:
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return set(os.getgroups())
    return set(os.getgrouplist(entry.pw_name, entry.pw_gid))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _user_name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)


def _run(words: list[str], seconds: float) -> subprocess.CompletedProcess[str] | str:
    """Run a program; return why not if it could not be run, or not in time."""
    try:
        return subprocess.run(  # noqa: S603 - systemctl, and the daemon's own program
            words,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds:g} s"
    except OSError as error:
        return str(error)
