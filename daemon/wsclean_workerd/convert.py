"""Between the messages of the interface and the daemon's own nouns. Pure."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from wsclean_workerd.errors import InvalidRequest, NoSuchJob
from wsclean_workerd.logs import Output
from wsclean_workerd.model import JobId, JobSpec, JobState, words
from wsclean_workerd_api.v1 import worker_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wsclean_workerd.diagnosis import Finding
    from wsclean_workerd.model import Instant, Job, Mount, Reason

MAX_ID = 2**63 - 1
LONGEST_WAIT = 10.0
"""The seconds that SubmitJob waits at most for the end of a job."""

_NANOS = 10**9
_MAX_OFFSET = 2**62
_MAX_DIGITS = 19

_OUTPUTS = {
    pb.LOG_STREAM_UNSPECIFIED: (Output.STDOUT, Output.STDERR),
    pb.LOG_STREAM_STDOUT: (Output.STDOUT,),
    pb.LOG_STREAM_STDERR: (Output.STDERR,),
}

STREAMS = {
    Output.STDOUT: pb.LOG_STREAM_STDOUT,
    Output.STDERR: pb.LOG_STREAM_STDERR,
}


def state_to_proto(state: JobState) -> pb.JobState.ValueType:
    """The state as the interface numbers it."""
    return pb.JobState.Value(f"JOB_STATE_{state.name}")


def states_from_proto(states: Iterable[pb.JobState.ValueType]) -> list[JobState]:
    """The states of a filter.

    Raises:
        InvalidRequest: If one is none.
    """
    known = {state_to_proto(state): state for state in JobState}
    try:
        return [known[state] for state in states]
    except KeyError as error:
        raise InvalidRequest(f"cannot list jobs of state {error}: there is no such state") from None


def job_id_from_proto(text: str) -> JobId:
    """The number of a job.

    Raises:
        NoSuchJob: If no job can have this id.
    """
    number = number_from_text(text)
    if number is None:
        raise NoSuchJob(
            f"there is no job {text[:80]!r}: an id is a number such as 17, and `wsclean-ctl list` "
            "shows those there are",
            id=text[:80],
        )
    return JobId(number)


def number_from_text(text: str) -> int | None:
    """The number that a text stands for if it may be that of a job, else None."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        return None
    return int(text) if int(text) <= MAX_ID else None


def offsets_from_proto(
    request: pb.ReadLogsRequest | pb.RunJobRequest, outputs: Iterable[Output]
) -> dict[Output, int]:
    """Where to begin in each output.

    Raises:
        InvalidRequest: If no file can have such an offset.
    """
    starts = {Output.STDOUT: request.stdout_offset, Output.STDERR: request.stderr_offset}
    for offset in starts.values():
        if not 0 <= offset <= _MAX_OFFSET:
            raise InvalidRequest(f"cannot read from the offset {offset}: expected 0 to 2^62")
    return {output: starts[output] for output in outputs}


def outputs_from_proto(stream: pb.LogStream.ValueType) -> tuple[Output, ...]:
    """The outputs that are asked for.

    Raises:
        InvalidRequest: If there is no such output.
    """
    try:
        return _OUTPUTS[stream]
    except KeyError:
        raise InvalidRequest(f"cannot read stream {stream}: there is no such stream") from None


def wait_from_proto(request: pb.SubmitJobRequest) -> float | None:
    """How many seconds to wait for the end of the job, or None for not at all.

    Raises:
        InvalidRequest: If that is longer than anybody waits for an answer.
    """
    if not request.HasField("wait"):
        return None
    seconds = request.wait.seconds + request.wait.nanos / _NANOS
    if not 0 <= seconds <= LONGEST_WAIT:
        raise InvalidRequest(
            f"cannot wait {seconds:g} s for the job: expected 0 to {LONGEST_WAIT:g} s. RunJob and "
            "WatchJobs wait as long as it takes"
        )
    return seconds


def output_to_proto(written: Mapping[Output, bytes]) -> pb.JobOutput:
    """All that a job has written, as the interface tells it."""
    return pb.JobOutput(
        stdout=written.get(Output.STDOUT, b""), stderr=written.get(Output.STDERR, b"")
    )


def spec_from_proto(spec: pb.JobSpec) -> JobSpec:
    """What a caller asks for."""
    return JobSpec(
        command=words(spec.command),
        working_directory=sys.intern(spec.working_directory),
        environment=tuple(sorted(spec.environment.items())),
        run_timeout=_seconds(spec, "run_timeout"),
        queue_timeout=_seconds(spec, "queue_timeout"),
        umask=spec.umask if spec.HasField("umask") else None,
        tied=spec.tied,
        locks=words(spec.locks),
        retries=spec.retries,
    )


def _seconds(spec: pb.JobSpec, field: str) -> float | None:
    if not spec.HasField(field):  # type: ignore[arg-type]
        return None
    duration: Duration = getattr(spec, field)
    return (duration.seconds * _NANOS + duration.nanos) / 1e9


def spec_to_proto(spec: JobSpec) -> pb.JobSpec:
    """What a caller asked for."""
    return pb.JobSpec(
        command=spec.command,
        working_directory=spec.working_directory,
        environment=dict(spec.environment),
        run_timeout=_duration(spec.run_timeout),
        queue_timeout=_duration(spec.queue_timeout),
        umask=spec.umask,
        tied=spec.tied,
        locks=spec.locks,
        retries=spec.retries,
    )


def job_to_proto(job: Job) -> pb.Job:
    """A job as the interface tells it."""
    waits_again = job.loss if job.state is JobState.QUEUED else None
    return pb.Job(
        id=str(job.id),
        spec=spec_to_proto(job.spec),
        state=state_to_proto(job.state),
        reason=reason_to_proto(job.reason or waits_again),
        exit_status=job.exit_status,
        submit_time=_timestamp(job.submitted),
        start_time=_timestamp(job.started),
        end_time=_timestamp(job.ended),
        mapped_command=job.order.command,
        mapped_working_directory=job.order.working_directory,
        run_timeout=_duration(job.order.run_timeout),
        container_id=job.container or "",
        lingering=job.lingering,
        locks=job.order.locks,
        owner=job.owner,
        attempt=job.attempt,
        last_loss=reason_to_proto(job.loss),
        queue_time=_timestamp(job.queued),
    )


def reason_to_proto(reason: Reason | None) -> pb.Reason | None:
    """A reason as the interface tells it."""
    return None if reason is None else pb.Reason(code=reason.code, message=reason.message)


def mount_to_proto(mount: Mount) -> pb.Mount:
    """A mount as the interface tells it."""
    return pb.Mount(host=mount.host, container=mount.container, read_only=mount.read_only)


def finding_to_proto(finding: Finding) -> pb.Finding:
    """A finding as the interface tells it."""
    return pb.Finding(
        name=finding.name,
        subject=finding.subject,
        verdict=pb.Verdict.Value(f"VERDICT_{finding.verdict.name}"),
        found=finding.found,
        mend=finding.mend,
    )


def _timestamp(instant: Instant | None) -> Timestamp | None:
    if instant is None:
        return None
    stamp = Timestamp()
    stamp.FromNanoseconds(round(instant.wall * 1e6) * 1000)
    return stamp


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
