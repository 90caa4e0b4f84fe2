"""A job that has been submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsclean_client.errors import DaemonNotReachable, WaitTimeout
from wsclean_client.outcome import complete
from wsclean_client.sinks import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wsclean_client.jobs import CompletedJob, JobInfo, LogChunk, StreamName
    from wsclean_client.transport import Transport


class JobHandle:
    """A job: to wait for it, read its output, cancel it.

    Made by `WSCleanClient.submit` and `WSCleanClient.job`. Several threads may use
    one handle. Every method raises `DaemonNotReachable` if the daemon does not
    answer, `JobNotFound` if it does not know the job and `ClientClosed` after the
    client has been closed.

    Attributes:
        id: The id of the job on this host.
    """

    def __init__(self, transport: Transport, job_id: str, info: JobInfo | None = None) -> None:
        self.id = job_id
        self._transport = transport
        self._info = info

    def __repr__(self) -> str:
        state = f" {self._info.state}" if self._info else ""
        return f"<JobHandle {self.id}{state}>"

    @property
    def info(self) -> JobInfo:
        """The job as it was when the daemon last told of it.

        The daemon is asked only if it has not told of it yet.
        """
        return self._info or self.refresh()

    def refresh(self) -> JobInfo:
        """Ask the daemon for the job as it is now."""
        self._info = info = self._transport.get(self.id)
        return info

    def cancel(self) -> JobInfo:
        """Tell the job to end and return at once, with the job as it is then.

        A job that has ended stays as it is.
        """
        self._info = info = self._transport.cancel(self.id)
        return info

    def watch(self, timeout: float | None = None) -> Iterator[JobInfo]:
        """Follow the job until it has ended, across restarts of the daemon.

        Args:
            timeout: Seconds after which to stop following, or None.

        Yields:
            The job as it is now, and again whenever its state has changed. The
            last one has ended.

        Raises:
            WaitTimeout: If the time is over before the job.
        """
        for info in self._transport.watch(self.id, timeout):
            self._info = info
            yield info

    def wait(self, timeout: float | None = None) -> JobInfo:
        """Wait for the end of the job, however it ends.

        Args:
            timeout: Seconds to wait at most, or None. It does not end the job.

        Returns:
            The job as it ended.

        Raises:
            WaitTimeout: If the job has not ended by then. It goes on.
        """
        if timeout is not None and timeout <= 0:
            return self._ended_already()
        info = self._info
        if info is None or not info.ended:
            for info in self.watch(timeout):  # noqa: B007 - the last one counts
                pass
        assert info is not None  # noqa: S101 - watch() ends with a job or an exception
        return info

    def logs(
        self,
        *,
        follow: bool = False,
        stream: StreamName | None = None,
        stdout_offset: int = 0,
        stderr_offset: int = 0,
    ) -> Iterator[LogChunk]:
        """Read what the job has written.

        Args:
            follow: Whether to go on until the job has ended, across restarts of
                the daemon. Otherwise it ends with what has been written so far.
            stream: "stdout" or "stderr" for this output alone, None for both.
            stdout_offset: Where in standard output to begin, in bytes.
            stderr_offset: Where in standard error to begin, in bytes.

        Returns:
            The pieces: every byte once, in the order of its output. Between the
            two outputs no order is kept.

        Raises:
            ValueError: If there is no such output.
        """
        return self._transport.read_logs(
            self.id,
            stream=stream,
            offsets=(stdout_offset, stderr_offset),
            follow=follow,
        )

    def result(self, *, timeout: float | None = None, check: bool = True) -> CompletedJob:
        """Wait for the job and return it with its output, as `WSCleanClient.run` does.

        Args:
            timeout: Seconds to wait at most, or None. It does not end the job.
            check: Whether an exit status other than 0 is an exception.

        Returns:
            The completed job.

        Raises:
            WaitTimeout: If the job has not ended by then. It goes on.
            JobEnded: If it ended otherwise than with an exit status, or with one
                other than 0 and `check` is true: `JobFailed`, `JobTimedOut`,
                `JobCancelled` or `JobLost`.
        """
        return self.collect(Output(), timeout=timeout, check=check)

    def collect(
        self, output: Output, *, timeout: float | None = None, check: bool = True
    ) -> CompletedJob:
        """Do what `result` does, with the output going where it is wanted.

        Args:
            output: Takes what the job writes; while it runs, if that is wanted.
            timeout: As for `result`; without effect on output that is followed.
            check: As for `result`.

        Returns:
            The completed job.

        Raises:
            WaitTimeout: As `result`.
            JobEnded: As `result`.
        """
        try:
            if output.live:
                for chunk in self.logs(follow=True):
                    output.take(chunk)
            info = self.wait(timeout)
            stdout_offset, stderr_offset = output.offsets
            for chunk in self.logs(stdout_offset=stdout_offset, stderr_offset=stderr_offset):
                output.take(chunk)
        except DaemonNotReachable as error:
            raise DaemonNotReachable(left_behind(error, self.id)) from error
        return complete(info, output.stdout, output.stderr, check=check)

    def _ended_already(self) -> JobInfo:
        info = self.refresh()
        if not info.ended:
            raise WaitTimeout(f"job {self.id} has not ended: it is {info.state}")
        return info


def left_behind(error: DaemonNotReachable, job_id: str) -> str:
    """Write the message for a daemon that went away after it had accepted a job."""
    return f"{error}. Job {job_id} was accepted and does not depend on this client"
