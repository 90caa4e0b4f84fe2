from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from support.jobs import at, make_job
from wsclean_workerd.convert import (
    LONGEST_WAIT,
    finding_to_proto,
    job_id_from_proto,
    job_to_proto,
    mount_to_proto,
    offsets_from_proto,
    output_to_proto,
    outputs_from_proto,
    spec_from_proto,
    spec_to_proto,
    state_to_proto,
    states_from_proto,
    wait_from_proto,
)
from wsclean_workerd.diagnosis import Finding, Verdict
from wsclean_workerd.errors import InvalidRequest, NoSuchJob
from wsclean_workerd.logs import Output
from wsclean_workerd.model import JobSpec, JobState, Mount, Reason, Stop
from wsclean_workerd.records import decode, encode
from wsclean_workerd_api.v1 import worker_pb2 as pb

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SECONDS = st.none() | st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000)
SPECS = st.builds(
    JobSpec,
    command=st.lists(TEXT, max_size=5).map(tuple),
    working_directory=TEXT,
    environment=st.dictionaries(TEXT, TEXT, max_size=3).map(
        lambda them: tuple(sorted(them.items()))
    ),
    run_timeout=SECONDS,
    queue_timeout=SECONDS,
    umask=st.none() | st.integers(0, 0o777),
    tied=st.booleans(),
    locks=st.lists(TEXT, max_size=3).map(tuple),
    retries=st.integers(0, 100),
)


@given(SPECS)
def test_a_spec_survives_the_way_there_and_back(spec: JobSpec) -> None:
    assert spec_from_proto(spec_to_proto(spec)) == spec


@given(SPECS)
def test_a_spec_survives_the_journal(spec: JobSpec) -> None:
    job = make_job(spec=spec, owner=7)
    job = replace(job, order=replace(job.order, locks=spec.locks))
    assert decode(job.id, job.request_id, job.state.name, encode(job)) == job


def test_what_mapping_leaves_as_it_is_takes_no_memory_twice() -> None:
    command, locks = ("wsclean", "-name", "/stage/im"), ("/stage/im", "gpu")
    job = make_job(spec=JobSpec(command=command, working_directory="/stage", locks=locks))
    for mapped, same in ((command, True), (("wsclean", "-name", "/data/im"), False)):
        order = replace(job.order, command=mapped, locks=mapped)
        read = decode(1, None, "QUEUED", encode(replace(job, order=order)))
        assert read.order == order
        assert (read.order.command is read.spec.command) == same
    order = replace(job.order, locks=tuple(locks))
    read = decode(1, None, "QUEUED", encode(replace(job, order=order)))
    assert read.order.locks is read.spec.locks


def test_a_record_of_before_there_were_locks_has_none() -> None:
    job = make_job()
    record = encode(job)
    assert record.count(',"locks":[]') == 2
    old = record.replace(',"locks":[]', "")
    assert decode(job.id, job.request_id, job.state.name, old) == job


def test_a_record_of_before_there_were_retries_has_none() -> None:
    job = make_job()
    old = encode(job)
    for part in (',"retries":0', ',"attempt":1', ',"loss":null', ',"requeued":null'):
        assert old.count(part) == 1
        old = old.replace(part, "")
    assert decode(job.id, job.request_id, job.state.name, old) == job


def test_a_job_that_was_told_to_end_survives_the_journal() -> None:
    stop = Stop(JobState.TIMED_OUT, Reason("RUN_TIMEOUT", "ä"))
    job = make_job(request_id="r", state=JobState.STOPPING, stop=stop, started=at(3))
    assert decode(job.id, job.request_id, job.state.name, encode(job)) == job


def test_what_has_no_place_in_a_record_is_an_error() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        encode(make_job(container=Mount))


def test_a_timeout_of_nothing_is_not_taken_for_no_timeout() -> None:
    spec = spec_from_proto(pb.JobSpec(run_timeout=Duration()))
    assert (spec.run_timeout, spec.queue_timeout) == (0.0, None)


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_a_number_of_its_own(state: JobState) -> None:
    assert states_from_proto([state_to_proto(state)]) == [state]


def test_the_states_are_those_of_the_interface() -> None:
    names = set(pb.JobState.keys()) - {"JOB_STATE_UNSPECIFIED"}
    assert names == {f"JOB_STATE_{state.name}" for state in JobState}


def test_there_are_no_other_states_and_streams() -> None:
    with pytest.raises(InvalidRequest, match="state 77"):
        states_from_proto([77])  # type: ignore[list-item]
    with pytest.raises(InvalidRequest, match="stream 77"):
        outputs_from_proto(77)  # type: ignore[arg-type]
    assert job_id_from_proto("17") == 17
    assert outputs_from_proto(pb.LOG_STREAM_UNSPECIFIED) == (Output.STDOUT, Output.STDERR)
    assert outputs_from_proto(pb.LOG_STREAM_STDERR) == (Output.STDERR,)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", " 1", "\u0661", "9" * 40])
