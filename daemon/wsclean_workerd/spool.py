"""The folder that daemon and jobs share, one folder below it for each job.

`spool/jobs/ID/` holds

* `command`: the script that becomes the job's main process,
* `stdout`, `stderr`: what the job writes, into files so that no reader can block it,
* `alive`: a FIFO that every process of the job holds open; its end-of-file says
  that all of them are gone,
* `claim-N`: whether start number N happened, made once by daemon or wrapper,
* `exit`: the exit status, which only the wrapper writes,
* `wrapper`: the wrapper's process id, so that it is spared when the job is killed.

Folders belong to the daemon, so a job can neither replace nor remove what is in
them. All functions here block on the state disk: call them in a thread.
"""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from wsclean_workerd.model import JobId, User

WRAPPER = "wrapper.sh"
KILLER = "kill.sh"

_FOLDER_MODE = 0o711
_FIFO_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Look:
    """What a job's folder says.

    Attributes:
        claimed_at: When the start that was asked about happened, in seconds since
            1970 UTC, or None if it did not.
        status: The exit status, or None if there is none yet.
        status_at: When it was written, in seconds since 1970 UTC, or None.
    """

    claimed_at: float | None = None
    status: int | None = None
    status_at: float | None = None

    @property
    def claimed(self) -> bool:
        """Whether the start that was asked about happened."""
        return self.claimed_at is not None


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The folder of one job.

    Args:
        path: Where it is on the host.
    """

    path: Path

    def prepare(self, script: str, user: User) -> None:
        """Make everything a start needs; doing it again changes no output.

        Args:
            script: The text of `command`.
            user: Whom the job runs as.

        Raises:
            OSError: If the disk does not take it.
        """
        self.path.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        self.path.chmod(_FOLDER_MODE)
        for name in ("stdout", "stderr"):
            self._make(name, user, mode=0o600)
        self._make("command", user, mode=0o400, content=script)
        fifo = self.path / "alive"
        if not fifo.exists():
            os.mkfifo(fifo, _FIFO_MODE)

    def open_alive(self) -> int:
        """Open the FIFO for reading and return its descriptor; never waits for a writer."""
        return os.open(self.path / "alive", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

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
        self.path.mkdir(mode=_FOLDER_MODE, exist_ok=True)
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
            return Look()
        if not stat.S_ISREG(claim.st_mode):
            return Look()
        try:
            with (self.path / "exit").open(encoding="ascii") as file:
                status, status_at = int(file.read()), os.fstat(file.fileno()).st_mtime
        except (FileNotFoundError, ValueError):
            # Empty or damaged after a loss of power is as good as not there.
            return Look(claimed_at=claim.st_mtime)
        return Look(claimed_at=claim.st_mtime, status=status, status_at=status_at)

    def open_output(self, name: str) -> int:
        """Open `stdout` or `stderr` for reading and return the descriptor.

        Raises:
            OSError: If it is not there or no plain file.
        """
        return os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def remove(self) -> None:
        """Remove the folder and all output."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _claim(self, launch: int) -> Path:
        return self.path / f"claim-{launch}"

    def _make(self, name: str, user: User, *, mode: int, content: str | None = None) -> None:
        path = self.path / name
        if content is not None:
            path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, mode)
        try:
            os.fchmod(descriptor, mode)
            if user.uid != os.geteuid() or user.gid != os.getegid():
                os.fchown(descriptor, user.uid, user.gid)
            if content is not None:
                with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as file:
                    file.write(content)
        finally:
            os.close(descriptor)


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

        Raises:
            OSError: If the disk does not take it.
        """
        for folder in (self.path, self.path / "jobs", self.path / "runner"):
            folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            folder.chmod(_FOLDER_MODE)
        for name in (WRAPPER, KILLER):
            text = resources.files("wsclean_workerd.runtime").joinpath(name).read_bytes()
            new = self.path / "runner" / f"{name}.new"
            new.write_bytes(text)
            new.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH | stat.S_IWUSR)
            # A running shell goes on reading the file it opened.
            new.replace(self.path / "runner" / name)

    def job(self, job_id: JobId) -> JobFolder:
        """The folder of a job, whether it exists or not."""
        return JobFolder(self.path / "jobs" / str(job_id))

    def job_inside(self, job_id: JobId) -> str:
        """The folder of a job as the job sees it."""
        return f"{self.inside}/jobs/{job_id}"

    def script_inside(self, name: str) -> str:
        """A script as the jobs see it."""
        return f"{self.inside}/runner/{name}"

    def last_id(self) -> int:
        """The highest id that has a folder, 0 if none has.

        A journal that was moved away leaves folders behind, and what is in them must
        not be taken for that of new jobs.
        """
        names = (entry.name for entry in os.scandir(self.path / "jobs"))
        return max((int(name) for name in names if name.isdecimal()), default=0)
