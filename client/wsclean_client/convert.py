"""From and to protocol buffers. Shared by every kind of client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from wsclean_client.diagnosis import Diagnosis, Finding, Verdict
from wsclean_client.jobs import JobInfo, JobState, LogChunk, Reason, StreamName
from wsclean_client.status import Mount, RuntimeStatus, Status
from wsclean_workerd_api.v1 import worker_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.timestamp_pb2 import Timestamp

    from wsclean_client.spec import CommandSpec

_PREFIX = "JOB_STATE_"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS = 10**9
_STREAMS: dict[int, StreamName] = {
    pb.LOG_STREAM_STDOUT: "stdout",
    pb.LOG_STREAM_STDERR: "stderr",
}

_VERDICTS: dict[int, Verdict] = {
    pb.VERDICT_OK: Verdict.OK,
    pb.VERDICT_WARNING: Verdict.WARNING,
    pb.VERDICT_PROBLEM: Verdict.PROBLEM,
}


def job_info(job: pb.Job) -> JobInfo:
    """Turn a job into what callers see of it."""
    spec = job.spec
    return JobInfo(
        id=job.id,
        state=_state(job.state),
        command=tuple(spec.command),
        working_directory=spec.working_directory,
        submitted_at=_moment(job.submit_time),
        started_at=_moment(job.start_time) if job.HasField("start_time") else None,
        ended_at=_moment(job.end_time) if job.HasField("end_time") else None,
        reason=_reason(job.reason) if job.HasField("reason") else None,
        exit_status=job.exit_status if job.HasField("exit_status") else None,
        mapped_command=tuple(job.mapped_command),
        mapped_working_directory=job.mapped_working_directory,
        environment=dict(spec.environment),
        run_timeout=(
            job.run_timeout.seconds + job.run_timeout.nanos / _NANOS
            if job.HasField("run_timeout")
            else None
        ),
        container_id=job.container_id,
        lingering=job.lingering,
        owner=job.owner if job.HasField("owner") else None,
        locks=tuple(job.locks),
        retries=spec.retries,
        # Older daemons do not tell.
        attempt=job.attempt or 1,
        last_loss=_reason(job.last_loss) if job.HasField("last_loss") else None,
        queued_at=_moment(job.queue_time) if job.HasField("queue_time") else None,
    )


def log_chunk(message: pb.ReadLogsResponse) -> LogChunk:
    """Turn a piece of output into what callers see of it."""
    return LogChunk(
        stream=_STREAMS.get(message.stream, "stdout"),
        offset=message.offset,
        data=message.data,
    )


def output_chunks(output: pb.JobOutput) -> Iterator[LogChunk]:
    """Turn all of a job's output into pieces of it."""
    if output.stdout:
        yield LogChunk("stdout", 0, output.stdout)
    if output.stderr:
        yield LogChunk("stderr", 0, output.stderr)


def status(message: pb.GetStatusResponse) -> Status:
    """Turn the condition of the daemon into what callers see of it."""
    runtime = message.runtime
    return Status(
        version=message.version,
        started_at=_moment(message.start_time),
        runtime=RuntimeStatus(
            kind=runtime.kind,
            ready=runtime.ready,
            condition=_reason(runtime.condition) if runtime.HasField("condition") else None,
            image=runtime.image,
            container_name=runtime.container_name,
            container_id=runtime.container_id,
        ),
        slots=message.slots,
        slots_used=message.slots_used,
        jobs={_state(each.state): each.count for each in message.jobs},
        mounts=tuple(
            Mount(mount.host, mount.container, mount.read_only) for mount in message.mounts
        ),
        refusing=_reason(message.refusing) if message.HasField("refusing") else None,
        programs=tuple(message.programs),
        configuration=_reason(message.configuration) if message.HasField("configuration") else None,
    )


def diagnosis(message: pb.DiagnoseWorkerResponse) -> Diagnosis:
    """Turn what the daemon found into what callers see of it."""
    return Diagnosis(
        version=message.version,
        findings=tuple(
            Finding(
                name=each.name,
                subject=each.subject,
                verdict=_VERDICTS.get(each.verdict, Verdict.UNKNOWN),
                found=each.found,
                mend=each.mend,
            )
            for each in message.findings
        ),
    )


def job_spec(spec: CommandSpec) -> pb.JobSpec:
    """Turn a command into what the daemon takes."""
    return pb.JobSpec(
        command=spec.command,
        working_directory=spec.working_directory,
        environment=spec.environment,
        run_timeout=_duration(spec.timeout),
        queue_timeout=_duration(spec.queue_timeout),
        umask=spec.umask,
        tied=spec.tied,
        locks=spec.locks,
        retries=spec.retries,
    )


def state_number(state: JobState) -> pb.JobState.ValueType:
    """Turn a state into its number.

    Raises:
        ValueError: If it is `UNKNOWN`, which the daemon has no number for.
    """
    return pb.JobState.Value(_PREFIX + state)


def stream_number(stream: StreamName | None) -> pb.LogStream.ValueType:
    """Turn the name of an output into its number; None means both.

    Raises:
        ValueError: If there is no such output.
    """
    if stream is None:
        return pb.LOG_STREAM_UNSPECIFIED
    for number, name in _STREAMS.items():
        if name == stream:
            return pb.LogStream.ValueType(number)
    raise ValueError(f"stream is {stream!r}: expected 'stdout', 'stderr' or None for both")


def _state(number: pb.JobState.ValueType) -> JobState:
    try:
        return JobState(pb.JobState.Name(number).removeprefix(_PREFIX))
    except ValueError:
        return JobState.UNKNOWN


def _reason(reason: pb.Reason) -> Reason:
    return Reason(reason.code, reason.message)


def _moment(stamp: Timestamp) -> datetime:
    # Exact, which fromtimestamp(float) is not.
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    sign = -1 if seconds < 0 else 1
    whole, nanos = divmod(round(abs(seconds) * _NANOS), _NANOS)
    return Duration(seconds=sign * whole, nanos=sign * nanos)
