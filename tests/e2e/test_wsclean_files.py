"""The files that are written, as a command is read and as the real WSClean writes them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from simulate_ms import Observation, simulate
from sky import DEMO_SKY, write_source_list
from support.daemon import DEADLINE
from support.docker_daemon import IMAGE
from workflow import BANDWIDTH_HZ, FREQUENCY_HZ
from wsclean_workerd.wsclean_command import read_command


def wsclean(
    engine_url: str, mounts: Sequence[str], *words: object
) -> subprocess.CompletedProcess[str]:
    docker = ["docker", "--host", engine_url, "run", "--rm", "--network", "none"]
    return subprocess.run(
        [*docker, *(f"--volume={each}" for each in mounts), IMAGE, "wsclean", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, engine_url: str) -> Path:
    """A Measurement Set, and model images by all names by which they may be looked for."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "images").mkdir()
    simulate(folder / "a.ms", Observation(antennas=8, times=2, channels=4))
    write_source_list(DEMO_SKY, folder / "sky.txt", frequency_hz=FREQUENCY_HZ)
    centre = DEMO_SKY.grid.centre
    drawn = wsclean(
        engine_url,
        [f"{folder}:/data"],
        *("-draw-model", "/data/sky.txt", "-draw-frequencies", FREQUENCY_HZ, BANDWIDTH_HZ),
        *("-draw-centre", centre.hms(), centre.dms(), "-size", 256, 256, "-scale", "4asec"),
        *("-name", "/data/images/x"),
    )
    assert drawn.returncode == 0, drawn.stdout
    image = (folder / "images" / "x-term-0.fits").read_bytes()
    for name in ("", "-I", "-Q", "-0000", "-0001", "-t0000", "-t0001"):
        (folder / "images" / f"x{name}-model.fits").write_bytes(image)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-pol", "i"],
        ["-pol", "I,Q"],
        ["-channels-out", "1"],
        ["-channels-out", "2"],
        ["-intervals-out", "2"],
    ],
    ids=" ".join,
)
def test_a_prediction_writes_beside_the_images_if_the_reading_says_so(
    folder: Path, engine_url: str, options: list[str]
) -> None:
    words = ["-predict", "-reorder", *options, "-name", "/images/x", "/a.ms"]
    reading = read_command(["wsclean", *words])
    assert reading is not None
    mounts = [f"{folder}/a.ms:/a.ms", f"{folder}/images:/images"]
    anyway = wsclean(engine_url, mounts, *words)
    assert anyway.returncode == 0, anyway.stdout
    protected = wsclean(engine_url, [mounts[0], f"{mounts[1]}:ro"], *words)
    assert (protected.returncode != 0) is reading.name_is_written, protected.stdout
    assert ("-tmp.fits" in protected.stdout) is reading.name_is_written, protected.stdout


@pytest.mark.parametrize(
    ("measurement_set", "name"),
    # A slash at the end takes the name away.
    [("/data/a.ms", "a.ms-"), ("/data/a.ms/", ".-")],
)
def test_temporary_files_have_the_names_that_the_reading_says(
    folder: Path, engine_url: str, measurement_set: str, name: str, tmp_path: Path
) -> None:
    words = ["-save-reordered", "-temp-dir", "/work", "-size", "64", "64", "-scale", "4asec"]
    words += ["-name", "/tmp/x", measurement_set]
    reading = read_command(["wsclean", *words])
    assert reading is not None
    done = wsclean(engine_url, [f"{folder}:/data", f"{tmp_path}:/work"], *words)
    assert done.returncode == 0, done.stdout
    (prefix,) = reading.temporary_names
    written = [path.name for path in tmp_path.iterdir()]
    assert written
    assert all(each.startswith(name) for each in written)
    assert all(f"/work/{each}".startswith(prefix) for each in written)
