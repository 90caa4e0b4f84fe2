"""What users do, each in a process of his; see `support.users`."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc

from support.daemon import DEADLINE
from wsclean_client import JobState, WSCleanClient
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


def watched(socket: Path, job_id: str, begun: Path) -> list[str]:
    """The jobs of which a watch for all jobs tells until one of them has ended."""
    told = []
    plain = grpc.insecure_channel(f"unix:{socket}")
    with plain:
        metadata = (("authorization", token(socket)),)
        stub = WorkerServiceStub(plain)
        for news in stub.WatchJobs(pb.WatchJobsRequest(), timeout=DEADLINE, metadata=metadata):
            told.append(news.job.id)
            begun.touch()
            if news.job.id == job_id and news.job.HasField("end_time"):
                break
    return told


def drain_and_resume(socket: Path) -> None:
    with WSCleanClient(socket) as client:
        next(client.drain())
        client.resume()


def version(socket: Path) -> str:
    with WSCleanClient(socket) as client:
        return client.status().version


def token(path: Path) -> str:
    """What a call is to bring, got as any client can."""
    with socket.socket(socket.AF_UNIX) as identity:
        identity.connect(str(path.with_name("identity.sock")))
        text = identity.makefile().read().split()[0]
    return f"Bearer {text}"


def read(path: Path) -> bytes:
    return path.read_bytes()
