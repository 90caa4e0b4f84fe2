"""A sky of point sources: where they are, how bright they are, how WSClean reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ARCSEC = math.pi / (180 * 3600)
"""Radians."""


@dataclass(frozen=True, slots=True)
class Direction:
    """A direction in J2000, in radians."""

    ra: float
    dec: float

    def cosines(self, centre: Direction) -> tuple[float, float, float]:
        """Direction cosines l (east), m (north), n relative to a phase centre."""
        delta = self.ra - centre.ra
        l = math.cos(self.dec) * math.sin(delta)  # noqa: E741 - the field's name for it
        m = math.sin(self.dec) * math.cos(centre.dec) - math.cos(self.dec) * math.sin(
            centre.dec,
        ) * math.cos(delta)
        return l, m, math.sqrt(1 - l * l - m * m)

    def offset(self, l: float, m: float) -> Direction:  # noqa: E741
        """The direction at these direction cosines relative to this one."""
        n = math.sqrt(1 - l * l - m * m)
        dec = math.asin(m * math.cos(self.dec) + n * math.sin(self.dec))
        ra = self.ra + math.atan2(l, n * math.cos(self.dec) - m * math.sin(self.dec))
        return Direction(ra % (2 * math.pi), dec)

    def hms(self) -> str:
        """Right ascension as WSClean reads it, for example 08h37m05.000000s."""
        hours, minutes, seconds = _sexagesimal(self.ra % (2 * math.pi) * 12 / math.pi)
        hours %= 24  # what is rounded up to a whole turn is none
        return f"{hours:02d}h{minutes:02d}m{seconds:09.6f}s"

    def dms(self, separators: tuple[str, str, str] = ("d", "m", "s")) -> str:
        """Declination as WSClean reads it, for example +55d22m54.000000s."""
        degrees, minutes, seconds = _sexagesimal(abs(self.dec) * 180 / math.pi)
        sign = "-" if self.dec < 0 else "+"
        d, m, s = separators
        return f"{sign}{degrees:02d}{d}{minutes:02d}{m}{seconds:09.6f}{s}"


def _sexagesimal(value: float) -> tuple[int, int, float]:
    # In units of a millionth of a second, so that rounding never makes sixty of them.
    ticks = round(value * 3600e6)
    whole, rest = divmod(ticks, 3_600_000_000)
    minutes, ticks = divmod(rest, 60_000_000)
    return whole, minutes, ticks / 1e6


@dataclass(frozen=True, slots=True)
class PointSource:
    """A point source with the same flux density at all frequencies.

    Attributes:
        name: Its name.
        direction: Where it is.
        flux: Its flux density in Jy.
    """

    name: str
    direction: Direction
    flux: float


@dataclass(frozen=True, slots=True)
class Grid:
    """An image: its centre, its pixels along each side, and their size in radians."""

    centre: Direction
    size: int
    scale: float

    def pixel(self, x: int, y: int) -> Direction:
        """The direction of a pixel, counted from the one in the centre, east is -x."""
        return self.centre.offset(-x * self.scale, y * self.scale)


@dataclass(frozen=True, slots=True)
class Sky:
    """Some sources, and the grid on whose pixels they are."""

    grid: Grid
    sources: tuple[PointSource, ...]


def write_source_list(sky: Sky, path: Path, *, frequency_hz: float) -> None:
    """Write a sky as a source list in WSClean's text format.

    Args:
        sky: The sources.
        path: The file.
        frequency_hz: The frequency that the flux densities are given at.
    """
    header = (
        "Format = Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, "
        f"ReferenceFrequency='{frequency_hz:.1f}', MajorAxis, MinorAxis, Orientation"
    )
    lines = [header]
    for source in sky.sources:
        ra = source.direction.hms().replace("h", ":").replace("m", ":").rstrip("s")
        dec = source.direction.dms((".", ".", ".")).rstrip(".")
        lines.append(
            f"{source.name},POINT,{ra},{dec},{source.flux:.6f},[0.0],false,{frequency_hz:.1f},,,",
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


_DEMO_GRID = Grid(
    centre=Direction(
        ra=math.radians(15 * (8 + 37 / 60 + 5 / 3600)),
        dec=math.radians(55 + 22 / 60 + 54 / 3600),
    ),
    size=512,
    scale=4 * ARCSEC,
)

DEMO_SKY = Sky(
    grid=_DEMO_GRID,
    sources=(
        PointSource("bright", _DEMO_GRID.pixel(40, 60), 1.5),
        PointSource("faint", _DEMO_GRID.pixel(-95, -50), 0.5),
    ),
)
"""Two sources on pixel centres, so that a drawn pixel holds all of their flux."""
