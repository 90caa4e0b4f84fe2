"""Checks what WSClean made against the sky that was simulated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from casacore import tables

from simulate_ms import visibilities

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sky import PointSource, Sky


class CheckFailed(Exception):
    """A result is not what it has to be; the message says what was measured and expected."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Something measured and what it has to be, with its unit."""

    what: str
    measured: float
    expected: float
    unit: str

    @property
    def error(self) -> float:
        """The relative error."""
        return abs(self.measured / self.expected - 1)

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.measured:.4f} {self.unit}, expected {self.expected:.4f} "
            f"{self.unit} ({100 * self.error:.2f} % off)"
        )

    def require(self, tolerance: float) -> None:
        """Raise `CheckFailed` if the relative error exceeds a tolerance, or is no number."""
        if not self.error <= tolerance:
            raise CheckFailed(str(self))


def check_model_data(path: Path, sky: Sky, *, tolerance: float = 0.05) -> Measurement:
    """Compare the MODEL_DATA of a Measurement Set with the sky.

    Args:
        path: The Measurement Set.
        sky: The sky that was predicted into it.
        tolerance: The largest relative error.

    Returns:
        The mean amplitude over all rows, channels and correlations.

    Raises:
        CheckFailed: If it is off, or if the visibilities differ although their mean
            amplitude does not: then the sky is in the wrong place.
    """
    with tables.table(str(path), ack=False) as main:
        if "MODEL_DATA" not in main.colnames():
            raise CheckFailed(f"{path} has no MODEL_DATA column: nothing was predicted into it")
        model = main.getcol("MODEL_DATA")
        uvw = main.getcol("UVW")
    with tables.table(str(path / "SPECTRAL_WINDOW"), ack=False) as windows:
        frequencies = windows.getcell("CHAN_FREQ", 0)
    expected = visibilities(sky, uvw, frequencies)
    mean = float(np.abs(expected).mean())
    amplitude = Measurement("mean amplitude of MODEL_DATA", float(np.abs(model).mean()), mean, "Jy")
    amplitude.require(tolerance)
    difference = float(np.abs(model - expected[..., None]).mean())
    if not difference <= tolerance * mean:
        raise CheckFailed(
            f"MODEL_DATA differs from the sky by {difference:.4f} Jy on average although its mean "
            "amplitude is right: the sources are in the wrong place",
        )
    return amplitude


def check_restored_image(
    path: Path,
    sky: Sky,
    *,
    flux_tolerance: float = 0.05,
    distance_pixels: float = 1.0,
) -> list[Measurement]:
    """Find the sources of a sky in a restored image.

    Args:
        path: The FITS file.
        sky: The sky that was observed.
        flux_tolerance: The largest relative error of a peak.
        distance_pixels: How far a peak may be from its source.

    Returns:
        The peak of each source, brightest first.

    Raises:
        CheckFailed: If the brightest pixel is not that of the brightest source, or a
            source is not there or not as bright as it has to be.
    """
    image, wcs = read_image(path)
    if not np.isfinite(image).any():
        raise CheckFailed(f"{path} holds no number at all")
    sources = sorted(sky.sources, key=lambda source: -source.flux)
    peaks: list[Measurement] = []
    for source in sources:
        x, y = source_pixel(source, wcs)
        if source is sources[0]:
            at_y, at_x = np.unravel_index(int(np.nanargmax(image)), image.shape)
            distance = math.hypot(at_x - x, at_y - y)
            if not distance <= distance_pixels:
                raise CheckFailed(
                    f"the brightest pixel of {path.name} is ({at_x}, {at_y}), expected "
                    f"({x:.1f}, {y:.1f}), where {source.name} is",
                )
        around = _around(image, round(y), round(x), math.ceil(distance_pixels))
        if not around.size:
            raise CheckFailed(f"{source.name} is outside of {path.name}")
        peak = Measurement(f"peak of {source.name}", float(around.max()), source.flux, "Jy/beam")
        peak.require(flux_tolerance)
        peaks.append(peak)
    return peaks


def _around(
    image: NDArray[np.float32],
    row: int,
    column: int,
    reach: int,
) -> NDArray[np.float32]:
    """The pixels not farther from one than so many, empty if all are outside of the image."""
    rows = slice(max(0, row - reach), max(0, row + reach + 1))
    columns = slice(max(0, column - reach), max(0, column + reach + 1))
    return image[rows, columns]


def read_image(path: Path) -> tuple[NDArray[np.float32], Any]:
    """Read the first plane of a FITS image, shape (rows, columns), and its coordinates."""
    with fits.open(path) as units:
        header = units[0].header
        image = np.array(units[0].data[0, 0])
    # Only the sky: the other axes, and the date, are of no use here.
    for key in ("MJD-OBS", "DATE-OBS"):
        header.remove(key, ignore_missing=True)
    return image, WCS(header).celestial


def source_pixel(source: PointSource, wcs: Any) -> tuple[float, float]:
    """Column and row of a source in an image, both counted from 0."""
    x, y = wcs.all_world2pix(
        math.degrees(source.direction.ra),
        math.degrees(source.direction.dec),
        0,
    )
    return float(x), float(y)
