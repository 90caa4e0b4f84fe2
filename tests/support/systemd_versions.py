"""What releases of systemd know of units, and a unit as an old one sees it.

What a systemd does not know it says in its log, and goes on without the line. So an old one is
imitated by leaving out the lines that it does not know. This is about units only: it says nothing
of what an old one does otherwise than a new one with what both know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

OLDEST = 237
"""That of Ubuntu 18.04, the oldest that README.md promises."""

ENTERPRISE = 219
"""That of RHEL 7, whose src/core has such settings and values. They may be older still."""

_SPECIFIERS = r"(?:[^%]|%[%i])*"
_SWITCH = r"yes|no"
_SECONDS = r"\d+"
_WORDS = r"[A-Za-z_. -]*"
# Groups: @reboot and @swap are in the NEWS of 233, the others in src/shared/seccomp-util.h of 232.
_GROUPS = (
    *("@clock", "@cpu-emulation", "@debug", "@keyring", "@module", "@mount", "@obsolete"),
    *("@privileged", "@raw-io", "@reboot", "@resources", "@swap"),
)
_CALLS = r"~?(?:(?:{}|[a-z0-9]+)(?: |$))*".format("|".join(_GROUPS))


@dataclass(frozen=True)
class Known:
    """What is known of a setting.

    Attributes:
        since: The first release that knows it.
        values: What that release takes of it, as a regular expression. There is more, but
            nobody has looked it up yet.
    """

    since: int
    values: str = _SPECIFIERS


KNOWN = {
    "Unit": {
        "After": Known(ENTERPRISE),
        "Description": Known(ENTERPRISE),
        "Documentation": Known(ENTERPRISE),
        # StartLimitInterval= before: github.com/systemd/systemd/issues/4826.
        "StartLimitIntervalSec": Known(230, _SECONDS),
        "Wants": Known(ENTERPRISE),
    },
    "Service": {
        "CapabilityBoundingSet": Known(ENTERPRISE, r"(?:CAP_[A-Z_]+ ?)*"),
        "DevicePolicy": Known(ENTERPRISE, "auto|closed"),
        "Environment": Known(ENTERPRISE),
        # Prefixes came later, some of them: none is used.
        "ExecReload": Known(ENTERPRISE, f"/{_SPECIFIERS}"),
        "ExecStart": Known(ENTERPRISE, f"/{_SPECIFIERS}"),
        "IPAddressDeny": Known(235, "any|"),  # NEWS
        "KeyringMode": Known(235, "private"),  # NEWS
        "KillMode": Known(ENTERPRISE, "process"),
        "LimitNOFILE": Known(ENTERPRISE, r"\d+"),
        "LockPersonality": Known(235, _SWITCH),  # NEWS
        "MemoryDenyWriteExecute": Known(231, _SWITCH),  # NEWS
        "NoNewPrivileges": Known(ENTERPRISE, _SWITCH),
        "NotifyAccess": Known(ENTERPRISE, "main"),
        "OOMPolicy": Known(243, "continue"),  # github.com/systemd/systemd/pull/12037
        "PrivateDevices": Known(ENTERPRISE, _SWITCH),
        "PrivateMounts": Known(239, _SWITCH),  # NEWS
        "PrivateNetwork": Known(ENTERPRISE, _SWITCH),
        "PrivateTmp": Known(ENTERPRISE, _SWITCH),
        "ProtectClock": Known(245, _SWITCH),  # NEWS
        "ProtectControlGroups": Known(232, _SWITCH),  # NEWS
        "ProtectHostname": Known(242, _SWITCH),  # NEWS
        "ProtectKernelLogs": Known(244, _SWITCH),  # NEWS
        "ProtectKernelModules": Known(232, _SWITCH),  # NEWS
        "ProtectKernelTunables": Known(232, _SWITCH),  # NEWS
        "ProtectProc": Known(247, "invisible|default"),  # NEWS
        "ProtectSystem": Known(ENTERPRISE, "full"),
        "Restart": Known(ENTERPRISE, "on-failure"),
        "RestartSec": Known(ENTERPRISE, _SECONDS),
        "RestrictAddressFamilies": Known(ENTERPRISE, "AF_UNIX|"),
        "RestrictNamespaces": Known(233, _SWITCH),  # NEWS
        "RestrictRealtime": Known(231, _SWITCH),  # NEWS
        "RestrictSUIDSGID": Known(242, _SWITCH),  # NEWS
        "RuntimeDirectory": Known(ENTERPRISE),
        "RuntimeDirectoryMode": Known(ENTERPRISE, "[0-7]+"),
        "StateDirectory": Known(235),  # NEWS
        "StateDirectoryMode": Known(235, "[0-7]+"),  # NEWS
        "SystemCallArchitectures": Known(ENTERPRISE, "native"),
        "SystemCallErrorNumber": Known(ENTERPRISE, "EPERM"),
        "SystemCallFilter": Known(ENTERPRISE, _CALLS),
        "TimeoutStartSec": Known(ENTERPRISE, _SECONDS),
        "TimeoutStopSec": Known(ENTERPRISE, _SECONDS),
        # notify-reload is of 253 (NEWS).
        "Type": Known(ENTERPRISE, "notify"),
        "UMask": Known(ENTERPRISE, "[0-7]+"),
        "WatchdogSec": Known(ENTERPRISE, _SECONDS),
    },
    "Install": {"WantedBy": Known(ENTERPRISE, _WORDS)},
}


@dataclass(frozen=True)
class Line:
    """A line of a unit that sets something."""

    section: str
    name: str
    value: str

    @property
    def known(self) -> Known | None:
        """What is known of the setting, if anything."""
        return KNOWN.get(self.section, {}).get(self.name)

    @property
    def is_understood(self) -> bool:
        """Whether the value is one of those that were looked up."""
        return self.known is not None and re.fullmatch(self.known.values, self.value) is not None

    def is_known_to(self, release: int) -> bool:
        """Whether a release takes the line, and does not ignore it."""
        return self.known is not None and self.known.since <= release and self.is_understood

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


def lines(unit: str) -> Iterator[tuple[str, Line | None]]:
    """The lines of a unit as they are, each with what it sets."""
    section = ""
    for text in unit.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", text):
            section = header[1]
        name, equals, value = text.partition("=")
        sets = equals and not text.startswith(("#", ";"))
        yield text, Line(section, name.strip(), value.strip()) if sets else None


def complaints(unit: str) -> list[str]:
    """What is in a unit of which it is not known since when systemd takes it."""
    said = []
    for _, line in lines(unit):
        if line is None:
            continue
        if line.known is None:
            said.append(f"{line}: look up in systemd's NEWS since when there is such a setting")
        elif not line.is_understood:
            said.append(f"{line}: look up since when systemd takes this value")
    return said


def as_seen_by(release: int, unit: str) -> tuple[str, list[str]]:
    """A unit without what a release does not know.

    Returns:
        The unit, and the names of the settings that are gone.
    """
    kept, gone = [], []
    for text, line in lines(unit):
        if line is None or line.is_known_to(release):
            kept.append(text)
        else:
            gone.append(line.name)
    return "".join(f"{text}\n" for text in kept), gone
