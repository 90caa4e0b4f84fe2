"""Where the output of a job goes while it runs."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from wsclean_client.jobs import LogChunk, StreamName

Sink: TypeAlias = Callable[[bytes], object] | IO[bytes] | IO[str]
"""Takes output as it comes: a function of bytes, or a file (binary or text)."""


class Output:
    """Keeps what a job writes and passes it on.

    Args:
        stdout: Where standard output goes besides, or None.
        stderr: Where standard error goes besides, or None.
    """

    def __init__(self, stdout: Sink | None = None, stderr: Sink | None = None) -> None:
        self._kept: dict[StreamName, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._pass: dict[StreamName, Callable[[bytes], object]] = {}
        if stdout is not None:
            self._pass["stdout"] = _writer(stdout)
        if stderr is not None:
            self._pass["stderr"] = _writer(stderr)

    @property
    def live(self) -> bool:
        """Whether anybody wants the output while the job runs."""
        return bool(self._pass)

    @property
    def stdout(self) -> bytes:
        """All of standard output."""
        return bytes(self._kept["stdout"])

    @property
    def stderr(self) -> bytes:
        """All of standard error."""
        return bytes(self._kept["stderr"])

    @property
    def offsets(self) -> tuple[int, int]:
        """How many bytes there are of each."""
        return len(self._kept["stdout"]), len(self._kept["stderr"])

    def take(self, chunk: LogChunk) -> None:
        """Keep a piece of output and pass it on."""
        self._kept[chunk.stream] += chunk.data
        if chunk.stream in self._pass:
            self._pass[chunk.stream](chunk.data)


def _writer(sink: Sink) -> Callable[[bytes], object]:
    if callable(sink):
        return sink
    file: Any = sink
    if isinstance(file, io.TextIOBase):
        # A character may be cut in two by the end of a piece.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda data: _write(file, decoder.decode(data))
    return lambda data: _write(file, data)


def _write(file: Any, data: str | bytes) -> None:
    file.write(data)
    file.flush()
