"""Breaks a daemon that runs, in ways that a defect of its own would. No hook is in the product.

Python imports this when it starts, if a file `*.pth` beside it or a module `sitecustomize` says
so (`put_into`, `arm_by_path`). A thread of the daemon then waits for files in a folder, each named
like one of `WEDGES`, and does what the name stands for when the file appears, once.

It is copied to where no other module of the tests is, so it imports none.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FOLDER = "WSCLEAN_TEST_WEDGES"
"""The environment variable that names the folder."""

PLACE = "/run/wedges"
"""The folder, if the variable does not name one."""

OFFSET = "offset"
"""The file with the seconds by which the wall clock is to differ."""

_DONE = ".done"

_LOOK_SECONDS = 0.02
_NAME = "wedges_of_tests"


def _stand(*_: object, **__: object) -> Any:
    """Keep the calling thread for good."""
    time.sleep(3600)


def _block_the_loop() -> None:
    selectors.EpollSelector.select = _stand  # type: ignore[method-assign]


def _start_nothing() -> None:
    from wsclean_workerd.supervisor import Supervisor  # noqa: PLC0415

    Supervisor.schedule = lambda *_: None  # type: ignore[method-assign]


def _carry_out_nothing() -> None:
    from wsclean_workerd.supervisor import Supervisor  # noqa: PLC0415

    Supervisor._carry_out = lambda *_: None  # type: ignore[method-assign]


def _lose_what_was_written() -> None:
    from wsclean_workerd.supervisor import Supervisor  # noqa: PLC0415

    Supervisor._on_disk = lambda *_: None  # type: ignore[method-assign]


def _hang_the_state_disk() -> None:
    from wsclean_workerd.disk import Disk  # noqa: PLC0415

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    Disk.run = hang  # type: ignore[assignment,method-assign]


def _hang_the_journal() -> None:
    from wsclean_workerd.journal_db import JournalDb  # noqa: PLC0415

    JournalDb.commit = _stand  # type: ignore[method-assign]


def _step_the_wall_clock() -> None:
    """Have the wall clock of this process differ by what a file says, whenever it changes."""
    real = time.time
    path = _folder() / OFFSET
    time.time = lambda: real() + float(path.read_text(encoding="ascii"))


WEDGES: Mapping[str, Callable[[], None]] = {
    "loop": _block_the_loop,
    "schedule": _start_nothing,
    "instructions": _carry_out_nothing,
    "on-disk": _lose_what_was_written,
    "state-disk": _hang_the_state_disk,
    "journal": _hang_the_journal,
    "wall-clock": _step_the_wall_clock,
}
"""What can be done to a daemon, by the name of the file that has it done."""


def _folder() -> Path:
    return Path(os.environ.get(FOLDER, PLACE))


def wedge(folder: Path, name: str, until: Callable[[Callable[[], bool], type[bool]], bool]) -> None:
    """Have a daemon broken; return when it is. The next one will not be.

    Args:
        folder: Where it looks for files.
        name: One of `WEDGES`.
        until: That of `support.daemon`.
    """
    done = folder / f"{name}{_DONE}"
    (folder / name).touch()
    until(done.exists, bool)
    done.unlink()
    (folder / name).unlink()


def arm() -> None:
    """Wait in a thread for what is to be done, if this process is a daemon."""
    if any(Path(word).name == "wsclean-workerd" for word in sys.orig_argv[:3]):
        threading.Thread(target=_wait, name="wedges", daemon=True).start()


def _wait() -> None:
    left = dict(WEDGES)
    while left:
        for name in [each for each in left if (_folder() / each).exists()]:
            left.pop(name)()
            (_folder() / f"{name}{_DONE}").touch()
        time.sleep(_LOOK_SECONDS)


def arm_by_path(folder: Path) -> dict[str, str]:
    """Have each daemon armed that is started with what this returns in its environment.

    Args:
        folder: Where the files will appear; modules are put there as well.
    """
    folder.mkdir()
    _copy(folder)
    (folder / "sitecustomize.py").write_text(f"import {_NAME}\n{_NAME}.arm()\n", encoding="utf-8")
    return {"PYTHONPATH": str(folder), FOLDER: str(folder)}


def put_into(environment: Path) -> None:
    """Have each daemon armed that is started from an environment; the folder is `PLACE`.

    Args:
        environment: The folder of the environment.
    """
    (packages,) = environment.glob("lib/python3*/site-packages")
    _copy(packages)
    (packages / f"{_NAME}.pth").write_text(f"import {_NAME}; {_NAME}.arm()\n", encoding="utf-8")


def _copy(folder: Path) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    (folder / f"{_NAME}.py").write_text(text, encoding="utf-8")
