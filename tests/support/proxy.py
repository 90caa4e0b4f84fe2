"""Stands between the daemon and the engine, to be silent, away or failing on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

_BODY = b'{"message": "the engine has a bad day"}'
_ERROR = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


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
        self._failing = False
        self.asked = threading.Event()
        self.requests: list[str] = []
        """The first lines of all that was asked."""

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self, *, silent: bool = False, failing: bool = False) -> None:
        """Take connections.

        Args:
            silent: Whether to answer nothing.
            failing: Whether to answer everything with an error.
        """
        self._silent = silent
        self._failing = failing
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
            for work in (self._ask, self._answer):
                threading.Thread(target=work, args=(near, far), daemon=True).start()

    def _ask(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                # Its path begins a request; the body of one may come later.
                line = data.partition(b"\r\n")[0].decode("latin-1")
                if line.endswith("HTTP/1.1"):
                    self.requests.append(line.removesuffix(" HTTP/1.1"))
                    if self._failing:
                        near.sendall(_ERROR)
                        continue
                if not self._failing:
                    far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    @staticmethod
    def _answer(near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                near.sendall(data)
            near.shutdown(socket.SHUT_WR)
