"""Lengths of time as people write them, such as `90`, `15m` or `1h30m`."""

from __future__ import annotations

import re

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_LONGEST = 100 * 365 * 86400.0
_NUMBER = r"\d+(?:\.\d+)?"
_PLAIN = re.compile(_NUMBER)
_WITH_UNITS = re.compile("".join(rf"(?:(?P<{unit}>{_NUMBER}){unit})?" for unit in _UNITS))


def parse(text: str) -> float:
    """Read a length of time.

    Args:
        text: A number of seconds, or numbers with the units d, h, m and s in this
            order: `90`, `90s`, `1.5h`, `1h30m`.

    Returns:
        Seconds, more than 0.

    Raises:
        ValueError: If it is none, or is 0.
    """
    wanted = "expected more than 0, such as 90, 90s, 15m, 2h or 1h30m"
    word = text.strip().lower()
    if _PLAIN.fullmatch(word):
        seconds = float(word)
    elif word and (match := _WITH_UNITS.fullmatch(word)):
        seconds = sum(float(match[unit] or 0) * scale for unit, scale in _UNITS.items())
    else:
        raise ValueError(f"{text!r} is no length of time: {wanted}")
    if seconds <= 0:
        raise ValueError(f"{text!r} is too short: {wanted}")
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is too long: leave it out for the daemon's default")
    return seconds


def write(seconds: float | None) -> str:
    """Write a length of time, as short as people like it; nothing for None."""
    if seconds is None:
        return ""
    if seconds < _UNITS["m"]:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s"
