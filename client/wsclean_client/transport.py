"""The calls to the daemon: blocking, thread-safe, repeated where that is safe.

This module and what it imports are all of the blocking client that imports gRPC, so
whoever imports it lazily imports gRPC lazily.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc.experimental import ChannelOptions

from wsclean_client import convert
from wsclean_client.address import target
from wsclean_client.authorized import AuthorizedChannel
from wsclean_client.calls import Calls
from wsclean_client.errors import WaitTimeout
from wsclean_client.identity import Identity
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1.worker_pb2_grpc import WorkerServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wsclean_client.calls import Stream
    from wsclean_client.diagnosis import Diagnosis
    from wsclean_client.jobs import JobInfo, JobState, LogChunk, StreamName
    from wsclean_client.spec import CommandSpec
    from wsclean_client.status import Status

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

CALL_SECONDS = 30.0
"""How long the daemon may take to answer one call."""

_DIAGNOSE_SECONDS = 9.5

_BRIEFLY = Duration(nanos=500_000_000)
"""How long a run waits for the end of its job before it opens a stream."""

_BRIEF_SECONDS = 5.0
"""How long the daemon may take to answer such a run."""

_LAST_WORDS_SECONDS = 2.0
"""How long an interrupted submission waits for the id of the job to cancel."""

OPTIONS = (
    # A daemon that has been restarted is found again within half a second.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A page of jobs may exceed gRPC's 4 MB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # http_proxy is set on many clusters and means nothing to a Unix socket.
    ("grpc.enable_http_proxy", 0),
    # Older gRPC releases derive an authority from the path that some servers refuse.
    ("grpc.default_authority", "localhost"),
    # Streams are read by the thread that waits for them, without another one in between,
    # which would cost as much time again.
    (ChannelOptions.SingleThreadedUnaryStream, 1),
)
"""The options of the channel."""


class Transport:
    """A connection to the daemon, made when it is first needed.

    Args:
        socket: The absolute path of the socket.
        connect_timeout: Seconds for which a call is repeated while the daemon is
            not there.
        reconnect_timeout: Seconds for which a stream that broke is taken up again.
    """

    def __init__(self, socket: str, connect_timeout: float, reconnect_timeout: float) -> None:
        self._calls = Calls(socket, connect_timeout, reconnect_timeout)
        self._channel = grpc.insecure_channel(target(socket), options=OPTIONS)
        self._stub = WorkerServiceStub(AuthorizedChannel(self._channel, Identity(socket)))

    def close(self) -> None:
        """End all calls, those of other threads too, with `ClientClosed`."""
        self._calls.close()
        self._channel.close()

    def submit(self, spec: CommandSpec, request_id: str) -> JobInfo:
        """Submit a job; interrupted, cancel what may have been accepted.

        Args:
            spec: What to run.
            request_id: Names the submission, so that it can be repeated.

        Returns:
            The job as accepted.
        """
        request = pb.SubmitJobRequest(spec=convert.job_spec(spec), request_id=request_id)
        return convert.job_info(self._calls.answer(self._submit_once, request).job)

    def run(
        self,
        spec: CommandSpec,
        request_id: str,
        *,
        follow: bool,
        offsets: Callable[[], tuple[int, int]],
    ) -> Iterator[JobInfo | LogChunk]:
        """Submit a job and stay with it, across restarts of the daemon.

        Args:
            spec: What to run.
            request_id: Names the submission, so that it can be taken up again.
            follow: Whether output is wanted as it is written, or all at the end.
            offsets: Returns how many bytes of standard output and standard error
                have been taken.

        Yields:
            The job as accepted, pieces of its output, each byte once, and the job as
            it ended; after an interruption the job as it is then.
        """
        message = convert.job_spec(spec)
        job: JobInfo | None = None
        if not follow and not spec.tied and (answer := self._submit_briefly(message, request_id)):
            job = convert.job_info(answer.job)
            yield job
            if answer.HasField("output"):
                yield from convert.output_chunks(answer.output)
                return

        def begin(seconds: float | None) -> Stream[pb.RunJobResponse]:
            stdout_offset, stderr_offset = offsets()
            request = pb.RunJobRequest(
                spec=message,
                request_id=request_id,
                follow=follow,
                stdout_offset=stdout_offset,
                stderr_offset=stderr_offset,
            )
            return self._stub.RunJob(request, timeout=seconds)

        def complete() -> bool:
            return job is not None and job.ended

        for news in self._calls.stream(begin, complete):
            if news.HasField("output"):
                yield convert.log_chunk(news.output)
            else:
                job = convert.job_info(news.job)
                yield job
                if job.ended:
                    # What follows is the end of the stream, which tells nothing more.
                    return

    def disown(self, spec: CommandSpec, request_id: str) -> None:
        """Cancel a job that was submitted and whose id never came, as far as possible."""
        request = pb.SubmitJobRequest(spec=convert.job_spec(spec), request_id=request_id)
        with contextlib.suppress(grpc.RpcError, ValueError):
            # The same request is the same job, and its answer tells the id.
            job = self._stub.SubmitJob(request, timeout=_LAST_WORDS_SECONDS).job
            self._stub.CancelJob(pb.CancelJobRequest(id=job.id), timeout=_LAST_WORDS_SECONDS)

    def get(self, job_id: str) -> JobInfo:
        """Ask for one job."""
        request = pb.GetJobRequest(id=job_id)
        return convert.job_info(self._call(self._stub.GetJob, request).job)

    def cancel(self, job_id: str) -> JobInfo:
        """Tell a job to end; telling it twice changes nothing, so it is repeated."""
        request = pb.CancelJobRequest(id=job_id)
        return convert.job_info(self._call(self._stub.CancelJob, request).job)

    def page(
        self, states: tuple[JobState, ...], size: int, token: str
    ) -> tuple[list[JobInfo], str]:
        """Ask for a page of jobs, newest first.

        Args:
            states: Only jobs in one of these; empty for all.
            size: How many jobs at most.
            token: What the page before ended with; empty for the first page.

        Returns:
            The jobs, and the token of the next page or the empty string.
        """
        request = pb.ListJobsRequest(
            states=[convert.state_number(state) for state in states],
            page_size=size,
            page_token=token,
        )
        answer = self._call(self._stub.ListJobs, request)
        return [convert.job_info(job) for job in answer.jobs], answer.next_page_token

    def status(self) -> Status:
        """Ask for the condition of the daemon."""
        return convert.status(self._call(self._stub.GetStatus, pb.GetStatusRequest()))

    def drain(self) -> Iterator[int]:
        """Have no further jobs started; yield how many slots are taken, until none is."""

        def begin(seconds: float | None) -> Stream[pb.DrainWorkerResponse]:
            return self._stub.DrainWorker(pb.DrainWorkerRequest(), timeout=seconds)

        for message in self._calls.stream(begin, lambda: True):
            yield message.slots_used

    def resume(self) -> None:
        """Have jobs started again."""
        self._call(self._stub.ResumeWorker, pb.ResumeWorkerRequest())

    def shut_down(self, *, now: bool) -> Iterator[int]:
        """Have the daemon end; yield how many slots are taken, until it is about to."""

        def begin(seconds: float | None) -> Stream[pb.ShutDownWorkerResponse]:
            return self._stub.ShutDownWorker(pb.ShutDownWorkerRequest(now=now), timeout=seconds)

        for message in self._calls.stream(begin, lambda: True):
            yield message.slots_used

    def diagnose(self) -> Diagnosis:
        """Have the daemon look at what jobs need; it answers within 9 s or is stuck."""
        answer = self._calls.answer(
            lambda each: self._stub.DiagnoseWorker(each, timeout=_DIAGNOSE_SECONDS),
            pb.DiagnoseWorkerRequest(),
        )
        return convert.diagnosis(answer)

    def watch(self, job_id: str, timeout: float | None = None) -> Iterator[JobInfo]:
        """Follow a job until it has ended, across restarts of the daemon.

        Args:
            job_id: The job.
            timeout: Seconds after which to stop, or None.

        Yields:
            The job as it is now, and again whenever its state has changed. The
            last one has ended.

        Raises:
            WaitTimeout: If the time is over.
        """

        def begin(seconds: float | None) -> Stream[pb.WatchJobsResponse]:
            return self._stub.WatchJobs(pb.WatchJobsRequest(ids=[job_id]), timeout=seconds)

        try:
            for message in self._calls.stream(begin, lambda: False, timeout):
                job = convert.job_info(message.job)
                yield job
                if job.ended:
                    return
        except WaitTimeout:
            raise WaitTimeout(
                f"job {job_id} has not ended in {timeout:g} s. It goes on; cancel it if it is no "
                "longer wanted",
            ) from None

    def read_logs(
        self,
        job_id: str,
        *,
        stream: StreamName | None = None,
        offsets: tuple[int, int] = (0, 0),
        follow: bool = False,
    ) -> Iterator[LogChunk]:
        """Read what a job has written, across restarts of the daemon.

        Args:
            job_id: The job.
            stream: Only this output, or None for both.
            offsets: Where to begin in standard output and standard error, in bytes.
            follow: Whether to go on until the job has ended.

        Yields:
            The pieces, each byte once and in the order of its output.
        """
        number = convert.stream_number(stream)
        place = {"stdout": offsets[0], "stderr": offsets[1]}

        def begin(seconds: float | None) -> Stream[pb.ReadLogsResponse]:
            request = pb.ReadLogsRequest(
                id=job_id,
                stream=number,
                stdout_offset=place["stdout"],
                stderr_offset=place["stderr"],
                follow=follow,
            )
            return self._stub.ReadLogs(request, timeout=seconds)

        for message in self._calls.stream(begin, lambda: True):
            chunk = convert.log_chunk(message)
            place[chunk.stream] = chunk.end
            yield chunk

    def _call(
        self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request
    ) -> _Response:
        return self._calls.answer(lambda each: method(each, timeout=CALL_SECONDS), request)

    def _submit_once(self, request: pb.SubmitJobRequest) -> pb.SubmitJobResponse:
        call = self._stub.SubmitJob.future(request, timeout=CALL_SECONDS)
        try:
            return call.result()
        except grpc.RpcError:
            raise
        except BaseException:
            # Nobody will learn the id of this job, so it must not live on.
            self._disown(call)
            raise

    def _submit_briefly(self, spec: pb.JobSpec, request_id: str) -> pb.SubmitJobResponse | None:
        """Submit a job and wait a moment for its end, which spares a short one a stream.

        Returns:
            The answer, or None if the stream is to find out what has become of it.
        """
        request = pb.SubmitJobRequest(spec=spec, request_id=request_id, wait=_BRIEFLY)
        return self._calls.answer_now(
            lambda each: self._stub.SubmitJob(each, timeout=_BRIEF_SECONDS), request
        )

    def _disown(self, call: grpc.Future[pb.SubmitJobResponse]) -> None:
        try:
            job = call.result(timeout=_LAST_WORDS_SECONDS).job
            self._stub.CancelJob(pb.CancelJobRequest(id=job.id), timeout=_LAST_WORDS_SECONDS)
        except (grpc.RpcError, grpc.FutureTimeoutError, grpc.FutureCancelledError, ValueError):
            call.cancel()
