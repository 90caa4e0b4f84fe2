"""`wsclean-ctl doctor` with a real engine, container, storage and service."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import DEADLINE, until
from support.docker_daemon import IMAGE, DockerDaemon
from support.doctor import doctor, findings
from support.storage import HangingStorage, hanging_storage
from support.systemd_host import UNIT, SystemdHost
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1 import worker_pb2_grpc

LIMIT = 14.0
"""Seconds that it may take on a machine that is busy, whatever hangs; it says ten."""

JOBS_USER = 4711


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {name: each["verdict"] for name, each in found.items()}


def test_a_healthy_installation_is_all_ok(idle_daemon: DockerDaemon) -> None:
    idle_daemon.values["run_as"] = f"{JOBS_USER}:{JOBS_USER}"
    idle_daemon.data.mkdir()
    idle_daemon.data.chmod(0o777)
    idle_daemon.start()
    found = findings(idle_daemon)
    assert verdicts(found) == dict.fromkeys(
        [
            "configuration",
            "socket",
            "identity-socket",
            "daemon",
            "versions",
            "journal",
            "state-disk",
            "engine",
            "image",
            "container",
            "programs",
            f"mount {idle_daemon.data}",
        ],
        "ok",
    )
    assert idle_daemon.container()[:12] in found["container"]["found"]


def test_an_image_that_is_missing_is_told_with_its_name(idle_daemon: DockerDaemon) -> None:
    image = idle_daemon.use_image()
    idle_daemon.start(ready=False)
    with idle_daemon.client() as client:
        until(
            lambda: client.status().runtime.condition,
            lambda told: told is not None and told.code == "IMAGE_MISSING",
        )
    found = findings(idle_daemon, status=1)
    assert found["engine"]["verdict"] == "ok"
    assert found["image"]["verdict"] == "problem"
    assert f"docker pull {image}" in found["image"]["mend"]
    assert {found[name]["verdict"] for name in ("container", "programs")} == {"unknown"}


def test_programs_are_looked_for_inside_the_container(idle_daemon: DockerDaemon) -> None:
    image = idle_daemon.use_image()
    # The host has it, the image has not.
    recipe = f"FROM {IMAGE}\nRUN rm /usr/bin/wsclean /usr/bin/find\n"
    subprocess.run(
        ["docker", "build", "--network", "none", "--tag", image, "-"],
        input=recipe.encode(),
        check=True,
        capture_output=True,
    )
    idle_daemon.start()
    found = findings(idle_daemon, status=1)["programs"]
    assert found["verdict"] == "problem"
    assert found["found"] == f"{image} lacks find, wsclean"


def test_an_image_without_a_shell_is_told(idle_daemon: DockerDaemon) -> None:
    image = idle_daemon.use_image()
    subprocess.run(
        ["docker", "build", "--network", "none", "--tag", image, "-"],
        input=f"FROM {IMAGE}\nRUN rm /bin/sh\n".encode(),
        check=True,
        capture_output=True,
    )
    idle_daemon.start(ready=False)
    with idle_daemon.client() as client:
        until(
            lambda: client.status().runtime.condition,
            lambda found: found is not None and found.code == "IMAGE_UNSUITABLE",
        )
    found = findings(idle_daemon, status=1)
    assert found["container"]["verdict"] == "problem"
    assert image in found["container"]["found"]
    assert found["programs"]["verdict"] == "unknown"


def test_a_mount_that_the_account_cannot_enter_is_told(idle_daemon: DockerDaemon) -> None:
    closed, locked = (idle_daemon.folder / name for name in ("closed", "locked"))
    for folder, mode in ((closed, 0o700), (locked, 0o755)):
        folder.mkdir()
        folder.chmod(mode)
    idle_daemon.values["run_as"] = f"{JOBS_USER}:{JOBS_USER}"
    idle_daemon.extra = "".join(
        f'[[mounts]]\nhost = "{folder}"\ncontainer = "/{folder.name}"\n'
        for folder in (closed, locked)
    )
    idle_daemon.start()
    found = findings(idle_daemon, status=1)
    assert found[f"mount {closed}"]["verdict"] == "problem"
    assert f"cannot enter it (as /closed) as {JOBS_USER}" in found[f"mount {closed}"]["found"]
    assert f"setfacl -m u:{JOBS_USER}:rwx {closed}" in found[f"mount {closed}"]["mend"]
    assert found[f"mount {locked}"]["verdict"] == "warning"
    assert "cannot write" in found[f"mount {locked}"]["found"]


@pytest.fixture
def storage() -> Iterator[HangingStorage]:
    with hanging_storage() as storage:
        yield storage


def lookers(daemon: DockerDaemon) -> int:
    """How many processes look for the doctor in the container at present."""
    return daemon.docker("top", daemon.name, "-eo", "pid,args").count("/look.sh")


@pytest.mark.parametrize("known", [True, False], ids=["known", "not known yet"])
def test_storage_that_hangs_is_told_in_time_and_touched_once(
    idle_daemon: DockerDaemon, storage: HangingStorage, *, known: bool
) -> None:
    # Otherwise the daemon's own probe finds out first.
    timeout = 1 if known else 60
    idle_daemon.extra = (
        f'[[mounts]]\nhost = "{storage.mount}"\ncontainer = "/slow"\n'
        f"[storage]\nprobe_timeout = {timeout}\nproof_age = 0.1\n"
    )
    try:
        idle_daemon.start()
        assert findings(idle_daemon)[f"mount {storage.mount}"]["verdict"] == "ok"
        storage.hang()
        if known:
            with idle_daemon.client() as client:
                submit_in(idle_daemon, storage.mount)
                until(
                    lambda: client.status().runtime.condition,
                    lambda told: told is not None and told.code == "STORAGE_HUNG",
                )
        for _ in range(2):
            begun = time.monotonic()
            found = findings(idle_daemon, status=1)
            assert time.monotonic() - begun < LIMIT
            assert found[f"mount {storage.mount}"]["verdict"] == "problem"
            assert f"findmnt --target {storage.mount}" in found[f"mount {storage.mount}"]["mend"]
            assert found[f"mount {idle_daemon.data}"]["verdict"] == "ok"
            assert lookers(idle_daemon) == (0 if known else 1)
        storage.release()
        until(
            lambda: findings_of_mount(idle_daemon, storage.mount), lambda verdict: verdict == "ok"
        )
        assert lookers(idle_daemon) == 0
    finally:
        # Before the daemon and its container are to end.
        storage.release()


def submit_in(daemon: DockerDaemon, folder: Path) -> None:
    """Submit a job that works in a folder, without looking at it as the client's own way does."""
    with daemon.channel() as channel:
        spec = pb.JobSpec(command=["sh", "-c", "true"], working_directory=str(folder))
        worker_pb2_grpc.WorkerServiceStub(channel).SubmitJob(
            pb.SubmitJobRequest(spec=spec), timeout=DEADLINE
        )


