"""Programs of this host, for images and machines that are made of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path


def find(name: str, path: str | None = None) -> Path:
    """Where a program is.

    Args:
        name: Its name.
        path: Where to look; as usual if this is None.
    """
    found = shutil.which(name, path=path)
    assert found, f"{name} is missing: run the tests by `make test`, or tools/with-engine"
    return Path(found)


def libraries(program: Path) -> list[Path]:
    """What a program needs that is not static."""
    # It fails if there is nothing to list.
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return [Path(each) for each in re.findall(r"(/\S+) \(0x", listed.stdout)]
