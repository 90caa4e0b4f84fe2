"""The folder that daemon and jobs share, one folder below it for each job.

`spool/jobs/ID/` holds

* `command`: the script that becomes the job's main process,
* `stdout`, `stderr`: what the job writes, into files so that no reader can block it,
* `alive`: a FIFO that every process of the job holds open; its end-of-file says
  that all of them are gone,
* `claim-N`: whether start number N happened, made once by daemon or wrapper,
* `exit`: the exit status, which only the wrapper writes, and "alone" behind it if nothing
  can be left of the job,
* `wrapper`: which process the wrapper is, so that it is spared when the job is killed.

The last two are filled with blanks in advance and written in place, so that a full disk
cannot lose what is written there.

A job that runs again after it was lost has a folder `attempt-N` in its own for each further
attempt, with all of these but the outputs, which go on. So nothing that is late, be it the
status of an earlier attempt or a signal to it, can be taken for that of another.

Folders belong to the daemon, so a job can neither replace nor remove what is in
them. All functions here block on the state disk: call them in a thread.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from wsclean_workerd.accounts import is_another

if TYPE_CHECKING:
    from pathlib import Path

    from wsclean_workerd.model import Job, JobId, User

RUNNER = "runner.sh"
WRAPPER = "wrapper.sh"
BECOMER = "become.sh"
KILLER = "kill.sh"
PROBE = "probe.sh"
LOOK = "look.sh"

_FOLDER_MODE = 0o711
_FIFO_MODE = 0o660
_SCRIPT_MODE = 0o644
# Never waits, whatever a job has put there where it can.
_READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# What wrapper.sh writes.
_EXIT = re.compile(rb"(\d+)( alone)?(?: oom (\d+) (\d+))?")
_PIPE_SIZE = 65536
_BLANK_STATUS = b" " * 63 + b"\n"
_BLANK_IDENTITY = b" " * 511 + b"\n"


@dataclass(frozen=True, slots=True)
class Look:
    """What a job's folder says.

    Attributes:
        claimed_at: When the start that was asked about happened, in seconds since
            1970 UTC, or None if it did not.
        status: The exit status, or None if there is none yet.
        status_at: When it was written, in seconds since 1970 UTC, or None.
        alone: Whether it is certain that nothing of the job outlived its main process.
        oom_kills: How often the kernel had killed a process for lack of memory before
            the command, and when KILL had ended that; None if it was ended otherwise.
    """

    claimed_at: float | None = None
    status: int | None = None
    status_at: float | None = None
    alone: bool = False
    oom_kills: tuple[int, int] | None = None

    @property
    def claimed(self) -> bool:
        """Whether the start that was asked about happened."""
        return self.claimed_at is not None


NOTHING = Look()
"""Nothing is known of the start: it has not happened, or never will."""


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The folder of one job, or of a further attempt of it.

    Args:
        path: Where it is on the host.
        before: That of the attempt before, or None.
    """

    path: Path
    before: JobFolder | None = None

    @property
    def outputs(self) -> str:
        """What leads from here to the outputs, with a slash behind it."""
        return "" if self.before is None else "../"

    def prepare_and_open(self, script: str, user: User) -> int:
        """Do what `prepare` and `open_alive` do."""
        self.prepare(script, user)
        return self.open_alive()

    def prepare(self, script: str, user: User) -> None:
        """Make everything a start needs; doing it again changes no output and no status.

        Args:
            script: The text of `command`.
            user: Whom the job runs as.

        Raises:
            OSError: If the disk does not take it, or something of the attempt before is left.
        """
        if self.before is not None:
            self.before.close_down()
        self._make_folder()
        for name in ("stdout", "stderr"):
            self._make(self.outputs + name, user, mode=0o600)
        self._make("exit", None, mode=0o600, content=_BLANK_STATUS)
        self._make("wrapper", None, mode=0o644, content=_BLANK_IDENTITY)
        # The text is that of this start.
        self._make("command", user, mode=0o400, content=script.encode(), anew=True)
        alive = self.path / "alive"
        with suppress(FileExistsError):
            os.mkfifo(alive, _FIFO_MODE)
        if is_another(user):
            # For the job by its user, for the wrapper by the daemon's own group.
            os.chown(alive, user.uid, os.getegid(), follow_symlinks=False)
        alive.chmod(_FIFO_MODE)

    def open_alive(self) -> int:
        """Open the FIFO for reading and return its descriptor; never waits for a writer."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self.path / "alive", flags)

    def close_down(self) -> None:
        """Make sure that a start which was lost is over, also if it began only just now.

        Raises:
            OSError: If a process of it is there.
        """
        try:
            # What becomes the job's main process opens `alive` before it reads this. It may
            # have survived what had told it to.
            (self.path / "command").unlink(missing_ok=True)
            alive = self.open_alive()
        except FileNotFoundError:
            # Somebody has removed the folder.
            return
        try:
            while os.read(alive, _PIPE_SIZE):
                pass
        except BlockingIOError:
            raise OSError(
                errno.EBUSY, "a process of the attempt before is still there", str(self.path)
            ) from None
        finally:
            os.close(alive)

    def claim(self, launch: int) -> bool:
        """Try to claim a start, so that it never happens.

        Args:
            launch: The number of the start.

        Returns:
            Whether the daemon has it, now or from an earlier try. If not, the
            wrapper was faster: the job runs or ran.
        """
        claim = self._claim(launch)
        # The start may not have got as far as the folder; then it finds the claim in it.
        self._make_folder()
        try:
            # A link that leads nowhere: as atomic as the wrapper's file, refused by
            # it as that is refused here, and afterwards told from it.
            claim.symlink_to("nobody")
        except FileExistsError:
            return claim.is_symlink()
        return True

    def look(self, launch: int) -> Look:
        """Read what has become of a start."""
        try:
            claim = self._claim(launch).lstat()
        except FileNotFoundError:
            return NOTHING
        if not stat.S_ISREG(claim.st_mode):
            return NOTHING
        line, written_at = self._exit()
        # Blank or damaged after a loss of power is as good as not there.
        if not (found := _EXIT.fullmatch(line)):
            return Look(claim.st_mtime)
        status, alone, before, after = found.groups()
        kills = None if before is None else (int(before), int(after))
        return Look(
            claim.st_mtime, int(status), written_at, alone=alone is not None, oom_kills=kills
        )

    def _exit(self) -> tuple[bytes, float]:
        """The line in `exit`, and when it was written."""
        try:
            file = os.open(self.path / "exit", _READ_FLAGS)
        except FileNotFoundError:
            return b"", 0.0
        try:
            line = os.read(file, len(_BLANK_STATUS)).split(b"\n")[0]
            return line.strip(), os.fstat(file).st_mtime
        finally:
            os.close(file)

    def open_output(self, name: str) -> int:
        """Open `stdout` or `stderr` for reading and return the descriptor.

        Raises:
            OSError: If it is not there or no plain file.
        """
        file = os.open(self.path / name, _READ_FLAGS)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(errno.EINVAL, "no plain file", str(self.path / name))
        return file

    def output_size(self) -> int:
        """How much there is of `stdout` and `stderr` together, in bytes."""
        return sum((self.path / name).lstat().st_size for name in ("stdout", "stderr"))

    def remove(self) -> None:
        """Remove the folder and all output."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _make_folder(self) -> None:
        # Somebody may have removed the job's own.
        if self.before is not None:
            JobFolder(self.path.parent)._make_folder()  # noqa: SLF001 - of the same class
        with suppress(FileExistsError):
            self.path.mkdir(mode=_FOLDER_MODE)
        # The umask is that of the process, and it changes for a moment while the socket
        # is made.
        self.path.chmod(_FOLDER_MODE)

    def _claim(self, launch: int) -> Path:
        return self.path / f"claim-{launch}"

    def _make(
        self, name: str, user: User | None, *, mode: int, content: bytes = b"", anew: bool = False
    ) -> None:
        """Have a file, for the job's user or for the daemon alone.

        In as few calls as can be, since each of them costs the event loop as much time as this
        thread. One that is there may be what a daemon left that was killed in the middle.
        """
        path = self.path / name
        try:
            descriptor = os.open(path, _MAKE_FLAGS | os.O_EXCL, mode)
        except FileExistsError:
            if anew:
                path.unlink()
            descriptor = os.open(path, _MAKE_FLAGS, mode)
            if os.fstat(descriptor).st_size >= len(content):
                content = b""
        try:
            if user is not None and is_another(user):
                os.fchown(descriptor, user.uid, user.gid)
            if mode & ~0o700:
                # What is its owner's alone no umask of the daemon's makes less.
                os.fchmod(descriptor, mode)
            _write_all(descriptor, content)
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


