from __future__ import annotations

import io
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
import pytest

from component.client.fake_worker import PATIENCE, FakeWorker, ends, in_thread, running
from wsclean_client import (
    ClientClosed,
    DaemonFailed,
    DaemonNotReachable,
    JobCancelled,
    JobFailed,
    JobLost,
    JobNotFound,
    JobState,
    JobTimedOut,
    LogChunk,
    RequestRefused,
    WaitTimeout,
    WSCleanClient,
)
from wsclean_workerd_api.v1 import worker_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

Code = grpc.StatusCode


def test_run_returns_what_subprocess_would_and_the_times(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    worker.on_submit = ends(out=b"im\xe4ge\n", err=b"warning\n")
    done = client.run(["wsclean", "-version"])
    assert done.args == ["wsclean", "-version"]
    assert (done.returncode, done.state, done.job_id) == (0, JobState.SUCCEEDED, "1")
    assert (done.stdout, done.stderr) == ("im\ufffdge\n", "warning\n")
    assert done.stdout_bytes == b"im\xe4ge\n"
    assert done.submitted_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (done.queue_seconds, done.run_seconds) == (1.0, 4.0)


def test_submission_carries_all_that_the_caller_said(
    worker: FakeWorker, client: WSCleanClient, folder: Path
) -> None:
    (folder / "sim.ms").mkdir()
    client.submit(
        ["wsclean", "sim.ms"],
        cwd=folder,
        env={"OPENBLAS_NUM_THREADS": "1"},
        timeout=1.5,
        queue_timeout=60,
        umask=0o002,
        locks=[folder / "sim.ms", "./image", "gpu", "/no/such.ms"],
        retries=3,
        request_id="mine",
    )
    (request,) = worker.seen(pb.SubmitJobRequest)
    spec = request.spec
    assert request.request_id == "mine"
    assert list(spec.command) == ["wsclean", str(folder / "sim.ms")]
    assert list(spec.locks) == [
        str(folder / "sim.ms"),
        str(folder / "image"),
        "gpu",
        "/no/such.ms",
    ]
    assert spec.working_directory == str(folder)
    assert dict(spec.environment) == {"OPENBLAS_NUM_THREADS": "1"}
    assert spec.run_timeout.ToSeconds() == 1
    assert spec.run_timeout.nanos == 500_000_000
    assert spec.queue_timeout.ToSeconds() == 60
    assert spec.umask == 0o002
    assert spec.retries == 3


def test_what_the_caller_leaves_out_is_left_to_the_daemon(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    client.submit(["wsclean"])
    client.submit(["wsclean"])
    first, second = worker.seen(pb.SubmitJobRequest)
    assert not first.spec.HasField("run_timeout")
    assert not first.spec.HasField("queue_timeout")
    assert first.request_id
    assert first.request_id != second.request_id


def test_failed_job_raises_with_the_end_of_its_output(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(100))
    worker.on_submit = ends(pb.JOB_STATE_FAILED, 3, out=b"out", err=lines)
    with pytest.raises(JobFailed) as caught:
        client.run(["wsclean"])
    message = str(caught.value)
    assert message.startswith("job 1: wsclean ended with exit status 3:\nline 80\n")
    assert message.endswith("line 99")
    assert caught.value.stderr == lines.decode()
    assert caught.value.stdout == "out"
    assert caught.value.job.id == "1"


def test_exit_status_is_returned_without_check(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.on_submit = ends(pb.JOB_STATE_FAILED, 139)
    assert client.run(["wsclean"], check=False).returncode == 139


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (pb.JOB_STATE_FAILED, JobFailed),
        (pb.JOB_STATE_TIMED_OUT, JobTimedOut),
        (pb.JOB_STATE_CANCELLED, JobCancelled),
        (pb.JOB_STATE_LOST, JobLost),
    ],
)
def test_end_without_exit_status_raises_even_without_check(
    worker: FakeWorker,
    client: WSCleanClient,
    state: pb.JobState.ValueType,
    kind: type[Exception],
) -> None:
    worker.on_submit = ends(state, None, ("CODE", "this is why"), out=b"so far")
    with pytest.raises(kind, match=r"job 1: wsclean .*: this is why") as caught:
        client.run(["wsclean"], check=False)
    assert caught.value.stdout == "so far"  # type: ignore[attr-defined]


def test_output_is_passed_on_while_the_job_runs(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.on_submit = lambda fake, job: fake.write(job.id, b"first ")
    pieces: list[bytes] = []
    errors = io.StringIO()

    def take(piece: bytes) -> None:
        pieces.append(piece)
        if len(pieces) == 1:
            # A character in two pieces, which a text file must not break.
            worker.write("1", b"second", b"\xc3")
            worker.write("1", b"", b"\xa4")
            worker.end("1")

    done = client.run(["wsclean"], stdout=take, stderr=errors)
    assert pieces[0] == b"first "
    assert b"".join(pieces) == done.stdout_bytes == b"first second"
    assert errors.getvalue() == done.stderr == "\u00e4"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, ZeroDivisionError])
