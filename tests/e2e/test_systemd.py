"""The daemon on a host that boots systemd, installed and driven as an operator does it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from support.systemd_host import BIN, OBSERVER, UNIT, SystemdHost, UnitDaemon, readme_commands
from wsclean_client import JobLost

pytestmark = pytest.mark.timeout(240)

MADE = (
    "etc/systemd/system/wsclean-workerd.service",
    "etc/systemd/system/wsclean-workerd@.service",
    "etc/sysusers.d/wsclean-workerd.conf",
    "etc/tmpfiles.d/wsclean-workerd.conf",
    "etc/wsclean-workerd.toml",
    "usr/local/bin/wsclean-ctl",
)
QUICK = 5.0
"""Seconds that a stop or a restart may take, whatever runs."""

MOST_EXPOSED = 2.0


@pytest.fixture
def host(systemd_host: SystemdHost) -> SystemdHost:
    """A host on which the service was put in place."""
    systemd_host.install()
    return systemd_host


def begin(daemon: UnitDaemon, script: str = "echo up; exec sleep 600") -> str:
    """Submit a job; return its id once it has written `up`."""
    with daemon.client() as client:
        job = client.submit(["sh", "-c", script], cwd=daemon.data)
    daemon.await_output(job.id, "up")
    return job.id


# -- the installation ------------------------------------------------------------


def test_a_host_is_installed_as_the_readme_says(systemd_host: SystemdHost) -> None:
    commands = readme_commands()
    assert len(commands) <= 4
    # The others were run when the image of this host was made.
    install, enable = commands[2:]
    systemd_host.run("sh", "-c", install)
    daemon = systemd_host.daemon()
    daemon.extra = '[socket]\ngroup = "wsclean"\n'
    daemon.write_config()
    systemd_host.run("sh", "-c", enable)
    assert systemd_host.systemctl("is-active", UNIT) == "active\n"
    assert systemd_host.systemctl("is-enabled", UNIT) == "enabled\n"
    daemon.await_health()
    # A member of the group, by the link that is on everybody's PATH.
    systemd_host.run("usermod", "-aG", "wsclean", "observer")
    call = f"wsclean-ctl run --cwd {daemon.data} sh -c 'id -u; echo x >made'"
    done = systemd_host.run("runuser", "-u", "observer", "--", "sh", "-c", call)
    assert done.stdout == f"{OBSERVER}\n"
    assert (daemon.data / "made").stat().st_uid == OBSERVER
    # Nobody else may.
    systemd_host.run("useradd", "stranger")
    refused = systemd_host.run(
        "runuser", "-u", "stranger", "--", "wsclean-ctl", "status", check=False
    )
    assert "usermod -aG wsclean USER" in refused.stderr


def test_the_configuration_as_installed_is_valid(host: SystemdHost) -> None:
    assert "valid" in host.run(f"{BIN}/wsclean-workerd", "--check-config").stdout


def test_what_is_wrong_with_a_configuration_is_in_the_journal(host: SystemdHost) -> None:
    config = host.root / MADE[4]
    config.write_text(config.read_text().replace("slots = 1", "slots = 0"))
    done = host.run(f"{BIN}/wsclean-workerd", "--check-config", check=False)
    assert done.returncode == 1
    assert "slots" in done.stderr
    # Systemd tries it again and again: not so in a test.
    host.run("systemctl", "start", UNIT, check=False)
    host.systemctl("stop", UNIT)
    (entry, *_) = host.journal("--unit", UNIT, "--priority", "crit")
    assert "slots" in entry["MESSAGE"]


def test_what_was_edited_is_kept(host: SystemdHost) -> None:
    daemon = host.daemon()
    daemon.start()
    unit = host.root / MADE[0]
    unit.write_text(unit.read_text() + "# of an older release\n")
    edited = daemon.config.read_text()
    said = host.install()
    assert f"kept: /{MADE[4]}, which was edited; the new one is /{MADE[4]}.new" in said
    assert f"written: /{MADE[0]}\n" in said
    assert f"unchanged: /{MADE[1]}\n" in said
    assert daemon.config.read_text() == edited
    assert "of an older release" not in unit.read_text()
    assert 'image = "' in Path(f"{daemon.config}.new").read_text()
    # The daemon went on meanwhile, and restarts with what was kept.
    host.systemctl("restart", UNIT)
    daemon.await_health()
    assert host.show(UNIT, "NeedDaemonReload") == {"NeedDaemonReload": "no"}


def test_uninstalling_leaves_what_people_and_jobs_have_made(host: SystemdHost) -> None:
    host.install("--instance", "spare", "--native")
    drop_in = host.root / "etc/systemd/system/wsclean-workerd@spare.service.d"
    assert drop_in.exists()
    daemon = host.daemon()
    host.run("systemctl", "enable", UNIT)
    daemon.start()
    job = begin(daemon)
    container = daemon.container()

    would = host.ctl("uninstall", "--dry-run").stdout
    assert f"would be removed: /{MADE[0]}\n" in would
    assert host.systemctl("is-active", UNIT) == "active\n"
    assert drop_in.exists()

    said = host.ctl("uninstall").stdout
    assert f"kept: /{MADE[4]}, which was edited\n" in said
    left = [path for path in MADE if (host.root / path).exists()]
    assert left == [MADE[4]]
    assert not drop_in.exists()
    assert not (host.root / "etc/wsclean-workerd-spare.toml").exists()
    assert not list((host.root / "etc/systemd/system").glob("*.wants/wsclean*"))
    assert host.show(UNIT, "LoadState", "ActiveState") == {
        "LoadState": "not-found",
        "ActiveState": "inactive",
    }
    # The state, the container and its job are there, and a new installation goes on with them.
    assert daemon.container() == container
    assert (daemon.folder / "state" / "journal.db").exists()
    host.install()
    daemon.start()
    with daemon.client() as client:
        assert client.job(job).refresh().state.name == "RUNNING"
        client.job(job).cancel()


def test_what_cannot_be_installed_is_told_before_anything_is_changed(
    systemd_host: SystemdHost,
) -> None:
    host = systemd_host

    def refused(*words: str) -> str:
        done = host.run(*words, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert not any((host.root / path).exists() for path in MADE)
        return done.stderr

    ctl = f"{BIN}/wsclean-ctl"
    said = refused("runuser", "-u", "observer", "--", ctl, "install")
    assert "expected root. Use sudo, --dry-run" in said
    assert "'a b' as the name of an instance" in refused(ctl, "install", "--instance", "a b")
    # As after `pip install` without the extra.
    host.run("sh", "-c", "cd /opt/wsclean-workerd/lib/python3*/site-packages && mv docker away")
    said = refused(ctl, "install")
    assert "has the client alone (there is no module docker)" in said
    assert f"`{BIN}/pip install 'wsclean-workerd[daemon]'`" in said


# -- the unit --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"image": "wsclean-workerd/no-such-image:1"}, "wsclean-workerd/no-such-image:1"),
        ({"url": "unix:///run/no-such.sock"}, "/run/no-such.sock"),
    ],
)
def test_it_is_ready_without_engine_or_image_and_says_what_it_lacks(
    host: SystemdHost, fault: dict[str, str], message: str
) -> None:
    daemon = host.daemon(**fault)
    # Ends when systemd was told READY=1.
    daemon.start(ready=False)
    with daemon.client() as client:
        client.submit(["sh", "-c", "true"], cwd=daemon.data)
        status = client.status()
    assert not status.runtime.ready
    shown = re.search("Status: (.*)", daemon.await_status("not ready; 0 jobs running, 1 waiting"))
    assert shown
    assert message in shown[1]
    assert host.systemctl("is-active", UNIT) == "active\n"


def test_stop_and_restart_are_quick_and_leave_what_runs_alone(host: SystemdHost) -> None:
    daemon = host.daemon()
    daemon.start()
    gate = daemon.gate()
    job = begin(daemon, f"echo up; {gate.wait}; echo seen; exit 7")
    container = daemon.container()
    daemon.await_status("ready; 1 jobs running, 0 waiting")

    began = time.monotonic()
    host.systemctl("restart", UNIT)
    assert time.monotonic() - began < QUICK
    daemon.await_health()
    with daemon.client() as client:
        assert client.job(job).refresh().state.name == "RUNNING"

    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < QUICK
    assert host.show(UNIT, "Result") == {"Result": "success"}
    # It ends while nobody is there to see it.
    gate.open()
    daemon.await_output(job, "seen")
    daemon.start()
    with daemon.client() as client:
        ended = client.job(job).wait(DEADLINE)
    assert (ended.state.name, ended.exit_status) == ("FAILED", 7)
    assert daemon.container() == container
    assert host.show(UNIT, "NRestarts") == {"NRestarts": "0"}


def test_it_is_confined(host: SystemdHost) -> None:
    for unit in (UNIT, "wsclean-workerd@any.service"):
        said = host.run("systemd-analyze", "security", "--no-pager", unit).stdout
        exposure = re.search(r"Overall exposure level for \S+: (\S+)", said)
        assert exposure
        assert float(exposure[1]) <= MOST_EXPOSED
    # With a line that systemd does not know or cannot do it would not be what it says.
    host.daemon().start()
    assert host.run("systemd-analyze", "verify", "--man=no", UNIT, check=False).stderr == ""
    lines = [entry["MESSAGE"] for entry in host.journal("-b", "_PID=1", "-p", "warning")]
    assert not [line for line in lines if "workerd" in line]


def test_its_log_has_priorities_and_the_ids_of_jobs(host: SystemdHost) -> None:
    daemon = host.daemon()
    daemon.start()
    other, job = begin(daemon), begin(daemon)
    with daemon.client() as client:
        client.job(other).cancel()
        client.job(other).wait(DEADLINE)
        daemon.docker("kill", daemon.name)
        with pytest.raises(JobLost):
            client.job(job).result()
    (lost,) = host.journal("-u", UNIT, f"JOB={job}", "-p", "warning")
    assert lost["MESSAGE"].startswith(f"job {job} is LOST: ")
    assert lost["PRIORITY"] == "4"
    assert lost["SYSLOG_IDENTIFIER"] == "wsclean-workerd"
    assert lost["_SYSTEMD_UNIT"] == UNIT
    assert lost["LOGGER"] == "wsclean_workerd.job_log"
    story = [entry["MESSAGE"] for entry in host.journal("-u", UNIT, f"JOB={other}")]
    assert story[-1].startswith(f"job {other} is CANCELLED")
    assert all(f"job {other}" in line for line in story)


# -- instances, and jobs on the host itself --------------------------------------


def test_instances_have_everything_of_their_own(host: SystemdHost) -> None:
    host.install("--instance", "aoflagger")
    made = (host.root / "etc/wsclean-workerd-aoflagger.toml").read_text()
    assert 'container = "wsclean-workerd-aoflagger"' in made
    one, two = host.daemon(), host.daemon("aoflagger")
    for daemon in (one, two):
        daemon.start()
    assert one.container() != two.container()
    jobs = [begin(daemon) for daemon in (one, two)]
    assert jobs == ["1", "1"]
    # What happens to one is nothing to the other.
    one.stop()
    assert not one.socket.parent.exists()
    with two.client() as client:
        assert client.job("1").refresh().state.name == "RUNNING"
        client.job("1").cancel()
    one.start()
    with one.client() as client:
        assert client.job("1").refresh().state.name == "RUNNING"
        client.job("1").cancel()
    assert [entry["_SYSTEMD_UNIT"] for entry in host.journal("-u", two.unit, "JOB=1")]
    assert (host.root / "var/lib/wsclean-workerd-aoflagger").is_dir()
    # All of them end with the installation, also one whose configuration is gone.
    two.config.unlink()
    host.ctl("uninstall")
    for daemon in (one, two):
        assert host.show(daemon.unit, "ActiveState") == {"ActiveState": "inactive"}


def test_jobs_on_the_host_itself_have_the_room_they_need(host: SystemdHost) -> None:
    host.install("--native")
    daemon = host.daemon()
    daemon.native = True
    daemon.start()
    # Else one that ran out of memory would take the daemon with it.
    assert host.show(UNIT, "OOMPolicy") == {"OOMPolicy": "continue"}
    gate = daemon.gate()
    script = (
        "echo $$ >/tmp/made; id -u; python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)' && "
        f"echo up; {gate.wait}"
    )
    job = begin(daemon, script)
    # In the folder that everybody knows as /tmp, and not in one of the unit's own.
    made = host.root / "tmp/made"
    assert made.stat().st_uid == OBSERVER
    host.systemctl("restart", UNIT)
    daemon.await_health()
    assert host.run("kill", "-0", made.read_text().strip()).returncode == 0
    gate.open()
    ended = begin(daemon, "trap '' TERM; echo up; sleep 600 & wait; sleep 600")
    with daemon.client() as client:
        assert client.job(job).wait(DEADLINE).state.name == "SUCCEEDED"
        client.job(ended).cancel()
        assert client.job(ended).wait(DEADLINE).state.name == "CANCELLED"
