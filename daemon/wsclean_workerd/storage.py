"""What is known of the storage behind the mounts, and which jobs it lets start. Pure.

Storage can hang: whoever touches it then waits in the kernel and cannot be ended. So a
job starts only if each mount that it touches has answered a short while ago. Nobody in
here asks; `probes` does, and tells what came of it.

What is proven is that names are looked up. Storage that does this and hangs when data
are read is not noticed before a job hangs on it.
"""

from __future__ import annotations

import math
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd.model import Reason
from wsclean_workerd.paths import inner_paths, is_below

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from wsclean_workerd.model import Mount, Order

Touched = frozenset[str]
"""The mounts that a job touches, each by its folder in the container."""


@dataclass(slots=True)
class _Knowledge:
    """What is known of one mount.

    Attributes:
        watched: Whether there is anybody who can ask.
        asked: When it was asked what it has not answered yet, or None.
        proven: When it last answered.
        hung: Whether it has not answered in time.
    """

    watched: bool = False
    asked: float | None = None
    proven: float = -math.inf
    hung: bool = False


class Storage:
    """Knows of each mount whether its storage answers.

    All times are seconds of any clock that never steps.

    Args:
        mounts: The mounts.
        timeout: Seconds after which storage that has not answered hangs.
        proof_age: Seconds for which an answer counts.
    """

    def __init__(self, mounts: Sequence[Mount], *, timeout: float, proof_age: float) -> None:
        self.mounts = mounts
        self.timeout = timeout
        self._proof_age = proof_age
        self._known = {mount.container: _Knowledge() for mount in mounts}
        # Equal sets are one in memory: there may be a hundred thousand jobs.
        self._sets: dict[Touched, Touched] = {}

    def adopt(self, *, timeout: float, proof_age: float) -> None:
        """Go by other times from now on."""
        self.timeout, self._proof_age = timeout, proof_age

    def touched(self, order: Order) -> Touched:
        """The mounts that a job touches: those above its paths and its working directory.

        Names that are not absolute are below the working directory.
        """
        folder = order.working_directory
        paths = {folder}
        for argument in order.command[1:]:
            paths.update(inner_paths(argument))
            if argument.startswith("../"):
                paths.add(posixpath.normpath(posixpath.join(folder, argument)))
        found = frozenset(
            mount.container
            for mount in self.mounts
            if any(is_below(path, mount.container) for path in paths)
        )
        return self._sets.setdefault(found, found)

    # -- what happens ------------------------------------------------------------

    def watched(self, mount: str) -> None:
        """Somebody is about to be there who can ask: from now on it takes an answer."""
        known = self._known[mount]
        known.watched, known.asked, known.proven = True, None, -math.inf

    def unwatched(self, mount: str) -> None:
        """Nobody is there any more who could ask: nothing is held back on suspicion."""
        self._known[mount] = _Knowledge()

    def asked(self, mount: str, now: float) -> None:
        """It has been asked."""
        self._known[mount].asked = now

    def answered(self, mount: str, now: float) -> bool:
        """It has answered.

        Returns:
            Whether jobs may have been waiting for that.
        """
        known = self._known[mount]
        waited = known.hung or now - known.proven > self._proof_age
        known.asked, known.proven, known.hung = None, now, False
        return waited

    def overdue(self, mount: str, now: float) -> bool:
        """Take note if the answer has not come in time.

        Returns:
            Whether it is from now on known to hang.
        """
        known = self._known[mount]
        if known.hung or known.asked is None or now - known.asked < self.timeout:
            return False
        known.hung = True
        return True

    def patience(self, mount: str, now: float) -> float | None:
        """For how many seconds its answer can still be waited for, or None if none is awaited."""
        known = self._known[mount]
        return None if known.hung or known.asked is None else known.asked + self.timeout - now

    # -- what follows ------------------------------------------------------------

    def unproven(self, mounts: Collection[str], now: float) -> Touched:
        """Those of some mounts that no job may be started on yet."""
        return frozenset(each for each in mounts if self._older(each, self._proof_age, now))

    def due(self, mounts: Collection[str], now: float) -> list[str]:
        """Those of some mounts that are to be asked.

        While the last answer still counts, so that no job has to wait for the next.
        """
        return [
            each
            for each in mounts
            if self._known[each].asked is None and self._older(each, self._proof_age / 2, now)
        ]

    def why(self, mounts: Collection[str]) -> Reason | None:
        """Why jobs that touch these mounts wait, or None if it is not for storage that hangs."""
        hung = [each for each in self.mounts if each.container in mounts and self._hung(each)]
        if not hung:
            return None
        named = ", ".join(
            each.host if each.host == each.container else f"{each.host} (as {each.container})"
            for each in hung
        )
        return Reason(
            "STORAGE_HUNG",
            f"the storage of {named} has not answered for {self.timeout:g} s: jobs that use it "
            "wait and start by themselves when it answers again",
        )

    def hung(self) -> Touched:
        """The mounts whose storage has not answered in time."""
        return frozenset(each for each, known in self._known.items() if known.hung)

    def condition(self) -> Reason | None:
        """What is the matter with the storage, or None."""
        return self.why(self._known)

    def _hung(self, mount: Mount) -> bool:
        return self._known[mount.container].hung

    def _older(self, mount: str, age: float, now: float) -> bool:
        known = self._known[mount]
        return known.watched and (known.hung or now - known.proven > age)
