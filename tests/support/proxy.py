"""Stands between the daemon and the engine, to be silent or away on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path


class EngineProxy:
    """A Unix socket in front of the engine's.

    Args:
        path: Where the daemon connects.
        engine: The engine's own socket.
    """

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self._engine = engine
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._silent = False
        self.asked = threading.Event()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self, *, silent: bool = False) -> None:
        """Take connections; silent ones are never answered."""
        self._silent = silent
        self.asked.clear()
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Be away: take no connections and break those there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing alone does not wake the thread that accepts.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.path.unlink(missing_ok=True)
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self._open.append(near)
            self.asked.set()
            if self._silent:
                continue
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._engine.removeprefix("unix://"))
            self._open.append(far)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
