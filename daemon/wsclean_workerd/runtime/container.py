"""What the container is made of, as the engine's API wants it. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsclean_workerd.model import Mount

SPOOL_INSIDE = "/wsclean-workerd/spool"
"""Where the container sees the spool folder."""

TEMPORARY_INSIDE = "/tmp"  # noqa: S108 - a tmpfs of the container's own
"""The one folder of the container itself that can be written."""

LABEL_INSTANCE = "wsclean-workerd.instance"
LABEL_RECIPE = "wsclean-workerd.recipe"


@dataclass(frozen=True, kw_only=True)
class ContainerRecipe:
    """Everything that makes one container different from another.

    Attributes:
        name: Its name.
        instance: The daemon that it belongs to.
        image: The image by name.
        image_id: The image that the name stands for at present.
        spool: The spool folder on the host.
        mounts: The folders for jobs.
        propagation: How mounts made below a folder later are passed on.
        user: "uid:gid" of the main process and the wrappers.
        switches_user: Whether jobs run as another user than that.
        memory: How much memory all jobs together may use, in bytes, or None.
    """

    name: str
    instance: str
    image: str
    image_id: str
    spool: str
    mounts: Sequence[Mount]
    propagation: str
    user: str
    switches_user: bool
    memory: int | None = None

    def body(self) -> dict[str, Any]:
        """The body of the engine's request to create it."""
        body = self._body()
        body["Labels"] = {LABEL_INSTANCE: self.instance, LABEL_RECIPE: self.fingerprint()}
        return body

    def fingerprint(self) -> str:
        """A digest that changes when a new container would be another one.

        The propagation is left out: it depends on what the host allows, and a
        container that was adopted is not to be replaced for it.
        """
        body = self._body()
        for mount in body["HostConfig"]["Mounts"]:
            mount.pop("BindOptions")
        text = json.dumps([self.image_id, body], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _body(self) -> dict[str, Any]:
        return {
            "Image": self.image,
            "Entrypoint": [],
            # It does nothing: jobs are executed beside it, under an init that reaps
            # whatever they leave behind.
            "Cmd": ["sleep", "infinity"],
            "User": self.user,
            "WorkingDir": TEMPORARY_INSIDE,
            "StopSignal": "SIGKILL",
            "NetworkDisabled": True,
            "HostConfig": {
                "Init": True,
                "NetworkMode": "none",
                "CapDrop": ["ALL"],
                "CapAdd": ["SETGID", "SETUID"] if self.switches_user else [],
                "SecurityOpt": ["no-new-privileges:true"],
                "ReadonlyRootfs": True,
                "Tmpfs": {TEMPORARY_INSIDE: "rw,noexec,nosuid,nodev,mode=1777"},
                # The daemon alone decides what runs after the container has died.
                "RestartPolicy": {"Name": "no"},
                "LogConfig": {"Type": "none"},
                **self._limits(),
                "Mounts": [
                    self._bind(self.spool, SPOOL_INSIDE, read_only=False),
                    *(
                        self._bind(each.host, each.container, read_only=each.read_only)
                        for each in self.mounts
                    ),
                ],
            },
        }

    def _limits(self) -> dict[str, Any]:
        # Nothing where there is none, so that a container of before is as good.
        if self.memory is None:
            return {}
        # The same for memory and swap together: no swap.
        return {"Memory": self.memory, "MemorySwap": self.memory}

    def _bind(self, source: str, target: str, *, read_only: bool) -> dict[str, Any]:
        return {
            "Type": "bind",
            "Source": source,
            "Target": target,
            "ReadOnly": read_only,
            "BindOptions": {"Propagation": self.propagation},
        }
