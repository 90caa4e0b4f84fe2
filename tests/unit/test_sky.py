from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sky import ARCSEC, DEMO_SKY, Direction, Grid, PointSource, Sky, write_source_list

TURN = 2 * math.pi
MICROSECOND = TURN / 86400e6
MICROARCSECOND = ARCSEC / 1e6

right_ascensions = st.floats(0, TURN, exclude_max=True)
# Away from the poles, where right ascension means nothing.
declinations = st.floats(-1.5, 1.5)
centres = st.builds(Direction, right_ascensions, declinations)
cosines = st.floats(-0.6, 0.6)


def vector(ra: float, dec: float) -> NDArray[np.float64]:
    """The unit vector to a direction."""
    return np.array([math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)])


# -- direction cosines -----------------------------------------------------------


def test_the_centre_has_no_offset() -> None:
    centre = Direction(1.2, -0.7)
    assert centre.cosines(centre) == pytest.approx((0, 0, 1))


def test_l_grows_to_the_east_and_m_to_the_north() -> None:
    centre = Direction(1.0, 0.5)
    assert Direction(1.0, 0.6).cosines(centre) == pytest.approx((0, math.sin(0.1), math.cos(0.1)))
    l, m, _ = Direction(1.1, 0.5).cosines(centre)  # noqa: E741
    assert l == pytest.approx(math.cos(0.5) * math.sin(0.1))
    # The parallel bends towards the pole.
    assert 0 < m < l
    assert Direction(0.1, 0).cosines(Direction(0, 0)) == pytest.approx(
        (math.sin(0.1), 0, math.cos(0.1)),
    )


@given(centres, centres)
def test_cosines_are_projections_onto_the_axes_of_the_sky(
    centre: Direction,
    direction: Direction,
) -> None:
    towards = vector(centre.ra, centre.dec)
    north = vector(centre.ra, centre.dec + math.pi / 2)
    east = np.cross(north, towards)
    seen = vector(direction.ra, direction.dec)
    l, m, n = direction.cosines(centre)  # noqa: E741
    assert l == pytest.approx(seen @ east, abs=1e-12)
    assert m == pytest.approx(seen @ north, abs=1e-12)
    # What is behind is not told from what is in front; near the edge n is ill-conditioned.
    assert n == pytest.approx(abs(seen @ towards), abs=1e-6)


@given(centres, cosines, cosines)
@example(Direction(0, 0), 0.1, 0.0)
@example(Direction(0, 0), -0.1, 0.0)
def test_an_offset_is_what_the_cosines_say(
    centre: Direction,
    l: float,  # noqa: E741
    m: float,
) -> None:
    found = centre.offset(l, m)
    assert 0 <= found.ra <= TURN
    assert abs(found.dec) <= math.pi / 2
    towards = vector(centre.ra, centre.dec)
    # Beyond the pole the direction is the same, its numbers are others.
    assert vector(found.ra, found.dec) @ towards == pytest.approx(
        math.sqrt(1 - l * l - m * m),
        abs=1e-9,
    )
    assert found.cosines(centre)[:2] == pytest.approx((l, m), abs=1e-9)


@given(centres, st.floats(0, 0.5), st.floats(0, TURN))
def test_the_way_back_from_an_offset(centre: Direction, distance: float, angle: float) -> None:
    there = centre.offset(distance * math.cos(angle), distance * math.sin(angle))
    again = centre.offset(*there.cosines(centre)[:2])
    assert vector(again.ra, again.dec) == pytest.approx(vector(there.ra, there.dec), abs=1e-9)


@pytest.mark.parametrize("centre", [(8.6, 55.4), (359.99, -30.0), (0.01, 0.0)])
@pytest.mark.parametrize("pixel", [(0, 0), (40, 60), (-95, -50), (200, -200)])
def test_a_pixel_is_where_a_fits_image_has_it(
    centre: tuple[float, float],
    pixel: tuple[int, int],
) -> None:
    grid = Grid(Direction(*map(math.radians, centre)), size=512, scale=4 * ARCSEC)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = centre
    wcs.wcs.cdelt = [-4 / 3600, 4 / 3600]
    wcs.wcs.crpix = [257, 257]
    ra, dec = wcs.all_pix2world(256 + pixel[0], 256 + pixel[1], 0)
    found = grid.pixel(*pixel)
    assert math.degrees(found.dec) == pytest.approx(float(dec), abs=1e-9)
    apart = (math.degrees(found.ra) - float(ra) + 180) % 360 - 180
    assert apart == pytest.approx(0, abs=1e-9)


# -- sexagesimal -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0, "00h00m00.000000s"),
        (8 + 37 / 60 + 5 / 3600, "08h37m05.000000s"),
        (12.5, "12h30m00.000000s"),
        (23 + 59 / 60 + 59.5 / 3600, "23h59m59.500000s"),
        # What rounds to sixty carries over, up to the hours.
        (1 + 2 / 60 + 59.9999999 / 3600, "01h03m00.000000s"),
        (1 + 59 / 60 + 59.9999999 / 3600, "02h00m00.000000s"),
        (1 + 2 / 60 + 59.999999 / 3600, "01h02m59.999999s"),
        # A turn more or less is the same direction.
        (24 - 1e-12, "00h00m00.000000s"),
        (-1.5, "22h30m00.000000s"),
        (25, "01h00m00.000000s"),
    ],
)
def test_right_ascension_as_text(hours: float, text: str) -> None:
    assert Direction(hours * math.pi / 12, 0).hms() == text


