"""Calls to the Docker engine that can neither block nor outstay.

The SDK is synchronous and its own timeout only limits the silence between two
reads, so every call runs in a thread of a small pool, with a deadline around it.
A call whose deadline passed may still take effect later: look before repeating it.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import docker
import requests
import urllib3.exceptions
from docker.errors import APIError, DockerException

from wsclean_workerd.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import APIClient

T = TypeVar("T")

_THREADS = 4


_NOT_FOUND = 404


class EngineRefused(Exception):
    """The engine answered that it cannot do it.

    Args:
        status: The HTTP status, for example 404.
        message: Its words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def not_found(self) -> bool:
        """Whether there is no such thing."""
        return self.status == _NOT_FOUND


class Engine:
    """A Docker engine.

    Args:
        url: Its address.
        timeout: Seconds that one call may take.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url
        self.timeout = timeout
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="engine")
        self._local = threading.local()

    async def call(self, work: Callable[[APIClient], T]) -> T:
        """Run a piece of work with a client of its own, in a thread.

        Args:
            work: What to do with the client.

        Returns:
            What it returned.

        Raises:
            RuntimeUnavailable: If the engine cannot be reached or does not answer.
            EngineRefused: If it answered with an error.
        """
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._run, work)
        try:
            # A second more than the SDK's own limit, which knows better what it waited for.
            # Not wait_for, which up to Python 3.11 loses a cancellation that comes with the
            # answer: whoever was to end would go on.
            async with asyncio.timeout(self.timeout + 1):
                return await running
        except TimeoutError:
            raise self._silent() from None

    async def until_stopped(self, container: str, *, at_most: int) -> bool:
        """Wait until a container runs no longer, in a thread of its own.

        Args:
            container: Its id.
            at_most: Seconds after which to give up.

        Returns:
            Whether it has stopped, as opposed to the time being up.

        Raises:
            RuntimeUnavailable: If the engine cannot be reached.
            EngineRefused: If there is no such container.
        """

        def wait() -> bool:
            client = self._connect(at_most)
            try:
                client.wait(container, timeout=at_most)
            except requests.exceptions.RequestException as error:
                if _timed_out(error):
                    return False
                raise
            finally:
                client.close()
            return True

        return await _in_thread(lambda: self._translate(wait))

    def close(self) -> None:
        """Let the threads end when they can."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, work: Callable[[APIClient], T]) -> T:
        return self._translate(lambda: work(self._client()))

    def _client(self) -> APIClient:
        client: APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect(self.timeout)
        return client

    def _connect(self, timeout: float) -> APIClient:
        # The engine says which version it speaks: new ones refuse what old ones need. It
        # is a call like any other, in the same thread and under the same deadline.
        return docker.APIClient(base_url=self.url, version="auto", timeout=timeout)  # type: ignore[arg-type]

    def _translate(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except APIError as error:
            status = error.response.status_code if error.response is not None else 500
            raise EngineRefused(status, str(error.explanation or error)) from None
        except (requests.exceptions.RequestException, DockerException, OSError) as error:
            if _timed_out(error):
                raise self._silent() from None
            raise RuntimeUnavailable(
                "ENGINE_UNREACHABLE",
                f"the Docker engine at {self.url} cannot be reached: {_innermost(error)}. Is it "
                "running?",
            ) from None

    def _silent(self) -> RuntimeUnavailable:
        return RuntimeUnavailable(
            "ENGINE_SILENT",
            f"the Docker engine at {self.url} did not answer within {self.timeout:g} s",
        )


def _timed_out(error: BaseException) -> bool:
    """Whether the engine was too slow; with the body of an answer that is hidden inside."""
    return isinstance(error, requests.exceptions.Timeout) or any(
        isinstance(argument, urllib3.exceptions.ReadTimeoutError) for argument in error.args
    )


def _innermost(error: BaseException) -> str:
    """The operating system's own words, without the layers of the HTTP library."""
    seen: BaseException = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    return str(seen)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run something that may take long in a daemon thread, which never delays the exit."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 - it is handed over, whatever it is
            error = caught
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            return  # the loop has ended, so nobody waits any more

    threading.Thread(target=run, name="engine-wait", daemon=True).start()
    return await done
