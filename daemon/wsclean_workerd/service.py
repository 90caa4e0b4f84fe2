"""The interface of the daemon. It only translates."""

from __future__ import annotations

from contextlib import aclosing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from wsclean_workerd import __version__
from wsclean_workerd.announcer import wait_for_end
from wsclean_workerd.authentication import CALLER
from wsclean_workerd.convert import (
    STREAMS,
    finding_to_proto,
    job_id_from_proto,
    job_to_proto,
    mount_to_proto,
    number_from_text,
    offsets_from_proto,
    output_to_proto,
    outputs_from_proto,
    reason_to_proto,
    spec_from_proto,
    state_to_proto,
    states_from_proto,
    wait_from_proto,
)
from wsclean_workerd.errors import InvalidRequest
from wsclean_workerd.logs import Output
from wsclean_workerd.model import JobState, Reason
from wsclean_workerd.rpc_errors import streaming, unary
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1 import worker_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

    import grpc

    from wsclean_workerd.admission import Admission
    from wsclean_workerd.announcer import Subscription
    from wsclean_workerd.callers import CallersJobs, CallersNews
    from wsclean_workerd.drain import Drain
    from wsclean_workerd.examination import Examiner
    from wsclean_workerd.logs import Chunk, OutputReader, Outputs
    from wsclean_workerd.model import Job, JobId, RuntimeCondition
    from wsclean_workerd.reload import Reloader
    from wsclean_workerd.ties import Ties

    Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
LONGEST_REQUEST_ID = 128
LARGEST_ANSWER = 3 * 1024 * 1024
"""Bytes of jobs in one answer; gRPC's clients take 4 MiB unless told otherwise."""

_FRAME = 8
_SHORT_SECONDS = 0.01


