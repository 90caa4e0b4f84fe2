"""How the end of a job becomes a result or an exception."""

from __future__ import annotations

from wsclean_client import errors
from wsclean_client.jobs import CompletedJob, JobInfo, JobState

_RAISED: dict[JobState, type[errors.JobEnded]] = {
    JobState.FAILED: errors.JobFailed,
    JobState.TIMED_OUT: errors.JobTimedOut,
    JobState.CANCELLED: errors.JobCancelled,
    JobState.LOST: errors.JobLost,
}


def complete(job: JobInfo, stdout: bytes, stderr: bytes, *, check: bool) -> CompletedJob:
    """Turn a job that has ended into what `run` returns.

    As with `subprocess.run`, `check` concerns exit statuses alone: a job that has
    none (timed out, cancelled, lost, never started) is always an exception.

    Args:
        job: The job as it ended.
        stdout: All that it wrote to standard output.
        stderr: All that it wrote to standard error.
        check: Whether an exit status other than 0 is an exception too.

    Returns:
        The completed job.

    Raises:
        JobEnded: If it ended otherwise, as the class for that end.
    """
    exited = job.state in {JobState.SUCCEEDED, JobState.FAILED} and job.exit_status is not None
    if job.state is JobState.SUCCEEDED or (exited and not check):
        return CompletedJob(
            info=job,
            returncode=job.exit_status or 0,
            stdout_bytes=stdout,
            stderr_bytes=stderr,
        )
    raise _RAISED.get(job.state, errors.JobEnded)(job, stdout, stderr)
