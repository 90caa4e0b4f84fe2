from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from casacore import tables
from numpy.typing import NDArray

from checks import (
    CheckFailed,
    Measurement,
    check_model_data,
    check_restored_image,
    read_image,
    source_pixel,
)
from simulate_ms import Observation, simulate
from sky import ARCSEC, Direction, Grid, PointSource, Sky

GRID = Grid(Direction(math.radians(129.27), math.radians(55.38)), size=64, scale=20 * ARCSEC)
BRIGHT, FAINT = (10, 15), (-20, -7)
MIDDLE = 32


def sky_at(*places: tuple[str, tuple[int, int], float]) -> Sky:
    return Sky(GRID, tuple(PointSource(name, GRID.pixel(*at), flux) for name, at, flux in places))


SKY = sky_at(("bright", BRIGHT, 1.5), ("faint", FAINT, 0.5))

Image = NDArray[np.float32]
Change = Callable[[Image], Image]


def blobs(*sources: tuple[tuple[float, float], float]) -> Image:
    """An image with a Gaussian for each source."""
    rows, columns = np.indices((GRID.size, GRID.size))
    image = np.zeros((GRID.size, GRID.size))
    for (x, y), flux in sources:
        distance2 = (columns - MIDDLE - x) ** 2 + (rows - MIDDLE - y) ** 2
        image += flux * np.exp(-distance2 / (2 * 1.5**2))
    return image.astype(np.float32)


def observed(bright: float = 1.5, faint: float = 0.5) -> Image:
    return blobs((BRIGHT, bright), (FAINT, faint))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Image], Path]:
    """Writes an image the way WSClean does."""

    def write(image: Image) -> Path:
        header = fits.Header()
        centre = GRID.centre
        axes = [
            ("RA---SIN", math.degrees(centre.ra), -math.degrees(GRID.scale), MIDDLE + 1, "deg"),
            ("DEC--SIN", math.degrees(centre.dec), math.degrees(GRID.scale), MIDDLE + 1, "deg"),
            ("FREQ", 1.4e9, 187e6, 1, "Hz"),
            ("STOKES", 1.0, 1.0, 1, ""),
        ]
        for number, (kind, value, step, pixel, unit) in enumerate(axes, start=1):
            header[f"CTYPE{number}"] = kind
            header[f"CRVAL{number}"] = value
            header[f"CDELT{number}"] = step
            header[f"CRPIX{number}"] = pixel
            header[f"CUNIT{number}"] = unit
        header["DATE-OBS"] = "2025-10-19T12:00:00.0"
        path = tmp_path / "image.fits"
        fits.writeto(path, image[None, None], header)
        return path

    return write


# -- measurements ----------------------------------------------------------------


def test_a_measurement_says_how_far_it_is_off() -> None:
    found = Measurement("peak of a", 1.45, 1.5, "Jy/beam")
    assert found.error == pytest.approx(1 / 30)
    assert str(found) == "peak of a: 1.4500 Jy/beam, expected 1.5000 Jy/beam (3.33 % off)"
    found.require(0.034)
    with pytest.raises(CheckFailed, match=r"expected 1\.5000 Jy/beam"):
        found.require(0.033)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.5, 0.0])
def test_what_is_far_off_or_no_number_fails(value: float) -> None:
    with pytest.raises(CheckFailed):
        Measurement("x", value, 1.5, "Jy").require(0.05)


# -- restored images -------------------------------------------------------------


def test_a_right_image_passes(write: Callable[[Image], Path]) -> None:
    found = check_restored_image(write(observed(1.47, 0.51)), SKY)
    assert [each.what for each in found] == ["peak of bright", "peak of faint"]
    assert [each.measured for each in found] == pytest.approx([1.47, 0.51], rel=1e-5)
    assert [each.expected for each in found] == [1.5, 0.5]


def test_the_brightest_source_need_not_be_the_first(write: Callable[[Image], Path]) -> None:
    turned = Sky(GRID, SKY.sources[::-1])
    assert [each.expected for each in check_restored_image(write(observed()), turned)] == [1.5, 0.5]


