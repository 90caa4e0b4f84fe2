"""From gRPC's errors to the client's own. Shared by every kind of client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from wsclean_client import errors
from wsclean_client.address import diagnose

if TYPE_CHECKING:
    from collections.abc import Iterable

REASON_KEY = "wsclean-workerd-reason"
"""The trailing metadata in which the daemon tells the reason code."""

_Code = grpc.StatusCode
_REFUSALS = frozenset(
    {
        _Code.INVALID_ARGUMENT,
        _Code.FAILED_PRECONDITION,
        _Code.PERMISSION_DENIED,
        _Code.UNAUTHENTICATED,
        _Code.RESOURCE_EXHAUSTED,
        _Code.ALREADY_EXISTS,
        _Code.ABORTED,
        _Code.OUT_OF_RANGE,
    },
)


def repeatable(error: grpc.RpcError) -> bool:
    """Whether the same call may be answered a little later."""
    return error.code() is _Code.UNAVAILABLE


def unanswered(error: grpc.RpcError) -> bool:
    """Whether nobody can tell what has become of a call."""
    return interrupted(error) or error.code() is _Code.DEADLINE_EXCEEDED


def interrupted(error: grpc.RpcError) -> bool:
    """Whether a stream that ended so can be taken up again where it broke."""
    # A daemon that stops in good order cancels the streams that it serves.
    return error.code() in {_Code.UNAVAILABLE, _Code.CANCELLED}


def translate(error: grpc.RpcError, socket: str) -> errors.WSCleanError:
    """Turn an error of gRPC into one that a caller can act on.

    Args:
        error: What a call ended with.
        socket: The path of the socket that it went to.

    Returns:
        The error to raise.
    """
    code, reason = error.code(), _reason(error.trailing_metadata())
    words = error.details() or code.name
    if code is _Code.NOT_FOUND:
        return errors.JobNotFound(words)
    if code in _REFUSALS or (code is _Code.UNAVAILABLE and reason):
        return errors.RequestRefused(words, reason or code.name)
    if code in {_Code.UNAVAILABLE, _Code.CANCELLED}:
        return errors.DaemonNotReachable(diagnose(socket))
    if code is _Code.DEADLINE_EXCEEDED:
        return errors.DaemonNotReachable(
            f"cannot reach wsclean-workerd at {socket}: it listens but has not answered in time, "
            "and may still do what it was asked. Its log may say why",
        )
    if code is _Code.UNIMPLEMENTED:
        return errors.DaemonFailed(
            f"cannot use the daemon at {socket}: it is older than this client and does not know "
            f"the call. Upgrade and restart it ({words})",
            reason or code.name,
        )
    return errors.DaemonFailed(
        f"cannot get an answer from wsclean-workerd at {socket}: it failed with {code.name}: "
        f"{words}. Its log may say more",
        reason or code.name,
    )


def _reason(metadata: Iterable[Any] | None) -> str:
    for key, value in metadata or ():
        if key == REASON_KEY:
            return str(value)
    return ""
