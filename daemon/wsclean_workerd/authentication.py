"""Finds out who calls before a call is answered, and refuses whoever may not."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc

from wsclean_workerd import clock
from wsclean_workerd.access import RIGHTS, Caller, Operators, Right
from wsclean_workerd.errors import WorkerdError
from wsclean_workerd.rpc_errors import abort
from wsclean_workerd.tokens import Tokens, bearer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = grpc.RpcMethodHandler[Any, Any]

KEY = "authorization"
"""The metadata in which a call brings its token."""

CALLER: ContextVar[Caller] = ContextVar("caller")
"""Who has made the call that is being answered; each is answered in a task of its own."""


class Authentication(grpc.aio.ServerInterceptor):
    """Stands before all calls of the service.

    Args:
        service: The full name of the service; others are open.
        tokens: What callers bring.
        operators: Who may do everything.
    """

    def __init__(self, service: str, tokens: Tokens, operators: Operators) -> None:
        self._prefix = f"/{service}/"
        self._tokens = tokens
        self.operators = operators

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Let a call through, or answer it with a refusal."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        # One that is unknown is answered as such.
        if handler is not None and method.startswith(self._prefix):
            try:
                self._admit(method.removeprefix(self._prefix), handler_call_details)
            except WorkerdError as error:
                return _refusal(error)
        return handler

    def _admit(self, call: str, details: grpc.HandlerCallDetails) -> None:
        if RIGHTS[call] is Right.CONNECTED:
            return
        values = [str(value) for key, value in details.invocation_metadata or () if key == KEY]
        user = self._tokens.check(bearer(values), clock.now().boot)
        caller = self.operators.caller(user)
        caller.check_may(call)
        CALLER.set(caller)


def _refusal(error: WorkerdError) -> Handler:
    async def refuse(_request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await abort(context, error)

    # Also of calls that have one answer: none is given.
    handler: Handler = grpc.unary_stream_rpc_method_handler(refuse)
    return handler
