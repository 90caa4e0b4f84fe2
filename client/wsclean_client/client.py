"""The client for programs that may block; see `WSCleanClient`."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self

from wsclean_client.address import find_socket
from wsclean_client.errors import ClientClosed
from wsclean_client.handle import JobHandle
from wsclean_client.outcome import complete
from wsclean_client.run import Run
from wsclean_client.sinks import Output
from wsclean_client.spec import Options, prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from wsclean_client.diagnosis import Diagnosis
    from wsclean_client.jobs import CompletedJob, JobInfo, JobState
    from wsclean_client.sinks import Sink
    from wsclean_client.spec import PathArgument, Seconds
    from wsclean_client.status import Status
    from wsclean_client.transport import Transport

_PAGE = 200
"""How many jobs `WSCleanClient.list` asks for at a time."""


class WSCleanClient:
    """Runs commands through the daemon of this host.

    Making one is cheap: it connects with the first call. One client serves any
    number of threads. It installs no signal handlers. Leaving its context, or
    `close()`, ends its calls and no job.

    Args:
        socket: The daemon's socket. None: what $WSCLEAN_WORKERD_SOCKET names, else
            /run/wsclean-workerd/workerd.sock.
        connect_timeout: Seconds for which a call is repeated while the daemon is
            not there, since it may be restarting.
        reconnect_timeout: Seconds for which waiting for a job or following its
            output goes on without the daemon.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        connect_timeout: float = 5.0,
        reconnect_timeout: float = 60.0,
    ) -> None:
        self._socket = find_socket(socket)
        self._connect_timeout = connect_timeout
        self._reconnect_timeout = reconnect_timeout
        self._lock = threading.Lock()
        self._connection: Transport | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"WSCleanClient({self._socket!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def socket(self) -> str:
        """The absolute path of the daemon's socket."""
        return self._socket

    def close(self) -> None:
        """End all calls, those of other threads too, with `ClientClosed`. Jobs go on."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def run(  # noqa: PLR0913 - as many as subprocess.run has, keyword-only
        self,
        args: Iterable[PathArgument],
        *,
        timeout: Seconds | None = None,
        queue_timeout: Seconds | None = None,
        check: bool = True,
        cwd: PathArgument | None = None,
        env: Mapping[str, str] | None = None,
        umask: int | None = None,
        stdout: Sink | None = None,
        stderr: Sink | None = None,
        tied: bool = False,
        locks: Iterable[PathArgument] = (),
        retries: int = 0,
        request_id: str | None = None,
    ) -> CompletedJob:
        """Run a command and wait for its end, much like `subprocess.run`.

        Unlike there, `check` is true unless said otherwise, and the output is
        always captured. If the caller is interrupted (KeyboardInterrupt, or an
        exception of `stdout` or `stderr`) the job is cancelled.

        Args:
            args: The program and its arguments. Paths are those of this host.
            timeout: Seconds that the command may run, counted from its start.
                None: the daemon's default.
            queue_timeout: Seconds that the job may wait in the queue. None: the
                daemon's default.
            check: Whether an exit status other than 0 is an exception.
            cwd: The working directory. None: the caller's.
            env: Variables to add to the job's environment; the caller's own is
                not passed on.
            umask: The file mode creation mask. None: the caller's.
            stdout: Takes standard output as it comes: a function of bytes, or a
                file.
            stderr: Takes standard error likewise.
            tied: Whether the job is to end when this process does, however that
                happens. Otherwise it goes on.
            locks: What no other job with the same lock may use meanwhile: from the start
                of the job until its last process is gone. What has a `/` in it, and a path
                object, is the path of a Measurement Set or of images (their `-name`);
                any other text is a plain name such as `gpu-calibration`.
            retries: How often the command may be run again if nobody can say how it ended:
                its container died, say, or the host was restarted. Never after an exit
                status, and never if the job was told to end. What it writes comes behind
                the output of the attempts before.
            request_id: Names the submission: sent again, by this user, it means
                the same job. None: a random one.

        Returns:
            The completed job.

        Raises:
            JobEnded: If it ended otherwise than with an exit status, or with one
                other than 0 and `check` is true: `JobFailed`, `JobTimedOut`,
                `JobCancelled` or `JobLost`.
            RequestRefused: If the daemon does not accept the command.
            DaemonNotReachable: If the daemon does not answer.
            TypeError: If `args` or `locks` is no list of texts and paths, or `retries` no
                number of times.
            ValueError: If a timeout is no finite number, or `retries` below 0.
        """
        options = Options(
            cwd=cwd,
            env=env,
            timeout=timeout,
            queue_timeout=queue_timeout,
            umask=umask,
            tied=tied,
            locks=locks,
            retries=retries,
        )
        spec, output = prepare(args, options), Output(stdout, stderr)
        run = Run(self._transport(), spec, request_id or os.urandom(16).hex(), output)
        info = run.finish()
        return complete(info, output.stdout, output.stderr, check=check)

    def submit(  # noqa: PLR0913 - as above
        self,
        args: Iterable[PathArgument],
        *,
        timeout: Seconds | None = None,
        queue_timeout: Seconds | None = None,
        cwd: PathArgument | None = None,
        env: Mapping[str, str] | None = None,
        umask: int | None = None,
        locks: Iterable[PathArgument] = (),
        retries: int = 0,
        request_id: str | None = None,
    ) -> JobHandle:
        """Hand a command to the daemon and return at once.

        When it returns, the job is on the daemon's disk and no longer depends on
        the caller.

        Args:
            args: As for `run`.
            timeout: As for `run`.
            queue_timeout: As for `run`.
            cwd: As for `run`.
            env: As for `run`.
            umask: As for `run`.
            locks: As for `run`.
            retries: As for `run`.
            request_id: As for `run`.

        Returns:
            The job.

        Raises:
            RequestRefused: If the daemon does not accept the command.
            DaemonNotReachable: If the daemon does not answer.
            TypeError: If `args` or `locks` is no list of texts and paths, or `retries` no
                number of times.
            ValueError: If a timeout is no finite number, or `retries` below 0.
        """
        options = Options(
            cwd=cwd,
            env=env,
            timeout=timeout,
            queue_timeout=queue_timeout,
            umask=umask,
            locks=locks,
            retries=retries,
        )
        spec = prepare(args, options)
        transport = self._transport()
        info = transport.submit(spec, request_id or os.urandom(16).hex())
        return JobHandle(transport, info.id, info)

    def job(self, job_id: str) -> JobHandle:
        """Return the handle of a job. The daemon is not asked whether it exists."""
        return JobHandle(self._transport(), str(job_id))

    def list(
        self, *, states: Iterable[JobState] = (), limit: int | None = None
    ) -> Iterator[JobInfo]:
        """List jobs, newest first.

        Args:
            states: Only jobs in one of these states. Empty: all.
            limit: At most this many jobs. None: all.

        Yields:
            The jobs. The daemon is asked for more as they are consumed.

        Raises:
            DaemonNotReachable: If the daemon does not answer.
        """
        wanted, token = tuple(states), ""
        while limit is None or limit > 0:
            size = _PAGE if limit is None else min(limit, _PAGE)
            jobs, token = self._transport().page(wanted, size, token)
            yield from jobs
            if not token:
                return
            if limit is not None:
                limit -= len(jobs)

    def status(self) -> Status:
        """Ask for the condition of the daemon, its container and its queue.

        Returns:
            The condition.

        Raises:
            DaemonNotReachable: If the daemon does not answer.
        """
        return self._transport().status()

    def drain(self) -> Iterator[int]:
        """Have the daemon start no further jobs. They are accepted and wait.

        It stays so, also if the iteration is given up, until `resume` or a restart of it.

        Yields:
            How many slots are taken, again whenever that changes; 0 at last.

        Raises:
            RequestRefused: If it is resumed meanwhile, with the reason `RESUMED`.
            DaemonNotReachable: If the daemon does not answer.
        """
        return self._transport().drain()

    def resume(self) -> None:
        """Have the daemon start jobs again, and shut down no longer if it waits for jobs.

        Raises:
            RequestRefused: If it is too late, with the reason `SHUTTING_DOWN`.
            DaemonNotReachable: If the daemon does not answer.
        """
        self._transport().resume()

    def shut_down(self, *, now: bool = False) -> Iterator[int]:
        """Have the daemon end and its container removed. Jobs that wait do so until it starts.

        It goes on if the iteration is given up.

        Args:
            now: Whether jobs that run are told to end. Otherwise they are waited for.

        Yields:
            How many slots are taken, again whenever that changes. It ends when the container
            is removed.

        Raises:
            RequestRefused: If it is resumed meanwhile, with the reason `RESUMED`.
            DaemonNotReachable: If the daemon does not answer.
        """
        return self._transport().shut_down(now=now)

    def diagnose(self) -> Diagnosis:
        """Have the daemon look at all that jobs need. It takes a few seconds at most.

        Returns:
            What it found, and how to mend it.

        Raises:
            DaemonNotReachable: If the daemon does not answer.
        """
        return self._transport().diagnose()

    def _transport(self) -> Transport:
        with self._lock:
            if self._closed:
                raise ClientClosed("cannot call wsclean-workerd: this client has been closed")
            if self._connection is None:
                # gRPC takes longer to import than many a caller takes to run.
                from wsclean_client.transport import Transport  # noqa: PLC0415

                self._connection = Transport(
                    self._socket, self._connect_timeout, self._reconnect_timeout
                )
            return self._connection
