from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from component.client.fake_worker import FakeWorker
from wsclean_client import WSCleanClient

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own are too long for the name of a socket.
    path = Path(tempfile.mkdtemp(prefix="wc", dir="/tmp")).resolve()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def worker(folder: Path) -> Iterator[FakeWorker]:
    fake = FakeWorker(str(folder / "w.sock"))
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def client(worker: FakeWorker) -> Iterator[WSCleanClient]:
    with WSCleanClient(worker.path) as made:
        yield made
