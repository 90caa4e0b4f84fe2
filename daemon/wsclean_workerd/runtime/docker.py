"""Runs jobs in the one container that the daemon owns."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wsclean_workerd.accounts import is_another
from wsclean_workerd.errors import LaunchRefused, RuntimeUnavailable
from wsclean_workerd.model import Reason, RuntimeCondition
from wsclean_workerd.runtime.container import (
    LABEL_INSTANCE,
    LABEL_RECIPE,
    TEMPORARY_INSIDE,
    ContainerRecipe,
)
from wsclean_workerd.runtime.engine import Engine, EngineRefused
from wsclean_workerd.runtime.launching import kill_command, wrapper_command
from wsclean_workerd.runtime.removal import remove_container
from wsclean_workerd.runtime.retired import RetiredContainers, retired_name
from wsclean_workerd.runtime.runner import Runners, no_runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wsclean_workerd.disk import Disk
    from wsclean_workerd.events import Signal
    from wsclean_workerd.model import Job, Mount, User
    from wsclean_workerd.spool import Spool

log = logging.getLogger(__name__)

_CONFLICT = 409
_EXEC_FAILED = "OCI runtime exec failed"

# A wait is renewed now and then so that a connection that died unnoticed is seen.
_WAIT_SECONDS = 300
# The jobs notice the death of the container before the engine does.
_DEATH_SECONDS = 3


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
    """

    kind = "docker"

    def __init__(
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
    ) -> None:
        self._engine = engine
        self._name = name
        self._image = image
        self._instance = instance
        self._spool = spool
        self._mounts = mounts
        self._own = f"{os.geteuid()}:{os.getegid()}"
        self._switches_user = is_another(user)
        self._propagation = "rslave"
        self._runners = Runners(spool, disk)
        self._container: str | None = None
        self._retired = RetiredContainers(engine, instance)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that every job gets."""
        return {"HOME": TEMPORARY_INSIDE}

    async def ensure(self, *, busy: bool) -> RuntimeCondition:
        """Adopt the container, or make it; see `Runtime.ensure`."""
        try:
            condition = await self._ensure(busy=busy)
            await self._retired.find(apart_from=self._container)
            reason = await self._ensure_runner()
        except EngineRefused as error:
            raise _unavailable(error) from None
        return condition if reason is None else replace(condition, reason=reason)

    async def _ensure_runner(self) -> Reason | None:
        """Have a runner; return why there is none."""
        container = self._container

        async def start_script(command: list[str]) -> None:
            await self._execute(container, command, user=self._own)

        try:
            missing = await self._runners.ensure(container, start_script)
        except RuntimeUnavailable as error:
            # A container that has just died is found out by the next look at it.
            return no_runner(str(error))
        except EngineRefused as error:
            if _EXEC_FAILED not in str(error):
                raise
            if container is not None and await self._init_is_gone(container):
                await self._retire(container)
                raise RuntimeUnavailable(
                    "CONTAINER_STUCK",
                    f"container {container[:12]} was killed and cannot end, because a process in "
                    "it waits for storage that hangs: another one takes over",
                ) from None
            # There is no shell, for example. Each job is told so when its turn comes.
            return no_runner(str(error))
        return no_runner(f"the image lacks {', '.join(missing)}") if missing else None

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
        try:
            while not await self._engine.until_stopped(container, at_most=_WAIT_SECONDS):
                pass
        except (RuntimeUnavailable, EngineRefused) as error:
            log.debug("stopped watching container %s: %s", container[:12], error)

    async def launch(self, job: Job) -> None:
        """Have the job started by the runner, or by the engine; see `Runtime.launch`."""
        # A job belongs to the container that it was given, and so does a runner.
        if job.container == self._container and await self._runners.launch(job):
            return
        command = wrapper_command(self._spool, job)
        try:
            await self._execute(job.container, command, user=self._own)
        except EngineRefused as error:
            refused = _EXEC_FAILED in str(error) and await self._runs(job.container)
            raise LaunchRefused(str(error)) if refused else _unavailable(error) from None

    def release(self, job: Job, *, reusable: bool) -> None:
        """Take note that the command of a job has ended; see `Runtime.release`."""
        self._runners.release(job, reusable=reusable)

    def suspect(self) -> None:
        """Take note that starts do not happen; see `Runtime.suspect`."""
        self._runners.give_up()

    async def start_aside(self, command: list[str]) -> None:
        """Start a command of the daemon's own in the container; see `Runtime.start_aside`."""
        try:
            await self._execute(self._container, command, user=self._own)
        except EngineRefused as error:
            raise _unavailable(error) from None

    async def signal(self, job: Job, signal: Signal) -> None:
        """Have the killer run by the runner, or by the engine; see `Runtime.signal`."""
        if job.container == self._container and await self._runners.signal(
            self._instance, job, signal
        ):
            return
        user = job.order.user
        command = kill_command(self._spool, self._instance, job, signal)
        try:
            # As the job's own user it can hit nobody else's processes.
            await self._execute(job.container, command, user=f"{user.uid}:{user.gid}")
        except EngineRefused as error:
            if job.container is not None and await self._init_is_gone(job.container):
                # With the main process the kernel has sent KILL to all others.
                return
            raise _unavailable(error) from None

    async def explain_loss(self, container: str | None) -> Reason:
        """Ask the engine what has become of the container a job was in."""
        if container is None:
            return Reason("PROCESSES_GONE", "its processes ended and left no exit status")
        short = container[:12]
        try:
            stopped = await self._engine.until_stopped(container, at_most=_DEATH_SECONDS)
            state = (await self._engine.call(lambda it: it.inspect_container(container)))["State"]
        except EngineRefused as error:
            if error.not_found:
                return Reason("CONTAINER_REMOVED", f"its container {short} was removed")
            return Reason("CONTAINER_UNKNOWN", f"its container {short} is in doubt: {error}")
        except RuntimeUnavailable as error:
            return Reason("CONTAINER_UNKNOWN", f"its processes ended with no exit status; {error}")
        if not stopped:
            return Reason(
                "PROCESSES_GONE",
                "its processes ended and left no exit status: something killed the wrapper, or the "
                "state disk was full",
            )
        memory = ", out of memory" if state.get("OOMKilled") else ""
        return Reason(
            "CONTAINER_DIED",
            f"its container {short} ended with exit status {state.get('ExitCode')}{memory}",
        )

    async def remove(self) -> None:
        """Remove the container; see `Runtime.remove`."""
        await remove_container(self._engine, self._name, self._instance)

    async def close(self) -> None:
        """Let go of the engine and the runner; the container and its jobs go on."""
        self._runners.drop()
        self._retired.close()
        self._engine.close()

    # -- the container -----------------------------------------------------------

    async def _ensure(self, *, busy: bool) -> RuntimeCondition:
        found = await self._inspect(self._name)
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
        if recipe is not None and self._container is None and not busy:
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
        )

    async def _create(self, recipe: ContainerRecipe) -> RuntimeCondition:
        try:
            container = await self._run(recipe)
        except EngineRefused as error:
            if "not a shared or slave mount" not in str(error):
                raise _mount_missing(error) or error from None
            # The host keeps its mounts private (no systemd, or told to). Storage
            # that is mounted anew below a folder is then not seen by the container.
            log.warning("mounts made later will not be seen in the container: %s", error)
            self._propagation = "rprivate"
            await self._retire(self._name)
            container = await self._run(await self._recipe())
        log.info("made container %s (%s) from %s", self._name, container[:12], self._image)
        self._container = container
        return RuntimeCondition(ready=True, container=container)

    async def _run(self, recipe: ContainerRecipe) -> str:
        body = recipe.body()
        created = await self._engine.call(
            lambda client: client.create_container_from_config(body, recipe.name),  # type: ignore[no-untyped-call]
        )
        container: str = created["Id"]
        await self._engine.call(lambda client: client.start(container))
        return container

    async def _retire(self, container: str) -> None:
        """Give up the name of a container at once and remove it when that is possible.

        Removing one whose storage hangs can take for ever; a new container does not
        wait for it.
        """
        found = await self._inspect(container)
        if found is None:
            return
        retired: str = found["Id"]
        new_name = retired_name(self._name, retired)
        await self._engine.call(lambda client: client.rename(retired, new_name))
        self._retired.remove(retired)

    async def _inspect(self, container: str) -> Any:
        try:
            return await self._engine.call(lambda client: client.inspect_container(container))
        except EngineRefused as error:
            if error.not_found:
                return None
            raise

    async def _init_is_gone(self, container: str) -> bool:
        """Whether a container that the engine says runs has lost its main process.

        The kernel lets that end only after all others, and one may wait for storage.
        """
        found = await self._inspect(container)
        if found is None or not found["State"]["Running"]:
            return False
        listed = await self._engine.call(lambda it: it.top(container, "-eo pid,stat"))
        init = str(found["State"]["Pid"])
        if any(pid == init and stat[0] not in "ZX" for pid, stat in listed["Processes"]):
            return False
        # One that simply ends is about to be known to have ended.
        return not await self._engine.until_stopped(container, at_most=_DEATH_SECONDS)

    async def _runs(self, container: str | None) -> bool:
        found = None if container is None else await self._inspect(container)
        return found is not None and found["State"]["Running"] is True

    async def _execute(self, container: str | None, command: list[str], *, user: str) -> None:
        if container is None:
            raise RuntimeUnavailable("NO_CONTAINER", "there is no container")

        def start(client: Any) -> None:
            created = client.exec_create(container, command, stdout=False, stderr=False, user=user)
            client.exec_start(created["Id"], detach=True)

        await self._engine.call(start)


def _mount_missing(error: EngineRefused) -> RuntimeUnavailable | None:
    if "bind source path does not exist" not in str(error):
        return None
    return RuntimeUnavailable("MOUNT_MISSING", f"a mounted folder is not there: {error}")


def _unavailable(error: EngineRefused) -> RuntimeUnavailable:
    if error.not_found or error.status == _CONFLICT or _EXEC_FAILED in str(error):
        return RuntimeUnavailable("CONTAINER_GONE", f"the container does not run: {error}")
    return RuntimeUnavailable("ENGINE_ERROR", f"the Docker engine cannot do it: {error}")
