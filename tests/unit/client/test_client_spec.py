from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from wsclean_client import RequestRefused
from wsclean_client.spec import Options, own_umask, prepare


def test_arguments_may_be_paths_and_bytes(tmp_path: Path) -> None:
    spec = prepare(["wsclean", Path("x.ms"), b"caf\xc3\xa9"], Options(cwd=tmp_path, umask=0o27))
    assert spec.command == ("wsclean", "x.ms", "caf\u00e9")
    assert spec.working_directory == str(tmp_path.resolve())
    assert spec.umask == 0o27


def test_any_iterable_is_a_list() -> None:
    assert prepare(iter(["a", "b"]), Options()).command == ("a", "b")


@pytest.mark.parametrize("args", ["wsclean -version", b"wsclean", Path("wsclean")])
def test_one_text_is_no_list(args: Any) -> None:
    with pytest.raises(TypeError, match=r"shlex\.split"):
        prepare(args, Options())


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A folder with a Measurement Set, a link to it, and a link to the folder."""
    stage = tmp_path.resolve() / "stage"
    (stage / "sim.ms").mkdir(parents=True)
    (stage / "latest.ms").symlink_to("sim.ms")
    (stage.parent / "link").symlink_to("stage")
    return stage


@pytest.mark.parametrize(
    ("lock", "resolved"),
    [
        # Without a slash it is a name, even if there is such a file, and as a path it is none.
        ("sim.ms", "sim.ms"),
        ("gpu-calibration", "gpu-calibration"),
        (b"gpu", "gpu"),
        (Path("sim.ms"), "{stage}/sim.ms"),
        (Path("latest.ms"), "{stage}/sim.ms"),
        ("./sim.ms", "{stage}/sim.ms"),
        ("sim.ms/", "{stage}/sim.ms"),
        ("./latest.ms", "{stage}/sim.ms"),
        ("../link/new", "{stage}/new"),
        ("../link/latest.ms", "{stage}/sim.ms"),
        (Path("/stage/of/nobody.ms"), "/stage/of/nobody.ms"),
        ("/data/a.ms", "/data/a.ms"),
        ("container:/data/a.ms", "container:/data/a.ms"),
        # What is wrong with them is for the daemon to say.
        ("", ""),
        ("./a\0b", "./a\0b"),
    ],
)
def test_locks_are_paths_of_the_caller_or_names(lock: Any, resolved: str, stage: Path) -> None:
    spec = prepare(["wsclean"], Options(cwd=stage, locks=[lock]))
    assert spec.locks == (resolved.format(stage=stage),)


def test_an_absolute_lock_passes_symlinks(stage: Path) -> None:
    link = stage.parent / "link"
    locks = (str(link / "latest.ms"), link / "new", f"{stage}/../stage/sim.ms/")
    spec = prepare(["wsclean"], Options(cwd="/", locks=locks))
    assert spec.locks == (str(stage / "sim.ms"), str(stage / "new"), str(stage / "sim.ms"))


@pytest.mark.parametrize("locks", ["gpu", b"gpu", Path("gpu")])
def test_one_lock_is_no_list_of_them(locks: Any) -> None:
    with pytest.raises(TypeError, match=r"locks is .*expected a list"):
        prepare(["wsclean"], Options(locks=locks))


def test_a_lock_that_is_no_text_is_named() -> None:
    with pytest.raises(TypeError, match="lock 1 is 5"):
        prepare(["wsclean"], Options(locks=["gpu", 5]))  # type: ignore[list-item]


@pytest.mark.parametrize("argument", [512, 2.5, None, ["x"]])
def test_argument_that_is_no_text_is_named(argument: Any) -> None:
    with pytest.raises(TypeError, match=f"argument 2 is .*{type(argument).__name__}"):
        prepare(["wsclean", "-size", argument], Options())


def test_name_that_is_no_utf8_cannot_be_sent() -> None:
    with pytest.raises(RequestRefused, match="argument 1 is not valid UTF-8") as caught:
        prepare(["wsclean", b"\xff.ms"], Options())
    assert caught.value.reason == "NOT_UTF8"
    with pytest.raises(RequestRefused, match="variable 'A'"):
        prepare(["wsclean"], Options(env={"A": "\udcff"}))


def test_variable_that_is_no_text_is_named() -> None:
    with pytest.raises(TypeError, match="'OMP_NUM_THREADS' is of type int"):
        prepare(["wsclean"], Options(env={"OMP_NUM_THREADS": 4}))  # type: ignore[dict-item]


def test_working_directory_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    before = Path.cwd()
    os.chdir(gone)
    gone.rmdir()
    try:
        with pytest.raises(RequestRefused, match="has been removed"):
            prepare(["wsclean"], Options())
        assert prepare(["wsclean"], Options(cwd="/")).working_directory == "/"
    finally:
        os.chdir(before)


def test_lengths_of_time() -> None:
    spec = prepare(["wsclean"], Options(timeout=timedelta(minutes=1.5), queue_timeout=0))
    # Whether 0 makes sense is for the daemon to say.
    assert (spec.timeout, spec.queue_timeout) == (90.0, 0.0)
    for senseless in (float("nan"), float("inf"), 1e30):
        with pytest.raises(ValueError, match="timeout is"):
            prepare(["wsclean"], Options(timeout=senseless))


def test_umask_of_the_caller_is_sent_and_not_changed() -> None:
    code = (
        "import os; os.umask(0o137); from wsclean_client.spec import own_umask;"
        "print(own_umask() == 0o137, os.umask(0) == 0o137)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


@pytest.mark.parametrize("content", ["Name: x\n", "Umask:\n", "Umask: x\n", None])
def test_umask_that_cannot_be_read_is_left_to_the_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "status"
    if content is not None:
        path.write_text(content, encoding="ascii")
    monkeypatch.setattr("wsclean_client.spec.Path", lambda _path: path)
    assert own_umask() is None


@pytest.mark.parametrize("retries", ["1", 1.0, True, None])
def test_retries_are_a_number_of_times(retries: Any) -> None:
    with pytest.raises(TypeError, match=r"retries is .*: expected a whole number"):
        prepare(["wsclean"], Options(retries=retries))


@pytest.mark.parametrize("retries", [-1, 2**32])
def test_retries_that_cannot_be_sent_are_an_error(retries: int) -> None:
    with pytest.raises(ValueError, match=rf"retries is {retries}: expected 0 or more"):
        prepare(["wsclean"], Options(retries=retries))
    assert prepare(["wsclean"], Options(retries=101)).retries == 101
