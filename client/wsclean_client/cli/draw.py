"""Prints data: JSON for programs, aligned text for pipes, tables for terminals."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from wsclean_client.cli.options import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_STYLES = {
    "RUNNING": "cyan",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "LOST": "red",
    "CANCELLED": "yellow",
    "HELD": "yellow",
}


def as_json(data: Any) -> None:
    """Print data as JSON."""
    click.echo(json.dumps(data, indent=2))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the last column takes what room there is.

    Args:
        header: The names of the columns.
        rows: The cells.
    """
    clean = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(header, clean)
    else:
        _aligned([[name.upper() for name in header], *clean])


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one a line. A name that is empty continues the one before."""
    clean = [(name, printable(value)) for name, value in rows]
    if sys.stdout.isatty():
        _rich_pairs(clean)
    else:
        _aligned(clean)


def _aligned(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


# rich is imported where it draws, since it takes longer to import than a pipe
# takes to be served. Its Text carries no markup: what jobs are called is theirs.
# ruff: noqa: PLC0415


def _rich_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in header[:-1]:
        drawn.add_column(name, no_wrap=True)
    drawn.add_column(header[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(drawn)


def _rich_pairs(rows: Sequence[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, show_header=False)
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in rows:
        drawn.add_row(name, Text(value, style=_STYLES.get(value, "")))
    Console().print(drawn)
