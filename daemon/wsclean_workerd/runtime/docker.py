"""Runs jobs in the one container that the daemon owns."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wsclean_workerd.accounts import is_another
from wsclean_workerd.errors import LaunchRefused, ProgramsMissing, RuntimeUnavailable
from wsclean_workerd.model import Reason, RuntimeCondition
from wsclean_workerd.runtime import refusals
from wsclean_workerd.runtime.container import (
    LABEL_INSTANCE,
    LABEL_RECIPE,
    TEMPORARY_INSIDE,
    ContainerRecipe,
)
from wsclean_workerd.runtime.containers import Containers
from wsclean_workerd.runtime.engine import Engine, EngineRefused
from wsclean_workerd.runtime.execs import Execs
from wsclean_workerd.runtime.launching import (
    FIND,
    NONE_LEFT,
    found_any,
    kill_command,
    signalled,
    switch_user,
    wrapper_command,
)
from wsclean_workerd.runtime.losses import Losses
from wsclean_workerd.runtime.retired import RetiredContainers, retired_name
from wsclean_workerd.runtime.runners import NO_SESSION, NO_SWITCH, Runners, lacking, no_runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.events import Signal
    from wsclean_workerd.model import Job, Mount, User
    from wsclean_workerd.spool import Spool

log = logging.getLogger(__name__)

_KILLED = 128

# One whose main process cannot be started ends sooner.
_END_SECONDS = 1
# A wait is renewed after so many times what a call may take, so that an engine that has
# become silent is noticed.
_WAIT_CALLS = 2


class DockerRuntime:
    """The container: made or adopted, watched, and replaced when it has died.

    Args:
        engine: The engine that runs it.
        name: The name of the container.
        image: The image to make it from.
        instance: The label by which this daemon knows its own.
        spool: The folder that is shared with it.
        disk: Access to the state disk.
        mounts: The folders for jobs.
        user: Whom jobs run as.
        programs: The programs that may run: an image without any of them is no use.
        memory: How much memory all jobs together may use, in bytes, or None.
    """

    kind = "docker"

    def __init__(  # noqa: PLR0913 - all that makes one container differ, keyword-only
        self,
        *,
        engine: Engine,
        name: str,
        image: str,
        instance: str,
        spool: Spool,
        disk: Disk,
        mounts: Sequence[Mount],
        user: User,
        programs: Sequence[str],
        memory: int | None,
    ) -> None:
        self._engine = engine
        self._name = name
        self._image = image
        self._instance = instance
        self._spool = spool
        self._mounts = mounts
        self._memory = memory
        self._own = f"{os.geteuid()}:{os.getegid()}"
        self._switches_user = is_another(user)
        self._propagation = "rslave"
        self._runners = Runners(spool, disk, user, programs)
        self._execs = Execs(engine, spool, disk)
        self._containers = Containers(engine)
        self._container: str | None = None
        # Whether jobs can have been started in it.
        self._used = False
        # Whether nothing in the image turns the daemon's user into the jobs'.
        self._apart = False
        self._retired = RetiredContainers(engine, instance)
        self._losses = Losses(engine)

    def environment(self, user: User) -> Mapping[str, str]:
        """The variables that every job of a user gets; see `Runtime.environment`."""
        del user
        return {"HOME": TEMPORARY_INSIDE}

    async def ensure(self, *, busy: bool) -> RuntimeCondition:
        """Adopt the container, or make it; see `Runtime.ensure`."""
        try:
            condition = await self._ensure(busy=busy)
            await self._retired.find(apart_from=self._container)
            reason = await self._ensure_runner()
        except EngineRefused as error:
            raise refusals.unavailable(error) from None
        self._used = True
        return condition if reason is None else replace(condition, reason=reason)

    async def _ensure_runner(self) -> Reason | None:
        """Have a runner; return why there is none."""
        container = self._container

        async def start_script(command: list[str]) -> None:
            await self._execs.run(container, command, None)

        try:
            missing = await self._runners.ensure(container, start_script)
        except ProgramsMissing as error:
            raise refusals.unsuitable(self._image, f"{error} in it", "PROGRAMS_MISSING") from None
        except RuntimeUnavailable as error:
            await self._check_runs(container)
            return no_runner(str(error))
        except EngineRefused as error:
            await self._check_runs(container)
            if not refusals.exec_failed(error):
                raise
            if container is not None and await self._losses.init_is_gone(container):
                await self._retire(container)
                raise RuntimeUnavailable(
                    "CONTAINER_STUCK",
                    f"container {container[:12]} was killed and cannot end, because a process in "
                    "it waits for storage that hangs: another one takes over",
                ) from None
            raise refusals.unsuitable(
                self._image, f"nothing can be started in it: {error}"
            ) from None
        self._apart = not {NO_SWITCH, NO_SESSION}.isdisjoint(missing)
        if not missing:
            return None
        alone = self._apart and self._switches_user
        return no_runner(
            f"the image lacks {lacking(missing)}",
            ", and have no supplementary groups" if alone else "",
        )

    async def _check_runs(self, container: str | None) -> None:
        """See whether the container that has no runner is about to end, and say why."""
        if container is None:
            return
        if not await self._engine.until_stopped(container, at_most=_END_SECONDS):
            return
        found = await self._containers.inspect(container)
        status = _KILLED if found is None else found["State"]["ExitCode"]
        if status < _KILLED:
            # It is there to sleep for ever: whoever ends it does so by a signal.
            raise refusals.unsuitable(
                self._image, f"`sleep infinity` ended with status {status} in it"
            )
        raise RuntimeUnavailable("CONTAINER_GONE", "the container has just ended")

    async def lost(self) -> None:
        """Wait until container or runner are gone, or the engine is."""
        if self._container is None:
            return
        waits = {
            asyncio.create_task(self._stopped(self._container), name="container stopped"),
            asyncio.create_task(self._runners.lost(), name="runner gone"),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _stopped(self, container: str) -> None:
        at_most = math.ceil(_WAIT_CALLS * self._engine.timeout)
        try:
            while not await self._engine.until_stopped(container, at_most=at_most):
                pass
        except (RuntimeUnavailable, EngineRefused) as error:
            log.debug("stopped watching container %s: %s", container[:12], error)

    async def launch(self, job: Job) -> None:
        """Have the job started by the runner, or by the engine; see `Runtime.launch`."""
        # A job belongs to the container that it was given, and so does a runner.
        if job.container == self._container and await self._runners.launch(job):
            return
        try:
            if self._apart:
                await self._execs.launch_pair(job)
            else:
                await self._execs.run(job.container, wrapper_command(self._spool, job), None)
        except LaunchRefused:
            if await self._containers.runs(job.container):
                raise
            raise RuntimeUnavailable("CONTAINER_GONE", "the container does not run") from None
        except EngineRefused as error:
            refused = refusals.exec_failed(error) and await self._containers.runs(job.container)
            raise LaunchRefused(str(error)) if refused else refusals.unavailable(error) from None

    def release(self, job: Job, *, reusable: bool) -> None:
        """Take note that the command of a job has ended; see `Runtime.release`."""
        self._runners.release(job, reusable=reusable)

    def suspect(self) -> None:
        """Take note that starts do not happen; see `Runtime.suspect`."""
        self._runners.give_up()

    async def start_aside(self, command: list[str], user: User) -> None:
        """Start a command of the daemon's own in the container; see `Runtime.start_aside`."""
        try:
            if self._apart:
                await self._execs.run(self._container, command, user)
            else:
                await self._execs.run(self._container, [*command, *switch_user(user)], None)
        except EngineRefused as error:
            raise refusals.unavailable(error) from None

    async def signal(self, job: Job, signal: Signal) -> None:
        """Have the killer run by the runner, or by the engine; see `Runtime.signal`."""
        # NONE_LEFT if the container has ended, and all in it.
        if (status := await self._ask(job, signal.value)) != NONE_LEFT:
            signalled(status)

    async def search(self, job: Job) -> bool:
        """Have the killer look, run by the runner or the engine; see `Runtime.search`."""
        return found_any(await self._ask(job, FIND))

    async def _ask(self, job: Job, verb: str) -> int:
        """Run the killer and return its exit status."""
        container = job.container
        if container is not None and container == self._container:
            status = await self._runners.ask(self._instance, job, verb)
            if status is not None:
                return status

        def command(answer: str) -> list[str]:
            return kill_command(self._spool, self._instance, job, verb, answer)

        try:
            # As the job's own user it can hit nobody else's processes.
            return await self._execs.ask(container, command, job.order.user)
        except EngineRefused as error:
            if container is not None and await self._losses.is_over(container):
                return NONE_LEFT
            raise refusals.unavailable(error) from None

    async def explain_loss(self, container: str | None) -> Reason:
        """Ask the engine what has become of the container a job was in."""
        if container is None:
            return Reason("PROCESSES_GONE", "its processes ended and left no exit status")
        return await self._losses.explain(container)

    async def remove(self) -> None:
        """Remove the container; see `Runtime.remove`."""
        await self._containers.remove(self._name, self._instance)

    async def close(self) -> None:
        """Let go of the engine and the runner; the container and its jobs go on."""
        self._runners.drop()
        self._retired.close()
        self._engine.close()

    # -- the container -----------------------------------------------------------

    async def _ensure(self, *, busy: bool) -> RuntimeCondition:
        found = await self._containers.inspect(self._name)
        if found is None:
            return await self._create(await self._recipe())
        if found["Config"]["Labels"].get(LABEL_INSTANCE) != self._instance:
            raise RuntimeUnavailable(
                "CONTAINER_NAME_TAKEN",
                f"a container {self._name} is there that belongs to somebody else: remove it with "
                f"`docker rm {self._name}`, or choose another docker.container",
            )
        if not found["State"]["Running"]:
            log.warning(
                "container %s has ended with exit status %s: making a new one",
                found["Id"][:12],
                found["State"].get("ExitCode"),
            )
            self._losses.note(found)
            await self._retire(found["Id"])
            return await self._create(await self._recipe())
        return await self._adopt(found, busy=busy)

    async def _adopt(self, found: Any, *, busy: bool) -> RuntimeCondition:
        container: str = found["Id"]
        if found["State"].get("Paused"):
            raise RuntimeUnavailable(
                "CONTAINER_PAUSED",
                f"container {self._name} is paused: continue it with `docker unpause {self._name}`",
            )
        reason, recipe = await self._difference(found)
        # Only before anything was started in it: later a job could begin just now.
        if recipe is not None and not self._used and not busy:
            log.info("container %s is outdated: making a new one", container[:12])
            await self._retire(container)
            return await self._create(recipe)
        if container != self._container:
            log.info("adopted container %s (%s)", self._name, container[:12])
        self._container = container
        return RuntimeCondition(ready=True, reason=reason, container=container)

    async def _difference(self, found: Any) -> tuple[Reason | None, ContainerRecipe | None]:
        """Say how a running container differs from what is configured.

        Returns:
            What should be known of it, and what a better one is made from; None where
            there is nothing to say or no better one.
        """
        try:
            recipe = await self._recipe()
        except RuntimeUnavailable as error:
            # Jobs can run in it; only a new one could not be made.
            return Reason(error.code, f"the container runs, but {error}"), None
        if found["Config"]["Labels"].get(LABEL_RECIPE) == recipe.fingerprint():
            return None, None
        reason = Reason(
            "CONTAINER_OUTDATED",
            f"container {self._name} was made from another configuration or image: it is replaced "
            "when the daemon is started and no job runs",
        )
        return reason, recipe

    async def _recipe(self) -> ContainerRecipe:
        try:
            image = await self._engine.call(lambda client: client.inspect_image(self._image))  # type: ignore[no-untyped-call]
        except EngineRefused as error:
            if not error.not_found:
                raise
            raise RuntimeUnavailable(
                "IMAGE_MISSING",
                f"the engine has no image {self._image}: build it with image/build or get it with "
                f"`docker pull {self._image}`",
            ) from None
        return ContainerRecipe(
            name=self._name,
            instance=self._instance,
            image=self._image,
            image_id=image["Id"],
            spool=str(self._spool.path),
            mounts=self._mounts,
            propagation=self._propagation,
            user=self._own,
            switches_user=self._switches_user,
            memory=self._memory,
        )

    async def _create(self, recipe: ContainerRecipe) -> RuntimeCondition:
        try:
            container = await self._containers.make(recipe)
        except EngineRefused as error:
            if "not a shared or slave mount" not in str(error):
                raise refusals.mount_missing(error) or error from None
            # The host keeps its mounts private (no systemd, or told to). Storage
            # that is mounted anew below a folder is then not seen by the container.
            log.warning("mounts made later will not be seen in the container: %s", error)
            self._propagation = "rprivate"
            await self._retire(self._name)
            container = await self._containers.make(await self._recipe())
        log.info("made container %s (%s) from %s", self._name, container[:12], self._image)
        self._container = container
        self._used = False
        return RuntimeCondition(ready=True, container=container)

    async def _retire(self, container: str) -> None:
        """Give up the name of a container at once and remove it when that is possible.

        Removing one whose storage hangs can take for ever; a new container does not
        wait for it.
        """
        found = await self._containers.inspect(container)
        if found is None:
            return
        retired: str = found["Id"]
        new_name = retired_name(self._name, retired)
        await self._engine.call(lambda client: client.rename(retired, new_name))
        self._retired.remove(retired)
