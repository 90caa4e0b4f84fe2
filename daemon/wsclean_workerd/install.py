"""Makes the daemon a service of this host, or takes it away again.

This is what `wsclean-ctl install` and `wsclean-ctl uninstall` run, as a program of its own:
the client never imports the daemon.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wsclean_workerd import host_files
from wsclean_workerd.host_files import HostFile

EXIT_OK = 0
EXIT_CANNOT = 1

LINK = "/usr/local/bin/wsclean-ctl"
"""Where everybody's PATH finds the client."""

_PROGRAMS = ("wsclean-workerd", "wsclean-ctl")
_TOOLS = ("systemctl", "systemd-sysusers", "systemd-tmpfiles")
_FILE_MODE = 0o644
_TOOL_SECONDS = 120.0


class CannotInstall(Exception):
    """The host cannot be changed as it was asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Host:
    """The host that is changed, or a folder that is going to be the root of one.

    Args:
        root: Where its root is.
        dry_run: Whether to say only what would be done.
    """

    root: Path
    dry_run: bool

    @property
    def live(self) -> bool:
        """Whether it is the host that this runs on."""
        return self.root == Path("/")

    def at(self, path: str) -> Path:
        """Where something of the host is."""
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str | None:
        """What is in a file; None if there is none."""
        try:
            return self.at(path).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def write(self, file: HostFile) -> bool:
        """Have a file; return whether that changed anything."""
        if self.text(file.path) == file.text:
            self.say("unchanged", file.path)
            return False
        self.say("written", file.path)
        if not self.dry_run:
            path = self.at(file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.part")
            new.write_text(file.text, encoding="utf-8")
            new.chmod(_FILE_MODE)
            new.replace(path)
        return True

    def write_unless_edited(self, file: HostFile) -> None:
        """Have a file that people edit: beside it, if they have."""
        found = self.text(file.path)
        beside = _beside(file)
        if found is None or found == file.text:
            self.write(file)
            self.remove(beside)
            return
        self.say("kept", f"{file.path}, which was edited; the new one is {beside}")
        self.write(HostFile(beside, file.text))

    def has_link(self, path: str) -> bool:
        """Whether there is a symbolic link of ours: to a program of the same name."""
        link = self.at(path)
        return link.is_symlink() and link.readlink().name == link.name

    def link(self, path: str, target: str) -> None:
        """Have a symbolic link, unless something else has the name."""
        link = self.at(path)
        if self.has_link(path):
            if str(link.readlink()) == target:
                self.say("unchanged", path)
                return
        elif os.path.lexists(link):
            self.say("kept", f"{path}, which is not ours: put {Path(target).parent} on the PATH")
            return
        self.say("linked", f"{path} to {target}")
        if not self.dry_run:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target)

    def remove(self, path: str) -> None:
        """Have no such file."""
        if not os.path.lexists(self.at(path)):
            return
        self.say("removed", path)
        if not self.dry_run:
            self.at(path).unlink()

    def remove_unless_edited(self, file: HostFile) -> None:
        """Have no file that people edit, unless they have."""
        self.remove(_beside(file))
        if self.text(file.path) == file.text:
            self.remove(file.path)
        elif self.text(file.path) is not None:
            self.say("kept", f"{file.path}, which was edited")

    def run(self, *words: str) -> None:
        """Run one of systemd's tools, if this is a host that runs."""
        if not self.live:
            return
        self.say("run", " ".join(words))
        if self.dry_run:
            return
        try:
            done = subprocess.run(  # noqa: S603 - systemd's tools, with our own words
                words,
                check=False,
                capture_output=True,
                text=True,
                timeout=_TOOL_SECONDS,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotInstall(f"cannot run {' '.join(words)}: {error}") from None
        if done.returncode:
            raise CannotInstall(
                f"cannot go on: {' '.join(words)} ended with {done.returncode}: "
                f"{done.stderr.strip() or 'it said nothing'}"
            )

    def say(self, what: str, about: str) -> None:
        """Tell what is done, or would be."""
        changes = what not in ("kept", "unchanged")
        print(f"{'would be ' if self.dry_run and changes else ''}{what}: {about}")  # noqa: T201


def _beside(file: HostFile) -> str:
    return f"{file.path}.new"


def install(host: Host, instance: str | None, *, native: bool) -> None:
    """Put everything in place; again changes nothing that a person has edited.

    Args:
        host: Where.
        instance: A further instance to have a configuration for, or None.
        native: Whether jobs of that instance are to run on the host itself.

    Raises:
        CannotInstall: If it cannot be.
    """
    programs = _programs(host)
    _check(host)
    changed = [host.write(file) for file in host_files.service_files(programs)]
    drop_in = host_files.native_file(instance)
    if native or host.text(drop_in.path) is not None:
        changed.append(host.write(drop_in))
    config = host_files.config_file(instance)
    host.write_unless_edited(config)
    if programs != str(Path(LINK).parent):
        host.link(LINK, f"{programs}/wsclean-ctl")
    host.run("systemd-sysusers", "/etc/sysusers.d/wsclean-workerd.conf")
    host.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/wsclean-workerd.conf")
    if any(changed) and _booted():
        host.run("systemctl", "daemon-reload")
    name = host_files.unit_name(instance).removesuffix(".service")
    print(f"next: edit {config.path}, then `systemctl enable --now {name}`")  # noqa: T201


def uninstall(host: Host, instance: str | None) -> None:
    """Take away what `install` has put in place; journal and outputs of jobs stay.

    Args:
        host: Where.
        instance: The only instance to take away, or None for everything.

    Raises:
        CannotInstall: If it cannot be.
    """
    _check(host)
    instances = [None, *_instances(host)] if instance is None else [instance]
    booted = host.live and _booted()
    if booted:
        known = [each for each in instances if host.text(host_files.unit_path(each)) is not None]
        for each in known:
            host.run("systemctl", "disable", "--now", host_files.unit_name(each))
        if instance is None:
            # Those that were started by hand, and whose configuration is gone.
            host.run("systemctl", "stop", host_files.unit_name("*"))
    for each in instances:
        _remove_instance(host, each)
    if instance is None:
        for file in host_files.service_files(""):
            host.remove(file.path)
        if host.has_link(LINK):
            host.remove(LINK)
    if booted:
        host.run("systemctl", "daemon-reload")
        print("left alone: the containers, and what runs in them; see `docker ps`")  # noqa: T201


def _remove_instance(host: Host, instance: str | None) -> None:
    drop_in = host_files.native_file(instance).path
    host.remove(drop_in)
    if not host.dry_run:
        # Somebody may have put more there.
        with suppress(OSError):
            host.at(drop_in).parent.rmdir()
    host.remove_unless_edited(host_files.config_file(instance))
    state = host_files.STATE + (f"-{instance}" if instance else "")
    if host.at(state).exists():
        host.say("kept", f"{state}, with the journal and the outputs of jobs")


def _instances(host: Host) -> list[str]:
    """The instances that have a configuration, or are started with the host."""
    found = [
        *host.at("/etc").glob("wsclean-workerd-*.toml"),
        *host.at("/etc/systemd/system").glob("*.wants/wsclean-workerd@*.service"),
    ]
    names = {re.sub(r"wsclean-workerd[-@](.*)\.(toml|service)", r"\1", path.name) for path in found}
    return sorted(filter(host_files.is_instance, names))


def _programs(host: Host) -> str:
    """The folder of the programs of the environment that this runs from, as the host sees it."""
    folder = Path(sysconfig.get_path("scripts"))
    missing = [name for name in _PROGRAMS if not (folder / name).exists()]
    if missing:
        raise CannotInstall(
            f"cannot install: expected {' and '.join(missing)} in {folder}. Install the project "
            "with pip into an environment of its own"
        )
    try:
        import wsclean_workerd.app  # noqa: F401, PLC0415 - to see whether it can be
    except ModuleNotFoundError as error:
        raise CannotInstall(
            f"cannot install the daemon: {sys.prefix} has the client alone (there is no module "
            f"{error.name}). Add the rest with `{folder}/pip install 'wsclean-workerd[daemon]'`"
        ) from None
    if host.live and folder.is_relative_to("/tmp"):  # noqa: S108 - the one that units do not share
        raise CannotInstall(
            f"cannot install from {folder}: the service has a /tmp of its own. Make the "
            "environment elsewhere, as in /opt/wsclean-workerd"
        )
    if not host.live and folder.is_relative_to(host.root):
        return f"/{folder.relative_to(host.root)}"
    return str(folder)


def _instance(name: str | None) -> str | None:
    if name is not None and not host_files.is_instance(name):
        raise CannotInstall(
            f"cannot use {name!r} as the name of an instance: expected at most 32 letters, "
            "digits, '_' and '-', and a letter or digit first"
        )
    return name


def _check(host: Host) -> None:
    """Refuse before anything is changed what would fail in the middle."""
    if not host.live or host.dry_run:
        return
    if os.geteuid() != 0:
        raise CannotInstall(
            "cannot change this host: expected root. Use sudo, --dry-run to see what would be "
            "done, or --root DIR for another place"
        )
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        raise CannotInstall(
            f"cannot make a service: this host has no {', '.join(missing)}. It needs systemd"
        )


def _booted() -> bool:
    """Whether systemd runs here (sd_booted(3)), and not only its tools are there."""
    return Path("/run/systemd/system").is_dir()


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="wsclean-ctl")
    parser.add_argument("verb", choices=("install", "uninstall"))
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--instance")
    parser.add_argument("--native", action="store_true")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Do what `wsclean-ctl install` or `wsclean-ctl uninstall` was asked to.

    Args:
        words: The command line; None is that of the process.

    Returns:
        The exit status.
    """
    arguments = _parse(words)
    host = Host(arguments.root.resolve(), arguments.dry_run)
    try:
        instance = _instance(arguments.instance)
        if arguments.verb == "install":
            install(host, instance, native=arguments.native)
        else:
            uninstall(host, instance)
    except (CannotInstall, OSError) as error:
        print(f"wsclean-ctl: error: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_CANNOT
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
