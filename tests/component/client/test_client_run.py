"""How many calls it takes to run a command, and what becomes of it if one of them fails."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from component.client.fake_worker import PATIENCE, FakeWorker, ends, in_thread
from wsclean_client import RequestRefused
from wsclean_workerd_api.v1 import worker_pb2 as pb

if TYPE_CHECKING:
    from wsclean_client import WSCleanClient

Code = grpc.StatusCode


def test_a_run_that_is_over_soon_is_a_single_call(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    worker.on_submit = ends(out=b"soon", err=b"over")
    done = client.run(["wsclean"])
    assert (done.stdout, done.stderr) == ("soon", "over")
    assert [type(request) for request in worker.requests] == [pb.SubmitJobRequest]


def test_a_run_that_has_written_much_reads_it_from_a_stream(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    much = bytes(range(256)) * 1024
    worker.on_submit = ends(out=much, err=b"e")
    done = client.run(["wsclean"])
    assert (done.stdout_bytes, done.stderr_bytes) == (much, b"e")
    (first,), (second,) = worker.seen(pb.SubmitJobRequest), worker.seen(pb.RunJobRequest)
    assert first.request_id == second.request_id
    assert len(worker.jobs) == 1


def test_a_run_that_goes_on_is_waited_for_by_a_stream(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    results: list[str] = []
    thread = in_thread(lambda: results.append(client.run(["wsclean"]).stdout))
    worker.wait_for_request(pb.RunJobRequest)
    worker.write("1", b"late")
    worker.end("1")
    thread.join(PATIENCE)
    assert results == ["late"]
    assert len(worker.jobs) == 1


@pytest.mark.parametrize(
    "code", [Code.UNAVAILABLE, Code.CANCELLED, Code.DEADLINE_EXCEEDED], ids=lambda code: code.name
)
@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "not accepted"])
def test_a_run_whose_first_answer_is_lost_is_the_same_job(
    worker: FakeWorker, client: WSCleanClient, code: grpc.StatusCode, *, accepted: bool
) -> None:
    worker.on_submit = ends(out=b"once")
    worker.fail("SubmitJob", code, after=0 if accepted else None)
    assert client.run(["wsclean"]).stdout == "once"
    assert len(worker.jobs) == 1


def test_a_run_that_is_refused_is_not_tried_again(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    worker.fail("SubmitJob", Code.INVALID_ARGUMENT, details="no mount", reason="UNMAPPED_PATH")
    with pytest.raises(RequestRefused, match=r"^no mount$"):
        client.run(["wsclean"])
    assert len(worker.requests) == 1


@pytest.mark.parametrize("how", [{"stdout": io.BytesIO()}, {"tied": True}], ids=["live", "tied"])
def test_what_needs_a_stream_begins_with_it(
    worker: FakeWorker, client: WSCleanClient, how: dict[str, Any]
) -> None:
    worker.on_submit = ends()
    client.run(["wsclean"], **how)
    assert [type(request) for request in worker.requests] == [pb.RunJobRequest]


def test_a_run_that_is_interrupted_while_it_waits_cancels_what_was_accepted(
    worker: FakeWorker, client: WSCleanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.status()
    stub = client._transport()._stub
    submit, answers = stub.SubmitJob, list[object]()

    def interrupted(*args: object, **kwargs: object) -> object:
        answers.append(submit(*args, **kwargs))  # type: ignore[arg-type]
        if len(answers) == 1:
            raise KeyboardInterrupt
        return answers[-1]

    monkeypatch.setattr(stub, "SubmitJob", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.run(["wsclean"])
    assert worker.jobs["1"].state == pb.JOB_STATE_CANCELLED
