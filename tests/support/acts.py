"""What users do, each in a process of his; see `support.users`."""

from __future__ import annotations

from pathlib import Path

import grpc

from support.daemon import DEADLINE
from wsclean_client import JobState, WSCleanClient
from wsclean_client.identity import Identity
from wsclean_workerd_api.v1 import worker_pb2 as pb
from wsclean_workerd_api.v1.worker_pb2_grpc import WorkerServiceStub


def run(socket: Path, script: str, folder: Path) -> str:
    with WSCleanClient(socket) as client:
        return client.run(["sh", "-c", script], cwd=folder).stdout


def wsclean(socket: Path, words: list[str], folder: Path) -> str:
    with WSCleanClient(socket) as client:
        return client.run(["wsclean", *words], cwd=folder).stdout


def submit(socket: Path, script: str, folder: Path, request_id: str | None = None) -> str:
    with WSCleanClient(socket) as client:
        return client.submit(["sh", "-c", script], cwd=folder, request_id=request_id).id


def get(socket: Path, job_id: str) -> JobState:
    with WSCleanClient(socket) as client:
        return client.job(job_id).refresh().state


def logs(socket: Path, job_id: str) -> bytes:
    with WSCleanClient(socket) as client:
        return b"".join(chunk.data for chunk in client.job(job_id).logs())


def cancel(socket: Path, job_id: str) -> JobState:
    with WSCleanClient(socket) as client:
        return client.job(job_id).cancel().state


def wait(socket: Path, job_id: str) -> JobState:
    with WSCleanClient(socket) as client:
        return client.job(job_id).wait(DEADLINE).state


def listed(socket: Path) -> list[str]:
    with WSCleanClient(socket) as client:
        return [job.id for job in client.list()]


def first_news(socket: Path) -> str:
    """The job that a watch for all jobs tells of first."""
    plain = grpc.insecure_channel(f"unix:{socket}")
    with plain:
        stub = WorkerServiceStub(plain)
        metadata = Identity(str(socket)).metadata()
        stream = stub.WatchJobs(pb.WatchJobsRequest(), timeout=DEADLINE, metadata=metadata)
        return str(next(stream).job.id)


def drain_and_resume(socket: Path) -> None:
    with WSCleanClient(socket) as client:
        next(client.drain())
        client.resume()


def version(socket: Path) -> str:
    with WSCleanClient(socket) as client:
        return client.status().version


def token(socket: Path) -> str:
    ((_, text),) = Identity(str(socket)).metadata()
    return text


def read(path: Path) -> bytes:
    return path.read_bytes()
