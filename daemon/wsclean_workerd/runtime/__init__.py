"""What runs the jobs: a port with few verbs, and its implementations.

`docker` executes them in the one container, `native` on the host itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wsclean_workerd.events import Signal
    from wsclean_workerd.model import Job, Reason, RuntimeCondition, User


class Runtime(Protocol):
    """What the supervisor asks of whatever runs the jobs.

    No method blocks the event loop, and every one has a deadline except `lost`,
    which is there to wait.
    """

    @property
    def kind(self) -> str:
        """Its name in the configuration."""
        ...

    def environment(self, user: User) -> Mapping[str, str]:
        """The variables that every job of a user gets. May block: call it in a thread."""
        ...

    async def ensure(self, *, busy: bool) -> RuntimeCondition:
        """Make it ready: find what is there, or make it anew.

        Args:
            busy: Whether jobs run in it, so that nothing may be replaced.

        Returns:
            Its condition, ready.

        Raises:
            RuntimeUnavailable: If it cannot be made ready at present.
        """
        ...

    async def lost(self) -> None:
        """Wait until it may be ready no longer. Returns early rather than late."""
        ...

    async def launch(self, job: Job) -> None:
        """Start the wrapper of a job whose folder is prepared.

        Raises:
            RuntimeUnavailable: If it is not there, or does not answer. The job may
                have been started all the same: its claim decides.
            LaunchRefused: If it is there and does not take this job.
        """
        ...

    def release(self, job: Job, *, reusable: bool) -> None:
        """Take note that the command of a job has ended, or never begins.

        Args:
            job: The job.
            reusable: Whether it left a status, so that what ran it can run another.
        """
        ...

    def suspect(self) -> None:
        """Take note that starts that were handed over do not happen."""
        ...

    async def start_aside(self, command: list[str], user: User) -> None:
        """Start a command of the daemon's own where jobs run, and do not wait for it.

        Args:
            command: The command. If it is not started as the user, then as the daemon's own,
                with the words behind it that turn into the user.
            user: Whom it is for.

        Raises:
            RuntimeUnavailable: If it cannot be started at present.
            LaunchRefused: If it never can.
        """
        ...

    async def signal(self, job: Job, signal: Signal) -> None:
        """Send a signal to every process of a job; returns when it has been sent.

        Raises:
            RuntimeUnavailable: If it could not be sent.
        """
        ...

    async def search(self, job: Job) -> bool:
        """Whether any process of a job is left, of one whose `alive` nobody holds.

        Raises:
            RuntimeUnavailable: If nobody can be asked at present.
        """
        ...

    async def explain_loss(self, container: str | None) -> Reason:
        """Say why a job's processes may have gone without leaving an exit status."""
        ...

    async def remove(self) -> None:
        """Remove what is there for jobs, when none runs and none will be started.

        Raises:
            RuntimeUnavailable: If it could not be removed.
        """
        ...

    async def close(self) -> None:
        """Let go of it; whatever runs goes on."""
        ...
