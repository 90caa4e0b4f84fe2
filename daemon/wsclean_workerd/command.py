"""Checks a command and turns it into what really runs."""

from __future__ import annotations

import itertools
import posixpath
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd.errors import InvalidRequest, OutputWouldBeLost, UnknownProgram
from wsclean_workerd.lock_keys import lock_keys
from wsclean_workerd.model import Order, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wsclean_workerd.access import RunAs
    from wsclean_workerd.model import JobSpec, User
    from wsclean_workerd.paths import PathMapper

IMAGING_PROGRAMS = frozenset({"wsclean", "wsclean-mp"})
"""The programs that write images named by `-name`."""

MAX_ARGUMENTS_BYTES = 128 * 1024
"""More than any real command line, less than what a kernel takes (MAX_ARG_STRLEN
is 128 KiB for one argument)."""

LONGEST_LIMIT = 10 * 366 * 86400.0
"""Ten years, in seconds: more than any run, and less than what a message can hold."""

MOST_RETRIES = 100
"""How often a command may be run again."""

_NOTHING_WRITTEN = frozenset({"-version", "--version", "-help", "--help"})
_MAX_UMASK = 0o777


@dataclass(frozen=True, kw_only=True)
class CommandRules:
    """What the configuration says of commands.

    Attributes:
        programs: The programs that may run.
        mapper: The mounts.
        elsewhere: Where a job runs whose working directory is below no mount.
        run_as: Whom jobs run as.
        umask: The default file mode creation mask.
        run_timeout: The default in seconds, or None for no limit.
        queue_timeout: The default in seconds, or None for no limit.
    """

    programs: Sequence[str]
    mapper: PathMapper
    elsewhere: str
    run_as: RunAs
    umask: int
    run_timeout: float | None
    queue_timeout: float | None

    def order(self, spec: JobSpec, submitter: User) -> Order:
        """Check what a caller asks for and map its paths.

        Args:
            spec: What a caller asks for.
            submitter: Who that is.

        Returns:
            What will run.

        Raises:
            InvalidRequest: If it cannot run, with the words for the caller.
            RootRefused: If it would run as root.
            SubmitterRefused: If it cannot run as its submitter.
        """
        user = self.run_as.user_for(submitter)
        self._check_words(spec)
        self._check_retries(spec.retries)
        self._check_environment(spec.environment)
        if not spec.working_directory.startswith("/"):
            raise InvalidRequest(
                f"cannot use the working directory {spec.working_directory!r}: an absolute host "
                "path is expected",
            )
        folder = self.mapper.map_folder(spec.working_directory)
        self._check_output(spec, mounted=folder is not None)
        program, *arguments = spec.command
        return Order(
            command=words(
                (program, *(self.mapper.map_argument(each) for each in arguments)), spec.command
            ),
            working_directory=folder or self.elsewhere,
            user=user,
            umask=self._umask(spec),
            run_timeout=_limit("run timeout", spec.run_timeout, self.run_timeout),
            queue_timeout=_limit("queue timeout", spec.queue_timeout, self.queue_timeout),
            locks=words(lock_keys(spec.locks, self.mapper), spec.locks),
        )

    def _check_words(self, spec: JobSpec) -> None:
        if not spec.command or not spec.command[0]:
            raise InvalidRequest(
                "cannot run an empty command: give a program and its arguments, for example "
                "wsclean --version",
                reason="EMPTY_COMMAND",
            )
        for number, argument in enumerate(spec.command):
            _check_text(f"argument {number}", argument)
        if sum(len(argument.encode()) + 1 for argument in spec.command) > MAX_ARGUMENTS_BYTES:
            raise InvalidRequest(
                f"cannot run a command of more than {MAX_ARGUMENTS_BYTES} bytes: pass long lists "
                "in a file",
            )
        program = spec.command[0]
        if program not in self.programs:
            raise UnknownProgram(
                f"cannot run {program!r}: the programs that may run are "
                f"{', '.join(self.programs)} (jobs.programs in the configuration)",
                program=program,
            )

    @staticmethod
    def _check_retries(retries: int) -> None:
        if retries > MOST_RETRIES:
            raise InvalidRequest(
                f"cannot allow {retries} retries: expected at most {MOST_RETRIES}",
                reason="INVALID_RETRIES",
            )

    def _check_environment(self, environment: Sequence[tuple[str, str]]) -> None:
        for name, value in environment:
            if not name.isascii() or not name.isidentifier():
                raise InvalidRequest(
                    f"cannot set the environment variable {name!r}: a name consists of letters, "
                    "digits and underscores and begins with no digit",
                )
            if name.startswith("WSCLEAN_WORKERD_"):
                raise InvalidRequest(
                    f"cannot set the environment variable {name!r}: names that begin with "
                    "WSCLEAN_WORKERD_ belong to the daemon",
                )
            _check_text(f"environment variable {name}", value)

    def _check_output(self, spec: JobSpec, *, mounted: bool) -> None:
        """Refuse a command that would write its images where nobody finds them."""
        program, *arguments = spec.command
        if mounted or program not in IMAGING_PROGRAMS:
            return
        name = _value_of("-name", arguments)
        if name is None and (not arguments or _NOTHING_WRITTEN.intersection(arguments)):
            return
        if name is None or not name.startswith(("/", "container:")):
            given = "no -name" if name is None else f"-name {name}"
            raise OutputWouldBeLost(
                f"cannot run {program} with {given} in {spec.working_directory}: this folder is "
                "not below a mount, so the images would be lost with the container. Give -name "
                "an absolute path below a mount, or call from a folder below one. "
                + self.mapper.describe(),
            )

    def _umask(self, spec: JobSpec) -> int:
        if spec.umask is None:
            return self.umask
        if spec.umask > _MAX_UMASK:
            raise InvalidRequest(
                f"cannot use the umask {spec.umask:#o}: expected one of 0 to 0o777",
            )
        return spec.umask


