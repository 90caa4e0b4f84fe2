"""Systemd starts a daemon anew that does not work, and no other; jobs do not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.daemon import DEADLINE, until
from support.proxy import EngineProxy
from support.storage import hanging_storage
from support.systemd_host import UNIT, SystemdHost, UnitDaemon
from support.wedges import PLACE, put_into, wedge
from wsclean_client import RequestRefused

pytestmark = pytest.mark.timeout(240)

SECONDS = 4
"""Those of the watchdog here. The daemon says that it lives three times as often."""

TIMES = 5
"""How often it says so in a test that it goes on doing it: longer than the watchdog waits."""


@pytest.fixture
def host(systemd_host: SystemdHost) -> SystemdHost:
    """A host with the service in place, whose watchdog is quick and whose daemons can be broken."""
    systemd_host.install()
    drop_in = systemd_host.root / f"etc/systemd/system/{UNIT}.d/test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(f"[Service]\nWatchdogSec={SECONDS}\nRestartSec=0\n")
    systemd_host.systemctl("daemon-reload")
    put_into(systemd_host.root / "opt/wsclean-workerd")
    places(systemd_host).mkdir()
    return systemd_host


def places(host: SystemdHost) -> Path:
    return Path(f"{host.root}{PLACE}")


def restarts(host: SystemdHost) -> int:
    return int(host.show(UNIT, "NRestarts")["NRestarts"])


# -- what leads to a restart -----------------------------------------------------


def stop_it(daemon: UnitDaemon) -> None:
    daemon.host.systemctl("kill", "--kill-who=main", "--signal=STOP", UNIT)


def block_its_loop(daemon: UnitDaemon) -> None:
    wedge(places(daemon.host), "loop", until)


def wedge_its_dispatcher(daemon: UnitDaemon) -> None:
    with daemon.client() as client:
        wedge(places(daemon.host), "instructions", until)
        # It is accepted, given a slot and written down, and then nothing is done.
        client.submit(["sh", "-c", "echo at last"], cwd=daemon.data)


@pytest.mark.parametrize("fault", [stop_it, block_its_loop, wedge_its_dispatcher])
def test_what_does_not_work_is_started_anew_and_jobs_do_not_notice(
    host: SystemdHost, fault: Callable[[UnitDaemon], None]
) -> None:
    daemon = host.daemon()
    daemon.start()
    script = "i=0; until [ -e gate ]; do i=$((i + 1)); echo $i; sleep 0.02; done; echo end; exit 7"
    with daemon.client() as client:
        job = daemon.begin(client, script)
    before = daemon.main_pid

    fault(daemon)
    until(lambda: restarts(host), lambda number: number > 0)
    until(lambda: daemon.main_pid, lambda pid: pid not in {0, before})
    daemon.await_health()
    said = [entry["MESSAGE"] for entry in host.journal("-u", UNIT, "_PID=1")]
    assert any("Watchdog timeout" in line for line in said), said

    (daemon.data / "gate").touch()
    with daemon.client() as client:
        for other in client.list():
            client.job(other.id).wait(DEADLINE)
        ended = client.job(job.id).result(check=False)
    assert ended.returncode == 7
    up, *numbers, end = ended.stdout.splitlines()
    assert (up, end) == ("up", "end")
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert restarts(host) == 1


# -- what does not ---------------------------------------------------------------


@dataclass
class Fault:
    """Something that a restart would not mend.

    Attributes:
        begin: Makes it happen.
        end: Mends it.
        shown: Words of the status that tell of it.
    """

    begin: Callable[[], object]
    end: Callable[[], object]
    shown: str


def sign_of_life(host: SystemdHost) -> str:
    """When the daemon last said that it lives."""
    return host.show(UNIT, "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]


def await_signs_of_life(host: SystemdHost) -> None:
    for _ in range(TIMES):
        last = sign_of_life(host)
        until(lambda: sign_of_life(host), lambda now, last=last: now != last)  # type: ignore[misc]


@pytest.fixture
def proxy(host: SystemdHost, engine_url: str) -> Iterator[EngineProxy]:
    """What the daemon takes for the engine."""
    proxy = EngineProxy(host.folder / "engine.sock", engine_url)
    proxy.start()
    yield proxy
    proxy.stop()


def test_what_a_restart_would_not_mend_leads_to_none(host: SystemdHost, proxy: EngineProxy) -> None:
    with hanging_storage() as storage:
        daemon = host.daemon(url=proxy.url, call_timeout=1)
        daemon.extra = (
            f'[[mounts]]\nhost = "{storage.mount}"\ncontainer = "/slow"\n'
            "[storage]\nprobe_timeout = 0.5\nproof_age = 0.1\n"
        )
        daemon.start()
        pid = daemon.main_pid

        def use_storage() -> None:
            storage.hang()
            with daemon.client() as client:
                # Named as the container sees it: the client would look at the path itself.
                client.submit(["sh", "-c", "true", "container:/slow/file"], cwd=daemon.data)

        def engine(*, away: bool = False, silent: bool = False) -> Callable[[], None]:
            def change() -> None:
                proxy.stop()
                if not away:
                    proxy.start(silent=silent)

            return change

        def fill_the_disk() -> None:
            host.run("prlimit", "--pid", str(pid), "--fsize=0:")
            with daemon.client() as client, pytest.raises(RequestRefused) as refused:
                client.submit(["sh", "-c", "true"], cwd=daemon.data)
            assert refused.value.reason == "JOURNAL_UNAVAILABLE"

        def make_room() -> None:
            host.run("prlimit", "--pid", str(pid), "--fsize=unlimited:")
            with daemon.client() as client:
                client.submit(["sh", "-c", "true"], cwd=daemon.data)

        faults = [
            Fault(use_storage, storage.release, "has not answered for"),
            Fault(engine(silent=True), engine(), "did not answer within"),
            Fault(engine(away=True), engine(), "cannot be reached"),
            Fault(fill_the_disk, make_room, "cannot write the journal"),
        ]
        for fault in faults:
            fault.begin()
            daemon.await_status(fault.shown)
            await_signs_of_life(host)
            fault.end()
            daemon.await_status('Status: "ready; 0 jobs running, 0 waiting"')
    assert restarts(host) == 0
    assert daemon.main_pid == pid
