"""The image and the scripts that make it, with the engine at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dev import IMAGE
from support.daemon import DEADLINE

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "image" / "build"
ENGINE = ROOT / "tools" / "engine"

pytestmark = pytest.mark.engine


def call(
    *words: str | Path,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(words),
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def in_image(engine_url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a container of its own, with as little as the daemon gives."""
    return call(
        *("docker", "--host", engine_url, "run", "--rm", "--network", "none"),
        *("--cap-drop", "ALL", "--cap-add", "SETUID", "--cap-add", "SETGID"),
        *("--security-opt", "no-new-privileges", "--read-only", IMAGE),
        *words,
    )


# -- what is in it ---------------------------------------------------------------


def test_wsclean_is_a_version_that_draws_models(engine_url: str) -> None:
    version = in_image(engine_url, "wsclean", "--version")
    assert version.returncode == 0, version.stderr
    assert "WSClean version 3.7" in version.stdout
    usage = in_image(engine_url, "wsclean", "--help")
    options = {word for line in usage.stdout.splitlines() for word in line.split()[:1]}
    assert {"-draw-model", "-draw-centre", "-draw-frequencies", "-predict", "-name"} <= options


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ("echo $0", "sh"),
        ("setpriv --reuid=4711 --regid=42 --groups=43,44 --inh-caps=-all id -u", "4711"),
        ("setpriv --reuid=4711 --regid=42 --clear-groups --inh-caps=-all id -G", "42"),
        # A job leads a session of its own.
        ("setsid --wait sh -c 'test $(cut -d\" \" -f6 /proc/$$/stat) = $$ && echo own'", "own"),
        ("A=mark/1/ sh -c 'grep -lzF mark/1/ /proc/$$/environ >/dev/null && echo found'", "found"),
        ("find /usr/bin -maxdepth 1 -name wsclean", "/usr/bin/wsclean"),
        ("command -v chgcentre", "/usr/bin/chgcentre"),
    ],
)
def test_what_jobs_are_started_and_found_with_is_there(
    engine_url: str,
    script: str,
    printed: str,
) -> None:
    done = in_image(engine_url, "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{printed}\n", "")


def test_without_a_command_it_stays_until_it_is_stopped(engine_url: str) -> None:
    done = call(
        *("docker", "--host", engine_url, "image", "inspect"),
        *("--format", "{{json .Config.Cmd}} {{json .Config.Entrypoint}}", IMAGE),
    )
    assert done.stdout == '["sleep","infinity"] null\n'


# -- how it is built -------------------------------------------------------------


@pytest.fixture
def docker_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each use of the docker command, which goes on working."""
    real = shutil.which("docker")
    assert real, "the docker command is not there"
    log = tmp_path / "calls"
    log.touch()
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "docker"
    command.write_text(f'#!/bin/sh\necho "$*" >>"{log}"\nexec "{real}" "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


def test_an_image_that_is_there_is_not_built_again(engine_url: str, docker_calls: Path) -> None:
    def identity() -> str:
        found = call("docker", "--host", engine_url, "image", "inspect", "-f", "{{.Id}}", IMAGE)
        assert found.returncode == 0, found.stderr
        return found.stdout

    before = identity()
    docker_calls.write_text("")
    done = call(BUILD, "--tag", IMAGE, environment={"DOCKER_HOST": engine_url})
    calls = [line.split()[:2] for line in docker_calls.read_text().splitlines()]
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # It has looked, and done nothing else.
    assert calls
    assert all(words in (["version", "--format"], ["image", "inspect"]) for words in calls)
    assert identity() == before


@pytest.mark.parametrize("words", [["--tags", "x"], ["now"], ["--force", "--help-me"]])
def test_an_unknown_option_is_refused_with_the_usage(docker_calls: Path, words: list[str]) -> None:
    done = call(BUILD, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "usage: image/build [--tag TAG] [--suite SUITE] [--force]\n"
    assert docker_calls.read_text() == ""


@pytest.mark.parametrize("option", ["--tag", "--suite"])
def test_an_option_needs_its_value(docker_calls: Path, option: str) -> None:
    done = call(BUILD, option)
    assert done.returncode != 0
    assert f"{option} needs a value" in done.stderr
    assert docker_calls.read_text() == ""


# -- the engine ------------------------------------------------------------------


def test_the_address_of_the_engine_answers(engine_url: str) -> None:
    done = call(ENGINE, "host", environment={"DOCKER_HOST": engine_url})
    assert done.returncode == 0, done.stderr
    (address,) = done.stdout.splitlines()
    version = call(
        *("docker", "--host", address, "version", "--format", "{{.Server.Version}}"),
        environment={"DOCKER_HOST": "unix:///no/such.sock"},
    )
    assert version.returncode == 0, version.stderr
    assert version.stdout.strip()


@pytest.mark.parametrize("words", [[], ["start"], ["--help"]])
def test_the_engine_script_says_how_it_is_used(docker_calls: Path, words: list[str]) -> None:
    done = call(ENGINE, *words)
    assert done.returncode == 2
    assert done.stderr == "usage: tools/engine up|down|host\n"
    assert docker_calls.read_text() == ""