class WorkerService(worker_pb2_grpc.WorkerServiceServicer):
    """Answers the calls of `WorkerService`.

    Args:
        settings: What the daemon goes by at present.
        started: When it started, in seconds since 1970 UTC.
        supervisor: Who knows the jobs.
        admission: Who may take a slot.
        announcer: Who tells of changes.
        condition: Returns the condition of the runtime.
        outputs: What jobs write.
        ties: The jobs that are to end with a call.
        drain: Whether jobs are started.
        examiner: Who finds out what is wrong.
    """

    def __init__(  # noqa: PLR0913 - all that it speaks for, keyword-only
        self,
        *,
        settings: Reloader,
        started: float,
        supervisor: CallersJobs,
        admission: Admission,
        announcer: CallersNews,
        condition: Callable[[], RuntimeCondition],
        outputs: Outputs,
        ties: Ties,
        drain: Drain,
        examiner: Examiner,
    ) -> None:
        self._settings = settings
        self._started = started
        self._supervisor = supervisor
        self._admission = admission
        self._announcer = announcer
        self._condition = condition
        self._outputs = outputs
        self._ties = ties
        self._drain = drain
        self._examiner = examiner

    @unary
    async def SubmitJob(  # noqa: N802, D102 - worker.proto names and documents it
        self,
        request: pb.SubmitJobRequest,
        context: Context,
    ) -> pb.SubmitJobResponse:
        del context
        spec = spec_from_proto(request.spec)
        if spec.tied:
            raise InvalidRequest("cannot tie the job to this call, which ends at once: use RunJob")
        seconds = wait_from_proto(request)
        job = await self._supervisor.submit(spec, _request_id(request.request_id))
        if seconds is None:
            return pb.SubmitJobResponse(job=job_to_proto(job))
        job, output = await self._wait(job.id, seconds)
        return pb.SubmitJobResponse(job=job_to_proto(job), output=output)

    async def _wait(self, job_id: JobId, seconds: float) -> tuple[Job, pb.JobOutput | None]:
        """Wait for the end of a job; return it as it is then, and its output if that is little."""
        with self._announcer.subscribe({job_id}) as subscription:
            # Asked after subscribing, so that nothing falls in between.
            job = await self._supervisor.get(job_id)
            await wait_for_end(subscription, job, seconds)
            job = subscription.current(job)
        if not job.state.ended:
            return job, None
        written = await self._outputs.reader(job_id, dict.fromkeys(Output, 0)).whole()
        return job, None if written is None else output_to_proto(written)

    @streaming
    async def RunJob(  # noqa: N802, D102
        self,
        request: pb.RunJobRequest,
        context: Context,
    ) -> AsyncIterator[pb.RunJobResponse]:
        del context
        offsets = offsets_from_proto(request, Output)
        spec = spec_from_proto(request.spec)
        job = await self._supervisor.submit(spec, _request_id(request.request_id))
        with (
            self._ties.hold(job) if job.spec.tied else nullcontext(),
            self._announcer.subscribe({job.id}) as subscription,
        ):
            job = await self._supervisor.get(job.id)
            # One that starts at once may be over soon: then its end is all there is to tell.
            if job.state is JobState.STARTING:
                await wait_for_end(subscription, job, _SHORT_SECONDS)
            if not subscription.ended(job):
                yield pb.RunJobResponse(job=job_to_proto(subscription.current(job)))
            if not request.follow:
                await subscription.end(job)
            reader = self._outputs.reader(job.id, offsets)
            async with aclosing(_chunks(reader, subscription, job, request.follow)) as chunks:
                async for chunk in chunks:
                    yield pb.RunJobResponse(output=_chunk_to_proto(chunk))
            yield pb.RunJobResponse(job=job_to_proto(subscription.current(job)))

    @unary
    async def GetJob(  # noqa: N802, D102
        self,
        request: pb.GetJobRequest,
        context: Context,
    ) -> pb.GetJobResponse:
        del context
        job = await self._supervisor.get(job_id_from_proto(request.id))
        return pb.GetJobResponse(job=self._to_proto(job))

    @unary
    async def ListJobs(  # noqa: N802, D102
        self,
        request: pb.ListJobsRequest,
        context: Context,
    ) -> pb.ListJobsResponse:
        del context
        size = request.page_size or DEFAULT_PAGE
        if not 0 < size <= LARGEST_PAGE:
            raise InvalidRequest(
                f"cannot list {size} jobs at once: expected 1 to {LARGEST_PAGE}, or 0 for "
                f"{DEFAULT_PAGE}",
            )
        jobs = await self._supervisor.page(
            states_from_proto(request.states),
            before=_page_start(request.page_token),
            # One more than asked for tells whether there is another page.
            limit=size + 1,
        )
        messages = _fitting(self._to_proto(job) for job in jobs[:size])
        more = len(jobs) > len(messages)
        return pb.ListJobsResponse(jobs=messages, next_page_token=messages[-1].id if more else "")

    @streaming
    async def WatchJobs(  # noqa: N802, D102
        self,
        request: pb.WatchJobsRequest,
        context: Context,
    ) -> AsyncIterator[pb.WatchJobsResponse]:
        del context
        wanted = {job_id_from_proto(text) for text in request.ids}
        with self._announcer.subscribe(wanted or None) as subscription:
            # Asked after subscribing, so that nothing falls in between.
            jobs = [await self._supervisor.get(each) for each in sorted(wanted)]
            for job in jobs if wanted else self._supervisor.live():
                # What was announced meanwhile is newer.
                if subscription.latest(job.id) is None:
                    subscription.offer(job)
            told: dict[JobId, Job] = {}
            while not wanted or not all(each in told and told[each].state.ended for each in wanted):
                for job in await subscription.next():
                    told[job.id] = job
                    yield pb.WatchJobsResponse(job=job_to_proto(job))
                if not wanted:
                    told.clear()

    @streaming
    async def ReadLogs(  # noqa: N802, D102
        self,
        request: pb.ReadLogsRequest,
        context: Context,
    ) -> AsyncIterator[pb.ReadLogsResponse]:
        del context
        job_id = job_id_from_proto(request.id)
        await self._supervisor.get(job_id)
        outputs = outputs_from_proto(request.stream)
        reader = self._outputs.reader(job_id, offsets_from_proto(request, outputs))
        with self._announcer.subscribe({job_id}) as subscription:
            job = await self._supervisor.get(job_id)
            async with aclosing(_chunks(reader, subscription, job, request.follow)) as chunks:
                async for chunk in chunks:
                    yield _chunk_to_proto(chunk)

    @unary
    async def CancelJob(  # noqa: N802, D102
        self,
        request: pb.CancelJobRequest,
        context: Context,
    ) -> pb.CancelJobResponse:
        del context
        reason = Reason("CANCELLED", "on request")
        job = await self._supervisor.cancel(job_id_from_proto(request.id), reason)
        return pb.CancelJobResponse(job=job_to_proto(job))

    @streaming
    async def DrainWorker(  # noqa: N802, D102
        self,
        request: pb.DrainWorkerRequest,
        context: Context,
    ) -> AsyncIterator[pb.DrainWorkerResponse]:
        del request, context
        self._drain.begin()
        async with aclosing(self._drain.follow()) as taken:
            async for used in taken:
                yield pb.DrainWorkerResponse(slots_used=used)

    @unary
    async def ResumeWorker(  # noqa: N802, D102
        self,
        request: pb.ResumeWorkerRequest,
        context: Context,
    ) -> pb.ResumeWorkerResponse:
        del request, context
        self._drain.resume()
        return pb.ResumeWorkerResponse()

    @streaming
    async def ShutDownWorker(  # noqa: N802, D102
        self,
        request: pb.ShutDownWorkerRequest,
        context: Context,
    ) -> AsyncIterator[pb.ShutDownWorkerResponse]:
        del context
        self._drain.shut_down(now=request.now)
        async with aclosing(self._drain.follow_to_the_end()) as taken:
            async for used in taken:
                yield pb.ShutDownWorkerResponse(slots_used=used)

    @unary
    async def GetStatus(  # noqa: N802, D102
        self,
        request: pb.GetStatusRequest,
        context: Context,
    ) -> pb.GetStatusResponse:
        del request, context
        start_time = Timestamp()
        start_time.FromNanoseconds(round(self._started * 1e6) * 1000)
        return pb.GetStatusResponse(
            version=__version__,
            start_time=start_time,
            runtime=self._runtime_status(),
            slots=self._admission.slots,
            slots_used=self._admission.taken,
            jobs=[
                pb.JobCount(state=state_to_proto(state), count=count)
                for state, count in self._supervisor.counts().items()
            ],
            mounts=[mount_to_proto(mount) for mount in self._settings.config.job_mounts],
            refusing=reason_to_proto(self._supervisor.refusing),
            programs=self._settings.config.jobs.programs,
            configuration=reason_to_proto(self._settings.condition),
        )

    @unary
    async def DiagnoseWorker(  # noqa: N802, D102
        self,
        request: pb.DiagnoseWorkerRequest,
        context: Context,
    ) -> pb.DiagnoseWorkerResponse:
        del request, context
        findings = await self._examiner.examine(CALLER.get().user)
        return pb.DiagnoseWorkerResponse(
            version=__version__, findings=[finding_to_proto(each) for each in findings]
        )

    def _to_proto(self, job: Job) -> pb.Job:
        """A job as the interface tells it, with why it waits if that can be said."""
        if job.state is JobState.QUEUED and job.reason is None:
            job = replace(job, reason=self._admission.why(job))
        return job_to_proto(job)

    def _runtime_status(self) -> pb.RuntimeStatus:
        condition, config = self._condition(), self._settings.config
        docker = config.runtime == "docker"
        return pb.RuntimeStatus(
            kind=config.runtime,
            ready=condition.ready,
            condition=reason_to_proto(condition.reason),
            image=config.docker.image if docker else "",
            container_name=config.docker.container if docker else "",
            container_id=condition.container or "",
        )


