"""Storage that hangs for real, on demand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support import hanging_fs
from support.daemon import DEADLINE, daemon_folder, until


@dataclass(frozen=True)
class HangingStorage:
    """A mounted filesystem.

    Args:
        folder: Where everything of it is.
    """

    folder: Path

    @property
    def mount(self) -> Path:
        """Where it is mounted."""
        return self.folder / "mount"

    @property
    def behind(self) -> Path:
        """What it shows, which never hangs."""
        return self.folder / "behind"

    def hang(self) -> None:
        """Answer nothing from now on."""
        (self.folder / "hang").touch()

    def release(self) -> None:
        """Answer again, also what was asked meanwhile."""
        (self.folder / "hang").unlink(missing_ok=True)


@contextmanager
def hanging_storage() -> Iterator[HangingStorage]:
    """Storage that is mounted, and in the end released and unmounted whatever happened."""
    with daemon_folder() as folder:
        storage = HangingStorage(folder)
        for each in (storage.mount, storage.behind):
            each.mkdir()
        words = [storage.behind, storage.mount, folder / "hang"]
        with subprocess.Popen([sys.executable, hanging_fs.__file__, *words]) as process:
            try:
                until(lambda: process.poll() is not None or storage.mount.is_mount(), bool)
                assert process.poll() is None, "the filesystem has ended"
                yield storage
            finally:
                storage.release()
                # Lazily: containers of a test that failed may still have it.
                subprocess.run(["fusermount3", "-uz", storage.mount], check=False)
                process.terminate()
                process.wait(DEADLINE)
