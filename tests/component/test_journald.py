"""Log records as systemd's journal gets them, by a socket that a test reads."""

from __future__ import annotations

import array
import logging
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from wsclean_workerd import journald
from wsclean_workerd.journald import JournalHandler

Fields = dict[str, str]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "journal"))
        listener.settimeout(DEADLINE)
        yield listener


@pytest.fixture
def handler(journal: socket.socket) -> Iterator[JournalHandler]:
    handler = JournalHandler(journal.getsockname())
    yield handler
    handler.close()


@pytest.fixture
def log(handler: JournalHandler) -> Iterator[logging.Logger]:
    logger = logging.getLogger("wsclean_workerd.part")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def decode(data: bytes) -> Fields:
    """Read an entry as journald does."""
    fields = {}
    while data:
        line, data = data.split(b"\n", maxsplit=1)
        name, is_short, value = line.partition(b"=")
        if not is_short:
            (size,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + size], data[8 + size :]
            assert data[:1] == b"\n"
            data = data[1:]
        fields[name.decode()] = value.decode()
    return fields


def receive(journal: socket.socket) -> Fields:
    size = array.array("i").itemsize
    data, passed, _, _ = journal.recvmsg(1 << 20, socket.CMSG_LEN(size))
    if not passed:
        return decode(data)
    assert not data
    (file,) = struct.unpack("i", passed[0][2])
    with os.fdopen(file, "rb") as reader:
        reader.seek(0)
        return decode(reader.read())


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, "7"),
        (logging.INFO, "6"),
        (logging.WARNING, "4"),
        (logging.ERROR, "3"),
        (logging.CRITICAL, "2"),
    ],
)
def test_each_level_has_a_priority(
    log: logging.Logger, journal: socket.socket, level: int, priority: str
) -> None:
    log.log(level, "so %s", "it is")
    entry = receive(journal)
    assert (entry["MESSAGE"], entry["PRIORITY"]) == ("so it is", priority)
    assert (entry["SYSLOG_IDENTIFIER"], entry["LOGGER"]) == (
        "wsclean-workerd",
        "wsclean_workerd.part",
    )
    assert entry["CODE_FILE"] == __file__
    assert "JOB" not in entry


def test_the_job_has_a_field_of_its_own(log: logging.Logger, journal: socket.socket) -> None:
    log.info("it ended", extra={"job": 17})
    assert receive(journal)["JOB"] == "17"


def test_a_stack_trace_is_one_entry(log: logging.Logger, journal: socket.socket) -> None:
    log.error("it failed", exc_info=ValueError("no\nsuch PRIORITY=0"))
    entry = receive(journal)
    assert entry["MESSAGE"] == "it failed\nValueError: no\nsuch PRIORITY=0"
    assert entry["PRIORITY"] == "3"


def test_what_is_no_text_is_told_too(log: logging.Logger, journal: socket.socket) -> None:
    log.info("no such file: %s", os.fsdecode(b"\xff.ms"))
    assert receive(journal)["MESSAGE"] == "no such file: \\udcff.ms"


def test_an_entry_larger_than_a_datagram_arrives(
    log: logging.Logger, journal: socket.socket
) -> None:
    text = "x" * (1 << 22)
    log.info(text)
    assert receive(journal)["MESSAGE"] == text


def test_a_journal_that_takes_nothing_keeps_nobody_and_loses_nothing(
    log: logging.Logger, journal: socket.socket
) -> None:
    count = 2000
    done = threading.Event()

    def write() -> None:
        for number in range(count):
            log.info("%d", number)
        done.set()

    threading.Thread(target=write, daemon=True).start()
    # Nobody has read so far.
    assert done.wait(DEADLINE)
    assert [receive(journal)["MESSAGE"] for _ in range(count)] == [str(n) for n in range(count)]


def test_what_waits_is_sent_in_the_end(
    handler: JournalHandler, log: logging.Logger, journal: socket.socket
) -> None:
    count = 600
    for number in range(count):
        log.info("%d", number)
    found: list[str] = []

    def read() -> None:
        found.extend(receive(journal)["MESSAGE"] for _ in range(count))

    reader = threading.Thread(target=read)
    reader.start()
    # As at the end of a process, which ends without waiting for threads.
    handler.acquire()
    handler.close()
    handler.release()
    reader.join(DEADLINE)
    assert len(found) == count


def test_what_was_lost_is_counted(log: logging.Logger, journal: socket.socket) -> None:
    path = journal.getsockname()
    Path(path).rename(f"{path}-away")
    log.info("nobody hears this")
    log.info("nor this")
    Path(f"{path}-away").rename(path)
    log.info("but this")
    told = receive(journal)
    assert told["MESSAGE"] == "2 log entries were lost: the journal took none"
    assert told["PRIORITY"] == "3"
    assert receive(journal)["MESSAGE"] == "but this"


def test_a_memory_that_is_full_drops_the_rest(
    handler: JournalHandler,
    log: logging.Logger,
    journal: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journald, "_MOST_WAITING", 5)
    count = 2000
    for number in range(count):
        log.info("%d", number)
    dropped, sender = handler._dropped, handler._sender
    assert dropped
    assert sender is not None
    kept = [int(receive(journal)["MESSAGE"]) for _ in range(count - dropped)]
    # In order, whichever they are.
    assert kept == sorted(set(kept))
    sender.join(DEADLINE)
    log.info("again")
    assert receive(journal)["MESSAGE"].startswith(f"{dropped} log entries were lost")
    assert receive(journal)["MESSAGE"] == "again"


@pytest.mark.parametrize("named", [True, False])
def test_the_journal_is_known_by_the_stream(monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    found = os.fstat(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    stream = f"{found.st_dev}:{found.st_ino}" if named else "1:2"
    monkeypatch.setattr(os, "fstat", lambda _: found)
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    assert journald.is_standard_error() is named
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not journald.is_standard_error()
