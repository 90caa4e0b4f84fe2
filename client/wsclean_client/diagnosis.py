"""What is wrong with an installation, and how to mend it, as a caller sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How a check turned out."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        name: What was checked, "image" for example.
        verdict: How it turned out.
        found: A sentence for a person.
        mend: How to mend it, a command where there is one, or the empty string.
        subject: Which one, if there can be several: the host folder of a mount.
    """

    name: str
    verdict: Verdict
    found: str
    mend: str = ""
    subject: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "name": self.name,
            "subject": self.subject,
            "verdict": str(self.verdict),
            "found": self.found,
            "mend": self.mend,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the daemon found.

    Attributes:
        version: The version of the daemon.
        findings: What it found, causes before what follows from them.
    """

    version: str
    findings: tuple[Finding, ...]
