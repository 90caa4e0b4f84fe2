"""Processes that leave their job by all means but its environment, and outlive it."""

from __future__ import annotations

from pathlib import Path

# Forked twice, in a session of its own, with nothing open, and deaf to TERM.
_LOOP = "exec <&- >&- 2>&- 9>&-; trap '' TERM HUP; echo \\$\\$ >up; while :; do sleep 1; done"

STRAY = f'mkfifo up; (setsid sh -c "{_LOOP}" &); '
STRAY += "read -r pid <up; rm up; echo $pid >stray; "
"""The beginning of a script that leaves one and writes its process id to `stray`."""

LOOK = "read -r pid <stray; read -r size rest 2>/dev/null </proc/$pid/statm; "
LOOK += "[ ${size:-0} != 0 ] && echo lives || echo gone"
"""A script that says whether that process lives."""


def stray(folder: Path) -> int:
    """The process id of what a job has left, as the job sees it."""
    return int((folder / "stray").read_text(encoding="ascii"))


def lives(folder: Path) -> bool:
    """Whether what a job has left on this host lives."""
    try:
        # One that has ended has no memory, even while nobody has taken note of its end.
        return Path(f"/proc/{stray(folder)}/statm").read_text(encoding="ascii")[0] != "0"
    except FileNotFoundError:
        return False