def test_a_source_is_found_on_its_pixel(write: Callable[[Image], Path]) -> None:
    image, wcs = read_image(write(observed()))
    assert image.shape == (64, 64)
    assert source_pixel(SKY.sources[0], wcs) == pytest.approx((42, 47), abs=1e-6)
    assert source_pixel(SKY.sources[1], wcs) == pytest.approx((12, 25), abs=1e-6)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (observed(bright=1.5 * 1.1), r"peak of bright: 1\.6500"),
        (observed(bright=1.5 * 0.9), r"peak of bright: 1\.3500"),
        (observed(faint=0.5 * 1.1), r"peak of faint: 0\.5500"),
        (observed(faint=0.5 * 0.9), r"peak of faint: 0\.4500"),
        (blobs((BRIGHT, 1.5)), "peak of faint"),
        (np.zeros((64, 64), np.float32), "the brightest pixel"),
        (-observed(), "the brightest pixel"),
    ],
    ids=["brighter", "darker", "faint-brighter", "faint-darker", "missing", "empty", "negative"],
)
def test_a_wrong_flux_is_found(
    write: Callable[[Image], Path],
    image: Image,
    said: str,
) -> None:
    with pytest.raises(CheckFailed, match=said):
        check_restored_image(write(image), SKY)


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (-3, 0), (0, 3), (0, -3), (2, 2), (2, 0)])
def test_a_source_that_has_moved_is_found(
    write: Callable[[Image], Path],
    dx: int,
    dy: int,
) -> None:
    moved = (BRIGHT[0] + dx, BRIGHT[1] + dy)
    with pytest.raises(CheckFailed, match=r"the brightest pixel of image\.fits is"):
        check_restored_image(write(blobs((moved, 1.5), (FAINT, 0.5))), SKY)


def test_a_fainter_source_that_has_moved_is_found(write: Callable[[Image], Path]) -> None:
    moved = (FAINT[0] + 3, FAINT[1])
    with pytest.raises(CheckFailed, match="peak of faint"):
        check_restored_image(write(blobs((BRIGHT, 1.5), (moved, 0.5))), SKY)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: np.roll(image[:, ::-1], 1, axis=1),
        lambda image: np.roll(image[::-1], 1, axis=0),
        lambda image: np.roll(image[::-1, ::-1], 1, axis=(0, 1)),
        np.transpose,
    ],
    ids=["east-west", "north-south", "both", "transposed"],
)
def test_a_mirrored_sky_is_found(write: Callable[[Image], Path], change: Change) -> None:
    with pytest.raises(CheckFailed, match="the brightest pixel"):
        check_restored_image(write(np.ascontiguousarray(change(observed()))), SKY)


def test_an_image_without_numbers_is_found(write: Callable[[Image], Path]) -> None:
    with pytest.raises(CheckFailed, match="holds no number"):
        check_restored_image(write(observed() * np.nan), SKY)


def test_a_source_outside_of_the_image_is_found(write: Callable[[Image], Path]) -> None:
    sky = sky_at(("bright", BRIGHT, 1.5), ("far", (400, 3), 0.5))
    with pytest.raises(CheckFailed, match=r"far is outside of image\.fits"):
        check_restored_image(write(observed()), sky)


def test_a_hole_where_a_source_is_is_found(write: Callable[[Image], Path]) -> None:
    image = observed()
    image[MIDDLE + FAINT[1], MIDDLE + FAINT[0]] = np.nan
    with pytest.raises(CheckFailed, match="peak of faint: nan"):
        check_restored_image(write(image), SKY)


# -- MODEL_DATA ------------------------------------------------------------------

OBSERVATION = Observation(sky=SKY, antennas=12, times=2, channels=4, noise=0)


@pytest.fixture
def measurement_set(tmp_path: Path) -> Path:
    path = tmp_path / "small.ms"
    simulate(path, OBSERVATION)
    return path


def data_of(path: Path) -> NDArray[np.complex64]:
    with tables.table(str(path), ack=False) as main:
        found: NDArray[np.complex64] = main.getcol("DATA")
    return found


