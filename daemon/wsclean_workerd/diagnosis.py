"""What is wrong with all that jobs need, and how to mend it. Pure.

`examination` gathers the facts; here each of them becomes a finding with a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsclean_workerd.model import Mount, Reason, RuntimeCondition, User

TOOLS = ("sh", "setsid", "grep", "find")
"""What jobs are started, found and ended with."""

USER_SWITCH = "setpriv"
"""What is needed as well if jobs run as another account than the daemon."""

_MIB = 2**20
_LITTLE_BYTES, _TOO_FEW_BYTES = 1024 * _MIB, 64 * _MIB
_FEW_FILES, _TOO_FEW_FILES = 10_000, 500
# A job makes some eight files, a Measurement Set none here.

_LOG = "journalctl -u wsclean-workerd"
_ENGINE_CODES = frozenset({"ENGINE_UNREACHABLE", "ENGINE_SILENT", "IMAGE_MISSING"})


class Verdict(StrEnum):
    """How a check turned out."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        name: What was checked.
        verdict: How it turned out.
        found: A sentence for a person.
        mend: How to mend it, or the empty string.
        subject: Which one, if there can be several.
    """

    name: str
    verdict: Verdict
    found: str
    mend: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a script beside the jobs has seen.

    Attributes:
        lines: What it said.
        complete: Whether it came to its end in time.
        trouble: Why it said nothing, or the empty string.
    """

    lines: frozenset[str] = frozenset()
    complete: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """What is known of the disk with the daemon's own files.

    Attributes:
        folder: The daemon's folder on it.
        free_bytes: How much can be written.
        free_files: How many files can be made; None if the file system has no limit.
        trouble: Why nothing can be written or found out, or the empty string.
    """

    folder: str
    free_bytes: int = 0
    free_files: int | None = None
    trouble: str = ""


def judge_journal(path: str, refusing: Reason | None) -> Finding:
    """Judge whether the journal takes what it is given."""
    if refusing is None:
        return Finding("journal", Verdict.OK, f"{path} is written")
    return Finding(
        "journal",
        Verdict.PROBLEM,
        f"no jobs are accepted: {refusing.message}",
        f"make room on the disk of {path} and see that the daemon may write there: it tries again "
        "by itself",
    )


def judge_disk(facts: DiskFacts) -> Finding:
    """Judge the room for outputs and journal."""
    if facts.trouble:
        return Finding(
            "state-disk",
            Verdict.PROBLEM,
            f"{facts.folder} cannot be written: {facts.trouble}",
            f"see that it has room and is mounted for writing: df {facts.folder}",
        )
    found = f"{facts.folder} has {facts.free_bytes // _MIB} MiB"
    found += "" if facts.free_files is None else f" and {facts.free_files} files"
    verdict = Verdict.OK
    if facts.free_bytes < _LITTLE_BYTES or _fewer(facts.free_files, _FEW_FILES):
        verdict = Verdict.WARNING
    if facts.free_bytes < _TOO_FEW_BYTES or _fewer(facts.free_files, _TOO_FEW_FILES):
        verdict = Verdict.PROBLEM
    mend = "make room there, or keep less of jobs that are over (history.keep, history.keep_age)"
    return Finding("state-disk", verdict, f"{found} left", "" if verdict is Verdict.OK else mend)


def judge_engine(url: str, version: str, trouble: str) -> Finding:
    """Judge whether the engine answers.

    Args:
        url: Its address.
        version: What it says it is.
        trouble: Why it does not answer, or the empty string.
    """
    if trouble:
        mend = "systemctl restart docker, or set docker.url to where the engine listens"
        return Finding("engine", Verdict.PROBLEM, trouble, mend)
    return Finding("engine", Verdict.OK, f"Docker {version} answers at {url}")


def judge_image(image: str, *, there: bool | None) -> Finding:
    """Judge whether the image is there.

    Args:
        image: Its name.
        there: Whether the engine has it; None if it does not answer.
    """
    if there is None:
        return Finding("image", Verdict.UNKNOWN, f"{image}: the engine could not be asked")
    if there:
        return Finding("image", Verdict.OK, f"{image} is there")
    return Finding(
        "image",
        Verdict.PROBLEM,
        f"the engine has no image {image}",
        f"docker pull {image}, build it with image/build, or name another one in docker.image",
    )


def judge_runtime(condition: RuntimeCondition, container: str) -> Finding:
    """Judge what runs the jobs.

    Args:
        condition: How it is.
        container: The name of the container, or the empty string if there is none.
    """
    name, reason = "container" if container else "runtime", condition.reason
    if condition.ready and reason is None:
        identity = (condition.container or "")[:12]
        found = f"{container} ({identity}) runs" if container else "jobs run on this host"
        return Finding(name, Verdict.OK, found)
    code, message = (reason.code, reason.message) if reason else ("", "it is not ready")
    if condition.ready:
        return Finding(name, Verdict.WARNING, message, _runtime_mend(code, container))
    if code in _ENGINE_CODES:
        # What it waits for has a finding of its own.
        return Finding(name, Verdict.UNKNOWN, message)
    return Finding(name, Verdict.PROBLEM, message, _runtime_mend(code, container))


