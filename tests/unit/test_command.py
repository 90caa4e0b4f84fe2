from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wsclean_workerd.access import RunAs
from wsclean_workerd.command import MAX_ARGUMENTS_BYTES, CommandRules, script
from wsclean_workerd.errors import (
    InvalidRequest,
    OutputWouldBeLost,
    UnknownProgram,
    UnmappedPath,
    WorkerdError,
)
from wsclean_workerd.model import JobSpec, Mount, Order, User
from wsclean_workerd.paths import PathMapper

OBSERVER = User(uid=1000, gid=1000)
RULES = CommandRules(
    programs=("wsclean", "taql"),
    mapper=PathMapper((Mount("/stage", "/data"),)),
    elsewhere="/tmp",
    run_as=RunAs(),
    umask=0o022,
    run_timeout=3600.0,
    queue_timeout=None,
)


def order(*command: str, cwd: str = "/stage/night", **fields: Any) -> Order:
    return RULES.order(JobSpec(command=command, working_directory=cwd, **fields), OBSERVER)


def test_paths_and_working_directory_are_mapped_and_defaults_filled_in() -> None:
    made = order("wsclean", "-name", "im", "/stage/a.ms")
    assert made.command == ("wsclean", "-name", "im", "/data/a.ms")
    assert made.working_directory == "/data/night"
    assert (made.run_timeout, made.queue_timeout, made.umask) == (3600.0, None, 0o022)


def test_what_the_caller_says_comes_before_the_defaults() -> None:
    made = order("wsclean", run_timeout=5.0, queue_timeout=6.0, umask=0o002)
    assert (made.run_timeout, made.queue_timeout, made.umask) == (5.0, 6.0, 0o002)


@pytest.mark.parametrize(
    ("command", "fields", "error", "words"),
    [
        ((), {}, InvalidRequest, "empty command"),
        (("",), {}, InvalidRequest, "empty command"),
        (("rm", "-rf", "/stage"), {}, UnknownProgram, "cannot run 'rm'.*wsclean, taql"),
        (("/usr/bin/wsclean",), {}, UnknownProgram, "/usr/bin/wsclean"),
        (("wsclean", "a\nb"), {}, InvalidRequest, "argument 1 contains a newline"),
        (("wsclean", "a\0b"), {}, InvalidRequest, "argument 1 contains a NUL"),
        (("wsclean", "/etc/passwd"), {}, UnmappedPath, "'/etc/passwd'.*/stage"),
        (("wsclean",), {"run_timeout": 0.0}, InvalidRequest, "run timeout of 0 s"),
        (("wsclean",), {"run_timeout": 9.2e18}, InvalidRequest, "expected at most"),
        (("wsclean",), {"run_timeout": -1.0}, InvalidRequest, "run timeout of -1 s"),
        (("wsclean",), {"queue_timeout": 0.0}, InvalidRequest, "queue timeout of 0 s"),
        (("wsclean",), {"umask": 0o1000}, InvalidRequest, "umask 0o1000"),
        (("wsclean",), {"cwd": "night"}, InvalidRequest, "working directory 'night'"),
        (("wsclean",), {"environment": (("A-B", "1"),)}, InvalidRequest, "'A-B'"),
        (("wsclean",), {"environment": (("A", "1\n"),)}, InvalidRequest, "variable A"),
        (
            ("wsclean",),
            {"environment": (("WSCLEAN_WORKERD_MARK", "x"),)},
            InvalidRequest,
            "belong to the daemon",
        ),
        (("wsclean",), {"locks": ("a/b",)}, InvalidRequest, "cannot lock 'a/b'"),
        (("wsclean",), {"retries": 101}, InvalidRequest, "allow 101 retries: expected at most 100"),
        (("wsclean", "x" * MAX_ARGUMENTS_BYTES), {}, InvalidRequest, "in a file"),
    ],
)
def test_what_cannot_run_is_refused_with_the_words_for_it(
    command: tuple[str, ...],
    fields: dict[str, Any],
    error: type[WorkerdError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        order(*command, **fields)


def test_a_hundred_retries_are_accepted_and_more_have_a_reason_of_their_own() -> None:
    order("wsclean", retries=100)
    with pytest.raises(InvalidRequest) as caught:
        order("wsclean", retries=101)
    assert caught.value.reason == "INVALID_RETRIES"


def test_a_command_that_stays_as_it_is_takes_no_memory_twice() -> None:
    spec = JobSpec(command=("wsclean", "-name", "/data/im"), working_directory="/stage")
    assert RULES.order(spec, OBSERVER).command is spec.command
    spec = replace(spec, command=("wsclean", "-name", "/stage/im"))
    assert RULES.order(spec, OBSERVER).command == ("wsclean", "-name", "/data/im")


def test_locks_get_the_names_that_they_have_on_the_host() -> None:
    made = order("wsclean", locks=("/data/a.ms", "gpu", "/stage/a.ms/"))
    assert made.locks == ("/stage/a.ms", "gpu")
    assert order("wsclean").locks == ()


@pytest.mark.parametrize(
    "arguments",
    [
        ("-name", "im", "a.ms"),
        ("-size", "512", "512", "a.ms"),
        ("-name", "/stage/x", "-name", "im"),
    ],
)
def test_images_that_nobody_would_find_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(OutputWouldBeLost, match=r"not below a mount.*/stage \(as /data\)"):
        order("wsclean", *arguments, cwd="/home/me")


@pytest.mark.parametrize(
    "arguments",
    [("-name", "/stage/im", "/stage/a.ms"), ("--version",), (), ("-name", "container:/tmp/x")],
)
def test_outside_a_mount_a_command_can_run_that_loses_nothing(arguments: tuple[str, ...]) -> None:
    assert order("wsclean", *arguments, cwd="/home/me").working_directory == "/tmp"


def test_only_imaging_programs_write_images() -> None:
    assert order("taql", "select 1", cwd="/home/me").command == ("taql", "select 1")


def test_the_script_passes_everything_on_to_the_letter(tmp_path: Path) -> None:
    nasty = ("a b", "$HOME", "`id`", "'", '"', "\\", "*", "-n", "ä", "", "; exit 3")
    base = order("wsclean")
    text = script(
        replace(
            base,
            command=("printf", "[%s]", *nasty),
            working_directory=str(tmp_path),
            umask=0o027,
        ),
        {"GREETING": "it's $me"},
    )
    (tmp_path / "command").write_text(text + "\n", encoding="utf-8")
    subprocess.run(["sh", "./command"], cwd=tmp_path, check=True)
    written = (tmp_path / "stdout").read_text(encoding="utf-8")
    assert written == "".join(f"[{word}]" for word in nasty)

    text = script(
        replace(base, command=("sh", "-c", 'umask; echo "$GREETING"'), working_directory="/"),
        {"GREETING": "it's $me"},
    )
    (tmp_path / "stdout").unlink()
    (tmp_path / "command").write_text(text, encoding="utf-8")
    subprocess.run(["sh", "./command"], cwd=tmp_path, check=True)
    assert (tmp_path / "stdout").read_text(encoding="utf-8") == "0022\nit's $me\n"
