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
