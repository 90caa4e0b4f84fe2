"""Turns what goes wrong in a call into a rich gRPC status."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from wsclean_workerd.errors import WorkerdError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Context = grpc.aio.ServicerContext[Any, Any]

log = logging.getLogger(__name__)

DOMAIN = "wsclean-workerd"
REASON_KEY = "wsclean-workerd-reason"

T = TypeVar("T")


async def abort(context: Context, error: Exception) -> None:
    """End a call with the status that an error stands for. Never returns."""
    if not isinstance(error, WorkerdError):
        log.error("a call failed in an unforeseen way", exc_info=error)
        error = WorkerdError(f"the daemon failed in an unforeseen way, its log says more: {error}")
    detail = any_pb2.Any()
    detail.Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=DOMAIN,
            metadata=error.metadata,
        ),
    )
    status = status_pb2.Status(
        code=code_pb2.Code.Value(error.code),
        message=str(error),
        details=[detail],
    )
    await context.abort(
        grpc.StatusCode[error.code],
        str(error),
        (
            ("grpc-status-details-bin", status.SerializeToString()),
            (REASON_KEY, error.reason),
        ),
    )


def unary(
    method: Callable[[Any, T, Context], Awaitable[Any]],
) -> Callable[[Any, T, Context], Awaitable[Any]]:
    """Make a unary handler answer errors with a rich status."""

    @functools.wraps(method)
    async def handler(self: object, request: T, context: Context) -> Any:
        try:
            return await method(self, request, context)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - this is where all of them end
            await abort(context, error)

    return handler


def streaming(
    method: Callable[[Any, T, Context], AsyncIterator[Any]],
) -> Callable[[Any, T, Context], AsyncIterator[Any]]:
    """Make a streaming handler answer errors with a rich status."""

    @functools.wraps(method)
    async def handler(self: object, request: T, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in method(self, request, context):
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001 - this is where all of them end
            await abort(context, error)

    return handler
