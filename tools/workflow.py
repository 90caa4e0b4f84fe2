"""The survey's workflow: draw a model, predict it into a Measurement Set, image that."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sky import ARCSEC, Sky, write_source_list

if TYPE_CHECKING:
    from pathlib import Path

    from wsclean_client import CompletedJob, WSCleanClient

FREQUENCY_HZ = 1.4e9
BANDWIDTH_HZ = 187.2e6


@dataclass(frozen=True, slots=True)
class Timed:
    """A step, and the seconds that its caller waited for it."""

    name: str
    job: CompletedJob
    seconds: float

    @property
    def overhead(self) -> float:
        """Seconds that were not spent in the command itself."""
        return self.seconds - (self.job.run_seconds or 0.0)


@dataclass(frozen=True, slots=True)
class Workflow:
    """The three commands on one Measurement Set, for a caller that knows host paths only.

    Args:
        client: What runs them.
        sky: What is drawn and predicted.
        measurement_set: What it is predicted into, and imaged.
        folder: Where the images go, below a mount.
    """

    client: WSCleanClient
    sky: Sky
    measurement_set: Path
    folder: Path

    @property
    def restored_image(self) -> Path:
        """What `image` makes."""
        return self.folder / "image-image.fits"

    def draw(self, *, size: int | None = None) -> Timed:
        """Draw the model, and give it the name that `-predict` looks for.

        Args:
            size: Pixels along each side; None: those of the sky's grid.
        """
        source_list = self.folder / "model.txt"
        write_source_list(self.sky, source_list, frequency_hz=FREQUENCY_HZ)
        centre = self.sky.grid.centre
        done = self._run(
            "draw-model",
            *("-draw-model", source_list),
            *("-draw-frequencies", FREQUENCY_HZ, BANDWIDTH_HZ),
            *("-draw-spectral-terms", 2),
            *("-draw-centre", centre.hms(), centre.dms()),
            *self._pixels(size),
            *("-name", self.folder / "model"),
        )
        (self.folder / "model-term-0.fits").rename(self.folder / "model-model.fits")
        return done

    def predict(self) -> Timed:
        """Fill MODEL_DATA from the drawn model."""
        return self._run("predict", *self.predict_arguments())

    def predict_arguments(self) -> tuple[object, ...]:
        """What follows `wsclean` to predict."""
        return ("-predict", "-reorder", "-name", self.folder / "model", self.measurement_set)

    def image(self) -> Timed:
        """Image and deconvolve the observed data."""
        return self._run(
            "image",
            *self._pixels(),
            *("-weight", "briggs", 0),
            *("-niter", 1000, "-mgain", 0.8, "-auto-threshold", 4),
            *("-name", self.folder / "image"),
            self.measurement_set,
        )

    def _pixels(self, size: int | None = None) -> tuple[object, ...]:
        grid = self.sky.grid
        pixels = size or grid.size
        return ("-size", pixels, pixels, "-scale", f"{grid.scale / ARCSEC:g}arcsec")

    def _run(self, name: str, *arguments: object) -> Timed:
        before = time.perf_counter()
        job = self.client.run(["wsclean", *map(str, arguments)])
        return Timed(name, job, time.perf_counter() - before)
