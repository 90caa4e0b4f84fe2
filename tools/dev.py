"""A complete private instance of wsclean-workerd in .dev/.

python tools/dev.py up     engine, image, Measurement Set, daemon; again changes nothing
python tools/dev.py down   ends daemon and container
"""

from __future__ import annotations

import hashlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from wsclean_workerd_api.v1 import worker_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DEV = Path(os.environ.get("DEV_DIR", ROOT / ".dev"))
"""Where everything of the instance is; another folder makes another instance."""

DATA = DEV / "data"
CONFIG = DEV / "workerd.toml"
PID_FILE = DEV / "workerd.pid"
LOG = DEV / "workerd.log"
ENV = DEV / "env"
IMAGE = "wsclean-workerd/wsclean:3.7"

# The folder as jobs see it: not its own path, so that the demo shows the mapping.
DATA_INSIDE = "/data"

READY_SECONDS = 60
STOP_SECONDS = 15
SOCKET_BYTES = 107

SERVICE = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name


def up() -> None:
    """Start what is not there yet, and write .dev/env."""
    host = _engine()
    for folder in (DATA, DEV / "sim"):
        folder.mkdir(parents=True, exist_ok=True)
    measurement_set = _fresh_copy(_simulated())
    CONFIG.write_text(_config(host), encoding="utf-8")
    if _daemon() is None:
        _start_daemon()
    _await_ready()
    ENV.write_text(_environment(host, measurement_set), encoding="utf-8")
    print(f"wsclean-workerd runs (process {_daemon()}); to use it:")
    print(f"  . {os.path.relpath(ENV)}")


def down() -> None:
    """End the daemon and remove its container."""
    pid = _daemon()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        if not _await_end(pid, STOP_SECONDS):
            os.kill(pid, signal.SIGKILL)
    PID_FILE.unlink(missing_ok=True)
    host = subprocess.run(
        [ROOT / "tools/engine", "host"], capture_output=True, text=True, check=False
    )
    if host.returncode == 0:
        subprocess.run(
            ["docker", "rm", "--force", _container()],
            env={**os.environ, "DOCKER_HOST": host.stdout.strip()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )


def _engine() -> str:
    subprocess.run([ROOT / "tools/engine", "up"], check=True)
    subprocess.run([ROOT / "image/build", "--tag", IMAGE], check=True)
    found = subprocess.run(
        [ROOT / "tools/engine", "host"],
        check=True,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip()


# -- the Measurement Set ---------------------------------------------------------


def _simulated() -> Path:
    """The Measurement Set as it was simulated, which nobody changes."""
    path = DEV / "sim" / "demo.ms"
    if not path.exists():
        # Under another name first: what was interrupted is not taken for whole.
        part = path.with_name("part.ms")
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run([sys.executable, ROOT / "tools/simulate_ms.py", part], check=True)
        part.rename(path)
    return path


def _fresh_copy(original: Path) -> Path:
    """A copy that nobody has written to yet; those in use are left alone."""
    number = 1
    while True:
        copy = DATA / f"demo-{number}.ms"
        if not copy.exists():
            with tempfile.TemporaryDirectory(dir=DATA, prefix=".copy-") as folder:
                shutil.copytree(original, Path(folder) / copy.name)
                (Path(folder) / copy.name).rename(copy)
            return copy
        if _contents(copy) == _contents(original):
            return copy
        number += 1


def _contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in _files(folder)
    }


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


# -- the daemon ------------------------------------------------------------------


def _run_folder() -> Path:
    """Where the socket is: in .dev, unless its path would be too long for a socket."""
    folder = DEV / "run"
    if len(os.fsencode(folder / "workerd.sock")) <= SOCKET_BYTES:
        return folder
    return Path(tempfile.gettempdir()) / f"wsclean-workerd-{_instance()}"


def _instance() -> str:
    """What tells this instance from others on the same engine."""
    return hashlib.sha256(os.fsencode(DEV)).hexdigest()[:8]


def _container() -> str:
    return f"wsclean-workerd-dev-{_instance()}"


def _config(host: str) -> str:
    run_as = 'run_as = "0:0"' if os.geteuid() == 0 else ""
    return f"""\
# Written by `make dev`, anew each time.
slots = 4
state_dir = "{DEV / "state"}"
runtime_dir = "{_run_folder()}"

[docker]
url = "{host}"
image = "{IMAGE}"
container = "{_container()}"

[jobs]
{run_as}

[[mounts]]
host = "{DATA}"
container = "{DATA_INSIDE}"
"""


def _environment(host: str, measurement_set: Path) -> str:
    quote = shlex.quote
    return "\n".join(
        [
            f'export PATH={quote(str(ROOT / ".venv" / "bin"))}:"$PATH"',
            f"export WSCLEAN_WORKERD_SOCKET={quote(str(_run_folder() / 'workerd.sock'))}",
            f"export DOCKER_HOST={quote(host)}",
            f"export DEMO_MS={quote(str(measurement_set))}",
            "",
        ],
    )


def _daemon() -> int | None:
    """The process id of the running daemon, or None."""
    try:
        pid = int(PID_FILE.read_text(encoding="ascii"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    # The number may be that of another process by now.
    return pid if os.fsencode(CONFIG) in words else None


def _start_daemon() -> None:
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            [ROOT / ".venv/bin/wsclean-workerd", "--config", CONFIG],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    PID_FILE.write_text(f"{process.pid}\n", encoding="ascii")


def _await_ready() -> None:
    """Wait until jobs can be started, told by the daemon itself."""
    target = f"unix:{_run_folder() / 'workerd.sock'}"
    with grpc.insecure_channel(target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        answers = health.Watch(request, timeout=READY_SECONDS, wait_for_ready=True)
        # A daemon that cannot start ends at once: no reason to wait for its socket.
        pid = _daemon()
        threading.Thread(target=_cancel_at_end, args=(pid, answers), daemon=True).start()
        try:
            for answer in answers:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        except grpc.RpcError:
            pass
    print("".join(LOG.read_text(encoding="utf-8").splitlines(keepends=True)[-20:]), file=sys.stderr)
    state = "has ended" if _daemon() is None else "does not become ready"
    sys.exit(f"error: the daemon {state}, the end of {LOG} is above")


def _cancel_at_end(pid: int | None, call: Any) -> None:
    """Cancel a call when a process ends."""
    if pid is not None:
        _await_end(pid, None)
    call.cancel()


def _await_end(pid: int, seconds: float | None) -> bool:
    """Wait until a process has ended; return whether it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def main() -> None:
    """Do what the command line says."""
    actions = {"up": up, "down": down}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:  # noqa: PLR2004
        sys.exit("usage: tools/dev.py up|down")
    try:
        actions[sys.argv[1]]()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