def predict(path: Path, model: NDArray[np.complex64]) -> None:
    """Add MODEL_DATA as WSClean does."""
    description = tables.makearrcoldesc(
        "MODEL_DATA", 0j, ndim=2, shape=list(model.shape[1:]), valuetype="complex"
    )
    with tables.table(str(path), readonly=False, ack=False) as main:
        main.addcols(tables.maketabdesc([description]))
        main.putcol("MODEL_DATA", model)


def predicted_sky(tmp_path: Path, sky: Sky) -> NDArray[np.complex64]:
    """What a prediction of another sky would leave."""
    path = tmp_path / "other.ms"
    simulate(path, replace(OBSERVATION, sky=Sky(GRID, sky.sources)))
    return data_of(path)


def test_a_right_model_passes(measurement_set: Path) -> None:
    data = data_of(measurement_set)
    predict(measurement_set, data)
    found = check_model_data(measurement_set, SKY)
    assert found.measured == pytest.approx(np.abs(data).mean(), rel=1e-5)
    assert 1.0 < found.expected < 2.0


def test_a_model_that_is_slightly_off_passes(measurement_set: Path) -> None:
    predict(measurement_set, data_of(measurement_set) * np.complex64(1.03))
    assert check_model_data(measurement_set, SKY).error == pytest.approx(0.03, rel=1e-3)


def test_a_missing_model_is_found(measurement_set: Path) -> None:
    with pytest.raises(CheckFailed, match=r"small\.ms has no MODEL_DATA column"):
        check_model_data(measurement_set, SKY)


@pytest.mark.parametrize("factor", [0.0, 0.9, 1.1, 2.0, math.nan])
def test_a_model_of_another_strength_is_found(measurement_set: Path, factor: float) -> None:
    predict(measurement_set, data_of(measurement_set) * np.complex64(factor))
    with pytest.raises(CheckFailed, match="mean amplitude of MODEL_DATA"):
        check_model_data(measurement_set, SKY)


@pytest.mark.parametrize("factor", [-1, 1j])
def test_a_model_with_another_phase_is_found(measurement_set: Path, factor: complex) -> None:
    predict(measurement_set, data_of(measurement_set) * np.complex64(factor))
    with pytest.raises(CheckFailed, match="the sources are in the wrong place"):
        check_model_data(measurement_set, SKY)


def test_a_conjugated_model_is_found(measurement_set: Path) -> None:
    predict(measurement_set, data_of(measurement_set).conj())
    with pytest.raises(CheckFailed, match="the sources are in the wrong place"):
        check_model_data(measurement_set, SKY)


@pytest.mark.parametrize(("x", "y"), [(-1, 1), (1, -1), (-1, -1)])
def test_a_mirrored_model_is_found(
    measurement_set: Path,
    tmp_path: Path,
    x: int,
    y: int,
) -> None:
    mirrored = sky_at(
        ("bright", (x * BRIGHT[0], y * BRIGHT[1]), 1.5),
        ("faint", (x * FAINT[0], y * FAINT[1]), 0.5),
    )
    predict(measurement_set, predicted_sky(tmp_path, mirrored))
    with pytest.raises(CheckFailed):
        check_model_data(measurement_set, SKY)


@pytest.mark.parametrize("which", ["bright", "faint"])
def test_a_model_with_a_source_moved_is_found(
    measurement_set: Path,
    tmp_path: Path,
    which: str,
) -> None:
    moved = sky_at(
        ("bright", (BRIGHT[0] + 3 * (which == "bright"), BRIGHT[1]), 1.5),
        ("faint", (FAINT[0] + 3 * (which == "faint"), FAINT[1]), 0.5),
    )
    predict(measurement_set, predicted_sky(tmp_path, moved))
    with pytest.raises(CheckFailed):
        check_model_data(measurement_set, SKY)


def test_one_wrong_correlation_is_found(measurement_set: Path) -> None:
    model = data_of(measurement_set)
    model[..., 1] = 0
    predict(measurement_set, model)
    with pytest.raises(CheckFailed, match="mean amplitude"):
        check_model_data(measurement_set, SKY)
