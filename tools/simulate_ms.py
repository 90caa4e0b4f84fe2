"""Writes a Measurement Set as an array like DSA-110 would observe a sky of point sources.

python tools/simulate_ms.py OUT.ms [--antennas N] [--times N] [--channels N]
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from casacore import tables

from sky import DEMO_SKY, Direction, Sky

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEED_OF_LIGHT = 299_792_458.0
"""Metres per second."""

LATITUDE = math.radians(37.2339)
LONGITUDE = math.radians(-118.2817)
"""Of the Owens Valley Radio Observatory, in radians."""

SIDEREAL_DAY = 86164.0905
"""Seconds."""

DISH_METRES = 4.65
SPACING_METRES = 5.75
EARTH_RADIUS_METRES = 6_370_000.0
_LINEAR_XX, _LINEAR_YY = 9, 12  # casacore's Stokes numbers


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What is observed and how. Defaults are those of the demo.

    Attributes:
        sky: The sources; its grid's centre is the phase centre.
        antennas: How many antennas of the array take part.
        times: How many integrations there are.
        interval: The length of one in seconds.
        channels: How many channels there are.
        start_hz: The frequency of the first channel.
        width_hz: The width of a channel.
        noise: The standard deviation of the noise in real and imaginary part, in Jy.
        seed: For the noise.
    """

    sky: Sky = DEMO_SKY
    antennas: int = 63
    times: int = 12
    interval: float = 12.88
    channels: int = 16
    start_hz: float = 1.311e9
    width_hz: float = 11.7e6
    noise: float = 0.05
    seed: int = 110

    def __post_init__(self) -> None:
        """Refuse what makes no observation."""
        for name in ("times", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"cannot observe {getattr(self, name)} {name}: 1 or more expected")

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """The frequencies of the channels in Hz, shape (channels,)."""
        return self.start_hz + self.width_hz * np.arange(self.channels, dtype=np.float64)


