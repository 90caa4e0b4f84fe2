"""All parts of the running daemon, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from wsclean_workerd import __version__
from wsclean_workerd.admission import Admission
from wsclean_workerd.announcer import Announcer
from wsclean_workerd.attendant import Attendant
from wsclean_workerd.callers import CallersJobs, CallersNews
from wsclean_workerd.disk import Disk
from wsclean_workerd.drain import Drain
from wsclean_workerd.errors import RuntimeUnavailable, StartError
from wsclean_workerd.examination import Examiner
from wsclean_workerd.growth import GrowthWatch
from wsclean_workerd.journal import Journal
from wsclean_workerd.journal_db import check_not_lost
from wsclean_workerd.keeper import RuntimeKeeper
from wsclean_workerd.liveness import Liveness
from wsclean_workerd.logs import Outputs
from wsclean_workerd.model import JobState
from wsclean_workerd.output_guard import OutputGuard
from wsclean_workerd.probes import StorageProbes
from wsclean_workerd.pruning import Pruner
from wsclean_workerd.reload import Parts, Reloader
from wsclean_workerd.runtime.container import SPOOL_INSIDE
from wsclean_workerd.runtime.docker import DockerRuntime
from wsclean_workerd.runtime.engine import Engine
from wsclean_workerd.runtime.native import NativeRuntime
from wsclean_workerd.server import Server
from wsclean_workerd.service import WorkerService
from wsclean_workerd.settings import command_rules
from wsclean_workerd.spool import Spool
from wsclean_workerd.storage import Storage
from wsclean_workerd.supervisor import Supervisor
from wsclean_workerd.systemd import Systemd
from wsclean_workerd.tasks import complain
from wsclean_workerd.ties import Ties
from wsclean_workerd.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AsyncExitStack

    from wsclean_workerd.config import Config
    from wsclean_workerd.model import JobId, Patience, Reason, RuntimeCondition
    from wsclean_workerd.runtime import Runtime

log = logging.getLogger(__name__)

_STOP_SECONDS = 1.0
_DISK_THREADS = 4
_STATUS_SECONDS = 0.2
# More than it takes to make a container, each of them with its deadline.
_MOST_CALLS = 30


class Daemon:
    """The parts, and what connects them.

    Args:
        config: What the daemon was told.
        stack: Takes what has to be done at the end, in reverse order.
        read: Reads the configuration again, in a thread.
        leave: Has it end; called when it was shut down by a caller.
    """

    def __init__(
        self,
        config: Config,
        stack: AsyncExitStack,
        *,
        read: Callable[[], Config],
        leave: Callable[[], None],
    ) -> None:
        self._config = config
        self._stack = stack
        self._read = read
        self._leave = leave
        self._systemd = Systemd()
        self._reloader: Reloader | None = None
        self._server: Server | None = None
        self._keeper: RuntimeKeeper | None = None
        self._admission: Admission | None = None
        self._supervisor: Supervisor | None = None
        self._attendant: Attendant | None = None
        self._storage: Storage | None = None
        self._probes: StorageProbes | None = None
        self._drain: Drain | None = None
        self._runtime: Runtime | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._removed = False
        self._status_timer: asyncio.TimerHandle | None = None
        self._health: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start everything; when this returns the socket serves.

        Raises:
            StartError: If it cannot be. A missing engine, image or mount is no
                reason: jobs are accepted and wait.
        """
        config, stack = self._config, self._stack
        executor = ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="disk")
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        disk = Disk(executor)
        spool = self._spool()
        last_id = await disk.run(spool.last_id)
        check_not_lost(config.journal_path, last_id)
        journal = Journal(config.journal_path, changed=self._tell_status_soon)
        stack.push_async_callback(journal.close)
        runtime = self._make_runtime(journal.instance, spool, disk)
        stack.push_async_callback(runtime.close)
        announcer = Announcer()
        growth = GrowthWatch()
        stack.push_async_callback(growth.close)

        keeper = RuntimeKeeper(
            runtime,
            busy=self._busy,
            lost=self._runtime_lost,
            changed=self._runtime_changed,
            longest=_MOST_CALLS * config.docker.call_timeout,
        )
        storage = Storage(
            config.job_mounts,
            timeout=config.storage.probe_timeout,
            proof_age=config.storage.proof_age,
        )
        probes = StorageProbes(
            storage,
            spool=spool,
            disk=disk,
            runtime=runtime,
            user=config.user,
            changed=self._storage_changed,
        )
        ties = Ties(self._stop_job)
        admission = Admission(slots=config.slots, storage=storage, unproven=probes.unproven)
        supervisor = Supervisor(
            rules=command_rules(config),
            admission=admission,
            patience=config.patience,
            journal=journal,
            announcer=announcer,
            condition=self._condition_of_runtime,
            expect_holder=ties.expect,
            changed=self._jobs_changed,
        )
        guard = OutputGuard(
            config.jobs.output_limit, spool=spool, disk=disk, growth=growth, tell=supervisor.tell
        )
        watcher = Watcher(
            spool=spool, runtime=runtime, disk=disk, guard=guard, tell=supervisor.tell
        )
        attendant = Attendant(
            instance=journal.instance,
            spool=spool,
            runtime=runtime,
            watcher=watcher,
            disk=disk,
            tell=supervisor.tell,
            runtime_failed=keeper.failed,
        )
        self._admission, self._supervisor = admission, supervisor
        self._keeper, self._attendant = keeper, attendant
        self._storage, self._probes = storage, probes
        self._runtime = runtime
        await supervisor.start(attendant, last_id=last_id)
        stack.push_async_callback(attendant.close)
        stack.push_async_callback(supervisor.close)
        stack.push_async_callback(probes.close)

        pruner = Pruner(
            journal, spool, disk, keep=config.history.keep, keep_seconds=config.history.keep_age
        )
        self._reloader = reloader = Reloader(
            config,
            self._read,
            disk=disk,
            parts=Parts(supervisor, admission, guard, pruner, storage, runtime),
            let_in=self._let_in,
            systemd=self._systemd,
            changed=self._tell_status_soon,
        )
        self._drain = drain = Drain(
            supervisor,
            admission,
            patience=lambda: _most_seconds(reloader.config.patience),
            remove=self._remove,
            leave=self._leave,
            changed=self._runtime_changed,
        )
        examiner = await stack.enter_async_context(
            aclosing(
                Examiner(
                    lambda: reloader.config,
                    runtime=runtime,
                    spool=spool,
                    disk=disk,
                    storage=storage,
                    condition=lambda: keeper.condition,
                    refusing=lambda: supervisor.refusing,
                )
            )
        )
        service = WorkerService(
            settings=reloader,
            started=time.time(),
            supervisor=CallersJobs(supervisor),
            admission=admission,
            announcer=CallersNews(announcer),
            condition=self._condition,
            outputs=Outputs(spool, disk, growth),
            ties=ties,
            drain=drain,
            examiner=examiner,
        )
        self._server = server = Server(config, service)
        await server.start()
        stack.push_async_callback(server.stop, _STOP_SECONDS)
        stack.push_async_callback(drain.close)
        stack.callback(ties.close)
        self._runtime_changed()
        self._keeping = self._keep(keeper.run(), "runtime keeper")
        self._keep(pruner.run(), "pruner")
        self._keep(reloader.run(), "reloader")
        liveness = Liveness(
            journal=journal, supervisor=supervisor, attendant=attendant, keeper=keeper
        )
        self._keep(self._systemd.feed_watchdog(liveness.prove), "watchdog")
        self._systemd.ready()
        log.info("wsclean-workerd %s serves on %s", __version__, config.socket_path)

    def reload(self) -> None:
        """Have the configuration read again."""
        if self._reloader is not None:
            self._reloader.request()

    def announce_end(self) -> None:
        """Say that the daemon is about to end."""
        self._systemd.stopping()
        what = "the container is gone" if self._removed else "the container and its jobs go on"
        log.info("ending; %s", what)

    # -- parts -------------------------------------------------------------------

    def _spool(self) -> Spool:
        path = self._config.spool_path
        inside = SPOOL_INSIDE if self._config.runtime == "docker" else str(path)
        spool = Spool(path, inside)
        try:
            spool.prepare()
        except OSError as error:
            raise StartError(f"cannot use {path} for job folders: {error}") from None
        return spool

    def _make_runtime(self, instance: str, spool: Spool, disk: Disk) -> Runtime:
        config = self._config
        if config.runtime == "native":
            return NativeRuntime(
                instance=instance,
                spool=spool,
                disk=disk,
                programs=config.jobs.programs,
                user=config.user,
            )
        return DockerRuntime(
            engine=Engine(config.docker.url, config.docker.call_timeout),
            name=config.docker.container,
            image=config.docker.image,
            instance=instance,
            spool=spool,
            disk=disk,
            mounts=config.job_mounts,
            user=config.user,
            programs=config.jobs.programs,
            memory=config.docker.memory,
        )

    # -- connections -------------------------------------------------------------

    def _let_in(self, config: Config) -> None:
        if self._server is not None:
            self._server.let_in(config)

    def _busy(self) -> bool:
        return self._admission is not None and self._admission.taken > 0

    def _stop_job(self, job_id: JobId, reason: Reason) -> None:
        if self._supervisor is not None:
            self._supervisor.stop(job_id, reason)

    def _runtime_lost(self) -> None:
        if self._attendant is not None:
            self._attendant.doubt()

    def _runtime_changed(self) -> None:
        self._tell_status()
        if self._server is None or self._supervisor is None or self._keeper is None:
            return
        condition = self._keeper.condition
        if condition.ready and self._probes is not None:
            self._probes.renew(condition.container)
        self._supervisor.schedule()
        self._health = asyncio.create_task(
            self._server.set_ready(self._condition().ready),
            name="health",
        )

    def _storage_changed(self) -> None:
        self._tell_status_soon()
        if self._supervisor is not None:
            self._supervisor.schedule()

    def _jobs_changed(self) -> None:
        self._tell_status_soon()
        if self._drain is not None:
            self._drain.look()

    def _condition_of_runtime(self) -> RuntimeCondition:
        """How what runs the jobs is, and whether any may be started in it."""
        if self._keeper is None:
            raise RuntimeError("the daemon has not been started")
        condition = self._keeper.condition
        if self._drain is None or self._drain.reason is None:
            return condition
        return replace(condition, ready=False, reason=self._drain.reason)

    async def _remove(self) -> None:
        """Remove what jobs run in; nobody makes it anew."""
        if self._runtime is None or self._probes is None or self._keeping is None:
            return
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        await self._probes.close()
        try:
            await self._runtime.remove()
            self._removed = True
        except RuntimeUnavailable as error:
            log.error("what jobs ran in is left to the next start: %s", error)

    def _condition(self) -> RuntimeCondition:
        """How what runs the jobs is, the storage that they use included."""
        if self._storage is None:
            raise RuntimeError("the daemon has not been started")
        condition = self._condition_of_runtime()
        hung = self._storage.condition()
        # What keeps all jobs from starting comes first.
        return replace(condition, reason=hung) if condition.ready and hung else condition

    def _tell_status_soon(self) -> None:
        """Tell systemd how things are, but not hundreds of times a second."""
        if self._status_timer is None:
            loop = asyncio.get_running_loop()
            self._status_timer = loop.call_later(_STATUS_SECONDS, self._tell_status)

    def _tell_status(self) -> None:
        """Tell systemd in a line how things are."""
        self._status_timer = None
        if self._supervisor is None or self._keeper is None:
            return
        counts = self._supervisor.counts()
        waiting = counts[JobState.QUEUED] + counts[JobState.HELD]
        running = sum(counts.values()) - waiting
        condition = self._condition()
        text = "ready" if condition.ready else "not ready"
        text += f"; {running} jobs running, {waiting} waiting"
        configuration = self._reloader.condition if self._reloader else None
        for reason in (condition.reason, self._supervisor.refusing, configuration):
            if reason is not None:
                text += f"; {reason.message}"
        self._systemd.status(text)

    def _keep(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run something until the end."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(complain)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)
        return task


def _most_seconds(patience: Patience) -> float:
    """How long it takes until jobs that were told to end have, or are known to be unable to."""
    return patience.grace + patience.kill + _STOP_SECONDS
