"""What tests of every kind share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.users import ALICE, BOB, Process, process_of


@pytest.fixture
def alice() -> Iterator[Process]:
    with process_of(ALICE) as process:
        yield process


@pytest.fixture
def bob() -> Iterator[Process]:
    with process_of(BOB) as process:
        yield process
