from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import docker
import pytest

from support.docker_daemon import DockerDaemon, docker_daemon
from support.storage import HangingStorage, hanging_storage
from support.systemd_host import SystemdHost, gather_wheels, installed_image
from support.systemd_host import systemd_host as booted_host

ACCOUNTS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ACCOUNTS] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for account in terminalreporter.config.stash[ACCOUNTS]:
        terminalreporter.section("account")
        terminalreporter.write_line(account)


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


@pytest.fixture
def idle_daemon(engine_url: str) -> Iterator[DockerDaemon]:
    """A daemon with the docker runtime that has not been started."""
    with docker_daemon(engine_url) as daemon:
        yield daemon


@pytest.fixture
def daemon(idle_daemon: DockerDaemon) -> DockerDaemon:
    """A daemon with the docker runtime that is ready."""
    idle_daemon.start()
    return idle_daemon


@pytest.fixture
def storage() -> Iterator[HangingStorage]:
    with hanging_storage() as storage:
        yield storage


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts something into the summary of the tests, whether they pass or not."""
    return request.config.stash[ACCOUNTS].append


@pytest.fixture(scope="session")
def installed(engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of a host on which the project is in its environment, and no more."""
    wheels = tmp_path_factory.mktemp("wheels")
    gather_wheels(wheels)
    with installed_image(engine_url, wheels) as image:
        yield image


@pytest.fixture
def systemd_host(installed: str, engine_url: str) -> Iterator[SystemdHost]:
    """A host that has booted systemd, and nothing of ours put in place yet."""
    with booted_host(installed, engine_url) as host:
        yield host
