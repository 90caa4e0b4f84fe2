"""Whom lack of memory has ended, with both kinds of control groups, on kernels that boot for it."""

from __future__ import annotations

from collections import defaultdict
from importlib import resources
from pathlib import Path

import pytest

from support.virtual_machine import VirtualMachine
from wsclean_workerd.oom import OomKills
from wsclean_workerd.spool import JobFolder

SCENARIO = Path(__file__).parents[1] / "support/control_groups.sh"
SCRIPTS = Path(str(resources.files("wsclean_workerd.runtime")))

JOBS = {
    "eats": (137, (0, 1)),
    "killed": (137, (1, 1)),
    "eats-again": (137, (1, 2)),
    "beside": (137, (2, 2)),
    "ends": (3, None),
}
"""In the order in which one lane has them: the status, and how often the kernel had killed there
when the lane last looked, and after the job. It looks when it begins and after what was killed.
"""
VIEWS = ("own own", "all own", "own above")
"""What the jobs see, and which group's memory is limited: see the scenario."""

APART = 60.0
"""Seconds between jobs, for who judges them."""


@pytest.mark.parametrize("hierarchy", ["v1", "v2"])
def test_it_is_known_whom_lack_of_memory_has_ended(tmp_path: Path, hierarchy: str) -> None:
    machine = VirtualMachine(
        tmp_path,
        # What is a program of containers is one here, too: their shell, their setsid.
        programs=["sh", "setsid", "unshare"],
        files={f"/scripts/{path.name}": path for path in SCRIPTS.glob("*.sh")},
    )
    said = machine.run(SCENARIO.read_text(encoding="utf-8"), hierarchy=hierarchy)
    looks, verdicts = {}, {}
    kills: dict[str, OomKills] = defaultdict(OomKills)
    for at, line in enumerate(said.splitlines()):
        view, limit, job, status = line.split(maxsplit=3)
        where = f"{view} {limit}"
        folder = JobFolder(tmp_path / where / job)
        folder.path.mkdir(parents=True)
        (folder.path / "claim-1").touch()
        (folder.path / "exit").write_text(f"{status}\n", encoding="utf-8")
        look = folder.look(1)
        looks[where, job] = (look.status, look.oom_kills)
        if look.oom_kills:
            verdicts[where, job] = kills[where].explain("c", at * APART, *look.oom_kills)
    assert looks == {(view, job): expected for view in VIEWS for job, expected in JOBS.items()}
    assert verdicts == {
        (view, job): job.startswith("eats")
        for view in VIEWS
        for job, (status, _) in JOBS.items()
        if status == 137
    }