@dataclass(frozen=True, slots=True)
class Spool:
    """All job folders, and the scripts that run in the container.

    Args:
        path: The folder on the host.
        inside: The same folder as the jobs see it.
    """

    path: Path
    inside: str

    def prepare(self) -> None:
        """Make the folders and put the current scripts into them.

        What earlier daemons left there is removed: whatever still used it has it open.

        Raises:
            OSError: If the disk does not take it.
        """
        for folder in (self.path, self.path / "jobs", self.path / "runner"):
            folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            folder.chmod(_FOLDER_MODE)
        for entry in self.runner_folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
        for name in (RUNNER, WRAPPER, BECOMER, KILLER, PROBE, LOOK):
            self._install(name)

    def _install(self, name: str) -> None:
        text = resources.files("wsclean_workerd.runtime").joinpath(name).read_bytes()
        path = self.path / "runner" / name
        # Not without need: a daemon has to start on a disk that is full.
        with suppress(FileNotFoundError):
            if path.read_bytes() == text and stat.S_IMODE(path.stat().st_mode) == _SCRIPT_MODE:
                return
        new = path.with_suffix(".new")
        new.write_bytes(text)
        new.chmod(_SCRIPT_MODE)
        # A running shell goes on reading the file it opened.
        new.replace(path)

    @property
    def runner_folder(self) -> Path:
        """The folder of the scripts, and of the FIFOs of each runner and probe."""
        return self.path / "runner"

    def job(self, job_id: JobId) -> JobFolder:
        """The folder of a job, with its outputs, whether it exists or not."""
        return JobFolder(self.path / "jobs" / str(job_id))

    def attempt(self, job: Job) -> JobFolder:
        """The folder of the present attempt of a job, whether it exists or not."""
        folder = first = self.job(job.id)
        for number in range(2, job.attempt + 1):
            folder = JobFolder(first.path / _attempt(number), folder)
        return folder

    @staticmethod
    def attempt_name(job: Job) -> str:
        """The name of that folder among those of all jobs."""
        return str(job.id) if job.attempt == 1 else f"{job.id}/{_attempt(job.attempt)}"

    @property
    def jobs_inside(self) -> str:
        """The folder of the jobs' folders as the jobs see it."""
        return f"{self.inside}/jobs"

    @property
    def runner_inside(self) -> str:
        """`runner_folder` as the jobs see it."""
        return f"{self.inside}/runner"

    def attempt_inside(self, job: Job) -> str:
        """The folder of the present attempt of a job as the job sees it."""
        return f"{self.jobs_inside}/{self.attempt_name(job)}"

    def script_inside(self, name: str) -> str:
        """A script as the jobs see it."""
        return f"{self.runner_inside}/{name}"

    def last_id(self) -> int:
        """The highest id that has a folder, 0 if none has.

        A journal that was moved away leaves folders behind, and what is in them must
        not be taken for that of new jobs.
        """
        names = (entry.name for entry in os.scandir(self.path / "jobs"))
        return max((int(name) for name in names if name.isdecimal()), default=0)


def _attempt(number: int) -> str:
    return f"attempt-{number}"
