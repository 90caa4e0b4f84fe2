"""The table of options beside the programs themselves, of both versions that it is for."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from support.daemon import DEADLINE
from support.docker_daemon import IMAGE
from wsclean_workerd.wsclean_command import read_command
from wsclean_workerd.wsclean_options import CHGCENTRE, LAST_WORDS, WSCLEAN, Option, Standing

OLDER_IMAGE = "wsclean-workerd/wsclean:3.6"
IMAGES = {"3.6": OLDER_IMAGE, "3.7": IMAGE}

AT_ONCE = 50
"""How many commands a container runs: few enough for the deadline on a busy machine."""

NO_SUCH_SET = "/nowhere/a.ms"

VALUES = {
    "beam-mode": "full",
    "beam-model": "hamaker",
    "beam-normalisation-mode": "full",
    "component-optimization": "clean",
    "direct-ft-precision": "double",
    "draw-centre": "8h37m5.120s -5d22m54.321s",
    "grid-mode": "kb",
    "gridder": "wgridder",
    "idg-mode": "cpu",
    "link-polarizations": "I",
    "local-rms-method": "rms",
    "major-iteration-mode": "dual",
    "model-storage-manager": "default",
    "multiscale-shape": "gaussian",
    "pol": "I",
    "shift": "8h37m5.120s -5d22m54.321s",
    "visibility-weighting-mode": "unit",
    "weight": "natural",
    "wstack-grid-mode": "kb",
}
"""Values of options that do not take 1 for each."""

SHOWN_WITHOUT_VALUE = {
    "beam-mode",
    "beam-model",
    "beam-normalisation-mode",
    "local-rms-method",
    "local-rms-window",
    "multiscale-scale-bias",
}
"""The options that take a value of which the help says nothing."""


@dataclass(frozen=True)
class Answer:
    status: int
    text: str


@dataclass(frozen=True)
class Image:
    version: str
    ask: Callable[[Sequence[Sequence[str]]], list[Answer]]

    def knows(self, option: Option) -> bool:
        return option.standing is not Standing.REFUSED and option.since <= self.version

    def shows(self, option: Option) -> bool:
        shown = option.standing in (Standing.SHOWN, Standing.REFUSED)
        return shown and option.since <= self.version


def asked(engine_url: str, version: str) -> Image:
    docker = ["docker", "--host", engine_url, "run", "--rm", "-i", "--network", "none"]

    def ask_some(commands: Sequence[Sequence[str]]) -> list[Answer]:
        script = "".join(
            f"printf '\\036'; {shlex.join(command)} </dev/null 2>&1; printf '\\037%s' $?\n"
            for command in commands
        )
        done = subprocess.run(
            [*docker, IMAGES[version], "sh"],
            input=script,
            capture_output=True,
            text=True,
            check=True,
            timeout=DEADLINE,
        )
        answers = [each.split("\037") for each in done.stdout.split("\036")[1:]]
        assert len(answers) == len(commands)
        return [Answer(int(status), text) for text, status in answers]

    def ask(commands: Sequence[Sequence[str]]) -> list[Answer]:
        """Run commands in few containers; return what each of them answered."""
        parts = [commands[start : start + AT_ONCE] for start in range(0, len(commands), AT_ONCE)]
        return [answer for part in parts for answer in ask_some(part)]

    return Image(version, ask)


@pytest.fixture(scope="module", params=IMAGES)
def image(request: pytest.FixtureRequest, engine_url: str) -> Image:
    return asked(engine_url, request.param)


@pytest.fixture(scope="module")
def chgcentre_image(engine_url: str) -> Image:
    # Debian's package of 3.6 is without it.
    return asked(engine_url, "3.7")


@pytest.fixture(scope="module")
def answers(image: Image) -> dict[str, Answer]:
    """What is answered to each option of the table, given with its values and nothing else.

    A value too few or too many would leave the last word for something else than the option
    that it is: a value itself, or a Measurement Set.
    """
    options = [each for each in WSCLEAN.options.values() if each.name not in LAST_WORDS]
    commands = [["wsclean", f"-{each.name}", *values(each), "-version"] for each in options]
    return {each.name: told for each, told in zip(options, image.ask(commands), strict=True)}


def values(option: Option) -> list[str]:
    return VALUES[option.name].split() if option.name in VALUES else ["1"] * len(option.values)


def shown_options(usage: str) -> dict[str, int]:
    """The options that a help shows, and how many values it shows."""
    found: dict[str, int] = {}
    for line in usage.splitlines():
        if line.startswith("-"):
            count = len(re.findall(r"<[^>]*>|\[[^\]]*\]", line))
            found |= dict.fromkeys(re.findall(r"(?<!\S)-([a-z][a-z0-9-]*)(?![^\s)])", line), count)
    return found


# -- WSClean -----------------------------------------------------------------------


def test_each_option_takes_as_many_values_as_the_table_says(
    image: Image, answers: dict[str, Answer]
) -> None:
    for name, answer in answers.items():
        told = f"-{name}: {answer.text}"
        if not image.knows(WSCLEAN.options[name]):
            assert f"Unknown parameter: {name}\n" in answer.text, told
        elif "was not compiled with IDG" in answer.text:
            assert name == "use-idg", told
        else:
            assert answer.status == 0, told
            assert name == "quiet" or f"WSClean version {image.version}" in answer.text, told


def test_the_deprecated_options_are_those_of_which_it_warns(answers: dict[str, Answer]) -> None:
    warned = {
        name
        for name, answer in answers.items()
        if f"Parameter '-{name}' is deprecated" in answer.text
    }
    assert warned == {
        name for name, option in WSCLEAN.options.items() if option.standing is Standing.DEPRECATED
    }


def test_the_options_of_the_help_are_those_of_the_table(image: Image) -> None:
    (answer,) = image.ask([["wsclean", "--help"]])
    shown = shown_options(answer.text)
    assert sorted(shown) == sorted(
        name for name, option in WSCLEAN.options.items() if image.shows(option)
    )
    differing = {
        name for name, count in shown.items() if count != len(WSCLEAN.options[name].values)
    }
    assert differing == SHOWN_WITHOUT_VALUE


ACCEPTED = [
    "wsclean",
    "wsclean -help",
    "wsclean --help -new",
    "wsclean --version -new",
    "wsclean --size 1 1 --version",
    "wsclean -weight briggs -0.5 -version",
    "wsclean -name -version -version",
    "wsclean -dry-run /nowhere/a.ms",
    "wsclean -idg-mode GPU -idg-mode Hybrid -version",
    "wsclean -j 0 -version",
    "wsclean -abs-mem .5 -abs-mem 5. -abs-mem +1e1 -version",
]

REFUSED = [
    "wsclean -weight Briggs -0.5 -version",
    "wsclean -weight briggs -version",
    "wsclean -name -version",
    "wsclean -new -version",
    "wsclean ---version",
    "wsclean - -version",
    "wsclean -5 -version",
    "wsclean -predict",
    "wsclean -dry-run",
    "wsclean -j -1 -version",
    "wsclean -j 08 -version",
    "wsclean -mem 0 -version",
    "wsclean -mem 50% -version",
    "wsclean -abs-mem 0 -version",
    "wsclean -abs-mem 1_0 -version",
]


def test_the_rest_is_as_the_parser_takes_for_granted(image: Image) -> None:
    lines = ACCEPTED + REFUSED
    answers = image.ask([line.split() for line in lines])
    accepted = [line for line, each in zip(lines, answers, strict=True) if each.status == 0]
    assert accepted == ACCEPTED


IMAGING = [
    """-name IMG -size 512 512 -scale 2.500arcsec -data-column CORRECTED_DATA -field 0
    -weight briggs 0.5 -fit-spectral-pol 2 -channels-out 8 -join-channels -multiscale
    -multiscale-scales 0,5,15,45 -niter 1000 -abs-threshold 0.005Jy -minuv-l 1000
    -gridder wgridder -reorder -fits-mask M.fits -auto-mask 3 -auto-threshold 0.5 -mgain 0.8
    -j 40 -abs-mem 16 -pol I /nowhere/a.ms""",
    "-predict -reorder -name PFX /nowhere/a.ms b.ms",
    """-name PFX -size 1024 1024 -scale 2.5arcsec -niter 0 -data-column CORRECTED_DATA
    -intervals-out 4 -weight briggs 0.5 -no-update-model-required -reorder -j 4 -abs-mem 16 -pol I
    -subtract-model /nowhere/a.ms""",
    """-name P -size 2048 2048 -scale 5asec -niter 1000 -auto-threshold 3 -pol I -weight briggs 0
    /nowhere/a.ms -name b.ms""",
]


def test_wsclean_opens_what_is_read_as_a_measurement_set(image: Image) -> None:
    commands = [["wsclean", *line.split()] for line in IMAGING]
    for command, answer in zip(commands, image.ask(commands), strict=True):
        reading = read_command(command)
        assert reading is not None
        assert f"Table {reading.measurement_sets[0]} does not exist" in answer.text


# -- chgcentre ---------------------------------------------------------------------


def test_each_option_of_chgcentre_takes_as_many_values_as_the_table_says(
    chgcentre_image: Image,
) -> None:
    options = list(CHGCENTRE.options.values())
    answers = chgcentre_image.ask(
        [
            ["chgcentre", f"-{option.name}", *values(option), NO_SUCH_SET, "0h0m0s", "-1d0m0s"]
            for option in options
        ]
    )
    for option, answer in zip(options, answers, strict=True):
        assert f"Table {NO_SUCH_SET} does not exist" in answer.text, option.name


def test_chgcentre_refuses_what_is_not_in_the_table(chgcentre_image: Image) -> None:
    words = ["-new", "--zenith", "-name", "-version", "-"]
    answers = chgcentre_image.ask([["chgcentre", word, NO_SUCH_SET] for word in words])
    for word, answer in zip(words, answers, strict=True):
        assert "Invalid parameter" in answer.text, word


def test_the_options_of_the_help_of_chgcentre_are_those_of_the_table(
    chgcentre_image: Image,
) -> None:
    (answer,) = chgcentre_image.ask([["chgcentre"]])
    assert shown_options(answer.text) == {
        name: len(option.values)
        for name, option in CHGCENTRE.options.items()
        if option.standing is Standing.SHOWN
    }
