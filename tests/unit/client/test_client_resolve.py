from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclean_client.resolve import resolve_command, resolve_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host: `stage` is where data are, `link` and `home/work` lead to it."""
    top = tmp_path.resolve()
    stage = top / "stage"
    for name in ("sim.ms", "my,odd.ms", "2.5", "sub/deep.ms", "briggs"):
        (stage / name).mkdir(parents=True)
    (stage / "model.fits").touch()
    (top / "link").symlink_to("stage")
    (top / "home").mkdir()
    (top / "home" / "work").symlink_to(stage)
    (stage / "latest.ms").symlink_to("sim.ms")
    (stage / "latest").symlink_to("sim.ms")
    (stage / "loop.ms").symlink_to("loop.ms")
    return top


def one(argument: str, folder: Path) -> str:
    program, resolved = resolve_command(["wsclean", argument], str(folder))
    assert program == "wsclean"
    return resolved


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "-size",
        "512",
        "2.5",
        "-0.5",
        "1e-3",
        "nan",
        "2.500arcsec",
        "0.005Jy",
        "0,5,15,45",
        "1400000000.0",
        "8h37m5.120s",
        "-5d22m54.321s",
        "briggs",
        "latest",
        "I",
        "CORRECTED_DATA",
        "new.ms",
        "new/image",
        "sub/new",
        "container:/usr/share/x",
        "container:../x",
        "-fits-mask",
        "a=b",
        "--key=relative/path",
        "with\0nul/..",
    ],
)
def test_argument_that_is_no_path_or_means_the_same_there_is_left_alone(
    root: Path, argument: str
) -> None:
    assert one(argument, root / "stage") == argument


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("sim.ms", "stage/sim.ms"),
        ("sim.ms/", "stage/sim.ms"),
        ("./sim.ms", "stage/sim.ms"),
        ("sub/deep.ms", "stage/sub/deep.ms"),
        ("latest.ms", "stage/sim.ms"),
        ("..", ""),
        ("../stage/sim.ms", "stage/sim.ms"),
        ("../new/image", "new/image"),
        ("sub/../new.fits", "stage/new.fits"),
        ("../link/new.fits", "stage/new.fits"),
        ("../link", "stage"),
        ("loop.ms", "stage/loop.ms"),
        ("my,odd.ms", "stage/my,odd.ms"),
    ],
)
def test_relative_argument(root: Path, argument: str, expected: str) -> None:
    assert one(argument, root / "stage") == str(root / expected)


def test_new_file_behind_a_symlink(root: Path) -> None:
    assert one("link/new.fits", root) == f"{root}/stage/new.fits"
    assert one("home/work/sub/new", root) == f"{root}/stage/sub/new"
    assert one("nowhere/new", root) == "nowhere/new"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("{}/stage/sim.ms", "{}/stage/sim.ms"),
        ("{}/stage/sim.ms/", "{}/stage/sim.ms"),
        ("{}/stage/new", "{}/stage/new"),
        ("{}/link/sim.ms", "{}/stage/sim.ms"),
        ("{}/link/new/image", "{}/stage/new/image"),
        ("{}/home/work/../new", "{}/new"),
        ("{}/link", "{}/stage"),
        ("{}/link/a,{}/link/b", "{}/stage/a,{}/stage/b"),
        ("new.ms,{}/link/b", "new.ms,{}/stage/b"),
        ("stage/sim.ms,{}/link/b", "{}/stage/sim.ms,{}/stage/b"),
        ("container:/x,{}/link/b", "container:/x,{}/stage/b"),
        ("{}/link/a,b.ms", "{}/stage/a,b.ms"),
        ("mask={}/link/m.fits", "mask={}/stage/m.fits"),
        ("--mask={}/link/m.fits", "--mask={}/stage/m.fits"),
        ("--masks={}/link/m,{}/link/n", "--masks={}/stage/m,{}/stage/n"),
        ("-mask{}/link/m.fits", "-mask{}/link/m.fits"),
    ],
)
def test_absolute_argument(root: Path, argument: str, expected: str) -> None:
    fill = str(root)
    assert one(argument.replace("{}", fill), root) == expected.replace("{}", fill)


def test_path_that_may_be_one_inside_the_container_is_left_alone(root: Path) -> None:
    assert one("/no-such-folder/x/../y/", root) == "/no-such-folder/x/../y/"
    # /usr exists on this host, and that alone says nothing about what is below.
    assert one("/usr/no-such-file-here/x/../y", root) == "/usr/no-such-file-here/x/../y"
    assert one("/", root) == "/"


@pytest.mark.parametrize("option", ["-name", "--name", "-reuse-psf"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("image", "image"),
        ("latest", "latest"),
        ("latest.ms", "{}/stage/sim.ms"),
        ("sub/image", "sub/image"),
        ("../link/latest", "{}/stage/latest"),
        ("../home/work/latest", "{}/stage/latest"),
        ("{}/link/latest", "{}/stage/latest"),
        ("{}/link/image-1.5", "{}/stage/image-1.5"),
        ("/no-such-folder/x/image", "/no-such-folder/x/image"),
        ("/image", "/image"),
        ("container:/x/image", "container:/x/image"),
    ],
)
def test_prefix_of_file_names_has_only_its_folder_resolved(
    root: Path, option: str, value: str, expected: str
) -> None:
    fill = str(root)
    command = ["wsclean", option, value.replace("{}", fill), "sim.ms"]
    resolved = resolve_command(command, f"{fill}/stage")
    assert resolved == ("wsclean", option, expected.replace("{}", fill), f"{fill}/stage/sim.ms")


def test_program_is_never_touched(root: Path) -> None:
    program = f"{root}/link/wsclean"
    assert resolve_command([program], str(root)) == (program,)
    assert resolve_command(["sim.ms"], str(root / "stage")) == ("sim.ms",)
    assert resolve_command([], str(root)) == ()


def test_pipeline_command_keeps_its_words(root: Path) -> None:
    command = [
        "wsclean",
        "-name",
        "IMG",
        "-size",
        "4096",
        "4096",
        "-scale",
        "2.500arcsec",
        "-data-column",
        "CORRECTED_DATA",
        "-weight",
        "briggs",
        "0.5",
        "-multiscale-scales",
        "0,5,15,45",
        "-abs-threshold",
        "0.005Jy",
        "-j",
        "40",
        "-pol",
        "I",
    ]
    assert resolve_command([*command, "sim.ms"], str(root / "stage")) == (
        *command,
        f"{root}/stage/sim.ms",
    )


def test_folder_is_resolved_even_if_it_is_not_there(root: Path) -> None:
    assert resolve_folder(str(root / "home/work")) == str(root / "stage")
    assert resolve_folder(str(root / "link/new")) == str(root / "stage/new")
    assert resolve_folder("a\0b") == "a\0b"


@given(
    st.lists(
        st.one_of(
            st.text(),
            st.text(alphabet="/.,=-a~:\0"),
            st.sampled_from(["-name", "x" * 5000, "/" + "x" * 5000, "//", "///usr", "/usr/../.."]),
        )
    )
)
def test_no_argument_makes_it_fail(command: list[str]) -> None:
    folder = os.path.realpath("/usr")
    resolved = resolve_command(command, folder)
    assert len(resolved) == len(command)
    assert resolve_command(resolved, folder) == resolved
