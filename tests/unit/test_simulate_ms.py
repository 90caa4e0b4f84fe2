from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import EarthLocation
from astropy.time import Time
from casacore import tables
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import simulate_ms
from simulate_ms import (
    LATITUDE,
    LONGITUDE,
    SPEED_OF_LIGHT,
    Observation,
    antenna_positions,
    baseline_uvw,
    equatorial,
    simulate,
    visibilities,
)
from sky import ARCSEC, DEMO_SKY, Direction, Grid, PointSource, Sky

SCRIPT = Path(simulate_ms.__file__)
CENTRE = Direction(2.0, 0.9)

angles = st.floats(-3, 3)
declinations = st.floats(-1.5, 1.5)
metres = st.floats(-2000, 2000)


def sky_of(*sources: tuple[Direction, float]) -> Sky:
    return Sky(
        Grid(CENTRE, 64, 4 * ARCSEC),
        tuple(PointSource(f"s{n}", where, flux) for n, (where, flux) in enumerate(sources)),
    )


def uvw_of(baseline: list[float], hour_angle: float, declination: float) -> NDArray[np.float64]:
    """u, v, w of one baseline, given in equatorial metres, at one time."""
    found = baseline_uvw(np.array([baseline]), np.array([hour_angle]), declination)
    assert found.shape == (1, 1, 3)
    return found.reshape(3)


# -- geometry --------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 5, 7, 8, 20, 63, 110])
def test_no_two_dishes_are_in_the_same_place(count: int) -> None:
    places = antenna_positions(count)
    assert places.shape == (count, 2)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert apart[np.triu_indices(count, k=1)].min() > simulate_ms.DISH_METRES


@pytest.mark.parametrize("count", [-1, 0, 3])
def test_too_few_antennas_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot lay out {count} antennas: at least 4"):
        antenna_positions(count)


@given(metres, metres)
def test_the_ground_is_horizontal(east: float, north: float) -> None:
    found = equatorial(np.array([[east, north]]))[0]
    assert np.linalg.norm(found) == pytest.approx(math.hypot(east, north))
    zenith = np.array([math.cos(LATITUDE), 0, math.sin(LATITUDE)])
    assert found @ zenith == pytest.approx(0, abs=1e-9)
    assert found[1] == east
    # North of here is nearer to the pole.
    assert math.copysign(1, found[2]) == math.copysign(1, north) or north == 0


@given(declinations, st.floats(1, 2000))
def test_an_east_west_baseline_at_transit_is_all_u(declination: float, length: float) -> None:
    baseline = equatorial(np.array([[length, 0.0]]))[0].tolist()
    assert uvw_of(baseline, 0, declination) == pytest.approx([length, 0, 0], abs=1e-9)


def test_a_north_south_baseline_below_the_zenith_is_all_v() -> None:
    baseline = equatorial(np.array([[0.0, 100.0]]))[0].tolist()
    assert uvw_of(baseline, 0, LATITUDE) == pytest.approx([0, 100, 0], abs=1e-9)


def test_a_polar_baseline_does_not_turn() -> None:
    for hour_angle in (-2.0, 0.0, 1.0):
        found = uvw_of([0, 0, 100], hour_angle, 0.5)
        assert found == pytest.approx([0, 100 * math.cos(0.5), 100 * math.sin(0.5)])


@given(st.tuples(metres, metres, metres), angles, declinations)
def test_the_length_of_a_baseline_stays(
    baseline: tuple[float, float, float],
    hour_angle: float,
    declination: float,
) -> None:
    found = uvw_of(list(baseline), hour_angle, declination)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(baseline))


@given(st.tuples(metres, metres, metres), angles, declinations)
def test_uvw_are_projections_onto_the_axes_of_the_sky(
    baseline: tuple[float, float, float],
    hour_angle: float,
    declination: float,
) -> None:
    def towards(dec: float) -> NDArray[np.float64]:
        # Once past the meridian a source is in the west, where y is negative.
        return np.array(
            [
                math.cos(dec) * math.cos(hour_angle),
                -math.cos(dec) * math.sin(hour_angle),
                math.sin(dec),
            ],
        )

    source, north = towards(declination), towards(declination + math.pi / 2)
    axes = np.array([np.cross(north, source), north, source])
    found = uvw_of(list(baseline), hour_angle, declination)
    assert found == pytest.approx(axes @ baseline, abs=1e-8)


# -- visibilities ----------------------------------------------------------------

UVW = np.array([[120.0, -40.0, 15.0], [-800.0, 300.0, 90.0], [0.0, 0.0, 50.0]])
FREQUENCIES = np.array([1.3e9, 1.4e9, 1.5e9])


def test_a_source_at_the_phase_centre_is_its_flux() -> None:
    found = visibilities(sky_of((CENTRE, 1.5)), UVW, FREQUENCIES)
    assert found.shape == (3, 3)
    assert np.allclose(found, 1.5, atol=1e-12)


