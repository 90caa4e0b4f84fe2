"""An engine of the test's own that stops, is killed, hangs, fails and comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from grpc_health.v1 import health_pb2

from support.daemon import DEADLINE, Gate, until
from support.docker_daemon import DockerDaemon, docker_daemon
from support.private_engine import SMALL_IMAGE, PrivateEngine, private_engine
from support.proxy import EngineProxy
from wsclean_client import JobLost, JobState, WSCleanClient

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
RECOVERY_SECONDS = 10


@pytest.fixture(scope="module")
def own_engine() -> Iterator[PrivateEngine]:
    with private_engine() as engine:
        yield engine


@pytest.fixture
def host(own_engine: PrivateEngine) -> Iterator[DockerDaemon]:
    """A daemon on that engine which has not been started."""

    def clean_up(daemon: DockerDaemon) -> None:
        own_engine.start()
        daemon.remove_containers()

    own_engine.start()
    with docker_daemon(own_engine.url, clean_up, image=SMALL_IMAGE, call_timeout=1) as daemon:
        yield daemon


def await_code(client: WSCleanClient, *codes: str) -> str:
    """Wait until the daemon says in which of some conditions it is."""
    found = until(
        lambda: client.status().runtime.condition, lambda it: it is not None and it.code in codes
    )
    assert found is not None
    return found.message


def run(daemon: DockerDaemon, client: WSCleanClient) -> None:
    """Have something run that takes no time."""
    assert client.run(["sh", "-c", "echo ran"], cwd=daemon.data).stdout == "ran\n"


def wait(gate: Gate) -> str:
    return f"{gate.wait}; echo end; exit 3"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_with_live_restore_jobs_do_not_notice_that_the_engine_is_away(
    own_engine: PrivateEngine, host: DockerDaemon, end: str
) -> None:
    own_engine.stop()
    own_engine.start(live_restore=True)
    host.start()
    before = host.container()
    with host.client() as client:
        gates = [host.gate("first"), host.gate("second")]
        ended, other = (host.begin(client, wait(gate)) for gate in gates)
        own_engine.stop() if end == "stop" else own_engine.kill()
        host.await_health(wanted=NOT_SERVING)
        await_code(client, "ENGINE_UNREACHABLE")
        waiting = client.submit(["sh", "-c", "echo ran"], cwd=host.data)
        gates[0].open()
        done = ended.result(check=False, timeout=DEADLINE)
        assert (done.returncode, done.stdout) == (3, "up\nend\n")
        assert waiting.refresh().state is JobState.QUEUED
        own_engine.start(live_restore=True)
        since = time.monotonic()
        assert waiting.result(timeout=DEADLINE).stdout == "ran\n"
        assert time.monotonic() - since < RECOVERY_SECONDS
        assert host.container() == before
        gates[1].open()
        assert other.result(check=False, timeout=DEADLINE).returncode == 3
    host.stop()
    # Without containers, so that the next test gets an engine without.
    host.remove_containers()
    own_engine.stop()


def test_an_engine_that_is_restarted_takes_its_container_with_it(
    own_engine: PrivateEngine, host: DockerDaemon
) -> None:
    host.start()
    before = host.container()
    with host.client() as client:
        running = host.begin(client, "sleep 600")
        script = "[ ! -e up ] || { echo again; exit; }; : >up; echo up; exec sleep 600"
        again = client.submit(["sh", "-c", script], cwd=host.data, retries=1)
        host.await_output(again.id, "up")
        own_engine.stop()
        own_engine.start()
        since = time.monotonic()
        run(host, client)
        assert time.monotonic() - since < RECOVERY_SECONDS
        with pytest.raises(JobLost) as caught:
            running.result(timeout=DEADLINE)
        reason = caught.value.job.reason
        assert reason is not None
        assert reason.code == "CONTAINER_DIED"
        assert before[:12] in reason.message
        assert again.result(timeout=DEADLINE).stdout == "up\nagain\n"
    assert host.container() != before


def test_an_engine_that_stays_away_leaves_no_job_running_that_is_dead(
    own_engine: PrivateEngine, host: DockerDaemon
) -> None:
    host.start()
    with host.client() as client:
        running = host.begin(client, "sleep 600")
        own_engine.stop()
        with pytest.raises(JobLost) as caught:
            running.result(timeout=DEADLINE)
        reason = caught.value.job.reason
        assert reason is not None
        assert "cannot be reached" in reason.message or reason.code == "CONTAINER_DIED"
        waiting = client.submit(["sh", "-c", "echo ran"], cwd=host.data)
        host.await_health(wanted=NOT_SERVING)
        own_engine.start()
        since = time.monotonic()
        assert waiting.result(timeout=DEADLINE).stdout == "ran\n"
        assert time.monotonic() - since < RECOVERY_SECONDS


def test_an_engine_that_hangs_is_noticed_and_forgiven(
    own_engine: PrivateEngine, host: DockerDaemon
) -> None:
    host.start()
    before = host.container()
    with host.client() as client:
        gate = host.gate()
        job = host.begin(client, wait(gate))
        with own_engine.hanging():
            # Nobody needs it at the moment.
            host.await_health(wanted=NOT_SERVING)
            await_code(client, "ENGINE_SILENT")
            waiting = client.submit(["sh", "-c", "echo ran"], cwd=host.data)
            gate.open()
            assert job.result(check=False, timeout=DEADLINE).returncode == 3
            assert waiting.refresh().state is JobState.QUEUED
        since = time.monotonic()
        assert waiting.result(timeout=DEADLINE).stdout == "ran\n"
        assert time.monotonic() - since < RECOVERY_SECONDS
    assert host.container() == before


def test_an_engine_that_fails_is_asked_less_and_less_often(
    own_engine: PrivateEngine, host: DockerDaemon
) -> None:
    proxy = EngineProxy(host.folder / "docker.sock", own_engine.url)
    host.values["url"] = proxy.url
    proxy.start()
    host.start()
    before = host.container()
    with host.client() as client:
        gate = host.gate()
        job = host.begin(client, wait(gate))
        proxy.stop()
        proxy.start(failing=True)
        host.await_health(wanted=NOT_SERVING)
        assert "bad day" in await_code(client, "ENGINE_ERROR")
        waiting = client.submit(["sh", "-c", "echo ran"], cwd=host.data)
        gate.open()
        assert job.result(check=False, timeout=DEADLINE).returncode == 3
        assert waiting.refresh().state is JobState.QUEUED
        proxy.requests.clear()
        time.sleep(6)
        assert 1 <= len(proxy.requests) <= 15, proxy.requests
        proxy.stop()
        proxy.start()
        since = time.monotonic()
        assert waiting.result(timeout=DEADLINE).stdout == "ran\n"
        assert time.monotonic() - since < RECOVERY_SECONDS
        proxy.stop()
    assert host.container() == before
