"""What can be configured: the schema of the configuration file, with its defaults."""

from __future__ import annotations

import functools
import math
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from wsclean_workerd.accounts import find_group, find_user
from wsclean_workerd.command import LONGEST_LIMIT
from wsclean_workerd.model import Mount, Patience, User
from wsclean_workerd.paths import is_below, normalise
from wsclean_workerd.runtime.container import SPOOL_INSIDE, TEMPORARY_INSIDE

MAX_SOCKET_PATH = 107
"""The most bytes a Unix socket's path can have (unix(7), sun_path)."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)([smhd]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_EXPECTED_DURATION = 'expected seconds or a text such as "90s", "15m", "1h30m", "2d"'
_SIZE = re.compile(r"(\d{1,15})(KiB|MiB|GiB|TiB)")
_EXPECTED_SIZE = 'expected bytes or a text such as "100MiB", "1GiB", or "none"'
_SIZE_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


def _seconds(value: object) -> object:
    """Read 90, "90s", "15m" or "1h30m" as seconds."""
    if isinstance(value, str):
        if not _DURATION.fullmatch(value):
            raise ValueError(_EXPECTED_DURATION)
        value = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        # Not a TypeError: pydantic collects only these.
        raise ValueError(_EXPECTED_DURATION)
    return float(value)


def _limit(value: object) -> object:
    """Read a duration, or "none" for no limit."""
    if value == "none":
        return None
    try:
        return _seconds(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "none"') from None


def _size(value: object) -> object:
    """Read a number of bytes, or "64KiB", "100MiB", "1GiB", or "none" for no limit."""
    if value == "none":
        return None
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _SIZE_UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int):
        # Not a TypeError: pydantic collects only these.
        raise ValueError(_EXPECTED_SIZE)  # noqa: TRY004
    return value


def _octal(value: object) -> object:
    """Read a file mode such as "0660"."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError('expected a mode in octal digits as a text, such as "0660"')
    return int(value, 8)


def _absolute(value: object) -> object:
    """Read an absolute path."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("expected an absolute path")
    if any(character in value for character in "\0\n"):
        raise ValueError("expected a path without NUL and newline characters")
    return normalise(value)


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=LONGEST_LIMIT)]
Limit = Annotated[Annotated[float, Field(gt=0, le=LONGEST_LIMIT)] | None, BeforeValidator(_limit)]
Size = Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_size)]
Mode = Annotated[int, BeforeValidator(_octal)]
AbsolutePath = Annotated[str, BeforeValidator(_absolute)]


class KeyedError(ValueError):
    """A value that is wrong only together with others: it names its own key."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MountSection(_Section):
    """One folder that jobs can reach."""

    host: AbsolutePath = Field(description="The folder on the host.")
    container: AbsolutePath | None = Field(
        default=None,
        description="Where a job sees it. Default: at the same path, which is recommended.",
    )
    read_only: bool = Field(default=False, description="Whether jobs can only read it.")


class DockerSection(_Section):
    """The container and the engine that runs it."""

    url: str = Field(
        default="unix:///var/run/docker.sock",
        description="The engine's address: unix:///path or tcp://host:port.",
    )
    image: str = Field(
        default="wsclean-workerd/wsclean:3.7",
        min_length=1,
        description="The image of the container. It is never pulled.",
    )
    container: str = Field(
        default="wsclean-workerd",
        description="The name of the container.",
    )
    call_timeout: Seconds = Field(
        default=15.0,
        description="How long one call to the engine may take.",
    )
    memory: Size = Field(default=None, description='What all jobs together may use, or "none".')

    @pydantic.field_validator("url")
    @classmethod
    def _url_names_a_transport(cls, value: str) -> str:
        if not re.match(r"(unix:///|tcp://|http://|https://).", value):
            raise ValueError("expected an address such as unix:///var/run/docker.sock")
        return value

    @pydantic.field_validator("container")
    @classmethod
    def _name_is_one_of_docker(cls, value: str) -> str:
        if not _CONTAINER_NAME.fullmatch(value):
            raise ValueError(
                "expected letters, digits, '_', '.' and '-', and a letter or digit first",
            )
        return value