def judge_programs(
    seen: Seen,
    *,
    tools: Sequence[str],
    programs: Sequence[str],
    chosen: bool,
    where: str,
    spare: bool,
) -> Finding:
    """Judge whether all programs are there.

    Args:
        seen: What was seen of them.
        tools: What the daemon needs to start and end jobs.
        programs: What may be run.
        chosen: Whether somebody has configured these; otherwise one of them is enough.
        where: Where they are looked for.
        spare: Whether there are slower ways to start and end jobs.
    """
    if not seen.complete:
        return _programs_unseen(seen, where)
    lacking = [each for each in (*tools, *programs) if f"has {each}" not in seen.lines]
    if not lacking:
        return Finding("programs", Verdict.OK, f"{where} has {', '.join(programs)}")
    needed = [each for each in tools if each in lacking and not spare]
    wanted = [each for each in programs if each in lacking]
    mend = f"add {', '.join(lacking)} to {where}"
    if wanted:
        mend += f", or take {', '.join(wanted)} out of jobs.programs"
    grave = needed or (wanted and chosen) or len(wanted) == len(programs)
    verdict = Verdict.PROBLEM if grave else Verdict.WARNING
    return Finding("programs", verdict, f"{where} lacks {', '.join(lacking)}", mend)


def judge_mount(mount: Mount, seen: Seen, *, user: User | None, hung: Reason | None) -> Finding:
    """Judge whether jobs can use a mount.

    Args:
        mount: The mount.
        seen: What was seen of it.
        user: Who has seen it, whom jobs of whoever asks run as; None if his would not run and
            somebody else has looked, who may have other rights.
        hung: Why jobs wait for its storage, or None if that answers as far as is known.
    """
    account = None if user is None else f"{user.uid}:{user.gid}"
    verdict, found, mend = _look_at_mount(mount, seen, account, hung)
    return Finding("mount", verdict, found, mend, subject=mount.host)


def _look_at_mount(
    mount: Mount, seen: Seen, account: str | None, hung: Reason | None
) -> tuple[Verdict, str, str]:
    host = mount.host
    if hung is not None or (not seen.complete and "up" in seen.lines):
        found = hung.message if hung else "its storage does not answer"
        return Verdict.PROBLEM, found, f"mend the storage behind it: findmnt --target {host}"
    if not seen.complete:
        return Verdict.UNKNOWN, f"could not be looked at: {_why(seen)}", ""
    inside = "" if host == mount.container else f" (as {mount.container})"
    if "there" not in seen.lines:
        mend = f"see that it is mounted: findmnt --target {host}; then restart the daemon"
        return Verdict.PROBLEM, f"no folder is there for jobs{inside}", mend
    if account is None:
        return Verdict.OK, f"is there{inside}; users who ask are told what their jobs can do", ""
    return _look_at_rights(mount, seen, account, inside)


def _look_at_rights(
    mount: Mount, seen: Seen, account: str, inside: str
) -> tuple[Verdict, str, str]:
    host, grant = mount.host, f"setfacl -m u:{account.partition(':')[0]}"
    if "enter" not in seen.lines:
        found = f"jobs cannot enter it{inside} as {account}"
        return Verdict.PROBLEM, found, f"{grant}:rwx {host}, or have jobs run as another user"
    wanted = ("read",) if mount.read_only else ("read", "write")
    if lacking := [each for each in wanted if each not in seen.lines]:
        found = f"jobs cannot {' or '.join(lacking)} at its top{inside} as {account}"
        return Verdict.WARNING, found, f"unless folders below it are theirs: {grant}:rwx {host}"
    return Verdict.OK, f"jobs can {', '.join(('enter', *wanted))}{inside} as {account}", ""


def _programs_unseen(seen: Seen, where: str) -> Finding:
    # The engine's words for a program that is not there, which here is the shell.
    if "/bin/sh" in seen.trouble and "no such file" in seen.trouble:
        return Finding("programs", Verdict.PROBLEM, f"{where} lacks sh", f"add sh to {where}")
    return Finding("programs", Verdict.UNKNOWN, f"could not be looked for: {_why(seen)}")


def _why(seen: Seen) -> str:
    return seen.trouble or "no answer in time"


def _runtime_mend(code: str, container: str) -> str:
    return {
        "CONTAINER_NAME_TAKEN": f"docker rm {container}, or choose another docker.container",
        "CONTAINER_PAUSED": f"docker unpause {container}",
        "CONTAINER_OUTDATED": "systemctl restart wsclean-workerd when no job runs",
        "MOUNT_MISSING": "make or mount the folder, or take it out of [[mounts]]",
        "PROGRAMS_MISSING": "install WSClean, or name its programs in jobs.programs",
        "NO_RUNNER": "see what the finding on programs says",
        "STARTING": "ask again in a moment",
    }.get(code, _LOG)


def _fewer(number: int | None, limit: int) -> bool:
    return number is not None and number < limit
