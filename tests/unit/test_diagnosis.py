from __future__ import annotations

from dataclasses import replace

import pytest

from wsclean_workerd.diagnosis import (
    TOOLS,
    DiskFacts,
    Finding,
    Seen,
    Verdict,
    judge_disk,
    judge_engine,
    judge_image,
    judge_journal,
    judge_mount,
    judge_programs,
    judge_runtime,
)
from wsclean_workerd.model import Mount, Reason, RuntimeCondition, User

OK, WARNING, PROBLEM, UNKNOWN = Verdict
GIB, MIB = 2**30, 2**20
USER = User(uid=1000, gid=100)
STAGE, READ_ONLY = Mount("/stage", "/data"), Mount("/sky", "/sky", read_only=True)
UP, FULL = {"up"}, {"up", "there", "enter", "read", "write", "end"}
DISK = DiskFacts(folder="/state", free_bytes=50 * GIB, free_files=10**6)


def seen(*lines: str) -> Seen:
    return Seen(frozenset(lines), complete="end" in lines)


def test_only_what_is_ok_has_nothing_to_mend() -> None:
    assert judge_journal("/j.db", None).mend == ""
    assert judge_disk(DISK).mend == ""
    assert judge_engine("unix:///d.sock", "20", "").mend == ""
    assert judge_image("i", there=True).mend == ""
    assert judge_mount(STAGE, seen(*FULL), user=USER, hung=None).mend == ""


def test_a_journal_that_takes_nothing_is_a_problem() -> None:
    found = judge_journal("/j.db", Reason("JOURNAL_UNAVAILABLE", "the disk is full"))
    assert found.verdict is PROBLEM
    assert "the disk is full" in found.found
    assert "/j.db" in found.mend
    assert judge_journal("/j.db", None).verdict is OK


@pytest.mark.parametrize(
    ("free_bytes", "free_files", "verdict"),
    [
        (GIB, 10_000, OK),
        (GIB, None, OK),
        (GIB - 1, 10_000, WARNING),
        (GIB, 9_999, WARNING),
        (64 * MIB, None, WARNING),
        (64 * MIB - 1, 10_000, PROBLEM),
        (GIB, 499, PROBLEM),
        (GIB, 0, PROBLEM),
    ],
)
def test_how_much_room_is_enough(free_bytes: int, free_files: int | None, verdict: Verdict) -> None:
    found = judge_disk(replace(DISK, free_bytes=free_bytes, free_files=free_files))
    assert found.verdict is verdict
    assert bool(found.mend) is (verdict is not OK)
    assert ("files" in found.found) is (free_files is not None)


def test_a_disk_that_cannot_be_written_is_a_problem() -> None:
    found = judge_disk(replace(DISK, trouble="Read-only file system"))
    assert found.verdict is PROBLEM
    assert "Read-only file system" in found.found
    assert "/state" in found.mend


def test_engine_and_image() -> None:
    assert judge_engine("unix:///d.sock", "20.10", "") == Finding(
        "engine", OK, "Docker 20.10 answers at unix:///d.sock"
    )
    silent = judge_engine("unix:///d.sock", "", "it did not answer")
    assert (silent.verdict, silent.found) == (PROBLEM, "it did not answer")
    assert "docker" in silent.mend
    assert judge_image("a:1", there=None).verdict is UNKNOWN
    missing = judge_image("a:1", there=False)
    assert missing.verdict is PROBLEM
    assert "docker pull a:1" in missing.mend


@pytest.mark.parametrize(
    ("ready", "code", "verdict", "mend"),
    [
        (True, "CONTAINER_OUTDATED", WARNING, "systemctl restart"),
        (True, "NO_RUNNER", WARNING, "programs"),
        (False, "CONTAINER_NAME_TAKEN", PROBLEM, "docker rm box"),
        (False, "CONTAINER_PAUSED", PROBLEM, "docker unpause box"),
        (False, "RUNTIME_DEFECT", PROBLEM, "journalctl"),
        (False, "IMAGE_MISSING", UNKNOWN, ""),
        (False, "ENGINE_SILENT", UNKNOWN, ""),
    ],
)
def test_what_is_the_matter_with_the_container(
    *, ready: bool, code: str, verdict: Verdict, mend: str
) -> None:
    condition = RuntimeCondition(ready=ready, reason=Reason(code, "words"), container="abc")
    found = judge_runtime(condition, "box")
    assert (found.name, found.verdict, found.found) == ("container", verdict, "words")
    assert mend in found.mend
    assert bool(found.mend) is bool(mend)


