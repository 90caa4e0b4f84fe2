"""Calls that are repeated, and streams that are taken up again, across restarts of the daemon."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from wsclean_client.errors import ClientClosed, DaemonFailed, WaitTimeout, WSCleanError
from wsclean_client.outage import Outage
from wsclean_client.rpc_errors import interrupted, repeatable, translate, unanswered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Message_co = TypeVar("_Message_co", covariant=True)


class Stream(Protocol[_Message_co]):
    """The answer of a call that is a stream."""

    def __iter__(self) -> Iterator[_Message_co]: ...

    def cancel(self) -> object:
        """End it."""
        ...


class Calls:
    """The calls of one client. Any number of threads may use it.

    Args:
        socket: The absolute path of the socket, for messages.
        connect_timeout: Seconds for which a call is repeated while the daemon is
            not there.
        reconnect_timeout: Seconds for which a stream that broke is taken up again.
    """

    def __init__(self, socket: str, connect_timeout: float, reconnect_timeout: float) -> None:
        self._socket = socket
        self._connect_timeout = connect_timeout
        self._reconnect_timeout = reconnect_timeout
        self._closed = threading.Event()
        self._reached = False

    def close(self) -> None:
        """Let no call go on, those of other threads included: they end with `ClientClosed`."""
        self._closed.set()

    def answer(self, call: Callable[[_Request], _Response], request: _Request) -> _Response:
        """Call until there is an answer or the daemon has been away for too long."""
        outage = Outage(self._connect_timeout)
        while True:
            try:
                return self._attempt(call, request)
            except grpc.RpcError as error:
                if not repeatable(error) or outage.too_long():
                    raise translate(error, self._socket) from error
            self._closed.wait(outage.pause())

    def answer_now(
        self, call: Callable[[_Request], _Response], request: _Request
    ) -> _Response | None:
        """Call once; None if nobody can tell what has become of it."""
        try:
            return self._attempt(call, request)
        except grpc.RpcError as error:
            if not unanswered(error):
                raise translate(error, self._socket) from error
            return None

    def _attempt(self, call: Callable[[_Request], _Response], request: _Request) -> _Response:
        self._check_open()
        try:
            answer = call(request)
        except (grpc.RpcError, ValueError, grpc.FutureCancelledError):
            # Whatever gRPC says of a channel that another thread has just closed.
            self._check_open()
            raise
        self._reached = True
        return answer

    def stream(
        self,
        begin: Callable[[float | None], Stream[_Response]],
        complete: Callable[[], bool],
        timeout: float | None = None,
    ) -> Iterator[_Response]:
        """Yield the messages of a stream, begun again whenever it breaks.

        Args:
            begin: Starts the stream from where it is now, with a time limit.
            complete: Whether a stream that ended in good order was whole.
            timeout: Seconds for all of it, or None.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        outage = Outage(self._reconnect_timeout if self._reached else self._connect_timeout)
        while True:
            self._check_open()
            error: grpc.RpcError | None = None
            call = begin(None if deadline is None else max(0.0, deadline - time.monotonic()))
            try:
                for message in call:
                    self._reached = True
                    outage.over(self._reconnect_timeout)
                    yield message
                if complete():
                    return
            except grpc.RpcError as broken:
                error = broken
            finally:
                # Also when the caller loses interest: the daemon stops sending.
                call.cancel()
            self._check_open()
            if deadline is not None and (_out_of_time(error) or time.monotonic() >= deadline):
                raise WaitTimeout
            if error is not None and not interrupted(error):
                raise translate(error, self._socket) from error
            if outage.too_long():
                raise self._gone(error) from error
            self._closed.wait(outage.pause())

    def _gone(self, error: grpc.RpcError | None) -> WSCleanError:
        if error is None:
            return DaemonFailed(
                f"cannot follow the job: wsclean-workerd at {self._socket} ends the stream again "
                "and again before the job has ended. Its log may say why",
            )
        return translate(error, self._socket)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ClientClosed("cannot call wsclean-workerd: this client has been closed")


def _out_of_time(error: grpc.RpcError | None) -> bool:
    return error is not None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
