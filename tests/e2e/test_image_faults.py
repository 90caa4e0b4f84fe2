"""Images that are missing or of no use: the daemon says so, waits, and takes the next one."""

from __future__ import annotations

import time

import pytest
from grpc_health.v1 import health_pb2

from support.daemon import DEADLINE, until
from support.docker_daemon import DockerDaemon
from support.proxy import EngineProxy
from support.small_image import import_image
from wsclean_client import JobState

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
RECOVERY_SECONDS = 10
WINDOW_SECONDS = 4
# At 0, 0, 0.25, 0.75, 1.75 and 3.75 s; and what was looked at before.
MOST_LOOKS = 10

FAULTS = {
    "missing": (None, {}, "IMAGE_MISSING"),
    "without a shell": (("sh",), {}, "IMAGE_UNSUITABLE"),
    "without sleep": (("sleep",), {}, "IMAGE_UNSUITABLE"),
    "that does not sleep": ((), {"sleep": "#!/bin/sh\nexit 0\n"}, "IMAGE_UNSUITABLE"),
    "without wsclean": (("wsclean",), {}, "PROGRAMS_MISSING"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_image_of_no_use_is_named_and_the_next_one_taken(
    idle_daemon: DockerDaemon, engine_url: str, fault: str
) -> None:
    without, scripts, code = FAULTS[fault]
    image = idle_daemon.use_image()
    if without is not None:
        import_image(engine_url, image, without=without, scripts=scripts)
    proxy = EngineProxy(idle_daemon.folder / "docker.sock", engine_url)
    idle_daemon.values |= {"url": proxy.url, "programs": '["wsclean"]'}
    proxy.start()
    idle_daemon.start(ready=False)
    idle_daemon.await_health(wanted=NOT_SERVING)
    with idle_daemon.client() as client:
        job = client.submit(["wsclean"], cwd=idle_daemon.data)
        time.sleep(WINDOW_SECONDS)
        looks = [each for each in proxy.requests if each.endswith(f"/{idle_daemon.name}/json")]
        assert 1 < len(looks) <= MOST_LOOKS
        condition = until(lambda: client.status().runtime.condition, bool)
        assert condition is not None
        assert condition.code == code
        assert image in condition.message
        assert "image/build" in condition.message
        assert not client.status().runtime.ready
        assert job.refresh().state is JobState.QUEUED
        import_image(engine_url, image)
        since = time.monotonic()
        assert "no use" in job.result(timeout=DEADLINE).stdout
        assert time.monotonic() - since < RECOVERY_SECONDS
        assert client.status().runtime.condition is None
        assert idle_daemon.stop() == 0
    proxy.stop()


def test_an_image_that_becomes_useless_is_replaced_as_soon_as_it_is_not(
    idle_daemon: DockerDaemon, engine_url: str
) -> None:
    image = idle_daemon.use_image()
    import_image(engine_url, image)
    idle_daemon.values["programs"] = '["wsclean"]'
    idle_daemon.start()
    with idle_daemon.client() as client:
        assert client.run(["wsclean"], cwd=idle_daemon.data).returncode == 0
        import_image(engine_url, image, without=["wsclean"])
        idle_daemon.docker("rm", "-f", idle_daemon.name)
        until(
            lambda: client.status().runtime.condition,
            lambda found: found is not None and found.code == "PROGRAMS_MISSING",
        )
        import_image(engine_url, image)
        since = time.monotonic()
        assert client.run(["wsclean"], cwd=idle_daemon.data).returncode == 0
        assert time.monotonic() - since < RECOVERY_SECONDS
