"""The call that submits a job and stays with it, message by message."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.daemon import DEADLINE, DaemonProcess
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1 import worker_pb2_grpc


@pytest.fixture
def stub(daemon: DaemonProcess) -> Iterator[worker_pb2_grpc.WorkerServiceStub]:
    with daemon.channel() as channel:
        yield worker_pb2_grpc.WorkerServiceStub(channel)


def request(script: str, *, follow: bool) -> pb.RunJobRequest:
    spec = pb.JobSpec(command=["sh", "-c", script], working_directory="/")
    return pb.RunJobRequest(spec=spec, request_id="one", follow=follow)


def told(news: pb.RunJobResponse) -> str:
    """The output, or the state of the job in capitals."""
    if news.HasField("output"):
        return news.output.data.decode()
    return pb.JobState.Name(news.job.state).removeprefix("JOB_STATE_")


@pytest.mark.parametrize("follow", [True, False])
def test_a_job_that_goes_on_is_told_first_and_its_end_last(
    daemon: DaemonProcess, stub: worker_pb2_grpc.WorkerServiceStub, *, follow: bool
) -> None:
    gate = daemon.data / f"gate-{follow}"
    os.mkfifo(gate)
    wanted = request(f"read line <{gate}; echo $line", follow=follow)
    wanted.request_id = gate.name
    stream = stub.RunJob(wanted, timeout=DEADLINE)
    assert told(next(stream)) in {"STARTING", "RUNNING"}
    gate.write_text("on\n", encoding="ascii")
    assert [told(news) for news in stream] == ["on\n", "SUCCEEDED"]
    # Taken up again when it is over: nothing but what a caller may have missed.
    again = stub.RunJob(wanted, timeout=DEADLINE)
    assert [told(news) for news in again] == ["on\n", "SUCCEEDED"]


@pytest.mark.parametrize("follow", [True, False])
def test_of_a_job_that_is_over_at_once_only_the_end_is_told(
    stub: worker_pb2_grpc.WorkerServiceStub, *, follow: bool
) -> None:
    # One that takes longer than it should is told of as usual.
    stories = set()
    for number in range(20):
        wanted = request("exit 3", follow=follow)
        wanted.request_id = str(number)
        stories.add(" ".join(told(news) for news in stub.RunJob(wanted, timeout=DEADLINE)))
    assert stories <= {"FAILED", "STARTING FAILED", "RUNNING FAILED"}
