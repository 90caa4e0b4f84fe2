"""The client of wsclean-workerd: runs WSClean commands through the daemon of this host.

    from wsclean_client import WSCleanClient

    with WSCleanClient() as client:
        job = client.run(["wsclean", "-size", "512", "512", "-name", "img", "sim.ms"])
        print(job.stdout)

Importing this package is cheap: gRPC is loaded by the first call to the daemon.
"""

from wsclean_client.client import WSCleanClient
from wsclean_client.diagnosis import Diagnosis, Finding, Verdict
from wsclean_client.errors import (
    ClientClosed,
    DaemonFailed,
    DaemonNotReachable,
    JobCancelled,
    JobEnded,
    JobFailed,
    JobLost,
    JobNotFound,
    JobTimedOut,
    NotAuthenticated,
    PermissionDenied,
    RequestRefused,
    WaitTimeout,
    WSCleanError,
)
from wsclean_client.handle import JobHandle
from wsclean_client.jobs import CompletedJob, JobInfo, JobState, LogChunk, Reason
from wsclean_client.status import Mount, RuntimeStatus, Status
from wsclean_workerd_api import __version__

__all__ = [
    "ClientClosed",
    "CompletedJob",
    "DaemonFailed",
    "DaemonNotReachable",
    "Diagnosis",
    "Finding",
    "JobCancelled",
    "JobEnded",
    "JobFailed",
    "JobHandle",
    "JobInfo",
    "JobLost",
    "JobNotFound",
    "JobState",
    "JobTimedOut",
    "LogChunk",
    "Mount",
    "NotAuthenticated",
    "PermissionDenied",
    "Reason",
    "RequestRefused",
    "RuntimeStatus",
    "Status",
    "Verdict",
    "WSCleanClient",
    "WSCleanError",
    "WaitTimeout",
    "__version__",
]
