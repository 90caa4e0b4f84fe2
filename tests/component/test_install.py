"""`wsclean-ctl install` and `uninstall` below a folder, which need neither root nor systemd."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.daemon import DEADLINE
from wsclean_workerd import host_files

PROGRAMS = Path(sys.executable).parent
UNIT = "etc/systemd/system/wsclean-workerd.service"
TEMPLATE = "etc/systemd/system/wsclean-workerd@.service"
CONFIG = "etc/wsclean-workerd.toml"
LINK = "usr/local/bin/wsclean-ctl"
ALL = {
    UNIT,
    TEMPLATE,
    CONFIG,
    LINK,
    "etc/sysusers.d/wsclean-workerd.conf",
    "etc/tmpfiles.d/wsclean-workerd.conf",
}


def ctl(*words: str | Path, status: int = 0) -> str:
    """Run wsclean-ctl; return what it says."""
    done = subprocess.run(
        [PROGRAMS / "wsclean-ctl", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def install(root: Path, *words: str) -> str:
    return ctl("install", "--root", root, *words)


def uninstall(root: Path, *words: str) -> str:
    return ctl("uninstall", "--root", root, *words)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_everything_is_put_in_place_and_taken_away(root: Path) -> None:
    assert install(root).count("written: ") == len(ALL) - 1
    assert files(root) == ALL
    assert (root / LINK).readlink() == PROGRAMS / "wsclean-ctl"
    assert f"ExecStart={PROGRAMS}/wsclean-workerd --config" in (root / UNIT).read_text()
    assert {path.stat().st_mode & 0o777 for path in map(root.joinpath, ALL - {LINK})} == {0o644}
    again = install(root)
    assert again.count("unchanged: ") == len(ALL)
    assert "written" not in again
    assert uninstall(root).count("removed: ") == len(ALL)
    assert files(root) == set()
    assert uninstall(root) == ""


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_a_dry_run_tells_and_does_nothing(root: Path, verb: str) -> None:
    if verb == "uninstall":
        install(root, "--instance", "dp3", "--native")
    before = files(root)
    folders = set(root.rglob("*"))
    would = ctl(verb, "--dry-run", "--root", root)
    assert files(root) == before
    assert set(root.rglob("*")) == folders
    done = ctl(verb, "--root", root)
    assert would.replace("would be ", "") == done
    assert files(root) != before


def test_a_configuration_that_was_edited_is_kept(root: Path) -> None:
    install(root)
    config, beside = root / CONFIG, root / f"{CONFIG}.new"
    shipped = config.read_text()
    config.write_text("slots = 3\n")
    said = install(root)
    assert f"kept: /{CONFIG}, which was edited; the new one is /{CONFIG}.new\n" in said
    assert config.read_text() == "slots = 3\n"
    assert beside.read_text() == shipped
    assert f"kept: /{CONFIG}, which was edited\n" in uninstall(root)
    assert files(root) == {CONFIG}
    # What is up to date needs nothing beside it.
    install(root)
    beside.replace(config)
    beside.write_text("of an older release")
    install(root)
    assert config.read_text() == shipped
    assert not beside.exists()


def test_a_program_that_is_not_ours_keeps_its_name(root: Path) -> None:
    (root / LINK).parent.mkdir(parents=True)
    (root / LINK).write_text("somebody else's")
    assert f"kept: /{LINK}, which is not ours: put {PROGRAMS} on the PATH" in install(root)
    uninstall(root)
    assert (root / LINK).read_text() == "somebody else's"


def test_a_link_to_another_environment_is_led_to_this_one(root: Path) -> None:
    (root / LINK).parent.mkdir(parents=True)
    (root / LINK).symlink_to("/opt/older/bin/wsclean-ctl")
    install(root)
    assert (root / LINK).readlink() == PROGRAMS / "wsclean-ctl"


def test_an_instance_has_everything_under_its_own_name(root: Path) -> None:
    said = install(root, "--instance", "dp3")
    assert "edit /etc/wsclean-workerd-dp3.toml" in said
    assert "`systemctl enable --now wsclean-workerd@dp3`" in said
    config = tomllib.loads((root / "etc/wsclean-workerd-dp3.toml").read_text())
    assert config["state_dir"] == "/var/lib/wsclean-workerd-dp3"
    assert config["runtime_dir"] == "/run/wsclean-workerd-dp3"
    assert config["docker"]["container"] == "wsclean-workerd-dp3"
    # That of the daemon without a name is not asked for.
    assert not (root / CONFIG).exists()


def test_the_instances_unit_is_the_daemons_but_for_the_names(root: Path) -> None:
    install(root)
    unit, template = ((root / name).read_text().splitlines() for name in (UNIT, TEMPLATE))
    changed = [(one, other) for one, other in zip(unit, template, strict=True) if one != other]
    assert [other.split("=")[0] for _, other in changed if not other.startswith("#")] == [
        "Description",
        "Documentation",
        "ExecStart",
        "ExecReload",
        "RuntimeDirectory",
        "StateDirectory",
    ]
    for one, other in changed:
        assert other.replace("-%i", "").replace(" (%i)", "").replace("@NAME", "") == one


def test_one_instance_can_be_taken_away_alone(root: Path) -> None:
    install(root)
    install(root, "--instance", "dp3", "--native")
    install(root, "--instance", "aoflagger")
    drop_in = "etc/systemd/system/wsclean-workerd@dp3.service.d"
    assert (root / drop_in / "wsclean-native.conf").exists()
    uninstall(root, "--instance", "dp3")
    assert files(root) == {*ALL, "etc/wsclean-workerd-aoflagger.toml"}
    assert not (root / drop_in).exists()


def test_what_gives_native_jobs_room_is_kept_up_to_date_and_others_drop_ins_are_left(
    root: Path,
) -> None:
    install(root, "--native")
    folder = root / f"{UNIT}.d"
    (folder / "wsclean-native.conf").write_text("[Service]\n")
    (folder / "override.conf").write_text("[Service]\n")
    install(root)
    assert "PrivateTmp=no" in (folder / "wsclean-native.conf").read_text()
    uninstall(root)
    assert files(root) == {f"{UNIT}.d/override.conf"}


@pytest.mark.parametrize("name", ["", "a b", "-x", "a/b", "a.b", "a@b", "x" * 33])
def test_a_name_that_no_instance_can_have_is_refused(root: Path, name: str) -> None:
    said = ctl("install", "--root", root, f"--instance={name}", status=1)
    assert f"cannot use {name!r} as the name of an instance" in said
    assert files(root) == set()


def test_a_file_where_a_folder_has_to_be_is_named(root: Path) -> None:
    (root / "etc").write_text("")
    assert f"{root}/etc" in ctl("install", "--root", root, status=1)


def test_the_path_of_the_program_is_written_as_units_want_it() -> None:
    (unit, *_) = host_files.service_files("/srv/50% of it/bin")
    assert r"ExecStart=/srv/50%%\x20of\x20it/bin/wsclean-workerd --config" in unit.text
