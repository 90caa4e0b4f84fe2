"""Reads the configuration file and says what is wrong with it."""

from __future__ import annotations

import difflib
import tomllib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from wsclean_workerd.config import Config, KeyedError, known_keys
from wsclean_workerd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Args:
        path: The TOML file.

    Returns:
        The configuration with every default filled in.

    Raises:
        ConfigError: If the file cannot be read or used. The message has a line
            for each problem: file, key, what was expected and what was found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        lines = [f"{path}: {_explain(each)}" for each in error.errors()]
        raise ConfigError("\n".join(lines)) from None


# pydantic's words for what this project says otherwise.
_EXPECTED = {
    "list_type": "expected a list",
    "model_type": "expected a table",
    "string_too_short": "expected a text that is not empty",
    "too_short": "expected at least one",
}


def _explain(error: Any) -> str:
    cause = error.get("ctx", {}).get("error")
    kind, found = error["type"], error["input"]
    if isinstance(cause, KeyedError):
        return f"{cause.key}: {cause}"
    key = _key(error["loc"])
    if kind == "extra_forbidden":
        return f"{key}: unknown key{_suggest(error['loc'])}"
    if kind == "missing":
        return f"{key}: missing"
    if cause is not None:
        expected = str(cause)
    else:
        expected = _EXPECTED.get(kind, error["msg"].replace("Input should be", "expected"))
    return f"{key}: {expected}, got {found!r}"


def _key(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location)


def _suggest(location: tuple[str | int, ...]) -> str:
    known = known_keys(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f", did you mean {close[0]}?"
    return f", expected one of {', '.join(sorted(known))}"
