"""The submission that waits a moment for the end of its job."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from support.daemon import DEADLINE, DaemonProcess
from wsclean_workerd.convert import LONGEST_WAIT
from wsclean_workerd.logs import CHUNK_SIZE
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1 import worker_pb2_grpc

LONG = Duration(seconds=int(LONGEST_WAIT))


@pytest.fixture
def stub(daemon: DaemonProcess) -> Iterator[worker_pb2_grpc.WorkerServiceStub]:
    with daemon.channel() as channel:
        yield worker_pb2_grpc.WorkerServiceStub(channel)


def request(script: str, name: str, wait: Duration) -> pb.SubmitJobRequest:
    spec = pb.JobSpec(command=["sh", "-c", script], working_directory="/")
    return pb.SubmitJobRequest(spec=spec, request_id=name, wait=wait)


def test_the_end_of_a_short_job_is_told_with_all_that_it_wrote(
    stub: worker_pb2_grpc.WorkerServiceStub,
) -> None:
    wanted = request(r"printf 'a\377'; printf e >&2; exit 3", "short", LONG)
    # Sent again it is the same job, which is long over.
    answers = [stub.SubmitJob(wanted, timeout=DEADLINE) for _ in range(2)]
    for answer in answers:
        assert (answer.job.state, answer.job.exit_status) == (pb.JOB_STATE_FAILED, 3)
        assert (answer.output.stdout, answer.output.stderr) == (b"a\xff", b"e")
    assert answers[0].job.id == answers[1].job.id


def test_of_a_job_that_goes_on_it_tells_how_it_is(
    daemon: DaemonProcess, stub: worker_pb2_grpc.WorkerServiceStub
) -> None:
    gate = daemon.data / "gate"
    os.mkfifo(gate)
    before = time.monotonic()
    answer = stub.SubmitJob(
        request(f"echo so far; read line <{gate}", "long", Duration(nanos=300_000_000)),
        timeout=DEADLINE,
    )
    assert time.monotonic() - before >= 0.3
    assert answer.job.state == pb.JOB_STATE_RUNNING
    assert not answer.HasField("output")
    gate.write_text("on\n", encoding="ascii")
    # And waiting for it a second time tells the end.
    again = stub.SubmitJob(
        request(f"echo so far; read line <{gate}", "long", LONG), timeout=DEADLINE
    )
    assert (again.job.id, again.job.state) == (answer.job.id, pb.JOB_STATE_SUCCEEDED)
    assert again.output.stdout == b"so far\n"


@pytest.mark.parametrize("stream", ["", " >&2"], ids=["stdout", "stderr"])
@pytest.mark.parametrize("size", [CHUNK_SIZE - 1, CHUNK_SIZE])
def test_much_output_is_left_to_those_who_read_it(
    stub: worker_pb2_grpc.WorkerServiceStub, size: int, stream: str
) -> None:
    script = f"head -c {size} /dev/zero{stream}"
    answer = stub.SubmitJob(request(script, f"{size}{stream}", LONG), timeout=DEADLINE)
    assert answer.job.state == pb.JOB_STATE_SUCCEEDED
    assert answer.HasField("output") is (size < CHUNK_SIZE)
    assert len(answer.output.stdout) + len(answer.output.stderr) in {0, CHUNK_SIZE - 1}


def test_a_job_that_never_started_has_written_nothing(
    daemon: DaemonProcess, stub: worker_pb2_grpc.WorkerServiceStub
) -> None:
    gate = daemon.data / "gate"
    os.mkfifo(gate)
    fill = [request(f"read line <{gate}", f"fill {number}", Duration()) for number in range(8)]
    jobs = [stub.SubmitJob(each, timeout=DEADLINE).job for each in fill]
    waiting = jobs[-1]
    assert waiting.state == pb.JOB_STATE_QUEUED
    asked = stub.SubmitJob.future(request(f"read line <{gate}", "fill 7", LONG), timeout=DEADLINE)
    stub.CancelJob(pb.CancelJobRequest(id=waiting.id), timeout=DEADLINE)
    answer = asked.result(DEADLINE)
    assert answer.job.state == pb.JOB_STATE_CANCELLED
    assert answer.HasField("output")
    assert not answer.output.ByteSize()
    for job in jobs[:-1]:
        stub.CancelJob(pb.CancelJobRequest(id=job.id), timeout=DEADLINE)


@pytest.mark.parametrize("wait", [Duration(seconds=-1), Duration(seconds=11)])
def test_nobody_waits_less_than_nothing_or_for_ever(
    stub: worker_pb2_grpc.WorkerServiceStub, wait: Duration
) -> None:
    with pytest.raises(grpc.RpcError, match="expected 0 to 10 s") as caught:
        stub.SubmitJob(request("true", "refused", wait), timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not stub.ListJobs(pb.ListJobsRequest(), timeout=DEADLINE).jobs
