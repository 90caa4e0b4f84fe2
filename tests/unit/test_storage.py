from __future__ import annotations

from dataclasses import replace

import pytest

from support.jobs import make_job
from wsclean_workerd.model import Mount
from wsclean_workerd.storage import Storage

STAGE, DATA, INNER = Mount("/stage", "/stage"), Mount("/host/data", "/data"), Mount("/x", "/data/x")
BOTH = ["/stage", "/data"]


@pytest.fixture
def storage() -> Storage:
    """Two mounts that have answered at 100, and one in the other."""
    storage = Storage([STAGE, DATA, INNER], timeout=5, proof_age=4)
    for mount in ("/stage", "/data", "/data/x"):
        storage.watched(mount)
        storage.asked(mount, 99)
        storage.answered(mount, 100)
    return storage


@pytest.mark.parametrize(
    ("folder", "arguments", "mounts"),
    [
        ("/stage/a", [], {"/stage"}),
        ("/tmp", [], set()),
        ("/stage", ["/data/sim.ms"], {"/stage", "/data"}),
        ("/stage", ["/datax"], {"/stage"}),
        ("/tmp", ["-x", "/tmp/a,/data/b"], {"/data"}),
        ("/tmp", ["msin=/data/b"], {"/data"}),
        ("/stage/a", ["../../data/b"], {"/stage", "/data"}),
        # On the way to it the outer one is passed.
        ("/tmp", ["/data/x/b"], {"/data", "/data/x"}),
    ],
)
def test_a_job_touches_the_mounts_above_its_paths(
    storage: Storage, folder: str, arguments: list[str], mounts: set[str]
) -> None:
    order = replace(make_job().order, command=("wsclean", *arguments), working_directory=folder)
    assert storage.touched(order) == mounts
    assert storage.touched(order) is storage.touched(order)


def test_an_answer_counts_for_a_while_and_is_renewed_before(storage: Storage) -> None:
    assert storage.unproven(BOTH, 102) == frozenset()
    assert storage.due(BOTH, 102) == []
    assert storage.due(BOTH, 103) == BOTH
    assert storage.unproven(BOTH, 103) == frozenset()
    assert storage.unproven(BOTH, 105) == {"/stage", "/data"}


def test_nothing_is_asked_twice(storage: Storage) -> None:
    storage.asked("/data", 105)
    assert storage.due(BOTH, 106) == ["/stage"]
    assert storage.answered("/data", 107)
    assert storage.unproven(["/data"], 107) == frozenset()
    assert not storage.answered("/data", 108)


def test_storage_that_does_not_answer_in_time_hangs_until_it_does(storage: Storage) -> None:
    storage.asked("/data", 101)
    assert not storage.overdue("/data", 105)
    assert storage.condition() is None
    assert storage.overdue("/data", 106)
    assert not storage.overdue("/data", 107)
    # However recent the last answer is.
    assert storage.unproven(BOTH, 102) == {"/data"}
    reason = storage.why(BOTH)
    assert reason is not None
    assert reason.code == "STORAGE_HUNG"
    assert "/host/data (as /data)" in reason.message
    assert "/stage" not in reason.message
    assert storage.hung() == {"/data"}
    assert storage.why(["/stage"]) is None
    # A new process that asks knows no better yet.
    storage.watched("/data")
    assert storage.condition() == reason
    assert storage.answered("/data", 200)
    assert storage.condition() is None
    assert not storage.overdue("/data", 300)


def test_where_nobody_can_ask_nothing_is_held_back(storage: Storage) -> None:
    storage.asked("/stage", 100)
    storage.overdue("/stage", 200)
    storage.unwatched("/stage")
    assert storage.unproven(BOTH, 300) == {"/data"}
    assert storage.due(["/stage"], 300) == []
    assert storage.condition() is None


def test_the_name_of_a_mount_at_its_own_path_is_said_once(storage: Storage) -> None:
    storage.asked("/stage", 100)
    storage.overdue("/stage", 200)
    assert "storage of /stage has" in str(storage.why(BOTH))


def test_other_times_hold_at_once_also_for_what_has_been_asked() -> None:
    storage = Storage([Mount("/a", "/a")], timeout=5, proof_age=5)
    storage.watched("/a")
    assert storage.patience("/a", 0) is None
    storage.asked("/a", 0)
    storage.adopt(timeout=20, proof_age=1)
    assert not storage.overdue("/a", 5)
    assert storage.patience("/a", 5) == 15
    assert storage.overdue("/a", 20)
    assert storage.patience("/a", 20) is None
    storage.answered("/a", 21)
    assert storage.unproven(["/a"], 21.9) == frozenset()
    assert storage.unproven(["/a"], 22.1) == {"/a"}
