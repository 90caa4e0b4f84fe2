"""What all verbs have in common: the daemon that they talk to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from wsclean_client.client import WSCleanClient

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECT_SECONDS = 5.0
"""How long a verb bears with a daemon that is not there: it may be restarting."""


@dataclass(frozen=True)
class Session:
    """The options given before the verb.

    Attributes:
        socket: The daemon's socket, or None for the usual one.
    """

    socket: str | None

    def client(self, connect_timeout: float = CONNECT_SECONDS) -> WSCleanClient:
        """Make a client. It connects with its first call."""
        return WSCleanClient(self.socket, connect_timeout=connect_timeout)


pass_session: Callable[[Callable[..., object]], Callable[..., object]] = click.make_pass_decorator(
    Session
)
"""Hands the session to a verb as its first argument."""
