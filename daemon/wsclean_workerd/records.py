"""Jobs as text and back, for the journal. Pure."""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

from wsclean_workerd.model import (
    Instant,
    Job,
    JobId,
    JobSpec,
    JobState,
    Order,
    Reason,
    Stop,
    User,
    words,
)


def encode(job: Job) -> str:
    """Write a job as JSON, without what the journal keeps in columns of its own."""
    # By hand: every change of every job comes by here, and dataclasses.asdict copies
    # what it finds, which takes longer than all the rest.
    return _dumps(
        {
            "spec": _fields(job.spec),
            "order": {**_fields(job.order), "user": _fields(job.order.user)},
            "owner": job.owner,
            "submitted": _fields(job.submitted),
            "reason": job.reason and _fields(job.reason),
            "stop": job.stop and {"state": job.stop.state.name, "reason": _fields(job.stop.reason)},
            "exit_status": job.exit_status,
            "launch": job.launch,
            "refusals": job.refusals,
            "attempt": job.attempt,
            "loss": job.loss and _fields(job.loss),
            "requeued": job.requeued and _fields(job.requeued),
            "container": job.container,
            "started": job.started and _fields(job.started),
            "ended": job.ended and _fields(job.ended),
            "lingering": job.lingering,
        },
    )


def decode(job_id: int, request_id: str | None, state: str, record: str) -> Job:
    """Read a job that `encode` wrote.

    Args:
        job_id: Its number.
        request_id: The caller's name for the submission, or None.
        state: The name of its state.
        record: The JSON text.

    Raises:
        ValueError, KeyError, TypeError: If this is no record of a job.
    """
    data = json.loads(record)
    spec = _spec(data["spec"])
    order = _order(data["order"], spec)
    return Job(
        id=JobId(job_id),
        request_id=request_id,
        state=JobState[state],
        spec=spec,
        order=order,
        # Jobs of older records belong to whom they run as.
        owner=data.get("owner", order.user.uid),
        submitted=Instant(**data["submitted"]),
        reason=_reason(data["reason"]),
        stop=_stop(data["stop"]),
        exit_status=data["exit_status"],
        launch=data["launch"],
        refusals=data["refusals"],
        # Which older records do not have.
        attempt=data.get("attempt", 1),
        loss=_reason(data.get("loss")),
        requeued=_instant(data.get("requeued")),
        container=data["container"],
        started=_instant(data["started"]),
        ended=_instant(data["ended"]),
        lingering=data["lingering"],
    )


_dumps = json.JSONEncoder(separators=(",", ":")).encode


def _fields(value: Instant | JobSpec | Order | Reason | User) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _spec(data: dict[str, Any]) -> JobSpec:
    return JobSpec(
        **{
            **data,
            "command": words(data["command"]),
            "working_directory": sys.intern(data["working_directory"]),
            "environment": tuple((name, value) for name, value in data["environment"]),
            # Which older records do not have.
            "locks": words(data.get("locks", ())),
        },
    )


def _order(data: dict[str, Any], spec: JobSpec) -> Order:
    user = data["user"]
    return Order(
        **{
            **data,
            "command": words(data["command"], spec.command),
            "working_directory": sys.intern(data["working_directory"]),
            "user": _user(user["uid"], user["gid"], tuple(user["groups"])),
            "locks": words(data.get("locks", ()), spec.locks),
        },
    )


@functools.lru_cache
def _user(uid: int, gid: int, groups: tuple[int, ...]) -> User:
    return User(uid=uid, gid=gid, groups=groups)


def _reason(data: dict[str, str] | None) -> Reason | None:
    return None if data is None else Reason(**data)


def _stop(data: dict[str, Any] | None) -> Stop | None:
    return None if data is None else Stop(JobState[data["state"]], Reason(**data["reason"]))


def _instant(data: dict[str, float] | None) -> Instant | None:
    return None if data is None else Instant(**data)
