"""The image and the scripts that make it, with the engine at hand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
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
        ("command -v taql", "/usr/bin/taql"),
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
    assert done.stderr == "usage: tools/engine up|down|host|with-bridge COMMAND…\n"
    assert docker_calls.read_text() == ""


# -- what the private engine leaves after a crash --------------------------------

NO_ENGINE = {"DOCKER_HOST": "unix:///no/such.sock"}

# Like the real one it refuses to start where a number is that may be its own.
DOCKERD = """#!/bin/sh
how="$(readlink /proc/self/ns/net) $*"
while [ $# -gt 0 ]; do
    case $1 in
        --pidfile) pid_file=$2 ;;
        --exec-root) root=$2 ;;
        --host) socket=${2#unix://} ;;
    esac
    shift
done
for file in "$pid_file" "$root/containerd/containerd.pid"; do
    [ ! -e "$file" ] || { echo "pid file found: $file"; exit 1; }
done
trap 'kill $!; exit' TERM
sleep 600 &
echo $$ >"$pid_file"
echo "$how" >"$socket"
wait
"""
DOCKER = """#!/bin/sh
case "$*" in
    version*) test -e "${DOCKER_HOST#unix://}" ;;
esac
"""


class Checkout:
    """The engine's script in a folder of its own, where an engine has been running."""

    def __init__(self, folder: Path) -> None:
        self.engine = folder / "tools" / "engine"
        self.engine.parent.mkdir()
        for name in ("engine", "lib.sh"):
            shutil.copy(ENGINE.with_name(name), self.engine.parent)
        self.root = folder / ".dev" / "docker"
        self.run = self.root / "run"
        self.pid_files = [
            self.run / "dockerd.pid",
            self.run / "exec" / "containerd" / "containerd.pid",
        ]
        self.pid_files[1].parent.mkdir(parents=True)
        (self.root / "run-folder").write_text(f"{self.run}\n")

    def claim(self, pid: int) -> None:
        """Leave a number in the engine's files."""
        for path in self.pid_files:
            path.write_text(f"{pid}\n")

    def call(self, verb: str, path: str = os.environ["PATH"]) -> None:
        done = call(self.engine, verb, environment={**NO_ENGINE, "PATH": path})
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path)
    yield checkout
    # Nothing is left of an engine that should not have started, either.
    checkout.call("down")


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that do nothing, under any name and with any first word."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(
        word: str | Path = "sleep", *, program: Path | None = None
    ) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([word, "600"], executable=program or "sleep"))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def dockerd(tmp_path: Path) -> Path:
    """A program of that name that does nothing."""
    sleep = shutil.which("sleep")
    assert sleep
    program = tmp_path / "dockerd"
    shutil.copy(sleep, program)
    return program


def test_stopping_spares_who_has_the_number_of_a_crashed_engine(
    checkout: Checkout,
    start: Start,
) -> None:
    stranger = start()
    checkout.claim(stranger.pid)
    checkout.call("down")
    assert stranger.poll() is None
    assert not checkout.run.exists()


def test_stopping_finds_its_engine_without_a_number(
    checkout: Checkout,
    start: Start,
    dockerd: Path,
) -> None:
    engine = start(checkout.run / "exec", program=dockerd)
    checkout.call("down")
    assert engine.wait(timeout=DEADLINE) == -signal.SIGTERM


def test_stopping_spares_the_engine_of_a_checkout_whose_path_ends_the_same(
    checkout: Checkout,
    start: Start,
    dockerd: Path,
) -> None:
    other = start(f"/copy{checkout.run}/exec", program=dockerd)
    checkout.call("down")
    assert other.poll() is None


@pytest.fixture
def fakes(tmp_path: Path) -> str:
    """A PATH with an engine of few words, and a client that sees whether it is there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"docker": DOCKER, "dockerd": DOCKERD}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def test_no_second_engine_starts_beside_one_that_does_not_answer(
    checkout: Checkout,
    start: Start,
    dockerd: Path,
    fakes: str,
) -> None:
    hanging = start(checkout.run / "exec", program=dockerd)
    checkout.pid_files[0].write_text(f"{hanging.pid}\n")
    done = call(checkout.engine, "up", environment={**NO_ENGINE, "PATH": fakes})
    assert done.returncode == 1
    assert f"pid file found: {checkout.pid_files[0]}" in done.stderr
    assert "the private engine does not answer" in done.stderr
    assert hanging.poll() is None


def test_an_engine_starts_where_one_has_crashed(
    checkout: Checkout,
    start: Start,
    fakes: str,
) -> None:
    stranger = start()
    checkout.claim(stranger.pid)
    checkout.call("up", fakes)
    started = checkout.pid_files[0].read_text()
    # Once it runs, nothing happens.
    checkout.call("up", fakes)
    assert checkout.pid_files[0].read_text() == started != f"{stranger.pid}\n"
    checkout.call("down", fakes)
    assert stranger.poll() is None
    assert not checkout.run.exists()


def test_a_command_finds_the_private_engine_with_a_network_and_leaves_it_without(
    checkout: Checkout,
    fakes: str,
) -> None:
    mine = str(Path("/proc/self/ns/net").readlink())
    # Another run folder may be made each time.
    show = f'cat "$(cat {checkout.root}/run-folder)/docker.sock"'
    checkout.call("up", fakes)
    done = call(
        *(checkout.engine, "with-bridge", "sh", "-c", f"{show}; exit 3"),
        environment={**NO_ENGINE, "PATH": fakes},
    )
    assert (done.returncode, done.stderr) == (3, "")
    namespace, *options = done.stdout.split()
    assert namespace != mine
    assert "--bridge=none" not in options
    namespace, *options = call("sh", "-c", show).stdout.split()
    assert namespace == mine
    assert "--bridge=none" in options
    checkout.call("down", fakes)


def test_a_command_finds_the_engine_of_the_host_as_it_is(
    checkout: Checkout, engine_url: str
) -> None:
    words = ("with-bridge", "sh", "-c", "exit 3")
    done = call(checkout.engine, *words, environment={"DOCKER_HOST": engine_url})
    assert (done.returncode, done.stderr) == (3, "")
    assert not (checkout.root / "dockerd.log").exists()