def test_what_is_no_id_names_no_job(text: str) -> None:
    with pytest.raises(NoSuchJob, match="there is no job"):
        job_id_from_proto(text)


def test_a_job_is_told_whole() -> None:
    waiting = make_job(17)
    job = replace(
        waiting,
        spec=replace(waiting.spec, locks=("/data/a.ms",)),
        order=replace(waiting.order, locks=("/stage/a.ms",)),
        state=JobState.FAILED,
        reason=Reason("EXIT_STATUS", "wsclean ended with exit status 3"),
        exit_status=3,
        container="c1",
        started=at(1.5),
        ended=at(2.25),
        lingering=True,
    )
    told = job_to_proto(job)
    assert told.owner == job.owner
    assert (told.id, told.state, told.exit_status) == ("17", pb.JOB_STATE_FAILED, 3)
    assert (told.reason.code, told.container_id, told.lingering) == ("EXIT_STATUS", "c1", True)
    assert told.end_time.ToNanoseconds() - told.start_time.ToNanoseconds() == 750_000_000
    assert list(told.mapped_command) == list(job.order.command)
    assert (list(told.spec.locks), list(told.locks)) == (["/data/a.ms"], ["/stage/a.ms"])
    queued = job_to_proto(make_job())
    assert not any(
        queued.HasField(field) for field in ("reason", "exit_status", "start_time", "end_time")
    )


def test_a_job_that_waits_to_run_again_says_why() -> None:
    loss = Reason("CONTAINER_DIED", "its container died")
    job = make_job(attempt=2, loss=loss, requeued=at(70))
    told = job_to_proto(replace(job, spec=replace(job.spec, retries=2)))
    assert (told.spec.retries, told.attempt, told.last_loss.code) == (2, 2, "CONTAINER_DIED")
    assert told.reason == told.last_loss
    assert told.queue_time.ToNanoseconds() - told.submit_time.ToNanoseconds() == 70 * 10**9
    other = job_to_proto(replace(job, reason=Reason("LOCK_HELD", "waits for a")))
    assert other.reason.code == "LOCK_HELD"
    running = job_to_proto(replace(job, state=JobState.RUNNING))
    assert (running.HasField("reason"), running.last_loss.code) == (False, "CONTAINER_DIED")
    first = job_to_proto(make_job())
    assert (first.attempt, first.HasField("last_loss")) == (1, False)
    assert first.queue_time == first.submit_time


def test_a_mount_is_told() -> None:
    told = mount_to_proto(Mount("/stage", "/data", read_only=True))
    assert (told.host, told.container, told.read_only) == ("/stage", "/data", True)


@pytest.mark.parametrize("verdict", Verdict)
def test_a_finding_is_told(verdict: Verdict) -> None:
    told = finding_to_proto(Finding("mount", verdict, "hangs", "mend it", subject="/stage"))
    assert (told.name, told.subject, told.found, told.mend) == (
        "mount",
        "/stage",
        "hangs",
        "mend it",
    )
    assert pb.Verdict.Name(told.verdict) == f"VERDICT_{verdict.name}"


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 20, str(2**63)])
def test_an_endless_number_is_no_id(text: str) -> None:
    with pytest.raises(NoSuchJob, match="there is no job"):
        job_id_from_proto(text)


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (None, None),
        (Duration(), 0.0),
        (Duration(nanos=500_000_000), 0.5),
        (Duration(seconds=10), LONGEST_WAIT),
    ],
)
def test_a_submission_waits_only_if_it_is_to(wait: Duration | None, seconds: float | None) -> None:
    assert wait_from_proto(pb.SubmitJobRequest(wait=wait)) == seconds


@pytest.mark.parametrize("wait", [Duration(nanos=-1), Duration(seconds=10, nanos=1)])
def test_a_submission_waits_neither_less_than_nothing_nor_long(wait: Duration) -> None:
    with pytest.raises(InvalidRequest, match="expected 0 to 10 s"):
        wait_from_proto(pb.SubmitJobRequest(wait=wait))


def test_all_that_a_job_has_written_is_told() -> None:
    assert output_to_proto({}) == pb.JobOutput()
    told = output_to_proto({Output.STDERR: b"e", Output.STDOUT: b"o"})
    assert told == pb.JobOutput(stdout=b"o", stderr=b"e")


def test_offsets_are_those_of_files() -> None:
    request = pb.ReadLogsRequest(stdout_offset=5, stderr_offset=2**62)
    assert offsets_from_proto(request, [Output.STDERR]) == {Output.STDERR: 2**62}
    for wrong in (-1, 2**63 - 1):
        with pytest.raises(InvalidRequest, match=f"the offset {wrong}"):
            offsets_from_proto(pb.RunJobRequest(stdout_offset=wrong), [Output.STDERR])
