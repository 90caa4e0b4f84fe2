"""The command `wsclean-workerd`: puts the parts together and runs them."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from wsclean_workerd import __version__, config_file, journald
from wsclean_workerd.daemon import Daemon
from wsclean_workerd.errors import StartError
from wsclean_workerd.folder_lock import lock_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsclean_workerd.config import Config

log = logging.getLogger(__name__)

DEFAULT_CONFIG = Path("/etc/wsclean-workerd.toml")

EXIT_OK = 0
EXIT_CANNOT_START = 1

_UMASK = 0o022


def main() -> None:
    """Run the daemon until SIGTERM or SIGINT; see `wsclean-workerd --help`."""
    arguments = _parse(sys.argv[1:])
    # It asks for the configuration to be read again, which has just begun.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    in_journal = _set_up_logging()
    # A watchdog ends what hangs by SIGABRT: where it hung is then in the log.
    faulthandler.enable()
    # What is made here has the modes that it is given, whoever started this.
    os.umask(_UMASK)
    try:
        settings = config_file.load(arguments.config)
        if arguments.check_config:
            print(f"{arguments.config}: valid")  # noqa: T201 - the answer
            return
        logging.getLogger().setLevel(settings.log_level.upper())
        # Held for the life of the process, and let go by its death.
        lock_folder(Path(settings.runtime_dir), "runtime_dir")
        lock_folder(Path(settings.state_dir), "state_dir")
        asyncio.run(_serve(settings, lambda: config_file.load(arguments.config)))
    except StartError as error:
        for line in str(error).splitlines():
            if in_journal:
                log.critical("%s", line)
            else:
                print(f"wsclean-workerd: error: {line}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CANNOT_START)
    finally:
        logging.shutdown()
    sys.stdout.flush()
    # Without waiting for threads: one may sit in a call to an engine that hangs.
    os._exit(EXIT_OK)


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="wsclean-workerd",
        description="Owns the host's WSClean container and runs queued commands in it.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="the configuration, a TOML file (default: %(default)s)",
    )
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="say whether the configuration is valid, and what is wrong with it",
    )
    parser.add_argument("--version", action="version", version=f"wsclean-workerd {__version__}")
    return parser.parse_args(words)


def _set_up_logging() -> bool:
    """Log to systemd's journal, or to standard error; return whether it is the journal."""
    in_journal = journald.is_standard_error()
    handler = journald.JournalHandler() if in_journal else logging.StreamHandler(sys.stderr)
    logging.basicConfig(
        level=logging.INFO,
        handlers=[handler],
        # The journal has all but the message in fields of their own.
        format="%(message)s" if in_journal else "%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("asyncio", "docker", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It reports callers that went away as errors, with a stack trace. What goes wrong in
    # a call is logged where it is answered.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    return in_journal


async def _serve(settings: Config, read: Callable[[], Config]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        daemon = Daemon(settings, stack, read=read, leave=stop.set)
        await daemon.start()
        loop.add_signal_handler(signal.SIGHUP, daemon.reload)
        await stop.wait()
        daemon.announce_end()
