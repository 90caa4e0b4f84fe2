"""`wsclean-ctl` as a process: what its signals, pipes and exit statuses do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from component.client.fake_worker import PATIENCE, FakeWorker, running
from wsclean_workerd_api.v1 import worker_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., subprocess.Popen[bytes]]

CTL = [sys.executable, "-c", "from wsclean_client.cli import main; main()"]
NOHUP = ("sh", "-c", "trap '' HUP; exec \"$@\"", "sh")


@pytest.fixture
def ctl(worker: FakeWorker) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: str, through: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*through, *CTL, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "WSCLEAN_WORKERD_SOCKET": worker.path},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read(process: subprocess.Popen[bytes], count: int) -> bytes:
    assert process.stdout
    return process.stdout.read(count)


def test_run_passes_output_and_exit_status_on(worker: FakeWorker, ctl: Start) -> None:
    def script(fake: FakeWorker, job: pb.Job) -> None:
        fake.write(job.id, b"\x00\xff no text\r", b"warning")
        fake.end(job.id, pb.JOB_STATE_FAILED, 7)

    worker.on_submit = script
    process = ctl("run", "wsclean")
    assert process.communicate(timeout=PATIENCE) == (b"\x00\xff no text\r", b"warning")
    assert process.returncode == 7


def test_run_passes_output_on_as_it_comes(worker: FakeWorker, ctl: Start) -> None:
    worker.on_submit = lambda fake, job: fake.write(job.id, b"no newline")
    process = ctl("run", "wsclean")
    assert read(process, 10) == b"no newline"
    assert process.poll() is None
    worker.end("1")
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_cancels_the_job_and_waits_for_its_end(
    worker: FakeWorker, ctl: Start, number: signal.Signals, code: int
) -> None:
    worker.end_on_cancel = False
    worker.on_submit = lambda fake, job: fake.write(job.id, b"x")
    process = ctl("run", "wsclean")
    assert read(process, 1) == b"x"
    process.send_signal(number)
    worker.wait_for_request(pb.CancelJobRequest)
    worker.write("1", b"last words")
    worker.end("1", pb.JOB_STATE_CANCELLED, None, ("CANCELLED", "as asked"))
    assert process.communicate(timeout=PATIENCE) == (b"last words", b"")
    assert process.returncode == code


def test_second_signal_stops_waiting(worker: FakeWorker, ctl: Start) -> None:
    worker.end_on_cancel = False
    worker.on_submit = lambda fake, job: fake.write(job.id, b"x")
    process = ctl("run", "wsclean")
    assert read(process, 1) == b"x"
    process.send_signal(signal.SIGINT)
    worker.wait_for_request(pb.CancelJobRequest)
    for _ in range(100):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            break
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert b"Job 1 has been told to end" in err
    assert worker.jobs["1"].state == pb.JOB_STATE_STOPPING


def test_signals_that_arrive_together_are_one(worker: FakeWorker, ctl: Start) -> None:
    worker.end_on_cancel = False
    worker.on_submit = lambda fake, job: fake.write(job.id, b"x")
    process = ctl("run", "wsclean")
    assert read(process, 1) == b"x"
    # What timeout(1) does: its signal to the process and to its whole group.
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGHUP)
    worker.wait_for_request(pb.CancelJobRequest)
    worker.end("1", pb.JOB_STATE_CANCELLED, None)
    assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode in {143, 129}
    assert len(worker.seen(pb.CancelJobRequest)) == 1


def test_job_that_succeeds_in_spite_of_a_signal_has_succeeded(
    worker: FakeWorker, ctl: Start
) -> None:
    worker.end_on_cancel = False
    worker.on_submit = lambda fake, job: fake.write(job.id, b"x")
    process = ctl("run", "wsclean")
    assert read(process, 1) == b"x"
    process.send_signal(signal.SIGINT)
    worker.wait_for_request(pb.CancelJobRequest)
    worker.end("1")
    assert process.wait(PATIENCE) == 0


def test_ignored_signal_stays_ignored(worker: FakeWorker, ctl: Start) -> None:
    worker.on_submit = lambda fake, job: fake.write(job.id, b"x")
    process = ctl("run", "wsclean", through=NOHUP)
    assert read(process, 1) == b"x"
    process.send_signal(signal.SIGHUP)
    worker.write("1", b"y")
    assert read(process, 1) == b"y"
    worker.end("1")
    assert process.wait(PATIENCE) == 0
    assert not worker.seen(pb.CancelJobRequest)


def test_run_survives_a_restart_of_the_daemon_in_silence(worker: FakeWorker, ctl: Start) -> None:
    worker.on_submit = lambda fake, job: fake.write(job.id, b"before ")
    process = ctl("run", "wsclean")
    assert read(process, 7) == b"before "
    worker.stop()
    worker.start()
    worker.wait_for_request(pb.ReadLogsRequest, 2)
    worker.write("1", b"after")
    worker.end("1")
    assert process.communicate(timeout=PATIENCE) == (b"after", b"")
    assert process.returncode == 0


def test_run_whose_output_nobody_reads_cancels_the_job(worker: FakeWorker, ctl: Start) -> None:
    worker.on_submit = lambda fake, job: fake.write(job.id, b"x")
    process = ctl("run", "wsclean")
    assert read(process, 1) == b"x"
    assert process.stdout
    process.stdout.close()
    worker.write("1", b"y")
    assert process.wait(PATIENCE) == 141
    assert worker.jobs["1"].state == pb.JOB_STATE_CANCELLED
    assert process.stderr
    assert process.stderr.read() == b""


@pytest.mark.parametrize("args", [["list"], ["list", "--json"], ["logs", "1"], ["logs", "-f", "1"]])
def test_closed_pipe_ends_silently(worker: FakeWorker, ctl: Start, args: list[str]) -> None:
    for number in range(1, 300):
        worker.add(running(str(number)))
    worker.write("1", b"x" * 1_000_000)
    process = ctl(*args)
    assert process.stdout
    process.stdout.close()
    assert process.wait(PATIENCE) == 141
    assert process.stderr
    assert process.stderr.read() == b""
    assert worker.jobs["1"].state == pb.JOB_STATE_RUNNING


def test_interrupted_follower_leaves_the_job_alone(worker: FakeWorker, ctl: Start) -> None:
    worker.add(running("1"))
    worker.write("1", b"x")
    process = ctl("logs", "-f", "1")
    assert read(process, 1) == b"x"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err.strip()) == (130, b"")
    assert worker.jobs["1"].state == pb.JOB_STATE_RUNNING


def test_module_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wsclean_client.cli", "version"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"wsclean-ctl ")


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["run", "--help"], ["version"]])
def test_help_imports_neither_grpc_nor_rich(args: list[str]) -> None:
    code = (
        "import sys, wsclean_client.cli as cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: print(sorted({'grpc', 'rich', 'google.protobuf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, check=True, text=True
    )
    assert done.stdout.endswith("[]\n")
