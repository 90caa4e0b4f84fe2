"""A channel whose calls say whose they are, and are made once more if the token was out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import grpc

from wsclean_client.rpc_errors import token_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wsclean_client.identity import Identity, Metadata


class AuthorizedChannel(grpc.Channel):
    """Another channel, with tokens.

    A daemon that was restarted does not know the tokens of before, and says so before it does
    anything: then the call is made again, once, with a new one.

    Args:
        channel: The channel.
        identity: Where tokens come from.
    """

    def __init__(self, channel: grpc.Channel, identity: Identity) -> None:
        self._channel = channel
        self._identity = identity

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        """A kind of call with one answer."""
        return _Unary(self._channel.unary_unary(*args, **options), self._identity)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """A kind of call whose answer is a stream."""
        begin = self._channel.unary_stream(*args, **options)
        return lambda request, **more: _Stream(
            lambda metadata: begin(request, metadata=metadata, **more), self._identity
        )

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """Not used."""
        raise NotImplementedError

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """Not used."""
        raise NotImplementedError

    def subscribe(self, *args: Any, **options: Any) -> None:
        """Be told of the state of the connection."""
        self._channel.subscribe(*args, **options)

    def unsubscribe(self, *args: Any, **options: Any) -> None:
        """Be told of it no longer."""
        self._channel.unsubscribe(*args, **options)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class _Unary:
    """A kind of call with one answer."""

    def __init__(self, call: Any, identity: Identity) -> None:
        self._call = call
        self._identity = identity

    def __call__(self, request: Any, **options: Any) -> Any:
        metadata = self._identity.metadata()
        try:
            return self._call(request, metadata=metadata, **options)
        except grpc.RpcError as error:
            if not token_refused(error):
                raise
        self._identity.forget(metadata)
        return self._call(request, metadata=self._identity.metadata(), **options)

    def future(self, request: Any, **options: Any) -> _Future:
        return _Future(
            lambda metadata: self._call.future(request, metadata=metadata, **options),
            self._identity,
        )


class _Future:
    """The answer to come of a call."""

    def __init__(self, begin: Callable[[Metadata], Any], identity: Identity) -> None:
        self._begin = begin
        self._identity = identity
        self._metadata = identity.metadata()
        self._call = begin(self._metadata)

    def result(self, timeout: float | None = None) -> Any:
        options = {} if timeout is None else {"timeout": timeout}
        try:
            return self._call.result(**options)
        except grpc.RpcError as error:
            if not token_refused(error):
                raise
        self._identity.forget(self._metadata)
        self._metadata = self._identity.metadata()
        self._call = self._begin(self._metadata)
        return self._call.result(**options)

    def cancel(self) -> object:
        return self._call.cancel()


class _Stream:
    """The answer of a call that is a stream."""

    def __init__(self, begin: Callable[[Metadata], Any], identity: Identity) -> None:
        self._begin = begin
        self._identity = identity
        self._metadata = identity.metadata()
        self._call = begin(self._metadata)
        self._messages = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._messages)

    def cancel(self) -> object:
        return self._call.cancel()

    def _read(self) -> Iterator[Any]:
        try:
            first = next(self._call)
        except StopIteration:
            return
        except grpc.RpcError as error:
            if not token_refused(error):
                raise
            self._identity.forget(self._metadata)
            self._call = self._begin(self._identity.metadata())
        else:
            yield first
        yield from self._call
