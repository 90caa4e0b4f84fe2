"""The client says whose its calls are, by tokens that it asks for as seldom as it can."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import grpc
import pytest

from component.client.fake_worker import PATIENCE, FakeWorker
from wsclean_client import NotAuthenticated, PermissionDenied, WSCleanClient
from wsclean_client.identity import Identity

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class FakeIdentity:
    """Hands out numbered tokens, or says what it is told to say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = 0
        self.says: Callable[[int], str] = lambda number: f"token-{number} 60\n"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()
        self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked += 1
                connection.sendall(self.says(self.asked).encode())


@pytest.fixture
def identity(folder: Path) -> Iterator[FakeIdentity]:
    fake = FakeIdentity(folder / "identity.sock")
    yield fake
    fake.stop()


def calls(client: WSCleanClient) -> dict[str, Callable[[], object]]:
    """A call of each kind."""
    return {
        "GetStatus": client.status,
        "SubmitJob": lambda: client.submit(["wsclean"]),
        "DrainWorker": lambda: list(client.drain()),
    }


def test_one_token_serves_all_calls_of_all_threads(
    worker: FakeWorker, client: WSCleanClient, identity: FakeIdentity
) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(client.status) for _ in range(40)]:
            done.result(PATIENCE)
    job = client.submit(["wsclean"])
    list(client.list())
    worker.end(job.id)
    job.wait()
    list(job.logs())
    job.cancel()
    list(client.drain())
    assert identity.asked == 1
    assert len(worker.authorizations) >= 46
    assert set(worker.authorizations) == {"Bearer token-1"}


@pytest.mark.usefixtures("identity")
def test_another_one_is_asked_for_before_it_is_out_of_date(
    worker: FakeWorker,
    client: WSCleanClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for now in (1000.0, 1047.0, 1049.0, 1096.0, 1098.0):
        monkeypatch.setattr("wsclean_client.identity.time.monotonic", partial(float, now))
        client.status()
    numbers = [text.rpartition("-")[2] for text in worker.authorizations]
    assert numbers == ["1", "1", "2", "2", "3"]


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize("reason", ["TOKEN_EXPIRED", "TOKEN_MISSING"])
def test_a_call_that_was_refused_for_its_token_is_made_once_more(
    worker: FakeWorker, reason: str
) -> None:
    # Nothing else would repeat it.
    with WSCleanClient(worker.path, connect_timeout=0) as client:
        for number, (name, call) in enumerate(calls(client).items(), start=1):
            client.status()
            worker.fail(name, UNAUTHENTICATED, reason=reason)
            call()
            assert worker.authorizations[-2:] == [
                f"Bearer token-{number}",
                f"Bearer token-{number + 1}",
            ]


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize("name", ["GetStatus", "SubmitJob", "DrainWorker"])
def test_and_not_again_and_again(worker: FakeWorker, name: str) -> None:
    with WSCleanClient(worker.path, connect_timeout=0) as client:
        worker.fail(name, UNAUTHENTICATED, times=2, details="oh", reason="TOKEN_EXPIRED")
        with pytest.raises(NotAuthenticated, match="oh") as caught:
            calls(client)[name]()
        assert caught.value.reason == "TOKEN_EXPIRED"
        assert len(worker.authorizations) == 2


@pytest.mark.usefixtures("identity")
def test_with_patience_it_is_tried_again_as_if_the_daemon_were_away(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    worker.fail("GetStatus", UNAUTHENTICATED, times=4, reason="TOKEN_EXPIRED")
    client.status()
    worker.fail("DrainWorker", UNAUTHENTICATED, times=4, reason="TOKEN_EXPIRED")
    assert list(client.drain()) == [2, 1, 0]


@pytest.mark.usefixtures("identity")
def test_a_token_that_is_none_is_not_sent_again(worker: FakeWorker, client: WSCleanClient) -> None:
    worker.fail("GetStatus", UNAUTHENTICATED, details="forged", reason="TOKEN_INVALID")
    with pytest.raises(NotAuthenticated, match="forged"):
        client.status()
    assert len(worker.authorizations) == 1


def test_what_a_user_may_not_is_an_error_of_its_own(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    worker.fail("GetStatus", grpc.StatusCode.PERMISSION_DENIED, details="no", reason="NOT_OWNER")
    with pytest.raises(PermissionDenied, match="no") as caught:
        client.status()
    assert caught.value.reason == "NOT_OWNER"


def test_without_an_identity_socket_calls_bring_nothing(
    worker: FakeWorker, client: WSCleanClient
) -> None:
    client.status()
    assert worker.authorizations == [""]


def test_why_the_daemon_gives_none_is_told(
    worker: FakeWorker, client: WSCleanClient, identity: FakeIdentity
) -> None:
    identity.says = lambda _number: "error cannot find out who you are: because\n"
    with pytest.raises(NotAuthenticated, match="who you are: because") as caught:
        client.status()
    assert caught.value.reason == "NO_TOKEN"
    # Nor is that kept.
    identity.says = lambda number: f"token-{number} 60\n"
    client.status()
    assert worker.authorizations == ["Bearer token-2"]


@pytest.mark.parametrize("said", ["", "token-1 60", "token-1\n", "token-1 soon\n"])
def test_half_an_answer_is_none(folder: Path, identity: FakeIdentity, said: str) -> None:
    identity.says = lambda _number: said
    assert Identity(str(folder / "w.sock")).metadata() == ()


@pytest.mark.usefixtures("identity")
def test_a_forked_process_gets_its_own(folder: Path) -> None:
    own = Identity(str(folder / "w.sock"))
    assert own.metadata() == (("authorization", "Bearer token-1"),)
    context = multiprocessing.get_context("fork")
    answers: SimpleQueue[object] = context.SimpleQueue()
    # While another thread of the parent asks for one.
    with own._lock:
        child = context.Process(target=lambda: answers.put(own.metadata()))
        child.start()
        child.join(PATIENCE)
        child.kill()
    assert child.exitcode == 0
    assert answers.get() == (("authorization", "Bearer token-2"),)
    assert own.metadata() == (("authorization", "Bearer token-1"),)


def test_a_process_that_becomes_another_user_gets_his(
    folder: Path, identity: FakeIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Identity(str(folder / "w.sock"))
    before = own.metadata()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert own.metadata() != before
    assert identity.asked == 2
