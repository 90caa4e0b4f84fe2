"""Who calls is known, and may do what is his: by processes of several users."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from component.conftest import SETTINGS
from component.test_reload import reload
from support.acts import (
    cancel,
    drain_and_resume,
    get,
    listed,
    logs,
    read,
    run,
    submit,
    token,
    version,
    wait,
    watched,
)
from support.daemon import DEADLINE, DaemonProcess, daemon_folder, until
from support.users import ALICE, EVE, RADIO, STAFF, USERS, Process, daemon_of, process_of
from wsclean_client import (
    JobNotFound,
    JobState,
    PermissionDenied,
)
from wsclean_workerd.model import User
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1.worker_pb2_grpc import WorkerServiceStub


@pytest.fixture
def idle_daemon() -> Iterator[DaemonProcess]:
    """A daemon that runs jobs as their submitters and has not been started."""
    assert os.geteuid() == 0, "only root can become another user: run the tests as root"
    with daemon_folder() as folder:
        settings = SETTINGS.format(run_as="", data=folder / "data")
        settings += f'[socket]\ngroup = "{USERS}"\noperators = "{STAFF}"\n'
        daemon = DaemonProcess(folder, settings)
        yield daemon
        if daemon.process is not None:
            assert daemon.stop() == 0, daemon.log


@pytest.fixture
def daemon(idle_daemon: DaemonProcess) -> DaemonProcess:
    idle_daemon.start()
    idle_daemon.data.chmod(0o777)
    return idle_daemon


@pytest.fixture
def eve() -> Iterator[Process]:
    """One of the operators."""
    with process_of(EVE) as process:
        yield process


# -- jobs are their submitters' ----------------------------------------------------


def test_jobs_run_as_their_submitters_in_all_of_their_groups(
    daemon: DaemonProcess, alice: Process, bob: Process
) -> None:
    theirs = daemon.data / "radio"
    theirs.mkdir()
    os.chown(theirs, 0, RADIO)
    theirs.chmod(0o2770)
    script = (
        "id -u; id -g; id -G; echo x >made-$(id -u); echo y >radio/y; grep Cap /proc/self/status"
    )
    said = alice.call(run, daemon.socket, script, daemon.data).splitlines()
    assert said[:2] == ["4711", "4711"]
    assert {int(each) for each in said[2].split()} == {4711, USERS, RADIO}
    assert not any(int(line.split()[1], 16) for line in said[3:] if "CapBnd" not in line)
    found = [(daemon.data / name).stat() for name in ("made-4711", "radio/y")]
    assert [(each.st_uid, each.st_gid) for each in found] == [(4711, 4711), (4711, RADIO)]
    # The other is not in that group.
    script = "id -u; id -G; echo x >made-$(id -u); echo z >radio/z || echo no"
    said = bob.call(run, daemon.socket, script, daemon.data).splitlines()
    assert (said[0], {int(each) for each in said[1].split()}, said[2]) == (
        "4712",
        {4712, USERS},
        "no",
    )
    assert (daemon.data / "made-4712").stat().st_uid == 4712


def test_what_a_job_writes_is_read_by_nobody_else(
    daemon: DaemonProcess, alice: Process, bob: Process
) -> None:
    job = alice.call(submit, daemon.socket, "echo secret; sleep 600", daemon.data)
    daemon.await_output(job, "secret")
    folder = daemon.spool / "jobs" / job
    assert alice.call(read, folder / "stdout") == b"secret\n"
    for name in ("stdout", "stderr", "command", "exit"):
        with pytest.raises(PermissionError):
            bob.call(read, folder / name)
    alice.call(cancel, daemon.socket, job)
    alice.call(wait, daemon.socket, job)


def test_somebody_elses_job_is_left_alone(
    daemon: DaemonProcess, alice: Process, bob: Process
) -> None:
    job = alice.call(submit, daemon.socket, "echo up; sleep 600", daemon.data)
    daemon.await_output(job, "up")
    for call in (get, logs, cancel, wait):
        with pytest.raises(PermissionDenied, match=f"job {job}: .*another user") as caught:
            bob.call(call, daemon.socket, job)
        assert caught.value.reason == "NOT_OWNER"
    with pytest.raises(JobNotFound):
        bob.call(get, daemon.socket, "99")
    mine = bob.call(submit, daemon.socket, "sleep 600", daemon.data)
    assert bob.call(listed, daemon.socket) == [mine]
    assert alice.call(listed, daemon.socket) == [job]
    assert alice.call(get, daemon.socket, job) is JobState.RUNNING
    for process, each in ((alice, job), (bob, mine)):
        process.call(cancel, daemon.socket, each)
        assert process.call(wait, daemon.socket, each) is JobState.CANCELLED


@pytest.mark.parametrize("watcher", ["bob", "eve"])
def test_only_operators_are_told_of_everybodys_jobs(
    daemon: DaemonProcess, alice: Process, watcher: str, request: pytest.FixtureRequest
) -> None:
    process: Process = request.getfixturevalue(watcher)
    gate, begun = daemon.data / "gate", daemon.data / "begun"
    os.mkfifo(gate, 0o666)
    gate.chmod(0o666)
    old = alice.call(submit, daemon.socket, "echo up; sleep 600", daemon.data)
    daemon.await_output(old, "up")
    own = process.call(submit, daemon.socket, "read line <gate", daemon.data)
    told = process.begin(watched, daemon.socket, own, begun)
    until(begun.exists, bool)
    # Of what was there before, and of what comes.
    alice.call(cancel, daemon.socket, old)
    alice.call(wait, daemon.socket, old)
    new = alice.call(submit, daemon.socket, "exit 0", daemon.data)
    alice.call(wait, daemon.socket, new)
    gate.write_text("go\n")
    assert set(told.result(DEADLINE)) == ({own} if watcher == "bob" else {own, old, new})


def test_a_request_id_is_its_users_own(daemon: DaemonProcess, alice: Process, bob: Process) -> None:
    first = alice.call(submit, daemon.socket, "exit 0", daemon.data, "tonight")
    again = alice.call(submit, daemon.socket, "exit 0", daemon.data, "tonight")
    other = bob.call(submit, daemon.socket, "exit 0", daemon.data, "tonight")
    assert again == first != other
    assert bob.call(wait, daemon.socket, other) is JobState.SUCCEEDED
    assert alice.call(wait, daemon.socket, first) is JobState.SUCCEEDED


def test_operators_may_do_everything(
    daemon: DaemonProcess, alice: Process, bob: Process, eve: Process
) -> None:
    job = alice.call(submit, daemon.socket, "echo up; sleep 600", daemon.data)
    daemon.await_output(job, "up")
    assert eve.call(listed, daemon.socket) == [job]
    assert eve.call(get, daemon.socket, job) is JobState.RUNNING
    assert eve.call(logs, daemon.socket, job) == b"up\n"
    eve.call(drain_and_resume, daemon.socket)
    for process in (alice, bob):
        with pytest.raises(PermissionDenied, match="only operators") as caught:
            process.call(drain_and_resume, daemon.socket)
        assert caught.value.reason == "NOT_OPERATOR"
    # Until the group is another one.
    reload(daemon, (f'operators = "{STAFF}"', f'operators = "{RADIO}"'))
    with pytest.raises(PermissionDenied):
        eve.call(cancel, daemon.socket, job)
    alice.call(drain_and_resume, daemon.socket)
    # Root is one always.
    assert cancel(daemon.socket, job) in {JobState.STOPPING, JobState.CANCELLED}
    assert wait(daemon.socket, job) is JobState.CANCELLED


def test_jobs_of_before_a_restart_are_still_their_submitters(
    daemon: DaemonProcess, alice: Process, bob: Process
) -> None:
    job = alice.call(submit, daemon.socket, "echo up; sleep 600", daemon.data)
    daemon.await_output(job, "up")
    daemon.kill()
    daemon.start()
    with pytest.raises(PermissionDenied):
        bob.call(cancel, daemon.socket, job)
    alice.call(cancel, daemon.socket, job)
    assert alice.call(wait, daemon.socket, job) is JobState.CANCELLED
    # From the disk, as it is over.
    with pytest.raises(PermissionDenied):
        bob.call(get, daemon.socket, job)


def test_nothing_runs_as_root_unless_the_configuration_says_so(daemon: DaemonProcess) -> None:
    with pytest.raises(PermissionDenied, match=r"jobs\.allow_root = true") as caught:
        run(daemon.socket, "id -u", daemon.data)
    assert caught.value.reason == "ROOT_REFUSED"
    assert list((daemon.spool / "jobs").iterdir()) == []
    told = reload(daemon, ("[jobs]", "[jobs]\nallow_root = true"))
    assert "jobs.allow_root is True, was False" in told
    assert run(daemon.socket, "id -u", daemon.data) == "0\n"


def test_all_jobs_run_as_one_if_that_is_said_and_stay_their_submitters(
    idle_daemon: DaemonProcess, alice: Process, bob: Process
) -> None:
    idle_daemon.settings = idle_daemon.settings.replace("[jobs]", '[jobs]\nrun_as = "4720:4720"')
    idle_daemon.start()
    for process, number in ((alice, "1"), (bob, "2")):
        job = process.call(submit, idle_daemon.socket, "id -u", "/", "tonight")
        assert job == number
        assert process.call(wait, idle_daemon.socket, job) is JobState.SUCCEEDED
        assert process.call(logs, idle_daemon.socket, job) == b"4720\n"
    assert run(idle_daemon.socket, "id -u", Path("/")) == "4720\n"
    assert alice.call(listed, idle_daemon.socket) == ["1"]
    assert bob.call(listed, idle_daemon.socket) == ["2"]
    idle_daemon.kill()
    idle_daemon.start()
    with pytest.raises(PermissionDenied):
        alice.call(get, idle_daemon.socket, "2")
    assert bob.call(get, idle_daemon.socket, "2") is JobState.SUCCEEDED


def test_a_daemon_that_is_not_root_runs_its_own_users_jobs_only(
    idle_daemon: DaemonProcess, alice: Process, bob: Process
) -> None:
    idle_daemon.program = daemon_of(ALICE)
    idle_daemon.environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    os.chown(idle_daemon.folder, ALICE.uid, ALICE.gid)
    idle_daemon.start()
    said = alice.call(run, idle_daemon.socket, "id -u; id -G", "/").split()
    assert said[0] == "4711"
    assert {int(each) for each in said[1:]} == {4711, USERS, RADIO}
    for process in (bob,):
        with pytest.raises(PermissionDenied, match=r"user 4712: .*user 4711") as caught:
            process.call(run, idle_daemon.socket, "id -u", "/")
        assert caught.value.reason == "SUBMITTER_REFUSED"
    # Its own user has all of its files, and is an operator.
    alice.call(drain_and_resume, idle_daemon.socket)
    with pytest.raises(PermissionDenied, match="only operators"):
        bob.call(drain_and_resume, idle_daemon.socket)


# -- the sockets ---------------------------------------------------------------------


def test_both_sockets_are_for_the_group(daemon: DaemonProcess, alice: Process) -> None:
    def found(name: str) -> tuple[int, int, int]:
        status = daemon.socket.with_name(name).stat()
        return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)

    names = ("identity.sock", "workerd.sock")
    assert [found(name) for name in names] == [(0, USERS, 0o660)] * 2
    with process_of(User(uid=4714, gid=4714)) as stranger, pytest.raises(ConnectionError):
        stranger.call(version, daemon.socket)
    reload(daemon, (f'group = "{USERS}"', f'group = "{STAFF}"\nmode = "0600"'))
    assert [found(name) for name in names] == [(0, STAFF, 0o600)] * 2
    # Who has a token has it for a minute, but no way to bring it.
    with pytest.raises(ConnectionError):
        alice.call(version, daemon.socket)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_client_outlives_the_daemon_that_has_made_its_token(
    idle_daemon: DaemonProcess, end: str
) -> None:
    idle_daemon.settings = idle_daemon.settings.replace("[jobs]", "[jobs]\nallow_root = true")
    idle_daemon.start()
    with idle_daemon.client() as client:
        command = ["sh", "-c", "echo $0"]
        assert client.run([*command, "before"], cwd="/").stdout == "before\n"
        getattr(idle_daemon, end)()
        idle_daemon.start()
        # The first call with the token of before is each time of another kind.
        assert client.run([*command, "after"], cwd="/").stdout == "after\n"
        getattr(idle_daemon, end)()
        idle_daemon.start()
        assert len(list(client.list())) == 2
        getattr(idle_daemon, end)()
        idle_daemon.start()
        assert client.submit([*command, "later"], cwd="/").result().stdout == "later\n"


# -- tokens --------------------------------------------------------------------------


Refused = Callable[[str | None], tuple[grpc.StatusCode, str]]


@pytest.fixture
def refused(daemon: DaemonProcess) -> Iterator[Refused]:
    """How a call is refused that brings some authorization."""
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        stub = WorkerServiceStub(channel)

        def refused(text: str | None) -> tuple[grpc.StatusCode, str]:
            metadata = () if text is None else (("authorization", text),)
            codes = set()
            for call in (
                lambda: stub.GetJob(pb.GetJobRequest(id="1"), timeout=DEADLINE, metadata=metadata),
                lambda: next(
                    stub.WatchJobs(pb.WatchJobsRequest(), timeout=DEADLINE, metadata=metadata)
                ),
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    call()
                assert "identity.sock" in str(caught.value.details())
                pairs: Any = caught.value.trailing_metadata()
                said: dict[str, Any] = dict(pairs)
                codes.add((caught.value.code(), said["wsclean-workerd-reason"]))
            (code,) = codes
            return code

        yield refused


UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def test_a_call_without_a_token_that_counts_is_refused(
    daemon: DaemonProcess, refused: Refused, alice: Process
) -> None:
    good = alice.call(token, daemon.socket)
    assert refused(None) == (UNAUTHENTICATED, "TOKEN_MISSING")
    assert refused(good[:-1]) == (UNAUTHENTICATED, "TOKEN_INVALID")
    assert refused(good.removeprefix("Bearer ")) == (UNAUTHENTICATED, "TOKEN_INVALID")
    # The one of another user, with the number of root.
    name, uid, *rest = good.split(".")
    assert uid == "4711"
    assert refused(".".join((name, "0", *rest))) == (UNAUTHENTICATED, "TOKEN_INVALID")
    daemon.kill()
    daemon.start()
    assert refused(good) == (UNAUTHENTICATED, "TOKEN_EXPIRED")


def test_the_condition_of_the_daemon_is_told_to_whoever_connects(daemon: DaemonProcess) -> None:
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        status = WorkerServiceStub(channel).GetStatus(pb.GetStatusRequest(), timeout=DEADLINE)
    assert status.slots == 2


def test_a_daemon_that_was_killed_leaves_no_obstacle(daemon: DaemonProcess) -> None:
    daemon.kill()
    identity = daemon.socket.with_name("identity.sock")
    assert identity.exists()
    daemon.start()
    assert token(daemon.socket).startswith("Bearer ")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(DEADLINE) == 0
    daemon.process = None
    assert not identity.exists()
