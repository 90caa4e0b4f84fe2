"""Draw, predict and image with the real WSClean, checked against the simulated sky."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checks import check_model_data, check_restored_image
from simulate_ms import Observation, simulate
from sky import DEMO_SKY
from support.docker_daemon import DockerDaemon
from workflow import Workflow
from wsclean_client import JobFailed, WSCleanClient


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulated") / "demo.ms"
    simulate(path, Observation())
    return path


def workflow(daemon: DockerDaemon, client: WSCleanClient, simulated: Path) -> Workflow:
    measurement_set = daemon.data / "2025-10-19T14:31:45.ms"
    shutil.copytree(simulated, measurement_set)
    folder = daemon.data / "images"
    folder.mkdir()
    return Workflow(client, DEMO_SKY, measurement_set, folder)


def test_the_main_job(daemon: DockerDaemon, simulated: Path) -> None:
    with daemon.client() as client:
        main_job = workflow(daemon, client, simulated)
        main_job.draw()
        predicted = main_job.predict()
        check_model_data(main_job.measurement_set, DEMO_SKY)
        main_job.image()
        check_restored_image(main_job.restored_image, DEMO_SKY)
    # The client knew host paths only; what ran has those of the container.
    assert str(daemon.data) in " ".join(map(str, main_job.predict_arguments()))
    command = predicted.job.info.mapped_command
    assert command[-1] == "/data/2025-10-19T14:31:45.ms"
    assert not any(str(daemon.folder) in word for word in command)


def test_killing_the_daemon_does_not_touch_a_running_predict(
    daemon: DockerDaemon,
    simulated: Path,
) -> None:
    before = daemon.container()
    with daemon.client() as client:
        main_job = workflow(daemon, client, simulated)
        # Large, so that the prediction takes some seconds.
        main_job.draw(size=8192)
        job = client.submit(["wsclean", *map(str, main_job.predict_arguments())])
        output = b""
        for chunk in job.logs(follow=True, stream="stdout"):
            output += chunk.data
            if b"Opening reordered part" in output:
                break
        daemon.kill()
        assert daemon.processes() != []
        daemon.start()
        done = job.result()
        assert (done.returncode, done.state.value) == (0, "SUCCEEDED")
        assert done.stdout_bytes.startswith(output)
        assert done.stdout.rstrip().endswith("Cleaning up temporary files...")
        on_disk = (daemon.spool / "jobs" / job.id / "stdout").read_bytes()
        assert done.stdout_bytes == on_disk
    check_model_data(main_job.measurement_set, DEMO_SKY)
    assert daemon.container() == before


def test_a_measurement_set_that_is_not_there_fails_with_wscleans_own_words(
    daemon: DockerDaemon,
) -> None:
    with daemon.client() as client, pytest.raises(JobFailed) as caught:
        pixels = ("-size", "64", "64", "-scale", "4arcsec")
        client.run(["wsclean", *pixels, "-name", daemon.data / "x", daemon.data / "no.ms"])
    assert caught.value.returncode not in {0, None}
    assert "no.ms" in str(caught.value)


def ctl(daemon: DockerDaemon, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("wsclean-ctl"), *words],
        capture_output=True,
        text=True,
        check=check,
        cwd=daemon.data,
        env={**os.environ, "WSCLEAN_WORKERD_SOCKET": str(daemon.socket)},
        timeout=100,
    )


def test_the_operators_command_does_the_same(daemon: DockerDaemon) -> None:
    done = ctl(daemon, "run", "--", "wsclean", "--version")
    assert "WSClean version 3.7" in done.stdout
    submitted = json.loads(ctl(daemon, "submit", "--json", "--", "wsclean", "--version").stdout)
    assert ctl(daemon, "wait", submitted["id"]).returncode == 0
    shown = json.loads(ctl(daemon, "show", "--json", submitted["id"]).stdout)
    assert (shown["state"], shown["exit_status"]) == ("SUCCEEDED", 0)
    assert shown["reason"]["code"] == "SUCCEEDED"
    listed = json.loads(ctl(daemon, "list", "--json").stdout)
    assert [job["id"] for job in listed] == ["2", "1"]
    assert "WSClean version 3.7" in ctl(daemon, "logs", submitted["id"]).stdout
    status = json.loads(ctl(daemon, "status", "--json").stdout)
    assert (status["runtime"]["ready"], status["slots"]) == (True, 4)
    refused = ctl(daemon, "run", "--", "rm", "-rf", "x", check=False)
    assert (refused.returncode, refused.stdout) == (125, "")
    assert "cannot run 'rm'" in refused.stderr
    slow = ctl(daemon, "run", "--timeout", "1", "--", "sh", "-c", "sleep 600", check=False)
    assert slow.returncode == 124
