"""A real daemon in front of a real engine."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.daemon import DEADLINE, DaemonProcess, daemon_folder

OWN_SCRIPTS = "/wsclean-workerd/spool/runner/"
# The runner looks whether this works when it starts, and does not wait for its end.
RUNNERS_CHECK = "setsid --fork true"
IMAGE = "wsclean-workerd/wsclean:3.7"

SETTINGS = """
slots = {slots}
[docker]
url = "{url}"
image = "{image}"
container = "{name}"
call_timeout = {call_timeout}
memory = "{memory}"
[jobs]
{run_as}
programs = {programs}
kill_grace = 1
[[mounts]]
host = "{data}"
container = "/data"
"""


DEFAULTS = {
    "image": IMAGE,
    "call_timeout": 15,
    "slots": 4,
    "memory": "none",
    "run_as": "0:0",
    "programs": '["sh", "wsclean"]',
}


@dataclass
class DockerDaemon(DaemonProcess):
    """A daemon with a container of its own.

    Args:
        values: For the configuration, where `DEFAULTS` will not do.
        extra: What the configuration has more.
        engine: The address of the engine, if it is not that of the tests.
    """

    values: dict[str, Any] = field(default_factory=dict)
    extra: str = ""
    engine: str | None = None

    def __post_init__(self) -> None:
        self.values = {**DEFAULTS, **self.values}

    @property
    def name(self) -> str:
        return str(self.values["name"])

    def write_config(self) -> None:
        # None: as their submitters.
        account = self.values["run_as"]
        run_as = "" if account is None else f'run_as = "{account}"'
        self.settings = SETTINGS.format(**{**self.values, "run_as": run_as}) + self.extra
        super().write_config()

    def docker(self, *words: str) -> str:
        """Run the docker command as an operator would; return what it prints."""
        done = subprocess.run(
            ["docker", *words],
            capture_output=True,
            text=True,
            check=True,
            env=self.docker_environment,
            timeout=DEADLINE,
        )
        return done.stdout.strip()

    @property
    def docker_environment(self) -> dict[str, str]:
        """The environment in which the docker command finds the engine."""
        return {**os.environ, **({"DOCKER_HOST": self.engine} if self.engine else {})}

    def container(self) -> str:
        """The id of the container that has the name at present."""
        return self.docker("inspect", "--format", "{{.Id}}", self.name)

    def processes(self) -> list[str]:
        """The command lines of all processes in the container, the daemon's own left out."""
        lines = self.docker("top", self.name, "-eo", "pid,stat,args").splitlines()[1:]
        found = (line.split(maxsplit=2)[1:] for line in lines)
        # The engine lists what has ended only if that was while it asked ps, and then
        # nobody can tell whose it was.
        own = (OWN_SCRIPTS, RUNNERS_CHECK)
        return sorted(
            words
            for stat, words in found
            if stat[0] != "Z" and not any(each in words for each in own)
        )

    def use_image(self) -> str:
        """Configure an image of the daemon's own, which is removed in the end; return its name."""
        self.values["image"] = f"wsclean-workerd/test-{self.name}:latest"
        return str(self.values["image"])

    def clean_up(self) -> None:
        """Remove containers and image, once the daemon makes no new ones."""
        self.remove_containers()
        if self.values["image"] != IMAGE:
            subprocess.run(
                ["docker", "rmi", "-f", str(self.values["image"])],
                capture_output=True,
                check=False,
                env=self.docker_environment,
                timeout=DEADLINE,
            )

    def remove_containers(self) -> None:
        listed = self.docker("ps", "-aq", "--filter", f"name={self.name}")
        if listed:
            self.docker("rm", "-f", *listed.split())


@contextmanager
def docker_daemon(
    engine: str,
    clean_up: Callable[[DockerDaemon], None] = DockerDaemon.clean_up,
    **values: Any,
) -> Iterator[DockerDaemon]:
    """A daemon that has not been started, and in the end is stopped with nothing left of it.

    Args:
        engine: The address of its engine.
        clean_up: What is to be done when the daemon is gone, whatever happened.
        values: For the configuration, where `DEFAULTS` will not do.
    """
    with daemon_folder() as folder:
        own = {"url": engine, "name": f"ww-test-{uuid.uuid4().hex[:8]}", "data": folder / "data"}
        daemon = DockerDaemon(folder, "", values={**own, **values}, engine=engine)
        try:
            yield daemon
            if daemon.process is not None:
                assert daemon.stop() == 0, daemon.log
        finally:
            if daemon.process is not None:
                daemon.kill()
            clean_up(daemon)
