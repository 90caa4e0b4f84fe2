"""One command, from its submission to its end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from wsclean_client.errors import DaemonNotReachable, WSCleanError
from wsclean_client.handle import left_behind
from wsclean_client.jobs import JobInfo

if TYPE_CHECKING:
    from wsclean_client.sinks import Output
    from wsclean_client.spec import CommandSpec
    from wsclean_client.transport import Transport


class Run:
    """Submits a command, takes its output and waits for its end, in one call.

    Args:
        transport: The connection to the daemon.
        spec: What to run.
        request_id: Names the submission.
        output: Takes what the job writes.
    """

    def __init__(
        self, transport: Transport, spec: CommandSpec, request_id: str, output: Output
    ) -> None:
        self._transport = transport
        self._spec = spec
        self._request_id = request_id
        self._output = output
        self._job: JobInfo | None = None

    def finish(self) -> JobInfo:
        """Run the command to its end; interrupted, cancel the job.

        Returns:
            The job as it ended.

        Raises:
            WSCleanError: If the daemon refuses it or cannot be reached.
        """
        try:
            return self._follow()
        except DaemonNotReachable as error:
            if self._job is None:
                raise
            raise DaemonNotReachable(left_behind(error, self._job.id)) from error
        except WSCleanError:
            raise
        except BaseException:
            self._cancel()
            raise

    def _follow(self) -> JobInfo:
        output = self._output
        for news in self._transport.run(
            self._spec, self._request_id, follow=output.live, offsets=lambda: output.offsets
        ):
            if isinstance(news, JobInfo):
                self._job = news
            else:
                output.take(news)
        assert self._job is not None  # noqa: S101 - the stream begins and ends with the job
        return self._job

    def _cancel(self) -> None:
        with contextlib.suppress(WSCleanError):
            if self._job is None:
                # Nobody will learn the id of this job, so it must not live on.
                self._transport.disown(self._spec, self._request_id)
            else:
                self._transport.cancel(self._job.id)
