"""Calls to an engine, without one."""

from __future__ import annotations

import asyncio
import threading

import pytest

from support.daemon import DEADLINE
from wsclean_workerd.runtime.engine import Engine


@pytest.mark.parametrize("steps", range(5))
async def test_a_cancellation_that_comes_with_the_answer_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    engine = Engine("unix:///nowhere", timeout=DEADLINE)
    monkeypatch.setattr(engine, "_client", lambda: None)
    begun, answer = threading.Event(), threading.Event()

    def work(_: object) -> None:
        begun.set()
        answer.wait(DEADLINE)

    async def forever() -> None:
        await engine.call(work)
        await asyncio.Event().wait()

    task = asyncio.create_task(forever())
    await asyncio.to_thread(begun.wait, DEADLINE)
    answer.set()
    # The answer is there, and the loop has not taken it yet.
    engine._pool.shutdown(wait=True)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
