"""What can be configured: the schema of the configuration file, with its defaults."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from wsclean_workerd.access import Operators, RunAs
from wsclean_workerd.accounts import NOBODY, find_group, find_user, own_user
from wsclean_workerd.config_values import (  # noqa: TC001 - pydantic looks them up
    AbsolutePath,
    Limit,
    Mode,
    Seconds,
    Size,
)
from wsclean_workerd.model import Mount, Patience, User
from wsclean_workerd.paths import is_below
from wsclean_workerd.runtime.container import SPOOL_INSIDE, TEMPORARY_INSIDE

MAX_SOCKET_PATH = 107
"""The most bytes a Unix socket's path can have (unix(7), sun_path)."""

_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


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
        description="The group that may use the sockets. Default: that of the daemon.",
    )
    mode: Mode = Field(default=0o660, description="The file mode of the sockets.")
    operators: str | None = Field(
        default=None,
        description=(
            "The group that may do all that root may: see and cancel everybody's jobs, drain the "
            "worker and shut it down. Default: nobody."
        ),
    )

    @pydantic.field_validator("group", "operators")
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
            'The account that all jobs run as: "user", "user:group" or "uid:gid". Default: each '
            "as its submitter. A daemon that is not root runs its own user's jobs only."
        ),
    )
    allow_root: bool = Field(
        default=False,
        description="Whether jobs of root run as root. Otherwise they are refused.",
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
    def identity_path(self) -> Path:
        """Where clients get the tokens that they bring."""
        return Path(self.runtime_dir) / "identity.sock"

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
        """The group of the sockets."""
        return os.getegid() if self.socket.group is None else find_group(self.socket.group)

    @property
    def operators(self) -> Operators:
        """Who may do everything. Looks up a group."""
        group = self.socket.operators
        return Operators(own_uid=os.geteuid(), gid=None if group is None else find_group(group))

    @functools.cached_property
    def account(self) -> User | None:
        """The one that all jobs run as, or None."""
        return None if self.jobs.run_as is None else find_user(self.jobs.run_as)

    @property
    def run_as(self) -> RunAs:
        """Whom jobs run as."""
        return RunAs(
            fixed=self.account,
            own=None if os.geteuid() == 0 else own_user(),
            allow_root=self.jobs.allow_root,
        )

    @functools.cached_property
    def user(self) -> User:
        """Whom that runs as which is done for no job, such as looking at a mount.

        If jobs run as many, it is one who has no more rights than any of them: nobody, in the
        group of those who may submit some.
        """
        if self.run_as.fixed is not None:
            return self.run_as.fixed
        return self.run_as.own or User(uid=NOBODY, gid=NOBODY, groups=(self.socket_gid,))

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Self:
        # The longer one of the two.
        socket = str(self.identity_path)
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
        fixed, own = self.run_as.fixed, self.run_as.own
        if fixed and own and (fixed.uid, fixed.gid) != (own.uid, own.gid):
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
