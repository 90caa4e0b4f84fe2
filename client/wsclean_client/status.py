"""The condition of the daemon as a caller sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsclean_client.jobs import iso

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from wsclean_client.jobs import JobState, Reason


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder that jobs can reach.

    Attributes:
        host: The folder on the host.
        container: The folder as a job sees it.
        read_only: Whether jobs can only read it.
    """

    host: str
    container: str
    read_only: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {"host": self.host, "container": self.container, "read_only": self.read_only}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeStatus:
    """What runs the jobs, and how it is.

    Attributes:
        kind: "docker" or "native".
        ready: Whether jobs can be started now.
        condition: What is the matter or should be known, or None.
        image: The image, or the empty string with the native runtime.
        container_name: The container's name, or the empty string.
        container_id: The container's id, or the empty string while there is none.
    """

    kind: str
    ready: bool
    condition: Reason | None = None
    image: str = ""
    container_name: str = ""
    container_id: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "kind": self.kind,
            "ready": self.ready,
            "condition": self.condition.as_dict() if self.condition else None,
            "image": self.image,
            "container_name": self.container_name,
            "container_id": self.container_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The condition of the daemon, its container and its queue.

    Attributes:
        version: The version of the daemon.
        started_at: When the daemon started, in UTC.
        runtime: What runs the jobs.
        slots: How many jobs may run at once.
        slots_used: How many of the slots are taken.
        jobs: How many jobs have not ended, by state.
        mounts: The folders that jobs can reach.
        refusing: Why no jobs are accepted at present, or None if they are.
        programs: The programs that may be run.
        configuration: What should be known of the configuration since the daemon last read it,
            or None.
    """

    version: str
    started_at: datetime
    runtime: RuntimeStatus
    slots: int
    slots_used: int
    jobs: Mapping[JobState, int]
    mounts: tuple[Mount, ...]
    refusing: Reason | None
    programs: tuple[str, ...]
    configuration: Reason | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it: times in ISO 8601, UTC."""
        return {
            "version": self.version,
            "start_time": iso(self.started_at),
            "runtime": self.runtime.as_dict(),
            "slots": self.slots,
            "slots_used": self.slots_used,
            "jobs": {str(state): count for state, count in self.jobs.items()},
            "mounts": [mount.as_dict() for mount in self.mounts],
            "refusing": self.refusing.as_dict() if self.refusing else None,
            "programs": list(self.programs),
            "configuration": self.configuration.as_dict() if self.configuration else None,
        }
