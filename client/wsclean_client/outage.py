"""How long to go on trying while the daemon is away. Shared by every kind of client."""

from __future__ import annotations

import time

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
_CALM_SECONDS = 5.0


class Outage:
    """Measures an absence of the daemon and spaces the attempts to reach it.

    Args:
        patience: Seconds from the first failed attempt after which to give up.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._give_up: float | None = None
        self._pause = _FIRST_PAUSE
        self._paused = float("-inf")

    def over(self, patience: float) -> None:
        """Note that the daemon has answered.

        Args:
            patience: Seconds for which to bear with it next time.
        """
        self._patience = patience
        self._give_up = None

    def too_long(self) -> bool:
        """Whether to give up. Call it once for each failed attempt."""
        now = time.monotonic()
        if self._give_up is None:
            self._give_up = now + self._patience
        return now >= self._give_up

    def pause(self) -> float:
        """Tell for how many seconds to pause before the next attempt."""
        now = time.monotonic()
        # Not when it answers: one that answers and breaks at once, again and
        # again, must not be called without a pause.
        if now - self._paused > _CALM_SECONDS:
            self._pause = _FIRST_PAUSE
        self._paused = now
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return pause