class SocketSection(_Section):
    """Who may connect."""

    group: str | None = Field(
        default=None,
        description="The group that may use the socket. Default: that of the daemon.",
    )
    mode: Mode = Field(default=0o660, description="The file mode of the socket.")

    @pydantic.field_validator("group")
    @classmethod
    def _group_exists(cls, value: str | None) -> str | None:
        if value is not None:
            find_group(value)
        return value


class JobsSection(_Section):
    """What runs, as whom, and for how long."""

    programs: list[str] = Field(
        default=["wsclean", "wsclean-mp", "chgcentre", "taql"],
        min_length=1,
        description="The programs that may be run.",
    )
    run_as: str | None = Field(
        default=None,
        description=(
            'The account that jobs run as: "user", "user:group" or "uid:gid". Needed when the '
            "daemon runs as root; otherwise jobs run as the daemon's own user."
        ),
    )
    umask: Mode = Field(default=0o022, description="The umask of jobs that bring none.")
    run_timeout: Limit = Field(
        default=86400.0,
        description='How long a job may run that says nothing itself, or "none".',
    )
    queue_timeout: Limit = Field(
        default=None,
        description='How long a job may wait that says nothing itself, or "none".',
    )
    kill_grace: Seconds = Field(
        default=10.0,
        description="The time between TERM and KILL.",
    )
    output_limit: Size = Field(
        default=2**30,
        description='How much a job may write to stdout and stderr together, or "none".',
    )

    @pydantic.field_validator("programs")
    @classmethod
    def _programs_are_words(cls, value: list[str]) -> list[str]:
        for program in value:
            if not re.fullmatch(r"[A-Za-z0-9_./+][A-Za-z0-9_./+-]*", program):
                raise ValueError(f"expected names of programs, {program!r} is none")
        return value

    @pydantic.field_validator("run_as")
    @classmethod
    def _account_exists(cls, value: str | None) -> str | None:
        if value is not None:
            find_user(value)
        return value


class StorageSection(_Section):
    """How it is found out that the storage behind a mount hangs."""

    probe_timeout: Seconds = Field(
        default=5.0,
        description="How long storage may take to answer before jobs that use it wait.",
    )
    proof_age: Seconds = Field(
        default=5.0,
        description="How long an answer counts. An older one is renewed before a job starts.",
    )


class HistorySection(_Section):
    """How long jobs that are over are remembered, with their output."""

    keep: int = Field(default=10000, ge=0, description="At most so many.")
    keep_age: Seconds = Field(default=90 * 86400.0, description="At most for so long.")