def test_an_empty_sky_is_dark() -> None:
    assert not visibilities(sky_of(), UVW, FREQUENCIES).any()


def test_a_source_in_the_east_turns_the_phase_forwards_with_u() -> None:
    l = 1e-3  # noqa: E741
    sky = sky_of((CENTRE.offset(l, 0), 2.0))
    wavelength = SPEED_OF_LIGHT / 1.4e9
    # A quarter of a turn where the path to the source is a quarter of a wave.
    uvw = np.array([[wavelength / 4 / l, 0, 0], [0, wavelength / 4 / l, 0]])
    found = visibilities(sky, uvw, np.array([1.4e9]))[:, 0]
    assert found == pytest.approx(np.array([2j, 2]), abs=1e-9)


def test_w_counts_from_the_phase_centre() -> None:
    sky = sky_of((CENTRE.offset(0.6, 0), 1.0))
    wavelength = SPEED_OF_LIGHT / 1.4e9
    # n - 1 is -0.2, so the path is shorter by a fifth of w.
    found = visibilities(sky, np.array([[0, 0, 1.25 * wavelength]]), np.array([1.4e9]))
    assert found[0, 0] == pytest.approx(np.exp(-2j * np.pi * 0.25), abs=1e-9)


@given(
    st.floats(-1e-2, 1e-2),
    st.floats(-1e-2, 1e-2),
    st.floats(0.1, 10),
)
def test_the_opposite_baseline_sees_the_conjugate(
    l: float,  # noqa: E741
    m: float,
    flux: float,
) -> None:
    sky = sky_of((CENTRE.offset(l, m), flux))
    there, back = (visibilities(sky, sign * UVW, FREQUENCIES) for sign in (1, -1))
    assert np.allclose(there, back.conj(), atol=1e-9)
    assert np.allclose(np.abs(there), flux)


def test_sources_add_up() -> None:
    one, two = (CENTRE.offset(1e-3, 2e-3), 1.5), (CENTRE.offset(-3e-3, 0), 0.5)
    both = visibilities(sky_of(one, two), UVW, FREQUENCIES)
    each = [visibilities(sky_of(source), UVW, FREQUENCIES) for source in (one, two)]
    assert np.allclose(both, each[0] + each[1])


# -- the Measurement Set ---------------------------------------------------------

