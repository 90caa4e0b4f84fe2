"""Jobs as text and back, for the journal. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict
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
)


def encode(job: Job) -> str:
    """Write a job as JSON, without what the journal keeps in columns of its own."""
    record = asdict(job)
    for column in ("id", "request_id", "state"):
        del record[column]
    return json.dumps(record, default=_name, separators=(",", ":"))


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
    return Job(
        id=JobId(job_id),
        request_id=request_id,
        state=JobState[state],
        spec=_spec(data["spec"]),
        order=_order(data["order"]),
        submitted=Instant(**data["submitted"]),
        reason=_reason(data["reason"]),
        stop=_stop(data["stop"]),
        exit_status=data["exit_status"],
        launch=data["launch"],
        refusals=data["refusals"],
        container=data["container"],
        started=_instant(data["started"]),
        ended=_instant(data["ended"]),
        lingering=data["lingering"],
    )


def _name(value: object) -> str:
    if isinstance(value, JobState):
        return value.name
    raise TypeError(f"{value!r} has no place in a record")


def _spec(data: dict[str, Any]) -> JobSpec:
    return JobSpec(
        **{
            **data,
            "command": tuple(data["command"]),
            "environment": tuple((name, value) for name, value in data["environment"]),
        },
    )


def _order(data: dict[str, Any]) -> Order:
    user = data["user"]
    return Order(
        **{
            **data,
            "command": tuple(data["command"]),
            "user": User(uid=user["uid"], gid=user["gid"], groups=tuple(user["groups"])),
        },
    )


def _reason(data: dict[str, str] | None) -> Reason | None:
    return None if data is None else Reason(**data)


def _stop(data: dict[str, Any] | None) -> Stop | None:
    return None if data is None else Stop(JobState[data["state"]], Reason(**data["reason"]))


def _instant(data: dict[str, float] | None) -> Instant | None:
    return None if data is None else Instant(**data)
