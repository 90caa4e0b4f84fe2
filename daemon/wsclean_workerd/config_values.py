"""How values of the configuration file are written: durations, sizes, modes and paths."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from wsclean_workerd.command import LONGEST_LIMIT
from wsclean_workerd.paths import normalise

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)([smhd]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_EXPECTED_DURATION = 'expected seconds or a text such as "90s", "15m", "1h30m", "2d"'
_SIZE = re.compile(r"(\d{1,15})(KiB|MiB|GiB|TiB)")
_EXPECTED_SIZE = 'expected bytes or a text such as "100MiB", "1GiB", or "none"'
_SIZE_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _seconds(value: object) -> object:
    """Read 90, "90s", "15m" or "1h30m" as seconds."""
    if isinstance(value, str):
        if not _DURATION.fullmatch(value):
            raise ValueError(_EXPECTED_DURATION)
        value = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        # Not a TypeError: pydantic collects only these.
        raise ValueError(_EXPECTED_DURATION)
    return float(value)


def _limit(value: object) -> object:
    """Read a duration, or "none" for no limit."""
    if value == "none":
        return None
    try:
        return _seconds(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "none"') from None


def _size(value: object) -> object:
    """Read a number of bytes, or "64KiB", "100MiB", "1GiB", or "none" for no limit."""
    if value == "none":
        return None
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _SIZE_UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int):
        # Not a TypeError: pydantic collects only these.
        raise ValueError(_EXPECTED_SIZE)  # noqa: TRY004
    return value


def _octal(value: object) -> object:
    """Read a file mode such as "0660"."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError('expected a mode in octal digits as a text, such as "0660"')
    return int(value, 8)


def _absolute(value: object) -> object:
    """Read an absolute path."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("expected an absolute path")
    if any(character in value for character in "\0\n"):
        raise ValueError("expected a path without NUL and newline characters")
    return normalise(value)


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=LONGEST_LIMIT)]
Limit = Annotated[Annotated[float, Field(gt=0, le=LONGEST_LIMIT)] | None, BeforeValidator(_limit)]
Size = Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_size)]
Mode = Annotated[int, BeforeValidator(_octal)]
AbsolutePath = Annotated[str, BeforeValidator(_absolute)]