def antenna_positions(count: int) -> NDArray[np.float64]:
    """Antennas in a T with outriggers, the way DSA-110 has them.

    Args:
        count: How many, at least 4.

    Returns:
        East and north of the array's centre in metres, shape (count, 2).
    """
    if count < 4:  # noqa: PLR2004 - fewer make no image
        raise ValueError(f"cannot lay out {count} antennas: at least 4 are expected")
    outriggers = max(1, count // 7)
    north = max(1, count // 4)
    east = count - north - outriggers
    arm_e = [((k - east / 2) * SPACING_METRES * 1.4, 0.0) for k in range(east)]
    arm_n = [(0.0, -(k + 1) * SPACING_METRES * 2.1) for k in range(north)]
    # On a spiral, so that they fill the plane of baselines evenly.
    turn = math.pi * (3 - math.sqrt(5))
    far = [
        (
            300 + 900 * math.sqrt((k + 1) / outriggers) * math.cos(turn * k),
            -200 + 900 * math.sqrt((k + 1) / outriggers) * math.sin(turn * k),
        )
        for k in range(outriggers)
    ]
    return np.array(arm_e + arm_n + far)


def equatorial(east_north: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn east and north into x (to the meridian), y (east), z (to the pole), in metres."""
    east, north = east_north.T
    x = -math.sin(LATITUDE) * north
    z = math.cos(LATITUDE) * north
    return np.stack([x, east, z], axis=-1)


def baseline_uvw(
    baselines: NDArray[np.float64],
    hour_angles: NDArray[np.float64],
    declination: float,
) -> NDArray[np.float64]:
    """Project baselines onto the plane of the sky (Thompson, Moran & Swenson, eq. 4.1).

    Args:
        baselines: Metres, shape (baselines, 3), as `equatorial` gives them.
        hour_angles: Radians, shape (times,).
        declination: Radians.

    Returns:
        u, v, w in metres, shape (times, baselines, 3).
    """
    # The equatorial y points east, where the hour angle is negative.
    x, y, z = baselines.T
    sin_h, cos_h = np.sin(hour_angles)[:, None], np.cos(hour_angles)[:, None]
    sin_d, cos_d = math.sin(declination), math.cos(declination)
    u = sin_h * x + cos_h * y
    v = -sin_d * cos_h * x + sin_d * sin_h * y + cos_d * z
    w = cos_d * cos_h * x - cos_d * sin_h * y + sin_d * z
    return np.stack([u, v, w], axis=-1)


def visibilities(
    sky: Sky,
    uvw: NDArray[np.float64],
    frequencies: NDArray[np.float64],
) -> NDArray[np.complex128]:
    """What an interferometer measures of a sky without noise.

    Args:
        sky: The sources.
        uvw: Metres, shape (rows, 3).
        frequencies: Hz, shape (channels,).

    Returns:
        Jy, shape (rows, channels).
    """
    per_metre = frequencies / SPEED_OF_LIGHT
    total = np.zeros((len(uvw), len(frequencies)), dtype=np.complex128)
    for source in sky.sources:
        l, m, n = source.direction.cosines(sky.grid.centre)  # noqa: E741
        # With u, v, w from the first antenna to the second the phase is positive: a
        # Measurement Set's visibilities are those of the opposite baseline.
        path = uvw @ np.array([l, m, n - 1])
        total += source.flux * np.exp(2j * np.pi * path[:, None] * per_metre)
    return total


def simulate(path: Path, observation: Observation) -> None:
    """Write a Measurement Set.

    Args:
        path: Where; nothing may be there.
        observation: What it holds.

    Raises:
        FileExistsError: If something is there.
        FileNotFoundError: If the folder that it belongs into is not there.
        ValueError: If there are too few antennas.
    """
    if path.exists():
        raise FileExistsError(f"cannot write {path}: it is there already")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    positions = antenna_positions(observation.antennas)
    first, second = np.triu_indices(observation.antennas, k=1)
    places = equatorial(positions)
    duration = observation.times * observation.interval
    since = (
        np.arange(observation.times, dtype=np.float64) + 0.5
    ) * observation.interval - duration / 2
    hour_angles = since * (2 * math.pi / SIDEREAL_DAY)
    uvw = baseline_uvw(
        places[second] - places[first],
        hour_angles,
        observation.sky.grid.centre.dec,
    ).reshape(-1, 3)
    times = np.repeat(_transit_seconds(observation.sky.grid.centre.ra) + since, len(first))

    shape = [observation.channels, 2]
    columns = tables.maketabdesc(
        [tables.makearrcoldesc("DATA", 0j, ndim=2, shape=shape, valuetype="complex")],
    )
    with tables.default_ms(str(path), columns) as main:
        main.addrows(len(uvw))
        _fill_main(main, observation, uvw, times, first, second)
    _fill_antennas(path, positions, places)
    _fill_description(path, observation, times)


def _transit_seconds(right_ascension: float) -> float:
    """When a source passes the meridian in a night of October 2025.

    Args:
        right_ascension: Radians.

    Returns:
        Seconds of the modified Julian date, UTC, within a second or so: by the earth's
        rotation angle (IERS Conventions 2010, eq. 5.15), which suits positions of J2000.
    """
    start = 60967.0
    since_2000 = start + 2_400_000.5 - 2_451_545.0
    greenwich = 2 * math.pi * (0.7790572732640 + 1.00273781191135448 * since_2000)
    wait = (right_ascension - greenwich - LONGITUDE) % (2 * math.pi)
    return start * 86400.0 + wait / (2 * math.pi) * SIDEREAL_DAY


def _fill_main(
    main: Any,
    observation: Observation,
    uvw: NDArray[np.float64],
    times: NDArray[np.float64],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
) -> None:
    rows = len(uvw)
    random = np.random.default_rng(observation.seed)
    shape = (rows, observation.channels, 2)
    noise = random.normal(scale=observation.noise, size=(*shape, 2)) @ np.array([1, 1j])
    data = visibilities(observation.sky, uvw, observation.frequencies)[..., None] + noise
    repeat = observation.times
    main.putcol("UVW", uvw)
    main.putcol("DATA", data.astype(np.complex64))
    main.putcol("FLAG", np.zeros(shape, dtype=bool))
    main.putcol("WEIGHT", np.ones((rows, 2), dtype=np.float32))
    main.putcol("SIGMA", np.ones((rows, 2), dtype=np.float32))
    main.putcol("ANTENNA1", np.tile(first, repeat).astype(np.int32))
    main.putcol("ANTENNA2", np.tile(second, repeat).astype(np.int32))
    main.putcol("TIME", times)
    main.putcol("TIME_CENTROID", times)
    main.putcol("INTERVAL", np.full(rows, observation.interval))
    main.putcol("EXPOSURE", np.full(rows, observation.interval))


def _subtable(path: Path, name: str, rows: int) -> Any:
    table = tables.table(str(path / name), readonly=False, ack=False)
    table.addrows(rows - table.nrows())
    return table


def _fill_antennas(
    path: Path,
    positions: NDArray[np.float64],
    places: NDArray[np.float64],
) -> None:
    count = len(positions)
    # From the meridian's frame to the earth's: turned by the longitude.
    turn = np.array(
        [
            [math.cos(LONGITUDE), -math.sin(LONGITUDE), 0],
            [math.sin(LONGITUDE), math.cos(LONGITUDE), 0],
            [0, 0, 1],
        ],
    )
    centre = EARTH_RADIUS_METRES * np.array([math.cos(LATITUDE), 0, math.sin(LATITUDE)])
    names = [f"DSA-{number + 1:03d}" for number in range(count)]
    with _subtable(path, "ANTENNA", count) as table:
        table.putcol("POSITION", (places + centre) @ turn.T)
        table.putcol("OFFSET", np.zeros((count, 3)))
        table.putcol("DISH_DIAMETER", np.full(count, DISH_METRES))
        table.putcol("NAME", names)
        table.putcol("STATION", names)
        table.putcol("TYPE", ["GROUND-BASED"] * count)
        table.putcol("MOUNT", ["ALT-AZ"] * count)
    with _subtable(path, "FEED", count) as table:
        table.putcol("ANTENNA_ID", np.arange(count, dtype=np.int32))
        table.putcol("SPECTRAL_WINDOW_ID", np.full(count, -1, dtype=np.int32))
        table.putcol("NUM_RECEPTORS", np.full(count, 2, dtype=np.int32))
        table.putcol("BEAM_OFFSET", np.zeros((count, 2, 2)))
        table.putcol("RECEPTOR_ANGLE", np.zeros((count, 2)))
        table.putcol("POLARIZATION_TYPE", {"shape": [count, 2], "array": ["X", "Y"] * count})
        table.putcol("POL_RESPONSE", np.tile(np.eye(2, dtype=np.complex64), (count, 1, 1)))
        table.putcol("POSITION", np.zeros((count, 3)))


def _fill_description(
    path: Path,
    observation: Observation,
    times: NDArray[np.float64],
) -> None:
    centre: Direction = observation.sky.grid.centre
    direction = np.array([[centre.ra, centre.dec]])
    widths = np.full(observation.channels, observation.width_hz)
    frequencies = observation.frequencies
    span = np.array([times[0], times[-1]])
    rows: dict[str, dict[str, Any]] = {
        "FIELD": {
            "NAME": "demo",
            "TIME": times[0],
            "DELAY_DIR": direction,
            "PHASE_DIR": direction,
            "REFERENCE_DIR": direction,
        },
        "SPECTRAL_WINDOW": {
            "NAME": "continuum",
            "NUM_CHAN": observation.channels,
            "CHAN_FREQ": frequencies,
            "CHAN_WIDTH": widths,
            "EFFECTIVE_BW": widths,
            "RESOLUTION": widths,
            "TOTAL_BANDWIDTH": float(widths.sum()),
            "REF_FREQUENCY": float(frequencies.mean()),
            "MEAS_FREQ_REF": 5,  # topocentric
        },
        "POLARIZATION": {
            "NUM_CORR": 2,
            "CORR_TYPE": np.array([_LINEAR_XX, _LINEAR_YY], dtype=np.int32),
            "CORR_PRODUCT": np.array([[0, 0], [1, 1]], dtype=np.int32),
        },
        "DATA_DESCRIPTION": {"SPECTRAL_WINDOW_ID": 0, "POLARIZATION_ID": 0},
        "OBSERVATION": {
            "TELESCOPE_NAME": "DSA_110",
            "OBSERVER": "simulation",
            "PROJECT": "demo",
            "TIME_RANGE": span,
        },
    }
    for name, cells in rows.items():
        with _subtable(path, name, 1) as table:
            for column, value in cells.items():
                table.putcell(column, 0, value)


def main() -> None:
    """Write the file that the command line names."""
    defaults = Observation()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("path", type=Path, metavar="OUT.ms")
    parser.add_argument("--antennas", type=int, default=defaults.antennas)
    parser.add_argument("--times", type=int, default=defaults.times)
    parser.add_argument("--channels", type=int, default=defaults.channels)
    words = parser.parse_args()
    try:
        observation = Observation(
            antennas=words.antennas,
            times=words.times,
            channels=words.channels,
        )
        simulate(words.path, observation)
    except (FileExistsError, FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
