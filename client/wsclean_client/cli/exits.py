"""The exit statuses of `wsclean-ctl`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsclean_client.jobs import JobState

if TYPE_CHECKING:
    from wsclean_client.jobs import JobInfo

USAGE = 2
TIMED_OUT = 124
DAEMON = 125
INTERRUPTED = 130
PIPE_CLOSED = 141

HELP = """\b
Exit status:
  0    all went well
  1    `install` or `uninstall` could not do it, or `doctor` found problems
  2    the command line is wrong
  124  the job timed out, or `wait --timeout` did
  125  the daemon is not reachable, refused the request or knows no such job,
       or the job was lost or could not be started
  130  the job was cancelled, or wsclean-ctl was interrupted (143: terminated)
  141  nobody reads the output any more
`run` and `wait` end with the job's own exit status if it has one: 128 + n if
signal n ended it.
"""

_BY_STATE = {
    JobState.SUCCEEDED: 0,
    JobState.TIMED_OUT: TIMED_OUT,
    JobState.CANCELLED: INTERRUPTED,
    JobState.LOST: DAEMON,
}


def of_job(job: JobInfo) -> int:
    """Tell the exit status that stands for a job that has ended."""
    if job.state is JobState.FAILED and job.exit_status:
        return job.exit_status
    return _BY_STATE.get(job.state, DAEMON)
