"""The gRPC server on its Unix socket, and the one that tells callers who they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from wsclean_workerd.authentication import Authentication
from wsclean_workerd.errors import StartError
from wsclean_workerd.identity import IdentitySocket
from wsclean_workerd.tokens import Tokens
from wsclean_workerd_api.v1 import worker_pb2, worker_pb2_grpc

if TYPE_CHECKING:
    from wsclean_workerd.config import Config
    from wsclean_workerd.service import WorkerService

SERVICE = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name
"""The health of this name is that of the runtime; that of "" is the daemon's own."""

_KEY_BYTES = 32

_OPTIONS = (
    # A request is a command line; this is far more than the largest one.
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.so_reuseport", 0),
)


class Server:
    """Serves until stopped.

    Args:
        config: Where the sockets are, and who may use them.
        service: What answers.
    """

    def __init__(self, config: Config, service: WorkerService) -> None:
        self._config = config
        self._health = health.aio.HealthServicer()
        # A new key for each start: nothing has to be kept secret on the disk.
        tokens = Tokens(os.urandom(_KEY_BYTES))
        self._identity = IdentitySocket(config.identity_path, tokens)
        self._authentication = Authentication(SERVICE, tokens, config.operators)
        self._server = grpc.aio.server(options=_OPTIONS, interceptors=[self._authentication])
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME),
            self._server,
        )

    async def start(self) -> None:
        """Bind the sockets and serve.

        Raises:
            StartError: If a socket cannot be bound.
        """
        path = self._config.socket_path
        # gRPC makes the socket with the umask of the moment: nobody else is let in
        # before group and mode are set.
        before = os.umask(0o177)
        try:
            # First, as every caller needs it first.
            self._identity.start()
            self._server.add_insecure_port(f"unix:{path}")
            await self._server.start()
            self.let_in(self._config)
        except (OSError, RuntimeError) as error:
            self._identity.close()
            raise StartError(f"cannot serve on {path}: {error}") from None
        finally:
            os.umask(before)
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def set_ready(self, ready: bool) -> None:
        """Say whether jobs can be started."""
        serving, not_serving = (
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
        )
        await self._health.set(SERVICE, serving if ready else not_serving)

    async def stop(self, grace: float) -> None:
        """Serve no longer; calls under way get some seconds to end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        self._identity.close()

    def let_in(self, config: Config) -> None:
        """Let those use the sockets whom a configuration names, and nobody else.

        Raises:
            OSError: If that cannot be.
        """
        self._authentication.operators = config.operators
        for path in (config.identity_path, config.socket_path):
            os.chown(path, -1, config.socket_gid)
            path.chmod(config.socket.mode)
