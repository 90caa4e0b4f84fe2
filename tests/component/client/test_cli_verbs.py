from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest

from component.client.fake_worker import FakeWorker, running
from wsclean_client import __version__
from wsclean_client.cli import main
from wsclean_client.cli.app import VERBS
from wsclean_workerd_api.v1 import worker_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest import CaptureFixture  # noqa: PT013

    Ctl = Callable[..., "Ended"]


class Ended:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def ctl(worker: FakeWorker, capsys: CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ctl:
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")

    def call(*args: str) -> Ended:
        with pytest.raises(SystemExit) as caught:
            main(["--socket", worker.path, *args])
        captured = capsys.readouterr()
        return Ended(int(caught.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def three(worker: FakeWorker) -> FakeWorker:
    for number in "123":
        worker.add(running(number))
    worker.end("1", pb.JOB_STATE_FAILED, 139, ("EXITED", "exit status 139"))
    worker.end("2")
    return worker


def test_submit_prints_the_id_alone(ctl: Ctl) -> None:
    ended = ctl("submit", "wsclean", "-size", "512", "512")
    assert (ended.code, ended.out, ended.err) == (0, "1\n", "")


@pytest.mark.parametrize("separator", [[], ["--"]])
def test_options_of_the_program_are_left_to_it(
    worker: FakeWorker, ctl: Ctl, separator: list[str]
) -> None:
    ctl("submit", "--timeout", "1h30m", *separator, "wsclean", "--timeout", "5", "--", "-h")
    (request,) = worker.seen(pb.SubmitJobRequest)
    assert list(request.spec.command) == ["wsclean", "--timeout", "5", "--", "-h"]
    assert request.spec.run_timeout.seconds == 5400


def test_options_of_a_job(worker: FakeWorker, ctl: Ctl, folder: Path) -> None:
    ctl(
        *("submit", "--queue-timeout", "90", "--cwd", str(folder)),
        *("-e", "A=1=2", "--env", "B=", "--lock", "gpu", "--lock", "./sim.ms", "wsclean"),
    )
    (request,) = worker.seen(pb.SubmitJobRequest)
    assert request.spec.queue_timeout.seconds == 90
    assert request.spec.working_directory == str(folder)
    assert dict(request.spec.environment) == {"A": "1=2", "B": ""}
    assert list(request.spec.locks) == ["gpu", f"{folder}/sim.ms"]


def test_run_takes_locks_too(worker: FakeWorker, ctl: Ctl) -> None:
    worker.on_submit = lambda fake, job: fake.end(job.id)
    assert ctl("run", "--lock", "gpu", "wsclean").code == 0
    (request,) = worker.seen(pb.SubmitJobRequest)
    assert list(request.spec.locks) == ["gpu"]


def test_submit_json_prints_one_object(ctl: Ctl) -> None:
    job = json.loads(ctl("submit", "--json", "wsclean", "sim.ms").out)
    assert job["id"] == "1"
    assert job["state"] == "RUNNING"
    assert job["reason"] is None
    assert job["exit_status"] is None
    assert job["command"] == ["wsclean", "sim.ms"]


def test_show_json_prints_one_object(three: FakeWorker, ctl: Ctl) -> None:
    job = json.loads(ctl("show", "--json", "1").out)
    assert job == {
        "id": "1",
        "state": "FAILED",
        "reason": {"code": "EXITED", "message": "exit status 139"},
        "exit_status": 139,
        "command": ["wsclean", "sim.ms"],
        "mapped_command": ["wsclean", "sim.ms"],
        "working_directory": "/stage",
        "mapped_working_directory": "/data",
        "environment": {},
        "submit_time": "2023-11-14T22:13:20.000000Z",
        "start_time": "2023-11-14T22:13:21.000000Z",
        "end_time": "2023-11-14T22:13:25.000000Z",
        "queue_seconds": 1.0,
        "run_seconds": 4.0,
        "run_timeout": None,
        "container_id": three.jobs["1"].container_id,
        "lingering": False,
        "locks": [],
        "retries": 0,
        "attempt": 1,
        "last_loss": None,
        "queue_time": None,
        "owner": 0,
    }


def test_owners_are_named_where_they_have_names(three: FakeWorker, ctl: Ctl) -> None:
    nobody_has = 4_000_000_000
    three.jobs["2"].owner = nobody_has
    three.jobs["3"].ClearField("owner")
    assert "owner       root\n" in ctl("show", "1").out
    assert f"owner       {nobody_has}\n" in ctl("show", "2").out
    # A daemon of before did not say.
    assert "owner" not in ctl("show", "3").out
    header, *rows = ctl("list").out.splitlines()
    place = header.index("OWNER")
    assert [row[place:].split()[0] for row in rows][1:] == [str(nobody_has), "root"]


def test_submit_and_run_take_retries(worker: FakeWorker, ctl: Ctl) -> None:
    worker.on_submit = lambda fake, job: fake.end(job.id)
    assert ctl("submit", "--retries", "2", "wsclean").code == 0
    assert ctl("run", "--retries", "1", "wsclean").code == 0
    assert ctl("submit", "wsclean").code == 0
    found = [request.spec.retries for request in worker.seen(pb.SubmitJobRequest)]
    assert found == [2, 1, 0]
    assert "-1 is not in the range" in ctl("submit", "--retries", "-1", "wsclean").err


def test_show_tells_of_the_attempt_before(three: FakeWorker, ctl: Ctl) -> None:
    job = three.jobs["1"]
    assert "attempt" not in ctl("show", "1").out
    job.spec.retries, job.attempt = 2, 1
    assert "attempt     1 of 3\n" in ctl("show", "1").out
    job.attempt = 2
    job.last_loss.code, job.last_loss.message = "CONTAINER_DIED", "its container ended"
    # Since it was put back, not since it was submitted.
    job.queue_time.FromJsonString("2023-11-14T22:13:20.500Z")
    out = ctl("show", "1").out
    assert "attempt     2 of 3, the one before was lost: its container ended\n" in out
    shown = json.loads(ctl("show", "--json", "1").out)
    assert (shown["retries"], shown["attempt"]) == (2, 2)
    assert shown["last_loss"] == {"code": "CONTAINER_DIED", "message": "its container ended"}
    assert (shown["queue_time"], shown["queue_seconds"]) == ("2023-11-14T22:13:20.500000Z", 0.5)


def test_show_for_people(three: FakeWorker, ctl: Ctl) -> None:
    three.jobs["1"].spec.command.append("a b\x1b[31m")
    three.jobs["1"].locks.extend(["/stage/sim.ms", "gpu\x1b"])
    out = ctl("show", "1").out
    assert "state       FAILED\n" in out
    assert "locks       /stage/sim.ms\n            gpu\\x1b\n" in out
    assert json.loads(ctl("show", "--json", "1").out)["locks"] == ["/stage/sim.ms", "gpu\x1b"]
    assert "exit        exit status 139 (SIGSEGV)\n" in out
    assert r"wsclean sim.ms 'a b\x1b[31m'" in out
    assert "\x1b" not in out


@pytest.mark.usefixtures("three")
def test_list_json_prints_an_array(ctl: Ctl) -> None:
    assert [job["id"] for job in json.loads(ctl("list", "--json").out)] == ["3", "2", "1"]
    assert json.loads(ctl("list", "--json", "--limit", "1").out)[0]["id"] == "3"
    found = json.loads(
        ctl("list", "--json", "--state", "failed", "--state", "SUCCEEDED").out,
    )
    assert [job["id"] for job in found] == ["2", "1"]
    assert json.loads(ctl("list", "--json", "--state", "HELD").out) == []


@pytest.mark.usefixtures("three")
def test_list_for_pipes_is_aligned(ctl: Ctl) -> None:
    header, *rows = ctl("list").out.splitlines()
    assert header.split() == [
        "ID",
        "STATE",
        "OWNER",
        "SUBMITTED",
        "QUEUED",
        "RAN",
        "EXIT",
        "COMMAND",
    ]
    place = header.index("COMMAND")
    assert [row[place:] for row in rows] == ["wsclean sim.ms"] * 3
    assert all("\x1b" not in row for row in rows)


def test_status(worker: FakeWorker, ctl: Ctl) -> None:
    worker.status = pb.GetStatusResponse(
        version="1.2.3",
        runtime=pb.RuntimeStatus(
            kind="docker",
            ready=False,
            condition=pb.Reason(code="NO_IMAGE", message="there is no image x"),
            image="x",
            container_name="wsclean-workerd",
        ),
        slots=4,
        slots_used=3,
        jobs=[pb.JobCount(state=pb.JOB_STATE_QUEUED, count=2)],
        mounts=[pb.Mount(host="/a", container="/a"), pb.Mount(host="/b", container="/c")],
        refusing=pb.Reason(code="JOURNAL", message="disk full"),
        programs=["wsclean", "taql"],
    )
    out = ctl("status").out
    for expected in (
        "wsclean-workerd 1.2.3",
        "refusing   JOURNAL: disk full",
        "docker, NOT READY",
        "NO_IMAGE: there is no image x",
        "3 of 4 taken",
        "2 QUEUED",
        "mounts     /a as /a\n           /b as /c\n",
        "wsclean taql",
    ):
        assert expected in out
    status = json.loads(ctl("status", "--json").out)
    assert status["runtime"]["condition"] == {
        "code": "NO_IMAGE",
        "message": "there is no image x",
    }
    assert status["jobs"] == {"QUEUED": 2}
    assert status["mounts"][1] == {"host": "/b", "container": "/c", "read_only": False}
    assert status["refusing"]["code"] == "JOURNAL"


def test_terminal_gets_a_table(
    three: FakeWorker, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.jobs["1"].spec.command.append("[red]no markup")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert "'[red]no markup'" in ctl("list").out
    assert "'[red]no markup'" in ctl("show", "1").out


@pytest.mark.usefixtures("three")
def test_wait_ends_with_the_first_status_that_is_not_0(ctl: Ctl) -> None:
    assert ctl("wait", "2").code == 0
    ended = ctl("wait", "2", "1")
    assert ended.code == 139
    assert ended.out == ""
    assert ended.err == "wsclean-ctl: error: job 1: wsclean ended with exit status 139 (SIGSEGV)\n"


def test_wait_can_take_too_long(three: FakeWorker, ctl: Ctl) -> None:
    ended = ctl("wait", "--timeout", "0.05s", "3")
    assert ended.code == 124
    assert "job 3 has not ended" in ended.err
    assert three.jobs["3"].state == pb.JOB_STATE_RUNNING


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (pb.JOB_STATE_TIMED_OUT, 124),
        (pb.JOB_STATE_LOST, 125),
        (pb.JOB_STATE_FAILED, 125),
        (pb.JOB_STATE_CANCELLED, 130),
    ],
)
@pytest.mark.parametrize("verb", ["wait", "run"])
def test_exit_status_of_ends_without_one(
    worker: FakeWorker, ctl: Ctl, state: pb.JobState.ValueType, code: int, verb: str
) -> None:
    def script(fake: FakeWorker, job: pb.Job) -> None:
        fake.end(job.id, state, None, ("CODE", "this\nis why"))

    if verb == "run":
        worker.on_submit = script
        ended = ctl("run", "wsclean")
    else:
        script(worker, worker.add(running("1")))
        ended = ctl("wait", "1")
    assert ended.code == code
    assert ended.err.startswith("wsclean-ctl: error: job 1: wsclean ")
    assert ended.err.endswith(": this is why\n")
    assert ended.err.count("\n") == 1


@pytest.mark.usefixtures("three")
def test_cancel_tells_every_job(ctl: Ctl) -> None:
    ended = ctl("cancel", "3", "99", "2")
    assert ended.out == "3 CANCELLED\n2 SUCCEEDED\n"
    assert ended.code == 125
    assert ended.err == "wsclean-ctl: error: there is no job '99'\n"


def test_logs_keep_the_two_outputs_apart(three: FakeWorker, ctl: Ctl) -> None:
    three.write("1", b"out", b"err")
    ended = ctl("logs", "1")
    assert (ended.code, ended.out, ended.err) == (0, "out", "err")
    assert ctl("logs", "--stdout", "1").err == ""
    assert ctl("logs", "--stderr", "-f", "1").out == ""


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        (["show", "99"], 125, "there is no job '99'"),
        (["logs", "99"], 125, "there is no job '99'"),
        (["wait", "99"], 125, "there is no job '99'"),
        (["run"], 2, "missing argument"),
        (["run", "--timeout", "0", "wsclean"], 2, "is too short"),
        (["run", "--timeout", "soon", "wsclean"], 2, "is no length of time"),
        (["run", "--timout", "5", "wsclean"], 2, "--timout"),
        (["run", "--env", "A", "wsclean"], 2, "NAME=VALUE"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["list", "--state", "ASLEEP"], 2, "ASLEEP"),
        (["run", "--", "wsclean", "\udcff"], 125, "not valid UTF-8"),
        (["frobnicate"], 2, "no such command 'frobnicate'"),
    ],
)
def test_error_is_one_line(ctl: Ctl, args: list[str], code: int, expected: str) -> None:
    ended = ctl(*args)
    assert ended.code == code
    assert ended.out == ""
    assert expected.lower() in ended.err.lower()
    assert ended.err.startswith("wsclean-ctl: error: ")
    assert ended.err.count("\n") == 1


