"""Passes the output of jobs on to that of the process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsclean_client.jobs import LogChunk


def pass_on(chunk: LogChunk) -> None:
    """Write a piece to the output of the same name, at once and unchanged.

    Raises:
        BrokenPipeError: If nobody reads it any more.
    """
    output = (sys.stdout if chunk.stream == "stdout" else sys.stderr).buffer
    output.write(chunk.data)
    output.flush()
