"""A machine of its own, with another kernel than the one at hand, emulated and up in two seconds.

It has a disk in memory, made here: BusyBox, and the programs of this host that it is given. A
script runs on it, and what that writes is what the test gets.
"""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.programs import find, libraries

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ROOT / ".dev/kernel/vmlinuz"
"""Fetched by tools/kernel."""

_SECONDS = 100.0
_MEMORY_MIB = 512
_FOLDERS = ("bin", "dev", "proc", "sys", "tmp")
# The script is a child of the first process, which gets the orphans. Whatever becomes of it, the
# machine ends.
_FIRST = """\
#!/bin/busybox sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
exec </dev/null >/dev/ttyS1 2>/dev/console
busybox sh -e /script && echo end
reboot -f
"""


@dataclass(frozen=True)
class VirtualMachine:
    """What a machine is made of.

    Args:
        folder: For its disk and its consoles.
        programs: Names of this host's programs that it has. They go before BusyBox's.
        files: More that it has, by its path inside.
    """

    folder: Path
    programs: Iterable[str]
    files: Mapping[str, Path]

    def run(self, script: str, **variables: str) -> str:
        """Boot it, and wait until it has ended.

        Args:
            script: For BusyBox's shell, whose own programs go before all others.
            variables: For the script; values are single words.

        Returns:
            What the script has written.
        """
        emulator, console, output = self._emulator(), self.folder / "console", self.folder / "out"
        disk = self.folder / "disk"
        disk.write_bytes(self._disk(script))
        words = [
            "console=ttyS0",
            "panic=-1",
            *(f"{key}={value}" for key, value in variables.items()),
        ]
        subprocess.run(
            [
                *(emulator, "-nodefaults", "-no-user-config", "-no-reboot"),
                *("-accel", "tcg", "-m", str(_MEMORY_MIB), "-display", "none"),
                *("-serial", f"file:{console}", "-serial", f"file:{output}"),
                *("-kernel", KERNEL, "-initrd", disk, "-append", " ".join(words)),
            ],
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=_SECONDS,
        )
        *lines, end = output.read_text(encoding="utf-8").splitlines() or [""]
        assert end == "end", "\n".join([*lines, end, console.read_text(errors="replace")[-4000:]])
        return "".join(f"{line}\n" for line in lines)

    def _emulator(self) -> Path:
        assert KERNEL.exists(), f"{KERNEL} is missing: run tools/kernel"
        return find("qemu-system-x86_64")

    def _disk(self, script: str) -> bytes:
        disk = _Archive()
        for folder in _FOLDERS:
            disk.add(folder, stat.S_IFDIR | 0o755)
        # Where the first process has its streams.
        disk.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        disk.add("init", stat.S_IFREG | 0o755, _FIRST.encode())
        disk.add("script", stat.S_IFREG | 0o644, script.encode())
        busybox = find("busybox")
        disk.add_file("bin/busybox", busybox)
        needed = set(libraries(busybox))
        for name in self.programs:
            program = find(name)
            disk.add_file(f"bin/{name}", program)
            needed |= set(libraries(program))
        for library in needed:
            disk.add_file(str(library)[1:], library)
        for inside, path in self.files.items():
            disk.add_file(inside.lstrip("/"), path)
        listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
        for name in listed.stdout.split():
            if f"bin/{name}" not in disk.names:
                disk.add(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox")
        return disk.finish()


class _Archive:
    """What the kernel unpacks: cpio, in the format "newc"."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._parts: list[bytes] = []

    def add(
        self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        """Add anything, and the folders that it is in."""
        above = str(Path(name).parent)
        if above not in {".", *self.names}:
            self.add(above, stat.S_IFDIR | 0o755)
        self.names.add(name)
        path = name.encode() + b"\0"
        # Number, mode, owner, group, links, time, size, where the file system is, device,
        # length of the name, checksum.
        fields = (
            *(len(self.names), mode, 0, 0, 1, 0, len(data), 0, 0),
            *(*device, len(path), 0),
        )
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        for part in (head, data):
            self._parts += [part, b"\0" * (-len(part) % 4)]

    def add_file(self, name: str, path: Path) -> None:
        """Add a file of this host."""
        self.add(name, stat.S_IFREG | 0o755, path.read_bytes())

    def finish(self) -> bytes:
        """The whole of it."""
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)