def _fitting(jobs: Iterable[pb.Job]) -> list[pb.Job]:
    """As many as fit into a message that any client takes, and one at least."""
    fitting: list[pb.Job] = []
    size = 0
    for job in jobs:
        size += job.ByteSize() + _FRAME
        if fitting and size > LARGEST_ANSWER:
            break
        fitting.append(job)
    return fitting


def _request_id(text: str) -> str | None:
    if len(text) > LONGEST_REQUEST_ID:
        raise InvalidRequest(
            f"cannot use a request id of {len(text)} characters: expected at most "
            f"{LONGEST_REQUEST_ID}",
        )
    return text or None


def _chunks(
    reader: OutputReader, subscription: Subscription, job: Job, follow: bool
) -> AsyncGenerator[Chunk, None]:
    """What a job has written so far, or all that it writes until it has ended."""
    if not follow:
        return reader.read()
    return reader.follow(subscription.changed, lambda: subscription.ended(job))


def _chunk_to_proto(chunk: Chunk) -> pb.ReadLogsResponse:
    return pb.ReadLogsResponse(stream=STREAMS[chunk.output], offset=chunk.offset, data=chunk.data)


def _page_start(token: str) -> int | None:
    if not token:
        return None
    number = number_from_text(token)
    if number is None:
        raise InvalidRequest(
            f"cannot use the page token {token[:80]!r}: expected the next_page_token of a page",
        )
    return number
