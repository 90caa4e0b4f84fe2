"""Why a command that did not succeed has failed, as its exit status says. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsclean_workerd.model import Reason

if TYPE_CHECKING:
    from wsclean_workerd.events import JobExited
    from wsclean_workerd.model import Job

_SIGNALLED = 128
_NOT_EXECUTABLE = 126
_NOT_FOUND = 127
_LAST_SIGNAL = 64


def failure(job: Job, event: JobExited) -> Reason:
    """Say why a command has failed.

    Args:
        job: Its job.
        event: How it ended, with a status that is not 0.
    """
    program, status = job.order.command[0], event.status
    if event.out_of_memory:
        return Reason("OOM_KILLED", f"{program} was killed because memory had run out")
    if status == _NOT_FOUND:
        return Reason("PROGRAM_NOT_FOUND", f"{program} is not to be found where jobs run")
    if status == _NOT_EXECUTABLE:
        return Reason(
            "PROGRAM_NOT_STARTED",
            f"{program} could not be started, the end of stderr says why",
        )
    if _SIGNALLED < status <= _SIGNALLED + _LAST_SIGNAL:
        return Reason("SIGNALLED", f"{program} was ended by signal {status - _SIGNALLED}")
    return Reason("EXIT_STATUS", f"{program} ended with exit status {status}")