def _check_text(what: str, text: str) -> None:
    for character, name in (("\0", "NUL"), ("\n", "newline")):
        if character in text:
            raise InvalidRequest(
                f"cannot run the command: {what} contains a {name} character: {text[:80]!r}",
                reason="INVALID_ARGUMENT_TEXT",
            )


def _limit(what: str, asked: float | None, default: float | None) -> float | None:
    if asked is None:
        return default
    if asked <= 0:
        raise InvalidRequest(
            f"cannot use a {what} of {asked:g} s: expected more than 0. Leave it out to get the "
            "configured default",
            reason="INVALID_TIMEOUT",
        )
    if asked > LONGEST_LIMIT:
        raise InvalidRequest(
            f"cannot use a {what} of {asked:g} s: expected at most {LONGEST_LIMIT:g} s",
            reason="INVALID_TIMEOUT",
        )
    return asked


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option; the last one counts, as in WSClean."""
    value = None
    for word, following in itertools.pairwise(arguments):
        if word in (option, f"-{option}"):
            value = following
    return value


def script(order: Order, environment: Mapping[str, str], outputs: str = "") -> str:
    """Write the shell script that becomes the job's main process.

    It is run by `sh` in the job's folder, as the job's user, and replaces itself
    by the program, behind the words that the shell was given to put before it.

    Args:
        order: What is to run.
        environment: The variables to set in addition to those that are there.
        outputs: What leads from that folder to the outputs, with a slash behind it.

    Returns:
        The text of the script.
    """
    quote = shlex.quote
    exports = [f"export {name}={quote(value)}" for name, value in environment.items()]
    return "\n".join(
        [
            f"exec >>{outputs}stdout 2>>{outputs}stderr",
            *exports,
            f"umask {order.umask:04o}",
            f"cd {quote(_plain(order.working_directory))} || exit 126",
            'exec "$@" ' + " ".join(quote(word) for word in order.command),
            "",
        ],
    )


def _plain(folder: str) -> str:
    # `cd -` and CDPATH are for people; an absolute path escapes both.
    return posixpath.normpath(folder)
