"""The main job on the instance that `make dev` has started, and a check of what it made."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from checks import CheckFailed, Measurement, check_model_data, check_restored_image
from dev import DATA, DEV, ENV
from plot import plot_image
from sky import DEMO_SKY
from workflow import Timed, Workflow
from wsclean_client import WSCleanClient, WSCleanError

RESULTS = DEV / "demo"


def main() -> None:
    """Run the workflow and check it; the exit status tells whether all is as it has to be."""
    environment = _environment()
    measurement_set = Path(environment["DEMO_MS"])
    # Several demos may run at once, so each has a folder of its own until it is done.
    folder = Path(tempfile.mkdtemp(dir=DATA, prefix="demo-"))
    try:
        with WSCleanClient(environment["WSCLEAN_WORKERD_SOCKET"]) as client:
            status = client.status()
            steps, found = _run(Workflow(client, DEMO_SKY, measurement_set, folder))
        _keep(folder)
    except (WSCleanError, CheckFailed) as error:
        sys.exit(f"error: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _report(steps, found, container=status.runtime.container_id)


def _run(workflow: Workflow) -> tuple[list[Timed], list[Measurement]]:
    steps = [workflow.draw(), workflow.predict()]
    # Before imaging, which leaves the model that it has found in the same column.
    found = [check_model_data(workflow.measurement_set, DEMO_SKY)]
    steps.append(workflow.image())
    found += check_restored_image(workflow.restored_image, DEMO_SKY)
    return steps, found


def _keep(folder: Path) -> None:
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir()
    for path in folder.glob("*.fits"):
        shutil.move(path, RESULTS / path.name)
    plot_image(
        RESULTS / "image-image.fits",
        RESULTS / "image.png",
        DEMO_SKY,
        "Two simulated sources, imaged through wsclean-workerd",
    )


def _report(steps: list[Timed], found: list[Measurement], *, container: str) -> None:
    print(f"In container {container[:12]}:")
    print(f"  {'job':>5}  {'step':<11} {'total':>8} {'overhead':>9}")
    for step in steps:
        total, overhead = f"{step.seconds:.3f} s", f"{1000 * step.overhead:.0f} ms"
        print(f"  {step.job.job_id:>5}  {step.name:<11} {total:>8} {overhead:>9}")
    print("Checked against the simulated sky:")
    for measurement in found:
        print(f"  {measurement}")
    print(f"FITS files and image.png are in {os.path.relpath(RESULTS)}")


def _environment() -> dict[str, str]:
    """What .dev/env says, as a shell reads it."""
    found = dict(os.environ)
    for line in ENV.read_text(encoding="utf-8").splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        if name != "PATH":
            found[name] = value.strip("'")
    return found


if __name__ == "__main__":
    main()