class Config(_Section):
    """Everything the daemon is told."""

    runtime: Literal["docker", "native"] = Field(
        default="docker",
        description='What runs the jobs: "docker", or "native" for the host\'s own wsclean.',
    )
    slots: int = Field(default=1, ge=1, le=4096, description="How many jobs may run at once.")
    state_dir: AbsolutePath = Field(
        default="/var/lib/wsclean-workerd",
        description="Where journal and job folders are kept.",
    )
    runtime_dir: AbsolutePath = Field(
        default="/run/wsclean-workerd",
        description="Where the socket is.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="How much is logged.",
    )
    docker: DockerSection = DockerSection()
    socket: SocketSection = SocketSection()
    jobs: JobsSection = JobsSection()
    storage: StorageSection = StorageSection()
    history: HistorySection = HistorySection()
    mounts: list[MountSection] = Field(default=[], description="The folders jobs can reach.")

    @property
    def socket_path(self) -> Path:
        """Where clients connect."""
        return Path(self.runtime_dir) / "workerd.sock"

    @property
    def journal_path(self) -> Path:
        """The file that remembers the jobs."""
        return Path(self.state_dir) / "journal.db"

    @property
    def spool_path(self) -> Path:
        """The folder that is shared with the container."""
        return Path(self.state_dir) / "spool"

    @property
    def job_mounts(self) -> tuple[Mount, ...]:
        """The mounts as jobs see them; the native runtime has only identities."""
        native = self.runtime == "native"
        return tuple(
            Mount(each.host, each.host if native else each.container or each.host, each.read_only)
            for each in self.mounts
        )

    @property
    def patience(self) -> Patience:
        """The waits of the state machine."""
        return Patience(grace=self.jobs.kill_grace)

    @property
    def socket_gid(self) -> int:
        """The group of the socket."""
        return os.getegid() if self.socket.group is None else find_group(self.socket.group)

    @functools.cached_property
    def user(self) -> User:
        """Whom jobs run as."""
        if self.jobs.run_as is None:
            return User(uid=os.geteuid(), gid=os.getegid(), groups=tuple(os.getgroups()))
        return find_user(self.jobs.run_as)

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Self:
        socket = str(self.socket_path)
        if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
            raise KeyedError(
                "runtime_dir",
                f"the socket path {socket} would have {len(os.fsencode(socket))} bytes: expected "
                f"at most {MAX_SOCKET_PATH}, so choose a shorter folder",
            )
        if self.runtime == "docker" and not self.mounts:
            raise KeyedError(
                "mounts", "expected at least one [[mounts]] table for jobs to reach files"
            )
        self._check_mounts()
        self._check_user()
        return self

    def _check_mounts(self) -> None:
        seen: dict[str, int] = {}
        for number, mount in enumerate(self.mounts):
            inside = mount.container or mount.host
            if self.runtime == "native" and inside != mount.host:
                raise KeyedError(
                    f"mounts.{number}.container",
                    f"expected {mount.host} or nothing: with the native runtime jobs see the "
                    "host's own folders",
                )
            if self.runtime == "docker":
                _check_target(number, inside)
            if inside in seen:
                raise KeyedError(
                    f"mounts.{number}",
                    f"expected a folder of its own in the container: {inside} is that of "
                    f"mount {seen[inside]} too",
                )
            seen[inside] = number
            if is_below(self.state_dir, mount.host) or is_below(mount.host, self.state_dir):
                raise KeyedError(
                    f"mounts.{number}.host",
                    f"expected a folder apart from state_dir ({self.state_dir}): jobs could "
                    f"change the daemon's own files in {mount.host}",
                )

    def _check_user(self) -> None:
        if os.geteuid() == 0:
            if self.jobs.run_as is None:
                raise KeyedError(
                    "jobs.run_as",
                    'expected the account that jobs run as, such as "observer" or "1000:1000": '
                    "the daemon runs as root, and jobs do not unless this says so",
                )
        elif (self.user.uid, self.user.gid) != (os.geteuid(), os.getegid()):
            raise KeyedError(
                "jobs.run_as",
                "expected nothing or the daemon's own account: only root can run jobs as another",
            )


_SYSTEM_FOLDERS = ("bin", "dev", "etc", "lib", "lib32", "lib64", "proc", "sbin", "sys", "usr")


def _check_target(number: int, inside: str) -> None:
    """Refuse to hide what the container itself needs below a mount."""
    taken = [TEMPORARY_INSIDE, SPOOL_INSIDE, *(f"/{name}" for name in _SYSTEM_FOLDERS)]
    for folder in taken:
        # Below /tmp there is room; above or in the others there is none.
        hidden = is_below(folder, inside) or (
            folder != TEMPORARY_INSIDE and is_below(inside, folder)
        )
        if hidden:
            raise KeyedError(
                f"mounts.{number}",
                f"expected another folder of the container than {inside}: {folder} is needed by "
                "the container itself",
            )


def known_keys(location: tuple[str | int, ...]) -> list[str]:
    """The keys that a table of the file can have.

    Args:
        location: The table's path; that of a mount has its number behind it.
    """
    if location[:1] == ("mounts",):
        return list(MountSection.model_fields)
    sections: dict[tuple[str | int, ...], object] = {
        (name,): field.annotation for name, field in Config.model_fields.items()
    }
    section = sections.get(location)
    if isinstance(section, type) and issubclass(section, BaseModel):
        return list(section.model_fields)
    return list(Config.model_fields)
