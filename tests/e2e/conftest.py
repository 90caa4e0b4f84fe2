from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import docker
import pytest

from support.daemon import DEADLINE, DaemonProcess, daemon_folder

IMAGE = "wsclean-workerd/wsclean:3.7"

SETTINGS = """
slots = 4
[docker]
url = "{url}"
image = "{image}"
container = "{name}"
call_timeout = {call_timeout}
[jobs]
run_as = "{run_as}"
programs = ["sh", "wsclean"]
kill_grace = 1
[[mounts]]
host = "{data}"
container = "/data"
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker("engine")


@pytest.fixture(scope="session")
def engine_url() -> str:
    url = os.environ.get("DOCKER_HOST")
    assert url, "DOCKER_HOST is not set: run the tests by `make test`, or tools/with-engine"
    return url


@pytest.fixture(scope="session")
def engine(engine_url: str) -> Iterator[docker.APIClient]:
    client = docker.APIClient(base_url=engine_url, version="1.41", timeout=60)
    yield client
    client.close()


@dataclass
class DockerDaemon(DaemonProcess):
    """A daemon with a container of its own on the engine of the tests."""

    values: dict[str, Any] = field(default_factory=dict)
    extra: str = ""

    @property
    def name(self) -> str:
        return str(self.values["name"])

    def write_config(self) -> None:
        self.settings = SETTINGS.format(**self.values) + self.extra
        super().write_config()

    def docker(self, *words: str) -> str:
        """Run the docker command as an operator would; return what it prints."""
        done = subprocess.run(
            ["docker", *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=DEADLINE,
        )
        return done.stdout.strip()

    def container(self) -> str:
        """The id of the container that has the name at present."""
        return self.docker("inspect", "--format", "{{.Id}}", self.name)

    def processes(self) -> list[str]:
        """The command lines of all processes in the container."""
        lines = self.docker("top", self.name, "-eo", "pid,args").splitlines()[1:]
        return sorted(line.split(maxsplit=1)[1] for line in lines)

    def remove_containers(self) -> None:
        listed = self.docker("ps", "-aq", "--filter", f"name={self.name}")
        if listed:
            self.docker("rm", "-f", *listed.split())


@pytest.fixture
def idle_daemon(engine_url: str) -> Iterator[DockerDaemon]:
    """A daemon with the docker runtime that has not been started."""
    with daemon_folder() as folder:
        daemon = DockerDaemon(
            folder,
            "",
            values={
                "url": engine_url,
                "image": IMAGE,
                "name": f"ww-test-{uuid.uuid4().hex[:8]}",
                "call_timeout": 15,
                "run_as": "0:0",
                "data": folder / "data",
            },
        )
        try:
            yield daemon
            if daemon.process is not None:
                assert daemon.stop() == 0, daemon.log
        finally:
            if daemon.process is not None:
                daemon.kill()
            daemon.remove_containers()


@pytest.fixture
def daemon(idle_daemon: DockerDaemon) -> DockerDaemon:
    """A daemon with the docker runtime that is ready."""
    idle_daemon.start()
    return idle_daemon
