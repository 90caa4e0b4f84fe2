"""Errors, jobs and conversions: what callers hold in their hands."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

import wsclean_client
from wsclean_client import convert, errors, outage
from wsclean_client.jobs import CompletedJob, JobInfo, JobState, LogChunk, Reason
from wsclean_client.outcome import complete
from wsclean_client.rpc_errors import translate
from wsclean_client.spec import CommandSpec
from wsclean_client.status import Mount, RuntimeStatus, Status
from wsclean_workerd_api.v1 import worker_pb2 as pb

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def job(state: JobState = JobState.FAILED, exit_status: int | None = 1) -> JobInfo:
    return JobInfo(
        id="17",
        state=state,
        command=("wsclean", "sim.ms"),
        working_directory="/stage",
        submitted_at=NOON,
        started_at=NOON + timedelta(seconds=2),
        ended_at=NOON + timedelta(seconds=5),
        reason=Reason("EXITED", "it ended"),
        exit_status=exit_status,
        environment={"A": "1"},
    )


ERRORS = [
    errors.WSCleanError("m"),
    errors.DaemonNotReachable("m"),
    errors.RequestRefused("m", "UNMAPPED_PATH"),
    errors.NotAuthenticated("m", "TOKEN_MISSING"),
    errors.PermissionDenied("m", "NOT_OWNER"),
    errors.DaemonFailed("m", "INTERNAL"),
    errors.JobNotFound("m"),
    errors.ClientClosed("m"),
    errors.WaitTimeout("m"),
    errors.JobEnded(job()),
    errors.JobFailed(job(), b"out", b"err\xff"),
    errors.JobTimedOut(job(JobState.TIMED_OUT, None), b"out"),
    errors.JobCancelled(job(JobState.CANCELLED, None)),
    errors.JobLost(job(JobState.LOST, None)),
]


def test_list_of_errors_is_complete() -> None:
    public = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.WSCleanError)
    }
    assert {type(error) for error in ERRORS} == public
    assert {each.__name__ for each in public} <= set(wsclean_client.__all__)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_can_be_pickled_and_copied(error: errors.WSCleanError) -> None:
    error.add_note("in the pipeline")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def fail() -> None:
    raise errors.JobFailed(job(), b"out", b"err")


def test_error_passes_through_a_process_pool() -> None:
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(errors.JobFailed, match="exit status 1:\nerr") as caught,
    ):
        pool.submit(fail).result()
    assert caught.value.job == job()


@pytest.mark.parametrize(
    "value",
    [
        job(),
        CompletedJob(info=job(), returncode=0, stdout_bytes=b"x"),
        LogChunk("stdout", 0, b"x"),
        Status(
            version="1",
            started_at=NOON,
            runtime=RuntimeStatus(kind="docker", ready=True),
            slots=1,
            slots_used=0,
            jobs={JobState.QUEUED: 1},
            mounts=(Mount("/a", "/b"),),
            refusing=None,
            programs=("wsclean",),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_can_be_pickled(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301


def test_timeouts_are_timeouts_of_the_language() -> None:
    assert issubclass(errors.WaitTimeout, TimeoutError)
    assert issubclass(errors.JobTimedOut, TimeoutError)
    assert issubclass(errors.DaemonNotReachable, ConnectionError)


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "exit status 1"), (137, "exit status 137 (SIGKILL)"), (255, "exit status 255")],
)
def test_exit_status_in_words(status: int, words: str) -> None:
    assert str(errors.JobFailed(job(exit_status=status))) == f"job 17: wsclean ended with {words}"


def test_failure_shows_standard_output_if_there_is_no_standard_error() -> None:
    assert str(errors.JobFailed(job(), b"a\nb\n", b" \n")).endswith(":\na\nb")


def test_failure_to_start_has_the_reason() -> None:
    message = str(errors.JobFailed(job(exit_status=None)))
    assert message == "job 17: wsclean could not be started: it ended"


def test_end_of_a_long_output_is_short() -> None:
    assert len(errors.tail(b"x" * 1_000_000)) < 10_000
    assert errors.tail(b"\n".join(b"%d" % n for n in range(50)) + b"\n\n", 2) == "48\n49"


def test_state_of_the_future_is_an_end_if_it_has_a_time() -> None:
    assert job(JobState.UNKNOWN).ended
    with pytest.raises(errors.JobEnded, match="UNKNOWN"):
        complete(job(JobState.UNKNOWN), b"", b"", check=False)


def test_seconds_of_a_job_that_never_started() -> None:
    waiting = JobInfo(
        id="1", state=JobState.QUEUED, command=(), working_directory="/", submitted_at=NOON
    )
    assert (waiting.queue_seconds, waiting.run_seconds, waiting.program) == (None, None, "")
    info = convert.job_info(
        pb.Job(submit_time=Timestamp(seconds=10), end_time=Timestamp(seconds=14))
    )
    assert (info.queue_seconds, info.run_seconds) == (4.0, None)
    stepped = convert.job_info(
        pb.Job(submit_time=Timestamp(seconds=10), end_time=Timestamp(seconds=4))
    )
    assert stepped.queue_seconds == 0.0


def test_every_state_of_the_interface_has_a_name() -> None:
    numbers = [number for number in pb.JobState.values() if number]
    states = [convert.job_info(pb.Job(state=number)).state for number in numbers]
    assert JobState.UNKNOWN not in states
    assert [convert.state_number(state) for state in states] == numbers
    assert convert.job_info(pb.Job()).state is JobState.UNKNOWN
    assert {state for state in JobState if state.ended} == set(states[-5:])


def test_times_are_exact() -> None:
    stamp = Timestamp(seconds=1_763_903_815, nanos=123_456_789)
    info = convert.job_info(pb.Job(submit_time=stamp, run_timeout=Duration(nanos=500_000_000)))
    assert info.submitted_at == datetime(2025, 11, 23, 13, 16, 55, 123_456, tzinfo=UTC)
    assert info.as_dict()["submit_time"] == "2025-11-23T13:16:55.123456Z"
    assert info.run_timeout == 0.5


@pytest.mark.parametrize(
    ("seconds", "whole", "nanos"),
    [(1.5, 1, 500_000_000), (0.0, 0, 0), (-1.5, -1, -500_000_000), (0.999_999_999_9, 1, 0)],
)
def test_durations_keep_to_the_rules_of_protobuf(seconds: float, whole: int, nanos: int) -> None:
    spec = convert.job_spec(
        CommandSpec(command=(), working_directory="/", environment={}, timeout=seconds)
    )
    assert (spec.run_timeout.seconds, spec.run_timeout.nanos) == (whole, nanos)
    assert not spec.HasField("queue_timeout")
    assert not spec.HasField("umask")


def test_pause_grows_and_shrinks_only_after_a_calm_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    away = outage.Outage(10)
    assert not away.too_long()
    pauses = [away.pause() for _ in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pauses[-2] <= 1
    away.over(60)
    assert away.pause() == pauses[-1]
    now = 130.0
    assert not away.too_long()
    assert away.pause() == pauses[0]
    now = 189.9
    assert not away.too_long()
    now = 190.0
    assert away.too_long()


class _Error(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return None

    def trailing_metadata(self) -> tuple[()]:
        return ()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_every_status_becomes_an_error_of_the_client(code: grpc.StatusCode) -> None:
    error = translate(_Error(code), "/no/such.sock")
    assert isinstance(error, errors.WSCleanError)
    assert str(error)


def test_importing_the_client_imports_nothing_that_is_slow() -> None:
    code = (
        "import sys, wsclean_client; wsclean_client.WSCleanClient('/x').close();"
        "names = {'grpc', 'click', 'rich', 'google.protobuf', 'asyncio', 'wsclean_workerd'};"
        "print(sorted(names & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_everything_public_is_there() -> None:
    assert all(hasattr(wsclean_client, name) for name in wsclean_client.__all__)
