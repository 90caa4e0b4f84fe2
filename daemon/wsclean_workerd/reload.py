"""Reads the configuration again and has the parts of the daemon go by it.

All of it or nothing: what was read is checked as a whole before anything is changed, and what can
still fail then comes first.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsclean_workerd import settings
from wsclean_workerd.errors import ConfigError
from wsclean_workerd.model import Reason
from wsclean_workerd.runtime.native import NativeRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsclean_workerd.admission import Admission
    from wsclean_workerd.config import Config
    from wsclean_workerd.disk import Disk
    from wsclean_workerd.output_guard import OutputGuard
    from wsclean_workerd.pruning import Pruner
    from wsclean_workerd.runtime import Runtime
    from wsclean_workerd.storage import Storage
    from wsclean_workerd.supervisor import Supervisor
    from wsclean_workerd.systemd import Systemd

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the daemon that can go by other settings while they run."""

    supervisor: Supervisor
    admission: Admission
    guard: OutputGuard
    pruner: Pruner
    storage: Storage
    runtime: Runtime

    def adopt(self, config: Config) -> None:
        """Have all of them go by a configuration, at once and without fail."""
        logging.getLogger().setLevel(config.log_level.upper())
        self.guard.limit = config.jobs.output_limit
        self.pruner.adopt(keep=config.history.keep, keep_seconds=config.history.keep_age)
        self.storage.adopt(timeout=config.storage.probe_timeout, proof_age=config.storage.proof_age)
        if isinstance(self.runtime, NativeRuntime):
            self.runtime.programs = config.jobs.programs
        self.admission.slots = config.slots
        self.supervisor.adopt(settings.command_rules(config), config.patience)


class Reloader:
    """The configuration that the daemon goes by.

    Args:
        config: What it was started with.
        read: Reads it again, in a thread.
        disk: What runs that.
        parts: What goes by it.
        let_in: Lets those connect whom it names, in a thread.
        systemd: Is told of it.
        changed: Called when the condition may have changed.
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        *,
        disk: Disk,
        parts: Parts,
        let_in: Callable[[Config], None],
        systemd: Systemd,
        changed: Callable[[], None],
    ) -> None:
        self.config = config
        self.condition: Reason | None = None
        self._read = read
        self._disk = disk
        self._parts = parts
        self._allow = let_in
        self._systemd = systemd
        self._changed = changed
        self._requested = asyncio.Event()

    def request(self) -> None:
        """Have the configuration read again, soon."""
        self._requested.set()

    async def run(self) -> None:
        """Read it again whenever that is requested, until cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            self._systemd.reloading()
            try:
                await self._reload()
            finally:
                # Whatever came of it, the daemon goes on.
                self._systemd.ready()
                self._changed()

    async def _reload(self) -> None:
        try:
            changes = settings.compare(self.config, await self._disk.run(self._read))
            await self._let_in(changes.config)
        except (ConfigError, OSError) as error:
            for line in str(error).splitlines():
                log.error("cannot reload the configuration: %s", line)
            told = "; ".join(str(error).splitlines())
            self.condition = Reason("CONFIG_INVALID", f"{told}: what held before goes on to hold")
            return
        self.config = changes.config
        self._parts.adopt(changes.config)
        for text in changes.made:
            log.info("reloaded: %s", text)
        self.condition = None
        if changes.pending:
            keys = ", ".join(changes.pending)
            self.condition = Reason(
                "RESTART_NEEDED", f"what changed of {keys} holds when the daemon is restarted"
            )
            log.warning("reloaded: %s", self.condition.message)
        if not (changes.made or changes.pending):
            log.info("reloaded: nothing has changed")

    async def _let_in(self, config: Config) -> None:
        try:
            await self._disk.run(self._allow, config)
        except OSError:
            with suppress(OSError):
                await self._disk.run(self._allow, self.config)
            raise
