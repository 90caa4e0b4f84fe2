from __future__ import annotations

import pytest

from support.jobs import make_job
from wsclean_workerd.access import RIGHTS, Caller, Operators, Right, RunAs
from wsclean_workerd.errors import NotOperator, NotOwner, RootRefused, SubmitterRefused
from wsclean_workerd.model import User
from wsclean_workerd_api.v1 import worker_pb2

OBSERVER = User(uid=1000, gid=100, groups=(970,))
OTHER = User(uid=1001, gid=100, groups=(970,))
ROOT = User(uid=0, gid=0)
STAFF = 990


def test_the_table_has_every_call_of_the_service() -> None:
    calls = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].methods_by_name
    assert set(RIGHTS) == set(calls)


def test_operators_are_root_the_daemon_and_the_members_of_a_group() -> None:
    operators = Operators(own_uid=500, gid=STAFF)
    members = [
        ROOT,
        User(uid=500, gid=1),
        User(uid=7, gid=STAFF),
        User(uid=7, gid=1, groups=(STAFF,)),
    ]
    assert all(operators.caller(user).operator for user in members)
    assert operators.caller(OBSERVER) == Caller(OBSERVER, operator=False)
    # Without a group there are no others.
    assert not Operators(own_uid=0, gid=None).caller(members[2]).operator


def test_only_operators_may_do_what_is_for_them() -> None:
    for call, right in RIGHTS.items():
        Caller(OBSERVER, operator=True).check_may(call)
        if right is not Right.OPERATOR:
            Caller(OBSERVER, operator=False).check_may(call)
            continue
        with pytest.raises(NotOperator, match=f"cannot call {call}.*socket.operators") as caught:
            Caller(OBSERVER, operator=False).check_may(call)
        assert (caught.value.code, caught.value.reason) == ("PERMISSION_DENIED", "NOT_OPERATOR")
    assert [call for call, right in RIGHTS.items() if right is Right.OPERATOR] == [
        "DrainWorker",
        "ResumeWorker",
        "ShutDownWorker",
    ]


def test_a_job_is_its_submitters_and_operators() -> None:
    job = make_job(owner=1000)
    Caller(OBSERVER, operator=False).check_owns(job)
    Caller(OTHER, operator=True).check_owns(job)
    with pytest.raises(NotOwner, match=r"job 1: .*another user.*socket\.operators") as caught:
        Caller(OTHER, operator=False).check_owns(job)
    assert (caught.value.code, caught.value.reason) == ("PERMISSION_DENIED", "NOT_OWNER")
    assert caught.value.metadata == {"id": "1"}


def test_a_job_runs_as_its_submitter_with_his_groups() -> None:
    assert RunAs().user_for(OBSERVER) is OBSERVER


def test_or_as_the_one_that_all_jobs_run_as() -> None:
    for own in (None, OTHER):
        run_as = RunAs(fixed=OBSERVER, own=own)
        assert [run_as.user_for(each) for each in (ROOT, OTHER, OBSERVER)] == [OBSERVER] * 3
    # Also as root, if that is said.
    assert RunAs(fixed=ROOT).user_for(ROOT) is ROOT


def test_nothing_runs_as_root_unless_that_is_allowed() -> None:
    for root in (ROOT, User(uid=0, gid=100)):
        with pytest.raises(RootRefused, match=r"jobs\.allow_root = true") as caught:
            RunAs().user_for(root)
        assert (caught.value.code, caught.value.reason) == ("PERMISSION_DENIED", "ROOT_REFUSED")
        assert RunAs(allow_root=True).user_for(root) is root


def test_a_daemon_that_is_not_root_runs_its_own_users_jobs_only() -> None:
    run_as = RunAs(own=OBSERVER)
    # It cannot give up or take groups either.
    assert run_as.user_for(User(uid=1000, gid=7)) is OBSERVER
    for submitter in (OTHER, ROOT):
        with pytest.raises(SubmitterRefused, match=f"user {submitter.uid}: .*user 1000") as caught:
            run_as.user_for(submitter)
        assert caught.value.metadata == {"uid": str(submitter.uid)}
        assert (caught.value.code, caught.value.reason) == (
            "PERMISSION_DENIED",
            "SUBMITTER_REFUSED",
        )