def test_refusal_is_one_line(worker: FakeWorker, ctl: Ctl) -> None:
    worker.fail(
        "SubmitJob",
        grpc.StatusCode.INVALID_ARGUMENT,
        details="no mount\nfor it",
        reason="UNMAPPED_PATH",
    )
    ended = ctl("run", "wsclean", "/nowhere")
    assert (ended.code, ended.err) == (125, "wsclean-ctl: error: no mount for it\n")


def test_unreachable_daemon_is_one_line(worker: FakeWorker, ctl: Ctl) -> None:
    worker.stop()
    ended = ctl("status")
    assert ended.code == 125
    assert ended.err.startswith("wsclean-ctl: error: cannot reach wsclean-workerd at ")
    assert ended.err.count("\n") == 1


def test_fault_is_one_line_unless_its_trace_is_wanted(
    ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("wsclean_client.cli.show._rows", broken)
    monkeypatch.setattr("wsclean_client.client.WSCleanClient.job", broken)
    ended = ctl("show", "1")
    assert ended.code == 125
    assert "ZeroDivisionError: oh" in ended.err
    assert ended.err.count("\n") == 1
    monkeypatch.setenv("WSCLEAN_CTL_TRACE", "1")
    with pytest.raises(ZeroDivisionError):
        main(["show", "1"])


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example(ctl: Ctl, verb: str) -> None:
    ended = ctl(verb, "--help")
    assert ended.code == 0
    assert f"  Example:\n    {'id=$(' if verb == 'submit' else ''}wsclean-ctl {verb}" in ended.out


def test_help_documents_the_exit_statuses(ctl: Ctl) -> None:
    out = ctl("--help").out
    for code in (124, 125, 130, 141):
        assert f"\n    {code}  " in out


def test_version(ctl: Ctl) -> None:
    assert ctl("version").out == ctl("--version").out == f"wsclean-ctl {__version__}\n"


def test_drain_tells_how_far_it_is_and_waits_unless_told_otherwise(
    worker: FakeWorker, ctl: Ctl
) -> None:
    ended = ctl("drain")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "draining: 2 slots taken\ndraining: 1 slots taken\ndrained\n"
    assert ctl("drain", "--no-wait").out == "draining: 2 slots taken\n"
    worker.fail(
        "DrainWorker", grpc.StatusCode.ABORTED, details="jobs are started again", reason="RESUMED"
    )
    ended = ctl("drain")
    assert (ended.code, ended.err) == (125, "wsclean-ctl: error: jobs are started again\n")


def test_resume_asks_for_it(worker: FakeWorker, ctl: Ctl) -> None:
    assert ctl("resume").code == 0
    assert len(worker.seen(pb.ResumeWorkerRequest)) == 1


@pytest.mark.parametrize("options", [[], ["--now"]])
def test_shutdown_says_when_it_is_done(worker: FakeWorker, ctl: Ctl, options: list[str]) -> None:
    ended = ctl("shutdown", *options)
    assert ended.code == 0
    assert ended.out == "shutting down: 2 slots taken\nshutting down: 1 slots taken\nshut down\n"
    (request,) = worker.seen(pb.ShutDownWorkerRequest)
    assert request.now is bool(options)
