"""Jobs of several users in one container: what they write is theirs."""

from __future__ import annotations

import os

import pytest

from support.acts import cancel, get, logs, run, submit, wait, wsclean
from support.docker_daemon import DockerDaemon
from support.users import RADIO, USERS, Process
from wsclean_client import JobState, PermissionDenied

MODEL = """\
Format = Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, ReferenceFrequency='1.3e9', \
MajorAxis, MinorAxis, Orientation
one,POINT,08:37:05.0,55.22.54.0,1.5,[-0.7],false,1.3e9,,,
"""


@pytest.fixture
def daemon(idle_daemon: DockerDaemon) -> DockerDaemon:
    """A daemon that runs jobs as their submitters."""
    assert os.geteuid() == 0, "only root can become another user: run the tests as root"
    idle_daemon.values["run_as"] = None
    idle_daemon.extra = f'[socket]\ngroup = "{USERS}"\n'
    idle_daemon.start()
    idle_daemon.data.chmod(0o777)
    shared = idle_daemon.data / "radio"
    shared.mkdir()
    os.chown(shared, 0, RADIO)
    shared.chmod(0o2770)
    return idle_daemon


def test_images_belong_to_who_has_submitted_the_job_and_to_his_groups(
    daemon: DockerDaemon, alice: Process, bob: Process
) -> None:
    shared = daemon.data / "radio"
    (daemon.data / "model.txt").write_text(MODEL, encoding="utf-8")
    words = "-draw-model ../model.txt -draw-frequencies 1.32e9 40e6 -draw-spectral-terms 1"
    words += " -draw-centre 08h37m05s +55d22m54s -size 64 64 -scale 2arcsec -name first"
    alice.call(wsclean, daemon.socket, words.split(), shared)
    (image,) = shared.glob("first*.fits")
    found = image.stat()
    # He can write here by one of his groups alone, which the folder passes on.
    assert (found.st_uid, found.st_gid) == (4711, RADIO)
    assert bob.call(run, daemon.socket, "id -u; ls radio || echo no", daemon.data) == "4712\nno\n"
    script = "id -u; id -G; echo x >made; grep -E 'Cap(Eff|Prm|Inh)' /proc/self/status"
    said = alice.call(run, daemon.socket, script, daemon.data).splitlines()
    assert (said[0], {int(each) for each in said[1].split()}) == ("4711", {4711, USERS, RADIO})
    assert {int(line.split()[1], 16) for line in said[2:]} == {0}
    made = (daemon.data / "made").stat()
    assert (made.st_uid, made.st_gid) == (4711, 4711)


def test_somebody_elses_job_is_left_alone_and_ones_own_is_ended(
    daemon: DockerDaemon, alice: Process, bob: Process
) -> None:
    job = alice.call(submit, daemon.socket, "trap : TERM; echo up; while :; do sleep 1; done", "/")
    daemon.await_output(job, "up")
    for call in (get, logs, cancel):
        with pytest.raises(PermissionDenied):
            bob.call(call, daemon.socket, job)
    # What it leaves alone when asked is killed, as this user.
    alice.call(cancel, daemon.socket, job)
    assert alice.call(wait, daemon.socket, job) is JobState.CANCELLED
    assert not [each for each in daemon.processes() if "trap" in each]
