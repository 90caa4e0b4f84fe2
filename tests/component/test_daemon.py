"""The whole daemon with the native runtime: real socket, journal, processes and faults."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from support.daemon import DEADLINE, DaemonProcess, await_line, daemon_folder, holders
from wsclean_client import (
    JobCancelled,
    JobFailed,
    JobLost,
    JobState,
    JobTimedOut,
    RequestRefused,
)
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1 import worker_pb2_grpc


def stub_of(channel: grpc.Channel) -> worker_pb2_grpc.WorkerServiceStub:
    return worker_pb2_grpc.WorkerServiceStub(channel)


def test_output_is_kept_apart_and_byte_for_byte(daemon: DaemonProcess) -> None:
    script = r"printf '\000\377out'; printf 'err\r\n' >&2; exit 3"
    with daemon.client() as client:
        job = client.run(["sh", "-c", script], check=False, cwd=daemon.data)
    assert (job.stdout_bytes, job.stderr_bytes) == (b"\x00\xffout", b"err\r\n")
    assert job.returncode == 3


def test_a_megabyte_arrives_whole(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        job = client.run(["sh", "-c", "head -c 3000000 /dev/zero"], cwd=daemon.data)
    assert job.stdout_bytes == bytes(3_000_000)


def test_a_job_runs_where_and_as_the_caller_says(daemon: DaemonProcess) -> None:
    (daemon.data / "night").mkdir()
    with daemon.client() as client:
        job = client.run(
            ["sh", "-c", 'pwd; echo "$GREETING"; umask; cat'],
            cwd=daemon.data / "night",
            env={"GREETING": "hello world"},
            umask=0o027,
        )
    assert job.stdout.splitlines() == [str(daemon.data / "night"), "hello world", "0027"]


def test_a_failure_has_the_end_of_stderr(daemon: DaemonProcess) -> None:
    with daemon.client() as client, pytest.raises(JobFailed, match="no such MS") as caught:
        client.run(["sh", "-c", "echo no such MS >&2; exit 1"], cwd=daemon.data)
    assert caught.value.returncode == 1


def test_a_program_that_is_not_there_says_so(daemon: DaemonProcess) -> None:
    with daemon.client() as client, pytest.raises(JobFailed) as caught:
        client.run(["wsclean", "--version"], cwd=daemon.data)
    assert caught.value.job.reason is not None
    assert caught.value.job.reason.code == "PROGRAM_NOT_FOUND"


ESCAPEE = "sh -c 'setsid sh -c \"trap : TERM; echo escaped; while :; do sleep 1; done\" &'"


def test_a_run_timeout_ends_the_whole_tree(daemon: DaemonProcess) -> None:
    script = f"{ESCAPEE}; trap : TERM; while :; do sleep 1; done"
    with daemon.client() as client:
        job = client.submit(["sh", "-c", script], timeout=1, cwd=daemon.data)
        with pytest.raises(JobTimedOut):
            job.result()
        assert [chunk.data for chunk in job.logs(stream="stdout")] == [b"escaped\n"]
    assert holders(daemon.spool / "jobs" / job.id / "alive") == set()


def test_what_outlives_its_command_is_ended_and_keeps_its_slot_until_then(
    daemon: DaemonProcess,
) -> None:
    with daemon.client() as client:
        job = client.submit(["sh", "-c", f"{ESCAPEE}; echo done"], cwd=daemon.data)
        assert job.wait(DEADLINE).state is JobState.SUCCEEDED
        # Its lingering process is killed after the grace period, which frees the slot.
        with daemon.channel() as channel:
            for answer in stub_of(channel).WatchJobs(pb.WatchJobsRequest(), timeout=DEADLINE):
                if answer.job.id == job.id and not answer.job.lingering:
                    break
                if not client.status().slots_used:
                    break
        assert client.status().slots_used == 0
    assert holders(daemon.spool / "jobs" / job.id / "alive") == set()


def test_cancelling_ends_a_running_job_and_takes_a_waiting_one_out(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        running = [client.submit(["sh", "-c", "sleep 600"], cwd=daemon.data) for _ in range(2)]
        waiting = client.submit(["sh", "-c", "echo never"], cwd=daemon.data)
        assert waiting.cancel().state is JobState.CANCELLED
        for job in running:
            job.cancel()
            with pytest.raises(JobCancelled):
                job.result()
        # Again changes nothing.
        assert waiting.cancel().state is JobState.CANCELLED
        assert client.run(["sh", "-c", "echo next"], cwd=daemon.data).stdout == "next\n"
    assert not (daemon.spool / "jobs" / waiting.id).exists()


def test_only_as_many_run_at_once_as_there_are_slots_in_the_order_they_came(
    daemon: DaemonProcess,
) -> None:
    log = daemon.data / "order"
    script = f"echo begin $0 >>{log}; read line <{daemon.data}/gate-$0; echo end $0 >>{log}"
    gates = [daemon.data / f"gate-{number}" for number in range(4)]
    for gate in gates:
        os.mkfifo(gate)
    with daemon.client() as client:
        jobs = [client.submit(["sh", "-c", script, str(n)], cwd=daemon.data) for n in range(4)]
        # The first two begin at once, in either order.
        await_line(log, "begin 0")
        await_line(log, "begin 1")
        for number, job in enumerate(jobs[2:]):
            assert client.status().slots_used == 2
            assert job.refresh().state is JobState.QUEUED
            gates[number].write_text("go\n")
            await_line(log, f"begin {number + 2}")
            assert f"end {number}" in log.read_text().splitlines()
        for gate in gates[2:]:
            gate.write_text("go\n")
        for job in jobs:
            assert job.wait(DEADLINE).state is JobState.SUCCEEDED


def test_a_follower_gets_output_as_it_comes_and_can_begin_anywhere(daemon: DaemonProcess) -> None:
    os.mkfifo(daemon.data / "gate")
    script = f"echo one; read line <{daemon.data}/gate; echo two"
    with daemon.client() as client:
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
        chunks = job.logs(follow=True, stdout_offset=1)
        assert next(chunks).data == b"ne\n"
        assert not job.refresh().ended
        (daemon.data / "gate").write_text("go\n")
        assert b"".join(chunk.data for chunk in chunks) == b"two\n"
        assert [chunk.data for chunk in job.logs(stdout_offset=4)] == [b"two\n"]


def test_killed_while_a_job_runs_the_daemon_finds_it_again(daemon: DaemonProcess) -> None:
    os.mkfifo(daemon.data / "gate")
    script = f"echo one; echo err >&2; read line <{daemon.data}/gate; echo two; exit 7"
    with daemon.client() as client:
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
        queued = [client.submit(["sh", "-c", "echo q"], cwd=daemon.data) for _ in range(1)]
        daemon.await_output(job.id, "one")
        daemon.kill()
        daemon.start()
        (daemon.data / "gate").write_text("go\n")
        done = job.result(check=False)
        assert (done.returncode, done.stdout, done.stderr) == (7, "one\ntwo\n", "err\n")
        assert [each.result().stdout for each in queued] == ["q\n"]


def test_a_job_that_ends_while_the_daemon_is_away_keeps_its_status(daemon: DaemonProcess) -> None:
    os.mkfifo(daemon.data / "gate")
    alive = None
    with daemon.client() as client:
        script = f"echo up; read line <{daemon.data}/gate; exit 5"
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
        folder = daemon.spool / "jobs" / job.id
        await_line(folder / "stdout", "up")
        daemon.kill()
        (daemon.data / "gate").write_text("go\n")
        alive = os.open(folder / "alive", os.O_RDONLY)
        while os.read(alive, 100):
            pass
        os.close(alive)
        daemon.start()
        assert job.result(check=False).returncode == 5


def test_a_job_whose_wrapper_is_killed_is_lost(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        job = client.submit(["sh", "-c", "echo up; exec sleep 600"], cwd=daemon.data)
        folder = daemon.spool / "jobs" / job.id
        await_line(folder / "stdout", "up")
        for pid in holders(folder / "alive"):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(JobLost) as caught:
            job.result()
    assert caught.value.job.reason is not None
    assert caught.value.job.reason.code == "PROCESSES_GONE"


def test_the_same_request_id_is_the_same_job_also_after_a_restart(daemon: DaemonProcess) -> None:
    command = ["sh", "-c", f"echo ran >>{daemon.data}/count"]
    with daemon.client() as client:
        first = client.submit(command, request_id="night-1", cwd=daemon.data)
        first.wait(DEADLINE)
        assert client.submit(command, request_id="night-1", cwd=daemon.data).id == first.id
        daemon.kill()
        daemon.start()
        again = client.submit(command, request_id="night-1", cwd=daemon.data)
        assert (again.id, again.wait(DEADLINE).state) == (first.id, JobState.SUCCEEDED)
    assert (daemon.data / "count").read_text() == "ran\n"


def test_stopping_is_quick_leaves_jobs_and_serves_no_longer(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        job = client.submit(["sh", "-c", "echo up; sleep 600"], cwd=daemon.data)
        daemon.await_output(job.id, "up")
        assert daemon.stop() == 0
        assert holders(daemon.spool / "jobs" / job.id / "alive")
        daemon.start()
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result()


@pytest.mark.parametrize(
    ("args", "options", "reason", "words"),
    [
        ([], {}, "EMPTY_COMMAND", "empty command"),
        (["rm", "x"], {}, "UNKNOWN_PROGRAM", "cannot run 'rm'.*sh, wsclean"),
        (["sh", "/etc/passwd"], {}, "UNMAPPED_PATH", "'/etc/passwd'.*/data"),
        (["sh", "a\nb"], {}, "INVALID_ARGUMENT_TEXT", "newline"),
        (["sh", "a\0b"], {}, "INVALID_ARGUMENT_TEXT", "NUL"),
        (["wsclean", "-name", "im"], {"cwd": "/usr"}, "OUTPUT_WOULD_BE_LOST", "-name im in /usr"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    daemon: DaemonProcess,
    args: list[str],
    options: dict[str, str],
    reason: str,
    words: str,
) -> None:
    with daemon.client() as client:
        with pytest.raises(RequestRefused, match=words) as caught:
            client.submit(args, cwd=options.get("cwd", daemon.data))
        assert caught.value.reason == reason
        assert list(client.list()) == []
    assert list((daemon.spool / "jobs").iterdir()) == []


def test_errors_are_rich(daemon: DaemonProcess) -> None:
    with daemon.channel() as channel:
        spec = pb.JobSpec(command=["sh"], working_directory="/", run_timeout=Duration())
        with pytest.raises(grpc.RpcError) as caught:
            stub_of(channel).SubmitJob(pb.SubmitJobRequest(spec=spec), timeout=DEADLINE)
        # The stubs know nothing of this: a pair of key and value, that is a tuple.
        pairs: Any = caught.value.trailing_metadata()
        metadata: dict[str, Any] = dict(pairs)
        status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.domain, info.reason) == ("wsclean-workerd", "INVALID_TIMEOUT")
        assert metadata["wsclean-workerd-reason"] == "INVALID_TIMEOUT"
        assert "0 s" in str(caught.value.details())


@pytest.mark.parametrize("job_id", ["99", "0", "-1", "x", "", "1" * 40])
def test_an_unknown_job_is_named(daemon: DaemonProcess, job_id: str) -> None:
    with daemon.channel() as channel:
        stub = stub_of(channel)
        for call in (
            lambda: stub.GetJob(pb.GetJobRequest(id=job_id)),
            lambda: stub.CancelJob(pb.CancelJobRequest(id=job_id)),
            lambda: list(stub.ReadLogs(pb.ReadLogsRequest(id=job_id))),
            lambda: list(stub.WatchJobs(pb.WatchJobsRequest(ids=[job_id]))),
        ):
            with pytest.raises(grpc.RpcError, match="there is no job") as caught:
                call()
            assert job_id in str(caught.value.details())
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_jobs_are_listed_in_pages_newest_first(daemon: DaemonProcess) -> None:
    with daemon.client() as client, daemon.channel() as channel:
        for status in (0, 1, 0):
            client.run(["sh", "-c", f"exit {status}"], check=False, cwd=daemon.data)
        stub = stub_of(channel)
        page = stub.ListJobs(pb.ListJobsRequest(page_size=2))
        assert [job.id for job in page.jobs] == ["3", "2"]
        rest = stub.ListJobs(pb.ListJobsRequest(page_size=2, page_token=page.next_page_token))
        assert ([job.id for job in rest.jobs], rest.next_page_token) == (["1"], "")
        failed = stub.ListJobs(pb.ListJobsRequest(states=[pb.JOB_STATE_FAILED]))
        assert [job.id for job in failed.jobs] == ["2"]
        for bad in (
            pb.ListJobsRequest(page_size=-1),
            pb.ListJobsRequest(page_size=1001),
            pb.ListJobsRequest(page_token="x"),
            pb.ListJobsRequest(states=[77]),  # type: ignore[list-item]
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ListJobs(bad)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_watching_without_ids_tells_of_every_new_job(daemon: DaemonProcess) -> None:
    with daemon.client() as client, daemon.channel() as channel:
        stub = stub_of(channel)
        old = client.submit(["sh", "-c", "sleep 600"], cwd=daemon.data)
        stream = stub.WatchJobs(pb.WatchJobsRequest(), timeout=DEADLINE)
        assert next(stream).job.id == old.id
        new = client.submit(["sh", "-c", "exit 0"], cwd=daemon.data)
        seen = set()
        for answer in stream:
            if answer.job.id == new.id:
                seen.add(answer.job.state)
                if answer.job.state == pb.JOB_STATE_SUCCEEDED:
                    break
        assert seen
        old.cancel()
        old.wait(DEADLINE)


def test_health_and_reflection_are_the_standard_ones(daemon: DaemonProcess) -> None:
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]))
        names = {service.name for service in answer.list_services_response.service}
    assert {"wsclean_workerd_api.v1.WorkerService", "grpc.health.v1.Health"} <= names


def test_a_second_daemon_on_the_same_folders_is_refused(daemon: DaemonProcess) -> None:
    second = subprocess.run(
        [Path(sys.executable).with_name("wsclean-workerd"), "--config", daemon.config],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert second.returncode == 1
    assert daemon.process is not None
    assert f"process {daemon.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    with daemon.client() as client:
        assert client.run(["sh", "-c", "echo still"], cwd=daemon.data).stdout == "still\n"


def test_the_socket_has_the_mode_and_group_it_was_told(idle_daemon: DaemonProcess) -> None:
    group = os.getegid()
    idle_daemon.settings += f'[socket]\nmode = "0640"\ngroup = "{group}"\n'
    idle_daemon.start()
    stat = idle_daemon.socket.stat()
    assert (stat.st_mode & 0o777, stat.st_gid) == (0o640, group)


def test_job_folders_let_nobody_look_in(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        job = client.submit(["sh", "-c", "echo secret"], cwd=daemon.data)
        job.wait(DEADLINE)
    folder = daemon.spool / "jobs" / job.id
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o711
    assert (modes["stdout"], modes["stderr"], modes["command"]) == (0o600, 0o600, 0o400)
    assert (daemon.folder / "state" / "journal.db").stat().st_mode & 0o777 == 0o600


def test_jobs_run_as_the_configured_user_with_nothing_of_roots(
    idle_daemon: DaemonProcess,
) -> None:
    assert os.geteuid() == 0, "only root can run jobs as another user: run the tests as root"
    idle_daemon.settings = idle_daemon.settings.replace('"0:0"', '"12345:23456"')
    idle_daemon.start()
    idle_daemon.data.chmod(0o777)
    with idle_daemon.client() as client:
        script = "id -u; id -g; id -G; echo x >made; grep Cap /proc/self/status"
        job = client.run(["sh", "-c", script], cwd=idle_daemon.data)
        lines = job.stdout.splitlines()
        assert lines[:3] == ["12345", "23456", "23456"]
        assert not any(int(line.split()[1], 16) for line in lines[3:] if "CapBnd" not in line)
        made = (idle_daemon.data / "made").stat()
        assert (made.st_uid, made.st_gid) == (12345, 23456)
        slow = client.submit(["sh", "-c", "trap : TERM; echo up; sleep 600"], cwd=idle_daemon.data)
        idle_daemon.await_output(slow.id, "up")
        slow.cancel()
        with pytest.raises(JobCancelled):
            slow.result()


def test_systemd_hears_ready_status_watchdog_and_stopping(idle_daemon: DaemonProcess) -> None:
    with daemon_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(DEADLINE)
        idle_daemon.environment = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "300000",
        }
        idle_daemon.start()
        heard: list[str] = []

        def hear_until(wanted: str) -> None:
            while not any(message.startswith(wanted) for message in heard):
                heard.append(manager.recv(4096).decode())

        hear_until("READY=1")
        hear_until("STATUS=ready; 0 jobs running, 0 waiting")
        # READY comes when the socket serves, and nothing of it is repeated.
        assert heard.count("READY=1") == 1
        heard.clear()
        hear_until("WATCHDOG=1")
        with idle_daemon.client() as client:
            job = client.submit(["sh", "-c", "sleep 600"], cwd=idle_daemon.data)
            hear_until("STATUS=ready; 1 jobs running")
            job.cancel()
            job.wait(DEADLINE)
        idle_daemon.stop()
        hear_until("STOPPING=1")


def test_a_systemd_that_does_not_read_holds_up_nobody_and_hears_all_in_the_end(
    idle_daemon: DaemonProcess,
) -> None:
    with daemon_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        # More than the socket takes come before the first of them is read.
        idle_daemon.environment = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "3000",
        }
        idle_daemon.start()
        with idle_daemon.client() as client:
            for _ in range(5):
                client.run(["sh", "-c", "sleep 0.1"], cwd=idle_daemon.data)
            job = client.submit(["sh", "-c", "sleep 600"], cwd=idle_daemon.data)
            manager.settimeout(DEADLINE)
            heard = [manager.recv(4096)]
            while b"1 jobs running" not in heard[-1]:
                heard.append(manager.recv(4096))
            assert heard.count(b"READY=1") == 1
            job.cancel()
            job.wait(DEADLINE)


def test_a_stopped_daemon_feeds_no_watchdog(idle_daemon: DaemonProcess) -> None:
    with daemon_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(DEADLINE)
        idle_daemon.environment = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "300000",
        }
        idle_daemon.start()
        while manager.recv(4096) != b"WATCHDOG=1":
            pass
        assert idle_daemon.process is not None
        idle_daemon.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, idle_daemon.process.pid, os.WSTOPPED)
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            while manager.recv(4096):
                pass
        manager.settimeout(1.0)
        with pytest.raises(TimeoutError):
            manager.recv(4096)
        idle_daemon.process.send_signal(signal.SIGCONT)


def test_a_caller_that_goes_away_leaves_its_job_alone(daemon: DaemonProcess) -> None:
    os.mkfifo(daemon.data / "gate")
    with daemon.client() as client:
        script = f"echo up; read line <{daemon.data}/gate; echo end"
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
        follower = threading.Thread(target=lambda: next(job.logs(follow=True)))
        follower.start()
        follower.join(DEADLINE)
    with daemon.client() as client:
        (daemon.data / "gate").write_text("go\n")
        assert client.job(job.id).result().stdout == "up\nend\n"


def test_many_callers_at_once_all_get_their_own(daemon: DaemonProcess) -> None:
    results: dict[int, str] = {}

    def call(number: int) -> None:
        with daemon.client() as client:
            results[number] = client.run(["sh", "-c", f"echo {number}"], cwd=daemon.data).stdout

    threads = [threading.Thread(target=call, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert results == {number: f"{number}\n" for number in range(20)}


def test_missing_programs_are_a_condition_and_no_reason_to_end(
    idle_daemon: DaemonProcess,
) -> None:
    idle_daemon.settings = idle_daemon.settings.replace('"sh", "wsclean"', '"no-such-program"')
    idle_daemon.start(ready=False)
    idle_daemon.await_health(wanted=health_pb2.HealthCheckResponse.NOT_SERVING)
    with idle_daemon.client() as client:
        job = client.submit(["no-such-program"], cwd=idle_daemon.data)
        status = client.status()
        assert not status.runtime.ready
        assert status.runtime.condition is not None
        assert "no-such-program" in status.runtime.condition.message
        assert job.refresh().state is JobState.QUEUED
        job.cancel()


def test_waiting_has_a_limit_of_its_own(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        running = [client.submit(["sh", "-c", "sleep 600"], cwd=daemon.data) for _ in range(2)]
        before = time.monotonic()
        waiting = client.submit(["sh", "-c", "exit 0"], queue_timeout=0.3, cwd=daemon.data)
        with pytest.raises(JobTimedOut) as caught:
            waiting.result()
        assert time.monotonic() - before >= 0.3
        assert caught.value.job.reason is not None
        assert caught.value.job.reason.code == "QUEUE_TIMEOUT"
        for job in running:
            job.cancel()
            job.wait(DEADLINE)
