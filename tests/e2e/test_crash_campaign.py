"""No death of the daemon loses a job, runs one twice or leaves a process behind."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from support.campaign import Campaign
from support.crash_points import POINTS, holder
from support.docker_daemon import DockerDaemon

KILLS = int(os.environ.get("CAMPAIGN_KILLS", "100"))
SEED = int(os.environ.get("CAMPAIGN_SEED", "1"))


@pytest.mark.parametrize("name", POINTS)
def test_every_point_of_the_campaign_is_there(name: str) -> None:
    point = POINTS[name]
    for target in filter(None, (point.target, point.given)):
        holder(target)


@pytest.mark.timeout(600 + 5 * KILLS)
def test_killed_at_any_moment_the_daemon_loses_nothing_and_does_nothing_twice(
    idle_daemon: DockerDaemon,
    tell: Callable[[str], None],
) -> None:
    idle_daemon.values["run_as"] = "12345:23456"
    # A long campaign has more jobs than are remembered, and what is forgotten is not known.
    idle_daemon.extra += "[history]\nkeep = 1000000\n"
    account = Campaign(idle_daemon, seed=SEED, kills=KILLS).run()
    tell(account.table())
    assert not account.problems