def findings_of_mount(daemon: DockerDaemon, mount: Path) -> str:
    told = json.loads(doctor(daemon, "--json").stdout)["findings"]
    return next(str(each["verdict"]) for each in told if each["subject"] == str(mount))


@pytest.mark.timeout(240)
def test_the_service_is_looked_at_on_a_host(systemd_host: SystemdHost) -> None:
    def on_host(status: int) -> dict[str, Any]:
        done = systemd_host.ctl("doctor", "--json", check=False)
        assert done.returncode == status, done.stdout + done.stderr
        told = json.loads(done.stdout)["findings"]
        return {f"{each['name']} {each['subject']}".strip(): each for each in told}

    found = on_host(1)
    assert found["service"]["verdict"] == "problem"
    assert "wsclean-ctl install" in found["service"]["mend"]
    systemd_host.install()
    # As it was installed: not started, and not edited, which it need not be.
    found = on_host(1)
    assert found["service"]["mend"] == f"systemctl enable --now {UNIT}"
    assert found["configuration"]["verdict"] == "ok"
    assert found["daemon"]["verdict"] == "problem"
    daemon = systemd_host.daemon()
    daemon.start()
    found = on_host(0)
    assert found["service"]["mend"] == f"systemctl enable {UNIT}"
    del found["service"]
    assert set(verdicts(found).values()) == {"ok"}
    systemd_host.systemctl("enable", UNIT)
    assert on_host(0)["service"]["verdict"] == "ok"
    # One that may not connect.
    systemd_host.run("useradd", "stranger")
    done = systemd_host.run(
        "runuser", "-u", "stranger", "--", "wsclean-ctl", "doctor", "--json", check=False
    )
    told = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert told["service"]["verdict"] == "ok"
    assert told["configuration"]["verdict"] == "unknown"
    assert "stranger" in told["socket"]["mend"]
