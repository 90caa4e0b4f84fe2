"""The unit and its companions, as systemd's own tools see them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from support.systemd_versions import OLDEST, as_seen_by, complaints
from wsclean_workerd import host_files

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "systemd"
UNIT = HOST / "wsclean-workerd.service"


def verify(unit: Path) -> str:
    """What systemd has to say of a unit file, which is nothing if all is well."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    # Other units of the machine may have faults of their own.
    return "\n".join(line for line in done.stderr.splitlines() if unit.name in line)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with the path of a daemon that is installed here."""
    installed = Path(sys.executable).with_name("wsclean-workerd")
    text = UNIT.read_text().replace("/opt/wsclean-workerd/bin/wsclean-workerd", str(installed))
    assert str(installed) in text
    path = tmp_path / UNIT.name
    path.write_text(text)
    return path


def test_the_unit_is_valid(unit: Path) -> None:
    assert verify(unit) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("WatchdogSec=60", "WatchdogSec=often"), ("Type=notify", "Type=notfy")],
)
def test_an_error_in_the_unit_would_be_seen(unit: Path, right: str, wrong: str) -> None:
    unit.write_text(unit.read_text().replace(right, wrong))
    assert wrong.partition("=")[2] in verify(unit)


def test_the_unit_survives_what_it_is_there_to_survive() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    bound = {"Requires", "BindsTo", "PartOf", "RequiresMountsFor", "Requisite"}
    assert not bound & set(unit["Unit"])
    assert {"docker.service", "remote-fs.target"} <= set(unit["Unit"]["After"].split())
    assert unit["Unit"]["Wants"] == "docker.service"
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["Restart"] == "on-failure"
    assert int(unit["Service"]["WatchdogSec"]) > 0


def test_an_old_systemd_refuses_no_more_calls_than_a_new_one() -> None:
    lines = [line for line in UNIT.read_text().splitlines() if line.startswith("SystemCallFilter=")]
    refused, allowed = [
        [line for line in lines if ("=~" in line) is kind] for kind in (True, False)
    ]
    # What the first one says is what is done with all that is not named.
    assert lines[0] in refused
    # A group that is not known is ignored, which is harmless in what is refused only.
    assert not [word for line in allowed for word in line.split("=")[1].split() if "@" in word]


UNITS = {
    Path(file.path).name: file.text
    for file in (*host_files.service_files("/opt/my tools%/bin"), host_files.native_file(None))
    if file.path.endswith((".service", "native.conf"))
}


@pytest.mark.parametrize("name", UNITS)
def test_it_is_known_since_when_systemd_knows_what_a_unit_says(name: str) -> None:
    assert len(UNITS) == 3
    assert complaints(UNITS[name]) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Type=notify\n", "Type=notify-reload\n"),
        ("[Service]\n", "[Service]\nProcSubset=pid\n"),
        ("@swap\n", "@swap @pkey\n"),
        ("ExecStart=/", "ExecStart=+/"),
        ("=wsclean-workerd-%i\n", "=wsclean-workerd-%j\n"),
        ("StartLimitIntervalSec=0\n\n[Service]", "\n[Service]\nStartLimitIntervalSec=0"),
    ],
)
def test_what_nobody_has_looked_up_would_be_seen(old: str, new: str) -> None:
    unit = UNITS[host_files.TEMPLATE]
    assert old in unit
    assert complaints(unit.replace(old, new))


def test_the_oldest_systemd_ignores_nothing_that_the_service_needs() -> None:
    gone = {name for text in UNITS.values() for name in as_seen_by(OLDEST, text)[1]}
    assert gone == {
        # As old a one does not look whom the kernel kills.
        "OOMPolicy",
        *("PrivateMounts", "ProtectClock", "ProtectHostname", "ProtectKernelLogs", "ProtectProc"),
        "RestrictSUIDSGID",
    }


def test_group_and_folders_are_told_in_words_of_the_oldest_systemd() -> None:
    for kind, line in (
        # There since systemd-sysusers is, with 215 (NEWS).
        ("sysusers", r"g [a-z]+ - -"),
        # As in all releases: a folder, its mode, whose it is, and no age.
        ("tmpfiles", r"d /[a-z/-]+ 0[0-7]{3} root root -"),
    ):
        text = (HOST / f"{kind}.d" / "wsclean-workerd.conf").read_text()
        assert all(re.fullmatch(rf"#.*|{line}", each) for each in text.splitlines())


def test_group_and_folders_are_made(tmp_path: Path) -> None:
    root = tmp_path
    (root / "etc").mkdir()
    for kind in ("sysusers", "tmpfiles"):
        source = HOST / f"{kind}.d" / "wsclean-workerd.conf"
        target = root / f"usr/lib/{kind}.d"
        target.mkdir(parents=True)
        shutil.copy(source, target)
    for command in (
        ["systemd-sysusers", f"--root={root}"],
        ["systemd-tmpfiles", "--create", f"--root={root}"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE)
    assert "wsclean:" in (root / "etc/group").read_text()
    assert (root / "var/lib/wsclean-workerd").stat().st_mode & 0o777 == 0o711
    assert (root / "run/wsclean-workerd").stat().st_mode & 0o777 == 0o755
