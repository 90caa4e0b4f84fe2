"""A host that boots a real systemd, with the project installed as README.md says.

The host is a container on the engine of the tests, with systemd as its first process; it is up
in a second. The daemon on it drives the engine that the host itself runs on, so its state and
data are in a folder that has the same path inside and outside (`SystemdHost.folder`): the engine
looks there for what it mounts.

    def test_something(systemd_host: SystemdHost) -> None:
        daemon = systemd_host.daemon()      # writes a configuration when it starts
        systemd_host.install()              # wsclean-ctl install, from /opt/wsclean-workerd
        daemon.start()                      # systemctl start, then until it is ready
        daemon.client().run(["sh", "-c", "true"], cwd="/data")
        systemd_host.systemctl("restart", daemon.unit)
        assert systemd_host.journal("-u", daemon.unit, "-p", "warning") == []

`daemon` is a `DockerDaemon` whose process is systemd's business: its container, its client and
its health are had in the same ways. What is inside the host can be reached as a file below
`SystemdHost.root`, and run with `SystemdHost.run`.

`systemd_host` (tests/e2e/conftest.py) is a fresh host for each test, from an image in which the
first commands of README.md's host installation were run once in this session. The image below
that one is built by tools/systemd-image, once for each engine.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.daemon import DEADLINE, SERVICE, daemon_folder, until
from support.docker_daemon import DockerDaemon

ROOT = Path(__file__).resolve().parents[2]
UNIT = "wsclean-workerd.service"
BIN = "/opt/wsclean-workerd/bin"
"""Where README.md has the programs installed."""

OBSERVER = 4711
"""The account of the host, `observer`, that jobs run as."""

_ENGINE_INSIDE = "/run-of-engine"
_BOOT_SECONDS = 60.0
_INSTALL_SECONDS = 300.0


@dataclass
class SystemdHost:
    """One host that boots.

    Args:
        image: What it boots from.
        engine_url: The engine that it runs on and that its daemons drive.
        folder: Shared with the engine, at the same path inside.
        lent: Folders outside that the host may read, each with its path inside.
    """

    image: str
    engine_url: str
    folder: Path
    lent: dict[Path, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"ww-host-{uuid.uuid4().hex[:8]}")
    daemons: list[UnitDaemon] = field(default_factory=list)
    pid: int = 0

    @property
    def root(self) -> Path:
        """The root of its file system, seen from outside."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def engine_inside(self) -> str:
        """The address of the engine as the host sees it, also after it was restarted."""
        return f"unix://{_ENGINE_INSIDE}/{_engine_socket(self.engine_url).name}"

    def boot(self) -> None:
        """Start the host and wait until systemd says that it is up."""
        # The socket itself is another one after a restart of the engine: its folder is not.
        engine = _engine_socket(self.engine_url).parent
        told = self.folder / "booted"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(told))
            listener.settimeout(_BOOT_SECONDS)
            self._docker(
                *("run", "--detach", "--name", self.name, "--hostname", self.name),
                *("--network", "none", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN"),
                *("--security-opt", "seccomp=unconfined"),
                *("--security-opt", "apparmor=unconfined"),
                *("--tmpfs", "/run", "--tmpfs", "/run/lock"),
                *("--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
                *("--volume", f"{self.folder}:{self.folder}"),
                *_mount(engine, _ENGINE_INSIDE),
                *(word for each in self.lent.items() for word in _mount(*each)),
                *("--env", f"NOTIFY_SOCKET={told}"),
                self.image,
            )
            while b"READY=1" not in listener.recv(4096):
                pass
        told.unlink()
        self.pid = int(self._docker("inspect", "--format", "{{.State.Pid}}", self.name))
        self.run("useradd", "--uid", str(OBSERVER), "--create-home", "observer", check=False)

    def run(
        self, *words: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host, as root.

        Args:
            words: The command.
            check: Whether a failure is one of the test.
            environment: Variables for it.
        """
        variables = [
            word for name, value in environment.items() for word in ("--env", f"{name}={value}")
        ]
        done = subprocess.run(
            ["docker", "--host", self.engine_url, "exec", *variables, self.name, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_SECONDS,
        )
        if check:
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def ctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run wsclean-ctl on the host, as root."""
        return self.run(f"{BIN}/wsclean-ctl", *words, check=check)

    def install(self, *words: str) -> str:
        """Run `wsclean-ctl install`; return what it says."""
        return self.ctl("install", *words).stdout

    def systemctl(self, *words: str) -> str:
        """Run systemctl; return what it prints."""
        return self.run("systemctl", *words).stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """What systemd knows of a unit, by name of the property."""
        lines = self.systemctl("show", f"--property={','.join(properties)}", unit).splitlines()
        return dict(line.split("=", maxsplit=1) for line in lines)

    def journal(self, *words: str) -> list[dict[str, Any]]:
        """The entries of the journal that journalctl finds, oldest first."""
        # What has been sent is in the journal, too.
        self.run("journalctl", "--sync")
        printed = self.run("journalctl", "--no-pager", "--output=json", *words, check=False).stdout
        return [json.loads(line) for line in printed.splitlines()]

    def daemon(self, instance: str = "", **values: Any) -> UnitDaemon:
        """A daemon of this host, which has not been started.

        Args:
            instance: The name of the instance; none is that of wsclean-workerd.service.
            values: What its configuration has other than usual; see `support.docker_daemon`.
        """
        daemon = UnitDaemon(
            self.folder / (instance or "main"),
            "",
            values={
                "url": self.engine_inside,
                "name": f"{self.name}-{instance or 'main'}",
                "run_as": "observer",
                "data": self.folder / (instance or "main") / "data",
                **values,
            },
            host=self,
            instance=instance,
        )
        daemon.folder.mkdir()
        daemon.data.mkdir()
        shutil.chown(daemon.data, OBSERVER, OBSERVER)
        self.daemons.append(daemon)
        return daemon

    def shut_down(self) -> None:
        """Stop the host in order, so that it can be booted again."""
        self._docker("stop", "--time", "30", self.name)

    def clean_up(self) -> None:
        """Remove the host, and then what its daemons have left on the engine."""
        self._docker("rm", "--force", "--volumes", self.name)
        for daemon in self.daemons:
            daemon.clean_up()

    def commit(self, image: str) -> None:
        """Make an image of what is on its disk."""
        self._docker("commit", self.name, image)

    def _docker(self, *words: str) -> str:
        done = subprocess.run(
            ["docker", "--host", self.engine_url, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@dataclass
class UnitDaemon(DockerDaemon):
    """A daemon that the systemd of a host starts and stops."""

    host: SystemdHost = field(kw_only=True)
    instance: str = ""
    native: bool = False

    @property
    def unit(self) -> str:
        return f"wsclean-workerd@{self.instance}.service" if self.instance else UNIT

    @property
    def runtime_dir(self) -> str:
        """Where the unit has its socket, inside the host."""
        return f"/run/wsclean-workerd{f'-{self.instance}' if self.instance else ''}"

    @property
    def socket(self) -> Path:
        return Path(f"{self.host.root}{self.runtime_dir}/workerd.sock")

    @property
    def config(self) -> Path:
        name = f"wsclean-workerd{f'-{self.instance}' if self.instance else ''}.toml"
        return self.host.root / "etc" / name

    @property
    def log(self) -> str:
        entries = self.host.journal("--unit", self.unit)
        return "".join(f"{entry['MESSAGE']}\n" for entry in entries)

    @property
    def main_pid(self) -> int:
        """The daemon's process id on the host; 0 if it does not run."""
        return int(self.host.show(self.unit, "MainPID")["MainPID"])

    def write_config(self) -> None:
        super().write_config()
        # The socket stays where the unit wants it.
        text = self.config.read_text(encoding="utf-8")
        text = text.replace(f'"{self.folder}/run"', f'"{self.runtime_dir}"')
        if self.native:
            text = 'runtime = "native"\n' + text.replace('container = "/data"\n', "")
        self.config.write_text(text, encoding="utf-8")

    def start(self, *, ready: bool = True) -> None:
        """Write the configuration, then `systemctl start`, which ends when systemd was told."""
        self.write_config()
        self.host.systemctl("start", self.unit)
        self.await_health(SERVICE if ready else "")

    def await_status(self, wanted: str) -> str:
        """Wait until systemd shows a status with certain words; return all it shows."""
        # Told to systemd a moment after the daemon's callers, and by it to nobody else.
        return until(
            lambda: self.host.systemctl("status", "--no-pager", "--lines=0", self.unit),
            lambda shown: wanted in shown,
        )

    def spawn(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError("systemd starts it: use start()")

    def stop(self) -> int:
        """`systemctl stop`; return the exit status of the daemon."""
        self.host.systemctl("stop", self.unit)
        return int(self.host.show(self.unit, "ExecMainStatus")["ExecMainStatus"])

    def kill(self) -> None:
        """SIGKILL the daemon; systemd starts it again."""
        self.host.systemctl("kill", "--kill-who=main", "--signal=KILL", self.unit)


@contextmanager
def systemd_host(
    image: str, engine_url: str, lent: dict[Path, str] | None = None
) -> Iterator[SystemdHost]:
    """A host that has booted, removed in the end with all that its daemons have made."""
    # Where units with a /tmp of their own see it.
    with daemon_folder("/var/lib") as folder:
        host = SystemdHost(image, engine_url, folder, lent or {})
        try:
            host.boot()
            yield host
        finally:
            host.clean_up()


def readme_commands() -> list[str]:
    """The commands by which README.md has the daemon installed on a host."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("\n## On a real host\n")[1]
    return section.split("```sh\n")[1].split("```")[0].splitlines()


@contextmanager
def installed_image(engine_url: str, wheels: Path) -> Iterator[str]:
    """An image of a host with the project in its environment, and nothing else done.

    Args:
        engine_url: The engine that has it, until this is left.
        wheels: A folder with everything that pip needs: the host has no network.
    """
    subprocess.run([ROOT / "tools/systemd-image"], check=True, capture_output=True)
    base = subprocess.run(
        [ROOT / "tools/systemd-image", "--tag"], check=True, capture_output=True, text=True
    ).stdout.strip()
    image = f"wsclean-workerd/systemd-installed:{uuid.uuid4().hex[:8]}"
    with systemd_host(base, engine_url, {ROOT: "/checkout", wheels: "/wheels"}) as host:
        make_environment, install, *_ = readme_commands()
        for command in (make_environment, install):
            host.run(
                *("sh", "-ec", f"cd /checkout\n{command}"),
                PIP_NO_INDEX="1",
                PIP_FIND_LINKS="/wheels",
                PIP_DISABLE_PIP_VERSION_CHECK="1",
            )
        host.commit(image)
    try:
        yield image
    finally:
        subprocess.run(
            ["docker", "--host", engine_url, "rmi", "--force", image],
            capture_output=True,
            check=False,
            timeout=DEADLINE,
        )


def gather_wheels(folder: Path) -> None:
    """Have all that the installation needs in a folder, in the versions of requirements.lock."""
    subprocess.run(
        [
            *(ROOT / ".venv/bin/python", "-m", "pip", "wheel", "--quiet"),
            *("--disable-pip-version-check", "--constraint", ROOT / "requirements.lock"),
            *("--wheel-dir", folder, ".[daemon]", "hatchling"),
        ],
        cwd=ROOT,
        check=True,
        timeout=_INSTALL_SECONDS,
    )
    # That of the project is made on the host, as README.md says.
    for wheel in folder.glob("wsclean_workerd-*.whl"):
        wheel.unlink()


def _mount(source: Path, target: str) -> tuple[str, str]:
    # What is mounted below it (an engine's own things, say) stays outside.
    options = f"source={source},target={target},readonly,bind-nonrecursive=true"
    return "--mount", f"type=bind,{options}"


def _engine_socket(url: str) -> Path:
    assert url.startswith("unix://"), f"expected an engine of this machine, got {url}"
    return Path(url.removeprefix("unix://"))
