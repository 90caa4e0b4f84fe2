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

_TOKEN_MISSING = "TOKEN_MISSING"  # noqa: S105 - reasons of the daemon
_TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105

_Code = grpc.StatusCode
_REFUSALS = {
    _Code.INVALID_ARGUMENT: errors.RequestRefused,
    _Code.FAILED_PRECONDITION: errors.RequestRefused,
    _Code.PERMISSION_DENIED: errors.PermissionDenied,
    _Code.UNAUTHENTICATED: errors.NotAuthenticated,
    _Code.RESOURCE_EXHAUSTED: errors.RequestRefused,
    _Code.ALREADY_EXISTS: errors.RequestRefused,
    _Code.ABORTED: errors.RequestRefused,
    _Code.OUT_OF_RANGE: errors.RequestRefused,
}


def repeatable(error: grpc.RpcError) -> bool:
    """Whether the same call may be answered a little later."""
    # The latter of a daemon that was restarted twice while the call was made.
    return error.code() is _Code.UNAVAILABLE or _has_outdated_token(error)


def unanswered(error: grpc.RpcError) -> bool:
    """Whether nobody can tell what has become of a call."""
    return interrupted(error) or error.code() is _Code.DEADLINE_EXCEEDED


def interrupted(error: grpc.RpcError) -> bool:
    """Whether a stream that ended so can be taken up again where it broke."""
    # A daemon that stops in good order cancels the streams that it serves.
    return error.code() is _Code.CANCELLED or repeatable(error)


def token_refused(error: grpc.RpcError) -> bool:
    """Whether a call did nothing for lack of a token that counts, and another one may help."""
    if error.code() is not _Code.UNAUTHENTICATED:
        return False
    return _reason(error.trailing_metadata()) in {_TOKEN_EXPIRED, _TOKEN_MISSING}


def _has_outdated_token(error: grpc.RpcError) -> bool:
    return (
        error.code() is _Code.UNAUTHENTICATED
        and _reason(error.trailing_metadata()) == _TOKEN_EXPIRED
    )


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
        return _REFUSALS.get(code, errors.RequestRefused)(words, reason or code.name)
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
