from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from support.jobs import make_job
from wsclean_workerd.access import Caller
from wsclean_workerd.authentication import CALLER
from wsclean_workerd.callers import CallersJobs
from wsclean_workerd.model import User

JOBS = [make_job(1, owner=1000), make_job(2, owner=1001)]
SUPERVISOR: Any = SimpleNamespace(live=lambda: JOBS)


@pytest.mark.parametrize(("operator", "seen"), [(False, JOBS[:1]), (True, JOBS)])
def test_of_the_live_jobs_each_sees_his_own(operator: bool, seen: list[Any]) -> None:
    token = CALLER.set(Caller(User(uid=1000, gid=1000), operator=operator))
    assert CallersJobs(SUPERVISOR).live() == seen
    CALLER.reset(token)


def test_nobody_sees_anything_of_whom_nothing_is_known() -> None:
    with pytest.raises(LookupError):
        CallersJobs(SUPERVISOR).live()
