"""Draws an image with coordinates, a colour bar and the beam."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from astropy.io import fits
from astropy.visualization import AsinhStretch, ImageNormalize
from matplotlib import pyplot as plt
from matplotlib.patches import Ellipse

from checks import read_image, source_pixel

if TYPE_CHECKING:
    from pathlib import Path

    from sky import Sky

mpl.use("Agg")


def plot_image(fits_path: Path, png_path: Path, sky: Sky, title: str) -> None:
    """Draw a restored image.

    Args:
        fits_path: The image.
        png_path: Where the picture goes.
        sky: The sources to mark.
        title: What stands above it.
    """
    image, wcs = read_image(fits_path)
    header = fits.getheader(fits_path)
    figure = plt.figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot(projection=wcs)
    # Faint things are seen and bright ones not cut off.
    norm = ImageNormalize(vmin=-0.02, vmax=image.max(), stretch=AsinhStretch(0.05))
    shown = axes.imshow(image, origin="lower", cmap="inferno", norm=norm)
    bar = figure.colorbar(shown, ax=axes, ticks=[0, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5])
    bar.ax.set_yticklabels(["0", "0.05", "0.1", "0.2", "0.5", "1.0", "1.5"])
    bar.set_label("Jy/beam")
    axes.set_xlabel("Right ascension (J2000)")
    axes.set_ylabel("Declination (J2000)")
    axes.set_title(title)
    axes.grid(color="white", alpha=0.15, linestyle=":")
    for source in sky.sources:
        x, y = source_pixel(source, wcs)
        axes.annotate(
            f"{source.name}, {source.flux:g} Jy",
            (x, y),
            xytext=(0, 26),
            textcoords="offset points",
            ha="center",
            color="white",
        )
    if "BMAJ" in header:
        pixel = abs(header["CDELT2"])
        axes.add_patch(
            Ellipse(
                (30, 30),
                width=header["BMIN"] / pixel,
                height=header["BMAJ"] / pixel,
                # A position angle counts from north to east, which is left.
                angle=header["BPA"],
                facecolor="white",
                alpha=0.8,
            ),
        )
    figure.savefig(png_path, dpi=120)
    plt.close(figure)
