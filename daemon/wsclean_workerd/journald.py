"""Logs to systemd's journal, with priorities and fields.

Lines on standard error end there too, but without either. The protocol is that of
https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a datagram for each entry, and a sealed memory file
for one that is too large.
"""

from __future__ import annotations

import array
import collections
import errno
import fcntl
import logging
import os
import socket
import struct
import threading

SOCKET = "/run/systemd/journal/socket"
"""Where journald listens."""

IDENTIFIER = "wsclean-workerd"
"""What journalctl shows in front of a message, and finds by `-t`."""

# The numbers of syslog(3).
_ERROR = 3
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, _ERROR),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_DEBUG = 7

_MOST_WAITING = 10_000
_CLOSE_SECONDS = 1.0

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def is_standard_error() -> bool:
    """Whether standard error is connected to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class JournalHandler(logging.Handler):
    """Sends log records to the journal, and nobody who logs ever waits for it.

    What it does not take at once waits in memory for a thread that sends it. If even that is too
    much it is dropped, and how much that was is told by the next entry: a log that is stuck is
    no reason for the daemon to be.

    A record's `job`, as in `extra={"job": 17}`, becomes the field JOB.

    Args:
        path: Where journald listens.
    """

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Not the lock that every handler has: that one is held while it is closed.
        self._own_lock = threading.Lock()
        self._waiting: collections.deque[bytes] = collections.deque()
        self._sender: threading.Thread | None = None
        self._dropped = 0

    def close(self) -> None:
        """Send what waits, if the journal takes it soon."""
        sender = self._sender
        if sender is not None:
            sender.join(_CLOSE_SECONDS)
        self._socket.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, or have it wait."""
        try:
            entry = _encode(self._fields(record))
        except Exception:  # noqa: BLE001 - as in every handler: logging harms nobody
            self.handleError(record)
            return
        with self._own_lock:
            if self._sender is not None:
                self._wait(entry)
            else:
                self._send_now(entry)

    def _send_now(self, entry: bytes) -> None:
        try:
            if self._dropped:
                self._send(_loss(self._dropped), socket.MSG_DONTWAIT)
                self._dropped = 0
            self._send(entry, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._wait(entry)
        except OSError:
            self._dropped += 1

    def _wait(self, entry: bytes) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self._dropped += 1
            return
        self._waiting.append(entry)
        if self._sender is None:
            self._sender = threading.Thread(target=self._send_waiting, name="log", daemon=True)
            self._sender.start()

    def _send_waiting(self) -> None:
        while True:
            with self._own_lock:
                if not self._waiting:
                    self._sender = None
                    return
                entry = self._waiting.popleft()
            try:
                self._send(entry)
            except OSError:
                with self._own_lock:
                    self._dropped += 1

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        fields: dict[str, object] = {
            "MESSAGE": self.format(record),
            "PRIORITY": _priority(record.levelno),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
        }
        job = getattr(record, "job", None)
        if job is not None:
            fields["JOB"] = job
        return fields

    def _send(self, entry: bytes, flags: int = 0) -> None:
        try:
            self._socket.sendto(entry, flags, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(entry, flags)

    def _send_file(self, entry: bytes, flags: int) -> None:
        file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(file), "wb") as writer:
                writer.write(entry)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))
            self._socket.sendmsg([], [passed], flags, self._path)
        finally:
            os.close(file)


def _loss(count: int) -> bytes:
    return _encode(
        {
            "MESSAGE": f"{count} log entries were lost: the journal took none",
            "PRIORITY": _ERROR,
            "SYSLOG_IDENTIFIER": IDENTIFIER,
        }
    )


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITIES if level >= least), _DEBUG)


def _encode(fields: dict[str, object]) -> bytes:
    entry = bytearray()
    for name, value in fields.items():
        data = str(value).encode("utf-8", "backslashreplace")
        if b"\n" in data:
            entry += b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)
        else:
            entry += b"%s=%s\n" % (name.encode(), data)
    return bytes(entry)
