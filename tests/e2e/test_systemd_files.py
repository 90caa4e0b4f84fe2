"""The unit and its companions, as systemd's own tools see them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon import DEADLINE

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
