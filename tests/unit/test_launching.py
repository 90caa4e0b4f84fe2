from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from support.jobs import make_job
from wsclean_workerd.accounts import is_another
from wsclean_workerd.errors import RuntimeUnavailable
from wsclean_workerd.events import Signal
from wsclean_workerd.model import Mount, User
from wsclean_workerd.runtime.container import ContainerRecipe
from wsclean_workerd.runtime.launching import (
    NONE_LEFT,
    SOME_LEFT,
    found_any,
    kill_command,
    look_at_mount_command,
    look_for_programs_command,
    mark_value,
    pair_commands,
    probe_command,
    runner_command,
    signalled,
    switch_user,
    wrapper_command,
)
from wsclean_workerd.spool import Spool

USER = User(uid=1000, gid=100, groups=(4, 20))
SPOOL = Spool(Path("/state/spool"), "/inside/spool")
RECIPE = ContainerRecipe(
    name="wsclean-workerd",
    instance="abc",
    image="wsclean:3.7",
    image_id="sha256:1",
    spool="/state/spool",
    mounts=(Mount("/stage", "/data"), Mount("/catalogues", "/catalogues", read_only=True)),
    propagation="rslave",
    user="0:0",
    switches_user=True,
)


def test_no_mark_is_the_beginning_of_another() -> None:
    marks = [mark_value("i", make_job(job, launch=n)) for job in (1, 11, 17) for n in (1, 11)]
    for one in marks:
        assert [other for other in marks if other.startswith(one)] == [one]


def test_a_user_is_switched_to_with_nothing_left() -> None:
    words = switch_user(USER)
    assert words == [
        "setpriv",
        "--reuid=1000",
        "--regid=100",
        "--groups=4,20",
        "--inh-caps=-all",
    ]
    assert "--clear-groups" in switch_user(User(uid=1000, gid=100))


def test_only_another_user_is_switched_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    job = make_job(7, launch=3)
    script = ["/bin/sh", "/inside/spool/runner/wrapper.sh"]
    assert wrapper_command(SPOOL, job) == [*script, "one", "/inside/spool/jobs", "7", "3"]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert is_another(job.order.user)
    assert wrapper_command(SPOOL, job)[6] == "setpriv"


def test_two_processes_that_start_a_job_are_told_where_they_meet() -> None:
    scripts = "/inside/spool/runner"
    wrapper, starter = pair_commands(SPOOL, make_job(7, launch=3), "abc")
    assert wrapper[1:] == [
        f"{scripts}/wrapper.sh",
        "pair",
        "/inside/spool/jobs",
        "7",
        "3",
        f"{scripts}/abc",
    ]
    assert starter[1:] == [f"{scripts}/become.sh", "pair", f"{scripts}/abc"]


def test_the_runner_is_told_where_everything_is_and_whom_jobs_run_as() -> None:
    scripts = "/inside/spool/runner"
    nobody_else = User(uid=os.geteuid(), gid=os.getegid())
    expected = [f"{scripts}/runner.sh", f"{scripts}/abc", "/inside/spool/jobs", scripts]
    assert runner_command(SPOOL, "abc", nobody_else)[1:] == [*expected, "0"]
    programs = ["wsclean", "taql"]
    told = runner_command(SPOOL, "abc", USER, programs)[1:]
    assert told == [*expected, "2", *programs, *switch_user(USER)]


def test_a_probe_is_told_its_folder_and_its_mount() -> None:
    scripts = "/inside/spool/runner"
    assert probe_command(SPOOL, "abc", "/data")[1:] == [
        f"{scripts}/probe.sh",
        f"{scripts}/abc",
        "/data",
    ]


def test_a_look_is_told_its_folder_and_what_to_look_at() -> None:
    look = ["/inside/spool/runner/look.sh", "/inside/spool/runner/abc"]
    programs = look_for_programs_command(SPOOL, "abc", ["sh", "wsclean"])
    assert programs[1:] == [*look, "programs", "2", "sh", "wsclean"]
    mount = look_at_mount_command(SPOOL, "abc", "/data")
    assert mount[1:] == [*look, "mount", "/data"]


def test_a_start_is_known_by_its_job_and_its_number() -> None:
    assert make_job(7, launch=3).last_launch == (7, 3)


def test_the_killer_is_told_folder_mark_and_signal() -> None:
    job = make_job(7, launch=3)
    told = [
        "/inside/spool/runner/kill.sh",
        "/inside/spool/jobs/7",
        "WSCLEAN_WORKERD_MARK=i/7/3/",
        "KILL",
    ]
    assert kill_command(SPOOL, "i", job, Signal.KILL.value)[1:] == told
    assert kill_command(SPOOL, "i", job, Signal.KILL.value, "/fifo")[1:] == [*told, "/fifo"]


def test_only_what_the_killer_says_of_a_search_is_believed() -> None:
    assert found_any(SOME_LEFT)
    assert not found_any(NONE_LEFT)
    for status in (1, 2, 126, 127, 137):
        with pytest.raises(RuntimeUnavailable, match=str(status)):
            found_any(status)


def test_a_signal_is_sent_only_if_the_killer_did_not_fail() -> None:
    signalled(0)
    with pytest.raises(RuntimeUnavailable, match="127"):
        signalled(127)


def test_the_container_gets_only_what_it_is_given() -> None:
    host = RECIPE.body()["HostConfig"]
    assert host["CapAdd"] == ["SETGID", "SETUID"]
    assert [(each["Source"], each["Target"], each["ReadOnly"]) for each in host["Mounts"]] == [
        ("/state/spool", "/wsclean-workerd/spool", False),
        ("/stage", "/data", False),
        ("/catalogues", "/catalogues", True),
    ]
    assert replace(RECIPE, switches_user=False).body()["HostConfig"]["CapAdd"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": "sha256:2"},
        {"mounts": ()},
        {"user": "1000:1000"},
        {"spool": "/elsewhere"},
        {"switches_user": False},
    ],
)
def test_what_makes_another_container_has_another_fingerprint(change: dict[str, object]) -> None:
    assert replace(RECIPE, **change).fingerprint() != RECIPE.fingerprint()  # type: ignore[arg-type]


def test_a_limit_of_memory_makes_another_container_and_none_makes_none() -> None:
    limited = replace(RECIPE, memory=2**30)
    assert limited.fingerprint() != RECIPE.fingerprint()
    host = limited.body()["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (2**30, 2**30)
    assert "Memory" not in RECIPE.body()["HostConfig"]


def test_how_mounts_are_passed_on_makes_no_other_container() -> None:
    assert replace(RECIPE, propagation="rprivate").fingerprint() == RECIPE.fingerprint()
