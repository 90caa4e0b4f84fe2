"""Answers that get lost at an exact moment, which only a faked channel can arrange."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest

from wsclean_client import JobState, RequestRefused
from wsclean_client.spec import CommandSpec
from wsclean_client.transport import CALL_SECONDS, Transport
from wsclean_workerd_api.v1 import worker_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["WorkerService"]
SUBMIT = SERVICE.methods_by_name["SubmitJob"]
SPEC = CommandSpec(
    command=("wsclean", "--version"),
    working_directory="/stage",
    environment={},
    timeout=None,
    queue_timeout=None,
    umask=None,
)


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Any:
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    monkeypatch.setattr(grpc, "insecure_channel", lambda *_, **__: channel)
    return channel


def test_a_submission_whose_answer_was_lost_is_repeated_under_the_same_name(channel: Any) -> None:
    transport = Transport("/run/x.sock", connect_timeout=30.0, reconnect_timeout=30.0)
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(transport.submit, SPEC, "night-1")
        _, first, call = channel.take_unary_unary(SUBMIT)
        call.terminate(None, (), grpc.StatusCode.UNAVAILABLE, "the daemon has gone")
        _, second, call = channel.take_unary_unary(SUBMIT)
        assert first == second
        assert first.request_id == "night-1"
        job = pb.Job(id="17", state=pb.JOB_STATE_QUEUED)
        job.submit_time.GetCurrentTime()
        call.terminate(pb.SubmitJobResponse(job=job), (), grpc.StatusCode.OK, "")
        info = submitting.result(CALL_SECONDS)
    assert (info.id, info.state) == ("17", JobState.QUEUED)


def test_what_the_daemon_refused_is_not_repeated(channel: Any) -> None:
    transport = Transport("/run/x.sock", connect_timeout=30.0, reconnect_timeout=30.0)
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(transport.submit, SPEC, "night-2")
        _, _, call = channel.take_unary_unary(SUBMIT)
        reason = (("wsclean-workerd-reason", "UNKNOWN_PROGRAM"),)
        call.terminate(None, reason, grpc.StatusCode.PERMISSION_DENIED, "cannot run 'rm'")
        with pytest.raises(RequestRefused, match="cannot run 'rm'") as caught:
            submitting.result(CALL_SECONDS)
    assert caught.value.reason == "UNKNOWN_PROGRAM"