@pytest.mark.parametrize(
    ("degrees", "text"),
    [
        (0, "+00d00m00.000000s"),
        (55 + 22 / 60 + 54 / 3600, "+55d22m54.000000s"),
        (-10.5, "-10d30m00.000000s"),
        # The sign is not lost where there are no whole degrees to carry it.
        (-0.5, "-00d30m00.000000s"),
        (-0.25 / 3600, "-00d00m00.250000s"),
        (-(29 / 60 + 59.9999999 / 3600), "-00d30m00.000000s"),
        (-(59 / 60 + 59.9999999 / 3600), "-01d00m00.000000s"),
        (90, "+90d00m00.000000s"),
        (-90, "-90d00m00.000000s"),
    ],
)
def test_declination_as_text(degrees: float, text: str) -> None:
    assert Direction(0, math.radians(degrees)).dms() == text


def test_declination_with_other_separators() -> None:
    assert Direction(0, math.radians(-0.5)).dms((":", ":", "")) == "-00:30:00.000000"


def parse(text: str) -> float:
    """The number that a text such as -00d30m00.000000s stands for, read independently."""
    found = re.fullmatch(r"([+-]?)(\d\d)[hd:.](\d\d)[m:.](\d\d\.\d{6})s?", text)
    assert found, text
    whole, minutes, seconds = (float(part) for part in found.groups()[1:])
    assert minutes < 60
    assert seconds < 60
    value = whole + minutes / 60 + seconds / 3600
    return -value if found[1] == "-" else value


@given(right_ascensions)
def test_no_right_ascension_is_lost_in_text(ra: float) -> None:
    hours = parse(Direction(ra, 0).hms())
    assert hours < 24
    # What is a whole turn, or rounded up to one, is none.
    difference = math.remainder(hours * math.pi / 12 - ra, 2 * math.pi)
    assert abs(difference) <= MICROSECOND


@given(st.floats(-math.pi / 2, math.pi / 2))
@example(-1e-9)
@example(math.radians(-0.5))
def test_no_declination_is_lost_in_text(dec: float) -> None:
    text = Direction(0, dec).dms()
    assert math.radians(parse(text)) == pytest.approx(dec, abs=MICROARCSECOND)


# -- source lists ----------------------------------------------------------------


def test_a_source_list_is_what_wsclean_reads(tmp_path: Path) -> None:
    sky = Sky(
        Grid(Direction(0, 0), 64, ARCSEC),
        (
            PointSource("north", Direction(math.pi, math.radians(55.5)), 1.5),
            PointSource("south", Direction(0, math.radians(-0.5)), 0.25),
        ),
    )
    path = tmp_path / "model.txt"
    write_source_list(sky, path, frequency_hz=1.4e9)
    assert path.read_text() == (
        "Format = Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, "
        "ReferenceFrequency='1400000000.0', MajorAxis, MinorAxis, Orientation\n"
        "north,POINT,12:00:00.000000,+55.30.00.000000,1.500000,[0.0],false,1400000000.0,,,\n"
        "south,POINT,00:00:00.000000,-00.30.00.000000,0.250000,[0.0],false,1400000000.0,,,\n"
    )


def test_each_source_has_as_many_fields_as_the_header_names(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    write_source_list(DEMO_SKY, path, frequency_hz=1.4e9)
    header, *lines = path.read_text().splitlines()
    assert {line.count(",") for line in lines} == {header.count(",")}
    for line, source in zip(lines, DEMO_SKY.sources, strict=True):
        name, kind, ra, dec, flux = line.split(",")[:5]
        assert (name, kind, float(flux)) == (source.name, "POINT", source.flux)
        assert parse(ra) * math.pi / 12 == pytest.approx(source.direction.ra, abs=MICROSECOND)
        assert math.radians(parse(dec)) == pytest.approx(source.direction.dec, abs=MICROARCSECOND)


# -- the demo's sky --------------------------------------------------------------


def test_the_sources_of_the_demo_are_on_pixels_of_its_grid() -> None:
    grid = DEMO_SKY.grid
    places = []
    for source in DEMO_SKY.sources:
        l, m, _ = source.direction.cosines(grid.centre)  # noqa: E741
        x, y = -l / grid.scale, m / grid.scale
        assert (x, y) == pytest.approx((round(x), round(y)), abs=1e-6)
        assert max(abs(x), abs(y)) < grid.size / 2 - 10
        places.append((x, y))
    assert math.dist(*places) > 100
    # Otherwise a mirrored image would pass for the right one.
    assert len({(round(abs(x)), round(abs(y))) for x, y in places}) == len(places)
    assert all(round(x) != 0 and round(y) != 0 for x, y in places)
