"""Tells which of the jobs that were killed the kernel has killed for lack of memory. Pure.

The kernel counts its kills for a whole container and does not say whom they hit. The
wrapper looks at the count when it begins to wait for jobs, and when one was ended by KILL.
"""

from __future__ import annotations

from collections import deque

# Between the death of a process and the look of its wrapper.
_SLOW_SECONDS = 2.0
_LOOKS = 64


class OomKills:
    """All that was seen of the count."""

    def __init__(self) -> None:
        self._looks: deque[tuple[str | None, float, int]] = deque(maxlen=_LOOKS)

    def explain(self, container: str | None, at: float, before: int, after: int) -> bool:
        """Say whether lack of memory has ended a job.

        Args:
            container: Where it ran.
            at: When it ended, in seconds.
            before: The count some time before.
            after: The count when it had ended.
        """
        # What others had seen before it ended was not its end.
        seen = [
            count
            for where, when, count in self._looks
            if where == container and when < at - _SLOW_SECONDS
        ]
        self._looks.append((container, at, after))
        return after > max([before, *seen])
