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
    ("script", "fifos"),
    [
        ("runner.sh {} jobs {scripts} 0", ("requests", "answers", "alive")),
        ("wrapper.sh lane jobs {}", ("jobs", "go", "said")),
        ("wrapper.sh pair jobs 1 1 {}", ("joined", "go", "said")),
        ("become.sh pair {}", ("joined", "go", "said")),
        ("probe.sh {} /", ("requests", "answers")),
        ("look.sh {} mount /", ("answers",)),
        ("look.sh {} programs 1 sh", ("answers",)),
    ],
)
def test_what_is_started_by_a_daemon_that_has_died_ends(
    tmp_path: Path, script: str, fifos: tuple[str, ...]
) -> None:
    folder = tmp_path / "fifos"
    make_fifos(folder, *fifos)
    name, *arguments = script.format(folder, scripts=SCRIPTS).split()
    # Nobody holds the other ends.
    subprocess.run(
        ["sh", SCRIPTS / name, *arguments],
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=DEADLINE,
    )
