"""A daemon that starts no further jobs, for a while or for good."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from grpc_health.v1 import health_pb2

from support.daemon import COUNTING, DEADLINE, DaemonProcess, until
from wsclean_client import JobState, RequestRefused, WSCleanClient, WSCleanError


class Call(threading.Thread):
    """A call that lasts; what it yielded, and how it ended."""

    def __init__(self, news: Iterator[int]) -> None:
        super().__init__()
        self._news = news
        self.told: list[int] = []
        self.error: WSCleanError | None = None

    def run(self) -> None:
        try:
            for each in self._news:
                self.told.append(each)
        except WSCleanError as error:
            self.error = error

    def end(self) -> list[int]:
        self.join(DEADLINE)
        assert not self.is_alive()
        return self.told


@contextmanager
def calling(news: Iterator[int]) -> Iterator[Call]:
    """Call, and go on when there is a first answer."""
    call = Call(news)
    call.start()
    until(lambda: call.told, bool)
    yield call
    call.end()


def condition(client: WSCleanClient) -> str:
    found = client.status().runtime.condition
    return found.code if found else ""


def test_a_drained_daemon_accepts_jobs_and_starts_them_when_it_is_resumed(
    daemon: DaemonProcess,
) -> None:
    with daemon.client() as client:
        gate = daemon.gate()
        running = daemon.begin(client, gate.wait)
        with calling(client.drain()) as call:
            # A slot is free, and nobody gets it.
            waiting = client.submit(["sh", "-c", "echo ran"], cwd=daemon.data)
            daemon.await_health(wanted=health_pb2.HealthCheckResponse.NOT_SERVING)
            status = client.status()
            assert (status.runtime.ready, condition(client)) == (False, "DRAINING")
            assert status.refusing is None
            assert running.refresh().state is JobState.RUNNING
            assert call.told == [1]
            gate.open()
            assert call.end() == [1, 0]
        assert call.error is None
        assert running.wait(DEADLINE).state is JobState.SUCCEEDED
        assert waiting.refresh().state is JobState.QUEUED
        # Once more changes nothing, and is over at once.
        assert list(client.drain()) == [0]
        client.resume()
        assert waiting.result(timeout=DEADLINE).stdout == "ran\n"
        daemon.await_health()
        assert condition(client) == ""
        client.resume()


def test_who_waits_for_a_drain_or_a_shutdown_is_told_that_it_is_called_off(
    daemon: DaemonProcess,
) -> None:
    with daemon.client() as client:
        running = daemon.begin(client, "sleep 600")
        for news in (client.drain(), client.shut_down()):
            with calling(news) as call:
                client.resume()
            assert isinstance(call.error, RequestRefused)
            assert call.error.reason == "RESUMED"
        running.cancel()
        running.wait(DEADLINE)
        # The daemon is there, and does what it is there for.
        assert client.run(["sh", "-c", "echo on"], cwd=daemon.data).stdout == "on\n"


def test_a_drain_whose_caller_goes_away_goes_on(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        running = daemon.begin(client, "sleep 600")
        for _ in client.drain():
            break
        assert condition(client) == "DRAINING"
        running.cancel()
        running.wait(DEADLINE)
        assert client.submit(["sh", "-c", "true"], cwd=daemon.data).refresh().state.name == "QUEUED"
    # A restart takes it back.
    daemon.stop()
    daemon.start()
    with daemon.client() as client:
        assert client.job("2").wait(DEADLINE).state is JobState.SUCCEEDED


def await_end(daemon: DaemonProcess) -> None:
    assert daemon.process is not None
    assert daemon.process.wait(DEADLINE) == 0
    daemon.process = None


def test_a_shutdown_waits_for_what_runs_and_leaves_what_waits_to_the_next_start(
    daemon: DaemonProcess,
) -> None:
    with daemon.client() as client:
        running = daemon.begin(client, COUNTING)
        with calling(client.shut_down()) as call:
            waiting = client.submit(["sh", "-c", "echo ran"], cwd=daemon.data)
            assert condition(client) == "SHUTTING_DOWN"
            (daemon.data / "gate").touch()
            assert call.end() == [1, 0]
        assert call.error is None
        await_end(daemon)
        daemon.start()
        assert running.result(check=False).returncode == 7
        assert waiting.result(timeout=DEADLINE).stdout == "ran\n"


def test_a_shutdown_now_ends_what_runs_and_nothing_that_waits(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        # One of them has to be killed.
        gentle = daemon.begin(client, "sleep 600")
        stubborn = daemon.begin(client, "trap : TERM; while :; do sleep 0.1; done")
        waiting = client.submit(["sh", "-c", "echo ran"], cwd=daemon.data)
        # It can be asked for when the other way takes too long.
        with calling(client.shut_down()), calling(client.shut_down(now=True)) as call:
            assert call.end()[-1] == 0
        await_end(daemon)
        daemon.start()
        for job in (gentle, stubborn):
            ended = job.refresh()
            assert ended.state is JobState.CANCELLED
            assert ended.reason is not None
            assert ended.reason.code == "SHUTDOWN"
        assert waiting.result(timeout=DEADLINE).stdout == "ran\n"


@pytest.mark.parametrize("now", [False, True])
def test_a_shutdown_without_jobs_is_over_at_once(daemon: DaemonProcess, now: bool) -> None:
    with daemon.client() as client:
        assert list(client.shut_down(now=now)) == [0]
    await_end(daemon)