def test_interrupted_run_cancels_the_job(
    worker: FakeWorker, client: WSCleanClient, interrupt: type[BaseException]
) -> None:
    worker.on_submit = lambda fake, job: fake.write(job.id, b"x")

    def stop(_piece: bytes) -> None:
        raise interrupt

    with pytest.raises(interrupt):
        client.run(["wsclean"], stdout=stop)
    assert worker.jobs["1"].state == pb.JOB_STATE_CANCELLED


def test_interrupted_submission_cancels_what_was_accepted(
    worker: FakeWorker, client: WSCleanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.status()
    transport = client._transport()
    stub = transport._stub
    future = stub.SubmitJob.future

    class Interrupting:
        def future(self, *args: object, **kwargs: object) -> object:
            call = future(*args, **kwargs)  # type: ignore[arg-type]
            plain, self.asked = call.result, False

            def result(timeout: float | None = None) -> object:
                if not self.asked:
                    self.asked = True
                    raise KeyboardInterrupt
                return plain(timeout)

            monkeypatch.setattr(call, "result", result)
            return call

    monkeypatch.setattr(stub, "SubmitJob", Interrupting())
    with pytest.raises(KeyboardInterrupt):
        client.submit(["wsclean"])
    assert worker.jobs["1"].state == pb.JOB_STATE_CANCELLED


def test_interrupted_before_its_first_news_a_run_cancels_what_was_accepted(
    worker: FakeWorker, client: WSCleanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.status()
    stub = client._transport()._stub
    begin = stub.RunJob

    def interrupted(*args: object, **kwargs: object) -> object:
        call = begin(*args, **kwargs)  # type: ignore[arg-type]
        worker.wait_for(lambda: "1" in worker.jobs)

        def next_news(_self: object) -> object:
            raise KeyboardInterrupt

        monkeypatch.setattr(type(call), "__next__", next_news)
        return call

    monkeypatch.setattr(stub, "RunJob", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.run(["wsclean"])
    assert worker.jobs["1"].state == pb.JOB_STATE_CANCELLED


def test_refusal_carries_the_reason_code(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.fail("SubmitJob", Code.INVALID_ARGUMENT, details="no mount", reason="UNMAPPED_PATH")
    with pytest.raises(RequestRefused, match=r"^no mount$") as caught:
        client.submit(["wsclean"])
    assert caught.value.reason == "UNMAPPED_PATH"


def test_refusal_without_a_reason_has_the_name_of_its_code(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    worker.fail("SubmitJob", Code.RESOURCE_EXHAUSTED, details="queue is full")
    with pytest.raises(RequestRefused) as caught:
        client.submit(["wsclean"])
    assert caught.value.reason == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNKNOWN, Code.UNIMPLEMENTED])
def test_fault_of_the_daemon_is_not_taken_for_a_refusal(
    worker: FakeWorker, client: WSCleanClient, code: grpc.StatusCode
) -> None:
    worker.fail("GetStatus", code, details="oh dear")
    with pytest.raises(DaemonFailed, match="oh dear"):
        client.status()


def test_submission_is_repeated_with_the_same_request_id(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    worker.fail("SubmitJob", Code.UNAVAILABLE, details="not yet")
    worker.fail("SubmitJob", Code.UNAVAILABLE, details="the answer was lost", after=0)
    job = client.submit(["wsclean"])
    requests = worker.seen(pb.SubmitJobRequest)
    assert len(requests) == 3
    assert len({request.request_id for request in requests}) == 1
    assert list(worker.jobs) == [job.id]


def test_daemon_that_stays_unable_is_a_refusal(worker: FakeWorker) -> None:
    worker.fail(
        "SubmitJob", Code.UNAVAILABLE, 100, details="disk full", reason="JOURNAL_UNAVAILABLE"
    )
    with (
        WSCleanClient(worker.path, connect_timeout=0.1) as client,
        pytest.raises(RequestRefused, match="disk full") as caught,
    ):
        client.submit(["wsclean"])
    assert caught.value.reason == "JOURNAL_UNAVAILABLE"


def test_reads_are_repeated(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.add(running("7"))
    for call in ("GetJob", "ListJobs", "GetStatus", "CancelJob"):
        worker.fail(call, Code.UNAVAILABLE, 2)
    client.status()
    assert client.job("7").refresh().state is JobState.RUNNING
    assert [job.id for job in client.list()] == ["7"]
    assert client.job("7").cancel().state is JobState.CANCELLED


def test_call_waits_for_a_daemon_that_is_starting(folder: Path) -> None:
    worker = FakeWorker(str(folder / "w.sock"))
    starter = threading.Timer(0.3, worker.start)
    with WSCleanClient(worker.path) as client:
        starter.start()
        client.status()
        starter.join()
    worker.stop()


def test_unknown_job(client: WSCleanClient) -> None:
    job = client.job("99")
    for call in (job.refresh, job.cancel, job.wait, lambda: list(job.logs(follow=True))):
        with pytest.raises(JobNotFound, match="99"):
            call()


def test_list_asks_for_pages_and_no_more_than_wanted(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    for number in range(450):
        worker.add(running(str(number)))
    assert [job.id for job in client.list()] == [str(n) for n in reversed(range(450))]
    assert len(worker.seen(pb.ListJobsRequest)) == 3
    assert len(list(client.list(limit=250))) == 250
    assert [r.page_size for r in worker.seen(pb.ListJobsRequest)[3:]] == [200, 50]
    assert list(client.list(states=[JobState.LOST])) == []


def test_wait_that_takes_too_long_leaves_the_job_alone(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    worker.add(running("1"))
    with pytest.raises(WaitTimeout, match=r"job 1 has not ended in 0\.05 s"):
        client.job("1").wait(0.05)
    with pytest.raises(WaitTimeout, match="RUNNING"):
        client.job("1").wait(0)
    assert worker.jobs["1"].state == pb.JOB_STATE_RUNNING
    worker.end("1")
    assert client.job("1").wait(0).state is JobState.SUCCEEDED


def test_watch_tells_every_state(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.add(running("1"))
    states = []
    for info in client.job("1").watch():
        states.append(info.state)
        if info.state is JobState.RUNNING:
            worker.end("1", pb.JOB_STATE_LOST, None)
    assert states == [JobState.RUNNING, JobState.LOST]


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.CANCELLED])
def test_wait_goes_on_when_its_stream_breaks(
    worker: FakeWorker, client: WSCleanClient, code: grpc.StatusCode
) -> None:
    worker.add(running("1"))
    worker.fail("WatchJobs", code, after=1)
    worker.fail("WatchJobs", code)

    def end() -> None:
        worker.wait_for_request(pb.WatchJobsRequest, 3)
        worker.end("1")

    ending = in_thread(end)
    assert client.job("1").wait().state is JobState.SUCCEEDED
    ending.join()


def test_wait_does_not_go_on_after_another_error(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.add(running("1"))
    worker.fail("WatchJobs", Code.INTERNAL, details="bug", after=1)
    with pytest.raises(DaemonFailed, match="bug"):
        client.job("1").wait()
    assert len(worker.seen(pb.WatchJobsRequest)) == 1


def test_follower_resumes_where_its_stream_broke(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.chunk = 4
    worker.add(running("1"))
    worker.write("1", b"0123456789", b"abcdef")
    worker.end("1")
    worker.fail("ReadLogs", Code.UNAVAILABLE, after=2)
    worker.fail("ReadLogs", Code.UNAVAILABLE, after=2)
    assert list(client.job("1").logs(follow=True)) == [
        LogChunk("stdout", 0, b"0123"),
        LogChunk("stdout", 4, b"4567"),
        LogChunk("stdout", 8, b"89"),
        LogChunk("stderr", 0, b"abcd"),
        LogChunk("stderr", 4, b"ef"),
    ]
    offsets = [(r.stdout_offset, r.stderr_offset) for r in worker.seen(pb.ReadLogsRequest)]
    assert offsets == [(0, 0), (8, 0), (10, 4)]


def test_logs_can_be_read_in_part(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.add(running("1"))
    worker.write("1", b"0123456789", b"abcdef")
    job = client.job("1")
    assert [c.data for c in job.logs(stream="stderr", stderr_offset=2)] == [b"cdef"]
    assert [c.data for c in job.logs(stdout_offset=8)] == [b"89", b"abcdef"]
    with pytest.raises(ValueError, match="'stdin'"):
        list(job.logs(stream="stdin"))  # type: ignore[arg-type]


def test_run_survives_a_restart_of_the_daemon(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.on_submit = lambda fake, job: fake.write(job.id, b"before ")
    taken = threading.Event()
    results: list[str] = []
    runner = in_thread(
        lambda: results.append(
            client.run(["wsclean"], stdout=lambda _piece: taken.set()).stdout,
        )
    )
    assert taken.wait(PATIENCE)
    worker.stop()
    worker.write("1", b"meanwhile ")
    worker.start()
    worker.wait_for_request(pb.RunJobRequest, 2)
    worker.write("1", b"after")
    worker.end("1")
    runner.join(PATIENCE)
    assert results == ["before meanwhile after"]


def test_wait_gives_up_when_the_daemon_stays_away(worker: FakeWorker) -> None:
    with WSCleanClient(worker.path, reconnect_timeout=0.2) as client:
        job = client.submit(["wsclean"])

        def stop() -> None:
            worker.wait_for_request(pb.WatchJobsRequest)
            worker.stop()

        stopper = in_thread(stop)
        began = time.monotonic()
        with pytest.raises(DaemonNotReachable, match="Job 1 was accepted"):
            job.result()
        assert time.monotonic() - began < PATIENCE
        stopper.join()


def test_closing_ends_the_calls_of_other_threads(worker: FakeWorker) -> None:
    client = WSCleanClient(worker.path)
    job = client.submit(["wsclean"])
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            job.wait()
        except ClientClosed as error:
            raised.append(error)

    waiter = in_thread(wait)
    worker.wait_for_request(pb.WatchJobsRequest)
    client.close()
    waiter.join(PATIENCE)
    assert raised
    for call in (client.status, job.refresh, lambda: client.submit(["wsclean"]), job.wait):
        with pytest.raises(ClientClosed):
            call()
    client.close()


def test_one_client_serves_many_threads(worker: FakeWorker, client: WSCleanClient) -> None:
    def echo(fake: FakeWorker, job: pb.Job) -> None:
        fake.write(job.id, job.spec.command[1].encode())
        fake.end(job.id)

    worker.on_submit = echo
    results: dict[int, str] = {}

    def run(number: int) -> None:
        results[number] = client.run(["wsclean", f"-j{number}"]).stdout

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == {number: f"-j{number}" for number in range(16)}
    assert len(worker.jobs) == 16


def test_status(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.status = pb.GetStatusResponse(
        version="1.2.3",
        runtime=pb.RuntimeStatus(
            kind="docker",
            condition=pb.Reason(code="ENGINE_UNREACHABLE", message="no engine"),
            image="wsclean:3.7",
        ),
        slots=4,
        slots_used=1,
        jobs=[
            pb.JobCount(state=pb.JOB_STATE_QUEUED, count=2),
            pb.JobCount(state=99, count=1),  # type: ignore[arg-type]
        ],
        mounts=[pb.Mount(host="/stage", container="/data", read_only=True)],
        programs=["wsclean"],
    )
    status = client.status()
    assert (status.version, status.slots, status.slots_used) == ("1.2.3", 4, 1)
    assert not status.runtime.ready
    assert status.runtime.condition
    assert status.runtime.condition.code == "ENGINE_UNREACHABLE"
    assert status.jobs == {JobState.QUEUED: 2, JobState.UNKNOWN: 1}
    assert status.mounts[0].read_only
    assert status.refusing is None


def test_job_in_a_state_of_the_future_is_waited_for(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    worker.add(running("1"))
    worker.jobs["1"].state = 77  # type: ignore[assignment]
    seen = []
    for info in client.job("1").watch():
        seen.append(info.state)
        worker.end("1")
    assert seen == [JobState.UNKNOWN, JobState.SUCCEEDED]
