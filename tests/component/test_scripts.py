"""The shell scripts beside the jobs, without a daemon."""

from __future__ import annotations

import subprocess
from importlib import resources
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from wsclean_workerd.runtime.fifos import make_fifos

SCRIPTS = Path(str(resources.files("wsclean_workerd.runtime")))


@pytest.mark.parametrize(
    ("script", "fifos", "arguments"),
    [
        ("runner.sh", ("requests", "answers", "alive"), ["jobs", str(SCRIPTS)]),
        ("wrapper.sh", ("jobs", "go", "said"), ["jobs"]),
        ("probe.sh", ("requests", "answers"), ["/"]),
        ("look.sh", ("answers",), ["mount", "/"]),
        ("look.sh", ("answers",), ["programs", "sh"]),
    ],
)
def test_what_is_started_by_a_daemon_that_has_died_ends(
    tmp_path: Path, script: str, fifos: tuple[str, ...], arguments: list[str]
) -> None:
    folder = tmp_path / "fifos"
    make_fifos(folder, *fifos)
    # Nobody holds the other ends.
    subprocess.run(
        ["sh", SCRIPTS / script, folder, *arguments],
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=DEADLINE,
    )
