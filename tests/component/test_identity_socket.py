"""The socket that hands out tokens, and the check in front of calls, without a daemon."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.daemon import DEADLINE, daemon_folder
from wsclean_workerd import clock
from wsclean_workerd.access import Operators
from wsclean_workerd.authentication import CALLER, Authentication
from wsclean_workerd.identity import IdentitySocket
from wsclean_workerd.model import User
from wsclean_workerd.server import SERVICE
from wsclean_workerd.tokens import Tokens
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1 import worker_pb2_grpc


@pytest.fixture
def folder() -> Iterator[Path]:
    with daemon_folder() as folder:
        yield folder


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(os.urandom(32))


@pytest.fixture
async def _served(folder: Path, tokens: Tokens) -> AsyncIterator[None]:
    identity = IdentitySocket(folder / "identity.sock", tokens)
    identity.start()
    yield
    identity.close()
    identity.close()


async def ask(folder: Path) -> str:
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_unix_connection(folder / "identity.sock")
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()
            await writer.wait_closed()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def whose(tokens: Tokens, said: str) -> User:
    text, seconds = said.split()
    assert float(seconds) == 60
    return tokens.check(text, clock.now().boot)


@pytest.mark.usefixtures("_served")
async def test_whoever_connects_is_told_who_he_is(folder: Path, tokens: Tokens) -> None:
    own = User(
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=tuple(sorted(set(os.getgroups()) - {os.getegid()})),
    )
    assert whose(tokens, await ask(folder)) == own


CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    print(connection.makefile().read(), end="")
"""


@pytest.mark.usefixtures("_served")
@pytest.mark.parametrize("number", [0, 1, 200, 256, 257, 1000])
async def test_all_groups_are_told_or_it_is_said_that_they_are_too_many(
    folder: Path, tokens: Tokens, number: int
) -> None:
    assert os.geteuid() == 0, "only root can have other groups: run the tests as root"
    groups = range(5000, 5000 + number)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CONNECT,
        folder / "identity.sock",
        stdout=subprocess.PIPE,
        group=4711,
        extra_groups=list(groups),
    )
    said, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    if number > 256:
        assert said.decode().startswith("error cannot find out who you are: ")
    else:
        assert whose(tokens, said.decode()) == User(uid=0, gid=4711, groups=tuple(groups))


@pytest.mark.usefixtures("_served")
async def test_those_who_read_nothing_and_say_much_hold_up_nobody(
    folder: Path, tokens: Tokens
) -> None:
    before = descriptors()
    silent = []
    for number in range(300):
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, str(folder / "identity.sock"))
        if number % 3 == 0:
            connection.send(b"x" * 1000)
        if number % 3 == 1:
            connection.close()
        else:
            silent.append(connection)
    assert whose(tokens, await ask(folder)).uid == os.geteuid()
    # All of them are the test's own: none is the socket's.
    assert descriptors() == before + len(silent)
    for connection in silent:
        connection.close()


@pytest.mark.usefixtures("_served")
async def test_without_descriptors_it_pauses_and_goes_on(
    folder: Path,
    tokens: Tokens,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain, calls = socket.socket.accept, 0

    def accept(self: socket.socket) -> Any:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return plain(self)

    monkeypatch.setattr("wsclean_workerd.identity._PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(socket.socket, "accept", accept)
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert whose(tokens, await ask(folder)).uid == os.geteuid()
    # Not as fast as the loop goes round.
    assert calls == 3
    assert loop.time() - before >= 0.1
    assert "cannot tell callers who they are" in caplog.text


# -- the check -----------------------------------------------------------------------


class Service(worker_pb2_grpc.WorkerServiceServicer):
    """Answers who has called."""

    async def ListJobs(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        # In its turn, so that calls overlap.
        await asyncio.sleep(0)
        return pb.ListJobsResponse(next_page_token=str(CALLER.get().user.uid))

    async def ReadLogs(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        await asyncio.sleep(0)
        yield pb.ReadLogsResponse(data=str(CALLER.get().user.uid).encode())


Stub = worker_pb2_grpc.WorkerServiceStub


@pytest.fixture
async def stub(folder: Path, tokens: Tokens) -> AsyncIterator[Stub]:
    check = Authentication(SERVICE, tokens, Operators(own_uid=0, gid=None))
    server = grpc.aio.server(interceptors=[check])
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(Service(), server)  # type: ignore[abstract]
    server.add_insecure_port(f"unix:{folder}/w.sock")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{folder}/w.sock") as channel:
        yield worker_pb2_grpc.WorkerServiceStub(channel)
    await server.stop(None)


def bring(tokens: Tokens, uid: int, *, before: float = 0.0) -> Any:
    text = tokens.issue(User(uid=uid, gid=uid), clock.now().boot - before).text
    return (("authorization", f"Bearer {text}"),)


async def test_each_call_is_known_by_its_own_token(stub: Any, tokens: Tokens) -> None:
    async def called(uid: int) -> tuple[str, bytes]:
        metadata = bring(tokens, uid)
        page = await stub.ListJobs(pb.ListJobsRequest(), metadata=metadata)
        (piece,) = [each async for each in stub.ReadLogs(pb.ReadLogsRequest(), metadata=metadata)]
        return page.next_page_token, piece.data

    told = await asyncio.gather(*(called(uid) for uid in range(1000, 1050)))
    assert told == [(str(uid), str(uid).encode()) for uid in range(1000, 1050)]


async def test_a_token_is_out_of_date_after_its_time(stub: Any, tokens: Tokens) -> None:
    for before, reason in ((59.0, None), (60.1, "TOKEN_EXPIRED")):
        call = stub.ListJobs(pb.ListJobsRequest(), metadata=bring(tokens, 7, before=before))
        if reason is None:
            assert (await call).next_page_token == str(7)
            continue
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert dict(caught.value.trailing_metadata())["wsclean-workerd-reason"] == reason


@pytest.mark.usefixtures("stub")
async def test_what_the_service_does_not_know_is_said_to_be_unknown(
    folder: Path,
) -> None:
    async with grpc.aio.insecure_channel(f"unix:{folder}/w.sock") as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/NoSuchCall")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