def test_what_runs_is_ok() -> None:
    ready = RuntimeCondition(ready=True, container="0123456789abcdef")
    assert judge_runtime(ready, "box") == Finding("container", OK, "box (0123456789ab) runs")
    assert judge_runtime(RuntimeCondition(ready=True), "").name == "runtime"
    assert judge_runtime(RuntimeCondition(ready=False), "").verdict is PROBLEM


def programs(*lacking: str, chosen: bool = True, spare: bool = False) -> Finding:
    wanted = [*TOOLS, "wsclean", "taql"]
    lines = [f"has {each}" for each in wanted if each not in lacking]
    return judge_programs(
        seen("up", *lines, "end"),
        tools=TOOLS,
        programs=["wsclean", "taql"],
        chosen=chosen,
        where="a:1",
        spare=spare,
    )


def test_programs_that_somebody_chose_have_to_be_there() -> None:
    assert programs().verdict is OK
    found = programs("taql")
    assert (found.verdict, found.found) == (PROBLEM, "a:1 lacks taql")
    assert found.mend == "add taql to a:1, or take taql out of jobs.programs"


def test_of_the_usual_programs_one_is_enough() -> None:
    assert programs("taql", chosen=False).verdict is WARNING
    assert programs("taql", "wsclean", chosen=False).verdict is PROBLEM


def test_what_the_daemon_needs_has_to_be_there() -> None:
    found = programs("setsid", chosen=False)
    assert (found.verdict, found.mend) == (PROBLEM, "add setsid to a:1")


def test_what_there_is_a_slower_way_without_may_be_missing() -> None:
    found = programs("setsid", spare=True)
    assert (found.verdict, found.mend) == (WARNING, "add setsid to a:1")
    assert programs("setsid", "taql", spare=True).verdict is PROBLEM


@pytest.mark.parametrize(
    ("unseen", "verdict", "words"),
    [
        (Seen(), UNKNOWN, "no answer in time"),
        (Seen(trouble="the engine is gone"), UNKNOWN, "the engine is gone"),
        (Seen(trouble='exec: "/bin/sh": stat /bin/sh: no such file or'), PROBLEM, "a:1 lacks sh"),
    ],
)
def test_programs_that_could_not_be_looked_for(unseen: Seen, verdict: Verdict, words: str) -> None:
    found = judge_programs(
        unseen, tools=TOOLS, programs=["w"], chosen=True, where="a:1", spare=True
    )
    assert found.verdict is verdict
    assert words in found.found


@pytest.mark.parametrize(
    ("mount", "lines", "verdict", "words", "mend"),
    [
        (STAGE, FULL, OK, "jobs can enter, read, write (as /data) as 1000:100", ""),
        (READ_ONLY, FULL - {"write"}, OK, "jobs can enter, read as 1000:100", ""),
        (STAGE, FULL - {"write"}, WARNING, "cannot write at its top", "setfacl -m u:1000"),
        (STAGE, FULL - {"read", "write"}, WARNING, "cannot read or write", "setfacl"),
        (STAGE, {"up", "there", "end"}, PROBLEM, "cannot enter it (as /data)", "u:1000:rwx /stage"),
        (STAGE, {"up", "end"}, PROBLEM, "no folder is there", "findmnt --target /stage"),
        (STAGE, UP, PROBLEM, "does not answer", "findmnt --target /stage"),
        (STAGE, {*UP, "there"}, PROBLEM, "does not answer", "findmnt --target /stage"),
        (STAGE, set(), UNKNOWN, "no answer in time", ""),
    ],
)
def test_what_jobs_can_do_in_a_mount(
    mount: Mount, lines: set[str], verdict: Verdict, words: str, mend: str
) -> None:
    found = judge_mount(mount, seen(*lines), user=USER, hung=None)
    assert (found.name, found.subject, found.verdict) == ("mount", mount.host, verdict)
    assert words in found.found
    assert mend in found.mend
    assert bool(found.mend) is bool(mend)


def test_what_jobs_can_do_is_told_to_those_whose_they_would_be() -> None:
    found = judge_mount(STAGE, seen("up", "there", "end"), user=None, hung=None)
    assert (found.verdict, found.mend) == (OK, "")
    assert found.found == "is there (as /data); users who ask are told what their jobs can do"
    found = judge_mount(STAGE, seen("up", "end"), user=None, hung=None)
    assert (found.verdict, found.found) == (PROBLEM, "no folder is there for jobs (as /data)")


def test_storage_that_is_known_to_hang_is_told_whatever_was_seen() -> None:
    hung = Reason("STORAGE_HUNG", "has not answered for 5 s")
    for each in (Seen(), seen(*FULL)):
        found = judge_mount(STAGE, each, user=USER, hung=hung)
        assert (found.verdict, found.found) == (PROBLEM, "has not answered for 5 s")