SMALL = Observation(antennas=5, times=3, channels=2, noise=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Measurement Set without noise."""
    path = tmp_path_factory.mktemp("ms") / "small.ms"
    simulate(path, SMALL)
    return path


def column(path: Path, name: str) -> Any:
    with tables.table(str(path), ack=False) as table:
        return table.getcol(name)


def test_every_pair_of_antennas_has_a_row_for_every_time(small: Path) -> None:
    pairs = list(zip(column(small, "ANTENNA1"), column(small, "ANTENNA2"), strict=True))
    times = column(small, "TIME")
    assert len(pairs) == 3 * 10
    assert all(first < second for first, second in pairs)
    found = {(float(time), *map(int, pair)) for time, pair in zip(times, pairs, strict=True)}
    assert len(found) == 3 * 10
    moments = np.unique(times)
    assert np.diff(moments) == pytest.approx([SMALL.interval] * 2, abs=1e-3)
    assert (np.diff(times) >= 0).all()


def test_uvw_are_as_long_as_the_antennas_are_apart(small: Path) -> None:
    positions = column(small / "ANTENNA", "POSITION")
    apart = positions[column(small, "ANTENNA2")] - positions[column(small, "ANTENNA1")]
    lengths = np.linalg.norm(column(small, "UVW"), axis=-1)
    assert lengths == pytest.approx(np.linalg.norm(apart, axis=-1), abs=1e-3)


def test_the_antennas_are_at_owens_valley(small: Path) -> None:
    x, y, z = column(small / "ANTENNA", "POSITION").T
    places = EarthLocation.from_geocentric(x, y, z, unit="m")
    assert places.lon.rad == pytest.approx(LONGITUDE, abs=1e-3)
    # The earth is a sphere here.
    assert places.lat.rad == pytest.approx(LATITUDE, abs=5e-3)
    east = (places.lon.rad - LONGITUDE) * math.cos(LATITUDE) * simulate_ms.EARTH_RADIUS_METRES
    assert east == pytest.approx(antenna_positions(5)[:, 0], abs=1)


def test_the_data_are_those_of_the_sky(small: Path) -> None:
    data = column(small, "DATA")
    assert data.shape == (30, 2, 2)
    # Two sources of 1.5 and 0.5 Jy.
    assert 1.0 - 1e-5 <= np.abs(data).min() <= np.abs(data).max() <= 2.0 + 1e-5
    assert np.array_equal(data[..., 0], data[..., 1])
    expected = visibilities(DEMO_SKY, column(small, "UVW"), SMALL.frequencies)
    assert np.allclose(data[..., 0], expected, atol=1e-5)
    assert not column(small, "FLAG").any()


def test_a_source_at_the_phase_centre_is_real_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "centre.ms"
    simulate(path, replace(SMALL, sky=sky_of((CENTRE, 1.5))))
    assert np.allclose(column(path, "DATA"), 1.5, atol=1e-6)
    assert column(path / "FIELD", "PHASE_DIR").ravel() == pytest.approx([CENTRE.ra, CENTRE.dec])


def test_noise_is_as_strong_as_told_and_the_same_each_time(tmp_path: Path) -> None:
    noisy = replace(SMALL, antennas=20, channels=8, noise=0.05, sky=sky_of())
    for name in ("a.ms", "b.ms"):
        simulate(tmp_path / name, noisy)
    simulate(tmp_path / "c.ms", replace(noisy, seed=1))
    a, b, c = (column(tmp_path / name, "DATA") for name in ("a.ms", "b.ms", "c.ms"))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    # 9120 values of each kind: the standard deviation is known to 0.75 %.
    assert a.real.std() == pytest.approx(0.05, rel=0.05)
    assert a.imag.std() == pytest.approx(0.05, rel=0.05)
    assert abs(np.mean(a)) < 0.05 * 5 / math.sqrt(a.size)


def test_the_frequencies_are_described(small: Path) -> None:
    window = small / "SPECTRAL_WINDOW"
    assert column(window, "NUM_CHAN") == [2]
    assert column(window, "CHAN_FREQ").ravel() == pytest.approx([1.311e9, 1.3227e9])
    assert column(window, "CHAN_WIDTH").ravel() == pytest.approx([11.7e6] * 2)
    assert column(window, "TOTAL_BANDWIDTH") == pytest.approx([23.4e6])


def test_the_tables_agree_about_how_many_there_are(small: Path) -> None:
    for name, rows in {
        "ANTENNA": 5,
        "FEED": 5,
        "FIELD": 1,
        "SPECTRAL_WINDOW": 1,
        "POLARIZATION": 1,
        "DATA_DESCRIPTION": 1,
        "OBSERVATION": 1,
    }.items():
        with tables.table(str(small / name), ack=False) as table:
            assert table.nrows() == rows, name


@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_is_overwritten(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "there.ms"
    kept = path / "kept" if is_folder else path
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("precious")
    with pytest.raises(FileExistsError, match=r"cannot write .*there\.ms: it is there already"):
        simulate(path, SMALL)
    assert kept.read_text() == "precious"
    assert [each.name for each in tmp_path.iterdir()] == ["there.ms"]


# -- the command line ------------------------------------------------------------


def call(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_line_says_how_much_is_written(tmp_path: Path) -> None:
    path = tmp_path / "cli.ms"
    done = call(path, "--antennas", 4, "--times", 2, "--channels", 3)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert column(path, "DATA").shape == (2 * 6, 3, 2)


def test_the_command_does_not_overwrite(tmp_path: Path) -> None:
    done = call(tmp_path, "--antennas", 4)
    assert done.returncode == 1
    assert done.stderr == f"error: cannot write {tmp_path}: it is there already\n"
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_an_array_that_is_none(tmp_path: Path) -> None:
    done = call(tmp_path / "x.ms", "--antennas", 3)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot lay out 3 antennas")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [[], ["a.ms", "b.ms"], ["a.ms", "--times", "x"], ["--help-me"]])
def test_the_command_says_how_it_is_used(words: list[str]) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert "usage: simulate_ms.py" in done.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--times", "0"], "cannot observe 0 times"),
        (["--times", "-1"], "cannot observe -1 times"),
        (["--channels", "0"], "cannot observe 0 channels"),
    ],
)
def test_the_command_refuses_no_observation_and_leaves_nothing(
    tmp_path: Path,
    words: list[str],
    problem: str,
) -> None:
    done = call(tmp_path / "a.ms", *words)
    assert (done.returncode, problem in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_makes_no_folders(tmp_path: Path) -> None:
    done = call(tmp_path / "no" / "a.ms")
    assert done.returncode == 1
    assert "there is no folder" in done.stderr


def test_the_phase_centre_is_on_the_meridian_in_the_middle(small: Path) -> None:
    times = column(small, "TIME")
    middle = Time((times[0] + times[-1]) / 2 / 86400, format="mjd", scale="utc")
    # UT1 as good as UTC: nothing has to be looked up, and it is less than a second.
    middle.delta_ut1_utc = 0.0
    rotation = middle.earth_rotation_angle(longitude=math.degrees(LONGITUDE) * units.deg)
    difference = math.remainder(rotation.rad - SMALL.sky.grid.centre.ra, 2 * math.pi)
    assert abs(difference) < 2 * 2 * math.pi / 86400
