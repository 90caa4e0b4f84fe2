"""A worker service without a worker: what jobs do and what goes wrong is scripted."""

# The names of the calls are those of the interface.
# ruff: noqa: N802

from __future__ import annotations

import threading
from collections import defaultdict, deque
from concurrent import futures
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from wsclean_client.transport import CALL_SECONDS
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1.worker_pb2_grpc import (
    WorkerServiceServicer,
    add_WorkerServiceServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENDED = {
    pb.JOB_STATE_SUCCEEDED,
    pb.JOB_STATE_FAILED,
    pb.JOB_STATE_TIMED_OUT,
    pb.JOB_STATE_CANCELLED,
    pb.JOB_STATE_LOST,
}
_EPOCH = 1_700_000_000
PATIENCE = 20.0
"""Seconds after which something that should have happened has not."""


@dataclass
class Failure:
    """How one call goes wrong."""

    code: grpc.StatusCode
    details: str = ""
    reason: str = ""
    after: int | None = None
    """None: before the call has any effect. Otherwise after that many messages."""


@dataclass
class Written:
    """What a job has written so far."""

    stdout: bytes = b""
    stderr: bytes = b""


@dataclass
class FakeWorker(WorkerServiceServicer):
    """Knows jobs, and does to them what tests tell it to."""

    path: str
    jobs: dict[str, pb.Job] = field(default_factory=dict)
    written: dict[str, Written] = field(default_factory=lambda: defaultdict(Written))
    requests: list[Any] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    """What each of them brought to say whose it is."""
    failures: dict[str, deque[Failure]] = field(default_factory=lambda: defaultdict(deque))
    on_submit: Callable[[FakeWorker, pb.Job], None] = lambda _worker, _job: None
    end_on_cancel: bool = True
    by_request: dict[str, str] = field(default_factory=dict)
    status: pb.GetStatusResponse = field(default_factory=pb.GetStatusResponse)
    diagnosis: pb.DiagnoseWorkerResponse = field(default_factory=pb.DiagnoseWorkerResponse)
    chunk: int = 64 * 1024
    slots_used: tuple[int, ...] = (2, 1, 0)
    """What is told of them while the worker is drained."""

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        self._server: grpc.Server | None = None

    # What tests do

    def start(self) -> None:
        server = grpc.server(futures.ThreadPoolExecutor(32))
        add_WorkerServiceServicer_to_server(self, server)
        server.add_insecure_port(f"unix:{self.path}")
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            assert server.stop(None).wait(PATIENCE)

    def fail(self, call: str, code: grpc.StatusCode, times: int = 1, **how: Any) -> None:
        self.failures[call].extend(Failure(code, **how) for _ in range(times))

    def add(self, job: pb.Job) -> pb.Job:
        with self.changed:
            self.jobs[job.id] = job
            self.changed.notify_all()
        return job

    def write(self, job_id: str, stdout: bytes = b"", stderr: bytes = b"") -> None:
        with self.changed:
            self.written[job_id].stdout += stdout
            self.written[job_id].stderr += stderr
            self.changed.notify_all()

    def end(
        self,
        job_id: str,
        state: pb.JobState.ValueType = pb.JOB_STATE_SUCCEEDED,
        exit_status: int | None = 0,
        reason: tuple[str, str] | None = None,
    ) -> None:
        with self.changed:
            job = self.jobs[job_id]
            job.state = state
            if exit_status is not None:
                job.exit_status = exit_status
            if reason is not None:
                job.reason.code, job.reason.message = reason
            job.end_time.CopyFrom(Timestamp(seconds=_EPOCH + 5))
            self.changed.notify_all()

    def seen(self, kind: type[Any]) -> list[Any]:
        with self.changed:
            return [request for request in self.requests if isinstance(request, kind)]

    def wait_for(self, what: Callable[[], Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, PATIENCE), "it has not happened"

    def wait_for_request(self, kind: type[Any], count: int = 1) -> None:
        self.wait_for(lambda: len(self.seen(kind)) >= count)

    # What clients call

    def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        failure = self._enter("SubmitJob", request, context)
        job = self._accept(request)
        if failure:
            _abort(context, failure)
        written = self.written[job.id]
        told = request.HasField("wait") and job.state in _ENDED
        if told and max(len(written.stdout), len(written.stderr)) < self.chunk:
            output = pb.JobOutput(stdout=written.stdout, stderr=written.stderr)
            return pb.SubmitJobResponse(job=job, output=output)
        return pb.SubmitJobResponse(job=job)

    def RunJob(self, request: pb.RunJobRequest, context: Any) -> Iterator[pb.RunJobResponse]:
        failure = self._enter("RunJob", request, context)
        context.add_callback(self._wake)
        job = self._accept(request)
        if failure and failure.after == 0:
            _abort(context, failure)
        if job.state not in _ENDED:
            yield pb.RunJobResponse(job=job)
        with self.changed:
            while context.is_active() and not request.follow and job.state not in _ENDED:
                self.changed.wait(PATIENCE)
        read = pb.ReadLogsRequest(
            id=job.id,
            follow=request.follow,
            stdout_offset=request.stdout_offset,
            stderr_offset=request.stderr_offset,
        )
        # The first message counts as well.
        later = replace(failure, after=failure.after - 1) if failure and failure.after else None
        for output in self._pieces(read, context, later):
            yield pb.RunJobResponse(output=output)
        if context.is_active():
            yield pb.RunJobResponse(job=self.jobs[job.id])

    def _accept(self, request: pb.SubmitJobRequest | pb.RunJobRequest) -> pb.Job:
        with self.changed:
            job_id = self.by_request.get(request.request_id)
            if job_id is None:
                job_id = str(len(self.jobs) + 1)
                self.by_request[request.request_id] = job_id
                self.add(running(job_id, request.spec))
                self.on_submit(self, self.jobs[job_id])
            return self.jobs[job_id]

    def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        self._enter("GetJob", request, context)
        return pb.GetJobResponse(job=self._job(request.id, context))

    def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        self._enter("ListJobs", request, context)
        jobs = [
            job
            for job in reversed(self.jobs.values())
            if not request.states or job.state in request.states
        ]
        begin = int(request.page_token or 0)
        end = begin + (request.page_size or 100)
        return pb.ListJobsResponse(
            jobs=jobs[begin:end], next_page_token=str(end) if end < len(jobs) else ""
        )

    def WatchJobs(
        self, request: pb.WatchJobsRequest, context: Any
    ) -> Iterator[pb.WatchJobsResponse]:
        failure = self._enter("WatchJobs", request, context)
        context.add_callback(self._wake)
        (job_id,) = request.ids
        told: int | None = None
        for count in range(1000):
            if failure and failure.after == count:
                _abort(context, failure)
            with self.changed:
                while context.is_active() and self._job(job_id, context).state == told:
                    self.changed.wait(PATIENCE)
                job = self.jobs[job_id]
                told = job.state
                message = pb.WatchJobsResponse(job=job)
            if not context.is_active():
                return
            yield message
            if told in _ENDED:
                return

    def ReadLogs(self, request: pb.ReadLogsRequest, context: Any) -> Iterator[pb.ReadLogsResponse]:
        failure = self._enter("ReadLogs", request, context)
        self._job(request.id, context)
        context.add_callback(self._wake)
        yield from self._pieces(request, context, failure)

    def _pieces(
        self, request: pb.ReadLogsRequest, context: Any, failure: Failure | None
    ) -> Iterator[pb.ReadLogsResponse]:
        place = {
            pb.LOG_STREAM_STDOUT: request.stdout_offset,
            pb.LOG_STREAM_STDERR: request.stderr_offset,
        }
        count = 0
        while context.is_active():
            with self.changed:
                over = not request.follow or self._job(request.id, context).state in _ENDED
                message = self._piece(request, place)
                if message is None and not over:
                    self.changed.wait(PATIENCE)
                    continue
            if failure and failure.after == count:
                _abort(context, failure)
            if message is None:
                return
            yield message
            count += 1

    def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        self._enter("CancelJob", request, context)
        job = self._job(request.id, context)
        if job.state not in _ENDED:
            with self.changed:
                job.state = pb.JOB_STATE_STOPPING
                self.changed.notify_all()
            if self.end_on_cancel:
                self.end(job.id, pb.JOB_STATE_CANCELLED, None, ("CANCELLED", "as asked"))
        return pb.CancelJobResponse(job=job)

    def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:
        self._enter("GetStatus", request, context)
        return self.status

    def DrainWorker(
        self, request: pb.DrainWorkerRequest, context: Any
    ) -> Iterator[pb.DrainWorkerResponse]:
        self._enter("DrainWorker", request, context)
        for used in self.slots_used:
            yield pb.DrainWorkerResponse(slots_used=used)

    def ResumeWorker(
        self, request: pb.ResumeWorkerRequest, context: Any
    ) -> pb.ResumeWorkerResponse:
        self._enter("ResumeWorker", request, context)
        return pb.ResumeWorkerResponse()

    def ShutDownWorker(
        self, request: pb.ShutDownWorkerRequest, context: Any
    ) -> Iterator[pb.ShutDownWorkerResponse]:
        self._enter("ShutDownWorker", request, context)
        for used in self.slots_used:
            yield pb.ShutDownWorkerResponse(slots_used=used)

    def DiagnoseWorker(
        self, request: pb.DiagnoseWorkerRequest, context: Any
    ) -> pb.DiagnoseWorkerResponse:
        self._enter("DiagnoseWorker", request, context)
        return self.diagnosis

    def _enter(self, call: str, request: Any, context: Any) -> Failure | None:
        with self.changed:
            self.requests.append(request)
            metadata = dict(context.invocation_metadata())
            self.authorizations.append(metadata.get("authorization", ""))
            self.changed.notify_all()
            failure = self.failures[call].popleft() if self.failures[call] else None
        if failure and failure.after is None:
            _abort(context, failure)
        # Every call that is no stream has to have a deadline.
        streams = ("WatchJobs", "ReadLogs", "RunJob", "DrainWorker", "ShutDownWorker")
        remaining = context.time_remaining()
        if call not in streams and (remaining is None or remaining > CALL_SECONDS + 1):
            context.abort(grpc.StatusCode.INTERNAL, f"{call} was called without a deadline")
        return failure

    def _job(self, job_id: str, context: Any) -> pb.Job:
        if job_id not in self.jobs:
            _abort(
                context,
                Failure(grpc.StatusCode.NOT_FOUND, f"there is no job {job_id!r}", "NO_SUCH_JOB"),
            )
        return self.jobs[job_id]

    def _piece(self, request: pb.ReadLogsRequest, place: Any) -> pb.ReadLogsResponse | None:
        written = self.written[request.id]
        for stream, whole in (
            (pb.LOG_STREAM_STDOUT, written.stdout),
            (pb.LOG_STREAM_STDERR, written.stderr),
        ):
            if request.stream in (pb.LOG_STREAM_UNSPECIFIED, stream):
                data = whole[place[stream] : place[stream] + self.chunk]
                if data:
                    message = pb.ReadLogsResponse(stream=stream, offset=place[stream], data=data)
                    place[stream] += len(data)
                    return message
        return None

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()


def running(job_id: str, spec: pb.JobSpec | None = None) -> pb.Job:
    return pb.Job(
        id=job_id,
        spec=spec or pb.JobSpec(command=["wsclean", "sim.ms"], working_directory="/stage"),
        state=pb.JOB_STATE_RUNNING,
        submit_time=Timestamp(seconds=_EPOCH),
        start_time=Timestamp(seconds=_EPOCH + 1),
        mapped_command=["wsclean", "sim.ms"],
        mapped_working_directory="/data",
        container_id="c0ffee" * 10,
        owner=0,
    )


def _abort(context: Any, failure: Failure) -> None:
    if failure.reason:
        context.set_trailing_metadata(
            (
                ("grpc-status-details-bin", b"\x08\x03"),
                ("wsclean-workerd-reason", failure.reason),
            )
        )
    context.abort(failure.code, failure.details)


def ends(*args: object, out: bytes = b"", err: bytes = b"") -> Callable[[FakeWorker, pb.Job], None]:
    """What has a job write this and end so, for `on_submit`."""

    def script(worker: FakeWorker, job: pb.Job) -> None:
        worker.write(job.id, out, err)
        worker.end(job.id, *args)  # type: ignore[arg-type]

    return script


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread
