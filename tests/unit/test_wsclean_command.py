from __future__ import annotations

import shlex
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclean_workerd.wsclean_command import PathWord, Reading, UnknownOption, Word, read_command
from wsclean_workerd.wsclean_options import LAST_WORDS, MODES, WSCLEAN, Mode, Option, Use


def read(line: str) -> Reading:
    reading = read_command(shlex.split(line))
    assert reading is not None
    return reading


def used(reading: Reading) -> list[tuple[str, Use]]:
    return [(path.text, path.use) for path in reading.paths]


# -- the commands of a pipeline ----------------------------------------------------


def test_an_image_is_cleaned() -> None:
    line = (
        "wsclean -name IMG -size 4800 4800 -scale 2.500arcsec -data-column CORRECTED_DATA "
        "-field 0 -weight briggs 0.5 -fit-spectral-pol 2 -channels-out 8 -join-channels "
        "-multiscale -multiscale-scales 0,5,15,45 -niter 1000 -abs-threshold 0.005Jy "
        "-minuv-l 1000 -gridder wgridder -reorder -fits-mask M.fits -auto-mask 3 "
        "-auto-threshold 0.5 -mgain 0.8 -j 40 -abs-mem 16 -pol I 2025-10-19T14:31:45.ms"
    )
    reading = read(line)
    words = line.split()
    assert reading == Reading(
        mode=Mode.IMAGE,
        measurement_sets=("2025-10-19T14:31:45.ms",),
        name="IMG",
        name_is_written=True,
        paths=(
            PathWord(2, "IMG", Use.OUTPUT_PREFIX, option="name"),
            PathWord(words.index("M.fits"), "M.fits", Use.INPUT, option="fits-mask"),
            PathWord(len(words) - 1, "2025-10-19T14:31:45.ms", Use.MEASUREMENT_SET),
        ),
        threads=40,
        memory_gib=16.0,
    )
    assert reading.certain
    assert not reading.lacks_input


def test_a_model_is_drawn_south_of_the_equator() -> None:
    reading = read(
        "wsclean -draw-model sky.txt -name PFX -draw-frequencies 1400000000.0 250000000.0 "
        "-draw-spectral-terms 2 -size 512 512 -scale 2.5arcsec "
        "-draw-centre 8h37m5.120s -5d22m54.321s"
    )
    assert reading == Reading(
        mode=Mode.DRAW_MODEL,
        name="PFX",
        name_is_written=True,
        paths=(
            PathWord(2, "sky.txt", Use.INPUT, option="draw-model"),
            PathWord(4, "PFX", Use.OUTPUT_PREFIX, option="name"),
        ),
    )
    assert reading.certain
    assert not reading.lacks_input


def test_a_model_is_predicted() -> None:
    reading = read("wsclean -predict -reorder -name PFX /stage/a.ms")
    assert reading == Reading(
        mode=Mode.PREDICT,
        measurement_sets=("/stage/a.ms",),
        name="PFX",
        paths=(
            PathWord(4, "PFX", Use.INPUT_PREFIX, option="name"),
            PathWord(5, "/stage/a.ms", Use.MEASUREMENT_SET),
        ),
    )


def test_a_model_is_subtracted_from_many_intervals() -> None:
    reading = read(
        "wsclean -name PFX -size 1024 1024 -scale 2.5arcsec -niter 0 -data-column CORRECTED_DATA "
        "-intervals-out 24 -weight briggs 0.5 -no-update-model-required -reorder -j 4 "
        "-abs-mem 16 -pol I -subtract-model a.ms"
    )
    assert reading.certain
    assert reading.mode is Mode.IMAGE
    assert (reading.threads, reading.memory_gib, reading.memory_fraction) == (4, 16.0, None)
    assert used(reading) == [("PFX", Use.OUTPUT_PREFIX), ("a.ms", Use.MEASUREMENT_SET)]


def test_an_image_is_made_quickly() -> None:
    reading = read(
        "wsclean -name P -size 2048 2048 -scale 5asec -niter 1000 -auto-threshold 3 -pol I "
        "-weight briggs 0 a.ms"
    )
    assert reading.certain
    assert reading.measurement_sets == ("a.ms",)
    assert (reading.name, reading.threads, reading.memory_gib) == ("P", None, None)


# -- Measurement Sets --------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "sets"),
    [
        ("wsclean a.ms", ["a.ms"]),
        ("wsclean -name x a.ms b.ms /c/d,e.ms", ["a.ms", "b.ms", "/c/d,e.ms"]),
        ("wsclean -weight natural 0.ms", ["0.ms"]),
        ("wsclean -weight briggs -0.5 0.ms", ["0.ms"]),
        ("wsclean --weight briggs 0.5 --reorder 0.ms", ["0.ms"]),
        ("wsclean -shift 0h0m0s -1d0m0s -reorder 0.ms", ["0.ms"]),
        ("wsclean -beam-shape 1asec 1asec -30deg 0.ms", ["0.ms"]),
        # A value is a value whatever it looks like.
        ("wsclean -name -predict a.ms", ["a.ms"]),
        ("wsclean -moresane-arg -x -moresane-ext --y a.ms", ["a.ms"]),
        # Behind a Measurement Set all words are some, as WSClean will find.
        ("wsclean a.ms -name x", ["a.ms", "-name", "x"]),
        ("wsclean a.ms -version", ["a.ms", "-version"]),
        ("wsclean '' -name", ["", "-name"]),
        ("wsclean-mp -channel-to-node 0,1 a.ms", ["a.ms"]),
        ("wsclean -restore a.fits b.fits c.fits", []),
        ("wsclean -draw-model sky.txt a.ms", ["a.ms"]),
        ("chgcentre a.ms 8h37m5.120s -5d22m54.321s", ["a.ms"]),
        ("chgcentre a.ms", ["a.ms"]),
        ("chgcentre -f -datacolumn DATA -zenith a.ms", ["a.ms"]),
    ],
)
def test_measurement_sets_are_what_follows_the_options(line: str, sets: list[str]) -> None:
    reading = read(line)
    assert reading.certain
    assert list(reading.measurement_sets) == sets
    found = [path for path in reading.paths if path.use is Use.MEASUREMENT_SET]
    assert [path.text for path in found] == sets
    assert [shlex.split(line)[path.index] for path in found] == sets


@pytest.mark.parametrize(
    ("line", "lacking"),
    [
        ("wsclean -name x", True),
        ("wsclean -predict", True),
        ("wsclean a.ms", False),
        ("wsclean -draw-model sky.txt", False),
        ("wsclean -restore a b c", False),
        ("wsclean -version", False),
        ("wsclean", False),
        ("wsclean -new", True),
        ("wsclean -new x", False),
        ("chgcentre -zenith", True),
        ("chgcentre", False),
    ],
)
def test_a_command_can_lack_measurement_sets(line: str, *, lacking: bool) -> None:
    assert read(line).lacks_input is lacking


@pytest.mark.parametrize(
    "line",
    [
        "",
        "taql 'select from a.ms'",
        "DP3 msin=/stage/a.ms msout=. steps=[]",
        "python3 -name x",
    ],
)
def test_of_other_programs_nothing_is_said(line: str) -> None:
    assert read_command(shlex.split(line)) is None


# -- what is done, and to which files ----------------------------------------------


@pytest.mark.parametrize(
    ("line", "mode"),
    [
        ("wsclean", Mode.NOTHING),
        ("chgcentre", Mode.NOTHING),
        ("wsclean -version", Mode.NOTHING),
        ("wsclean --version", Mode.NOTHING),
        ("wsclean --help", Mode.NOTHING),
        ("wsclean -help -predict a.ms", Mode.NOTHING),
        ("wsclean -predict -version a.ms", Mode.NOTHING),
        ("wsclean -dry-run -predict a.ms", Mode.NOTHING),
        ("wsclean -predict a.ms", Mode.PREDICT),
        ("wsclean -restore-list a b c", Mode.RESTORE),
        ("wsclean -predict -restore a b c", Mode.RESTORE),
        ("wsclean -restore a b c -predict a.ms", Mode.PREDICT),
        ("wsclean a.ms -predict", Mode.IMAGE),
        ("chgcentre -zenith a.ms", Mode.CHANGE_CENTRE),
    ],
)
def test_a_command_has_a_mode(line: str, mode: Mode) -> None:
    assert read(line).mode is mode


def test_nothing_is_read_behind_a_last_word() -> None:
    reading = read("wsclean -j 4 -version -name x -new a.ms")
    assert reading == Reading(mode=Mode.NOTHING, name="wsclean", threads=4)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("wsclean a.ms", "wsclean"),
        ("wsclean -name /a/b a.ms", "/a/b"),
        ("wsclean -name a -name b a.ms", "b"),
        ("chgcentre a.ms", None),
    ],
)
def test_images_have_a_name(line: str, name: str | None) -> None:
    assert read(line).name == name


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("wsclean a.ms", True),
        ("wsclean -name x a.ms", True),
        ("wsclean -name x -draw-model sky.txt", True),
        ("wsclean -name x -restore a b c", False),
        ("wsclean -name x -version", False),
        ("chgcentre a.ms", False),
        ("wsclean -name x -predict a.ms", False),
        ("wsclean -name x -predict -pol i -channels-out 1 a.ms", False),
        # Several images are kept in temporary files, named so.
        ("wsclean -name x -predict -pol iq a.ms", True),
        ("wsclean -name x -predict -channels-out 8 a.ms", True),
        ("wsclean -name x -predict -facet-regions f.reg a.ms", True),
        # An option that nobody knows can change what is done.
        ("wsclean -name x -predict -new -reorder a.ms", True),
        ("wsclean -name x -new -version", False),
    ],
)
def test_files_of_that_name_are_written_or_only_read(line: str, *, written: bool) -> None:
    reading = read(line)
    assert reading.name_is_written is written
    uses = {path.use for path in reading.paths if path.option == "name"}
    assert uses <= {Use.OUTPUT_PREFIX if written else Use.INPUT_PREFIX}


def test_paths_are_told_by_what_is_done_with_them() -> None:
    reading = read(
        "wsclean -temp-dir /fast -reuse-psf old/x -apply-facet-solutions a.h5,/b/c.h5 amp,phase "
        "-mwa-path /opt/mwa -facet-regions f.reg -aterm-config a=/b.conf -restore r.fits m.fits "
        "out.fits a,b.ms"
    )
    assert used(reading) == [
        ("/fast", Use.WORK_FOLDER),
        ("old/x", Use.INPUT_PREFIX),
        ("a.h5,/b/c.h5", Use.INPUT),
        ("/opt/mwa", Use.INPUT_FOLDER),
        ("f.reg", Use.INPUT),
        ("a=/b.conf", Use.INPUT),
        ("r.fits", Use.INPUT),
        ("m.fits", Use.INPUT),
        ("out.fits", Use.OUTPUT),
        ("a,b.ms", Use.MEASUREMENT_SET),
    ]
    assert [path.index for path in reading.paths] == [2, 4, 6, 9, 11, 13, 15, 16, 17, 18]
    parts = {path.text: path.parts for path in reading.paths}
    assert parts["a.h5,/b/c.h5"] == ("a.h5", "/b/c.h5")
    assert parts["a,b.ms"] == ("a,b.ms",)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("wsclean /a/b.ms", []),
        ("wsclean -temp-dir /x -temp-dir /fast/ /a/b.ms c.ms", ["/fast/b.ms", "/fast/c.ms"]),
        ("wsclean -temp-dir tmp -new 1 /a/b.ms", ["tmp/1", "tmp/b.ms"]),
        ("wsclean -temp-dir /fast /a/b.ms/", ["/fast/"]),
        ("wsclean -temp-dir /fast -temp-dir '' /a/b.ms", []),
    ],
)
def test_temporary_files_are_named_in_a_work_folder(line: str, names: list[str]) -> None:
    assert list(read(line).temporary_names) == names


def test_the_direction_of_another_measurement_set_is_read() -> None:
    assert used(read("chgcentre -from-ms b.ms a.ms")) == [
        ("b.ms", Use.INPUT),
        ("a.ms", Use.MEASUREMENT_SET),
    ]


# -- how much it takes -------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "threads", "gib", "fraction"),
    [
        ("wsclean a.ms", None, None, None),
        ("wsclean -j 1 -abs-mem .5 -mem 50 a.ms", 1, 0.5, 0.5),
        ("wsclean -j 8 -j 4 -abs-mem 1e1 -abs-mem 2. -mem 10 -mem 12.5 a.ms", 4, 2.0, 0.125),
        ("wsclean -abs-mem +1.5e+1 a.ms", None, 15.0, None),
        ("wsclean -parallel-gridding 4 -deconvolution-threads 2 a.ms", None, None, None),
        ("wsclean a.ms -j 4", None, None, None),
        ("chgcentre -j 4 a.ms", None, None, None),
    ],
)
def test_threads_and_memory_are_read(
    line: str, threads: int | None, gib: float | None, fraction: float | None
) -> None:
    reading = read(line)
    assert (reading.threads, reading.memory_gib, reading.memory_fraction) == (
        threads,
        gib,
        fraction,
    )
    assert not reading.unreadable


@pytest.mark.parametrize("option", ["-j", "-abs-mem", "-mem"])
@pytest.mark.parametrize(
    "text", ["0", "-4", "", "four", "1e999", "nan", "inf", "1_0", "4 ", "٤", "4x", ".", "9" * 5000]
)
def test_what_is_no_number_is_told(option: str, text: str) -> None:
    reading = read_command(["wsclean", "-name", "x", option, text, "a.ms"])
    assert reading is not None
    assert reading.unreadable == (Word(4, text),)
    assert (reading.threads, reading.memory_gib, reading.memory_fraction) == (None, None, None)
    assert reading.measurement_sets == ("a.ms",)
    assert not reading.certain


def test_a_number_that_is_none_is_told_though_it_is_not_the_last() -> None:
    reading = read("wsclean -j 0x10 -j 4 -abs-mem 1G a.ms")
    assert reading.threads == 4
    assert reading.memory_gib is None
    assert [word.text for word in reading.unreadable] == ["0x10", "1G"]


def test_threads_are_a_whole_number() -> None:
    assert [word.text for word in read("wsclean -j 1.5 -j 010 -j 1e1 a.ms").unreadable] == [
        "1.5",
        "010",
        "1e1",
    ]


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ("", False),
        ("-gridder idg", False),
        ("-gridder idg -idg-mode cpu", False),
        ("-gridder idg -idg-mode gpu", True),
        ("-idg-mode Hybrid -gridder facet-idg", True),
        ("-use-idg -idg-mode HYBRID", True),
        ("-idg-mode gpu", False),
        ("-idg-mode gpu -use-idg -reorder -gridder wgridder", False),
        ("-idg-mode gpu -use-idg -use-wgridder", False),
        ("-idg-mode gpu -use-idg -direct-ft", False),
        ("-idg-mode gpu -gridder wgridder -use-idg -reorder", True),
        ("-gridder idg -idg-mode gpu -idg-mode cpu", False),
    ],
)
def test_a_gpu_is_used_or_not(options: str, *, used: bool) -> None:
    assert read(f"wsclean {options} a.ms").uses_gpu is used


# -- doubt -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "unknown", "doubtful", "sets"),
    [
        # What is followed by an option is no Measurement Set.
        ("wsclean -new 1 /x -j 4 a.ms", ["-new 1 /x"], "", "a.ms"),
        ("wsclean -new -j 4 a.ms", ["-new"], "", "a.ms"),
        ("wsclean -new -5d22m --reorder a.ms", ["-new -5d22m"], "", "a.ms"),
        ("wsclean -new -.5 - -reorder a.ms", ["-new -.5 -"], "", "a.ms"),
        ("wsclean -new 1 -newer 2 -j 4 a.ms", ["-new 1", "-newer 2"], "", "a.ms"),
        # What is not may be one.
        ("wsclean -new a.ms", ["-new a.ms"], "a.ms", ""),
        ("wsclean -new -1 a.ms b.ms", ["-new -1 a.ms b.ms"], "-1 a.ms b.ms", ""),
        ("wsclean -new 1 -newer 2 a.ms", ["-new 1", "-newer 2 a.ms"], "2 a.ms", ""),
        ("wsclean -new", ["-new"], "", ""),
        # A number where an option is expected is taken for one by WSClean.
        ("wsclean -size 1 1 -1 a.ms", ["-1 a.ms"], "a.ms", ""),
        ("wsclean - a.ms", ["- a.ms"], "a.ms", ""),
        ("chgcentre --zenith a.ms 1h -2d", ["--zenith a.ms 1h -2d"], "a.ms 1h -2d", ""),
        ("chgcentre -new 1 -f a.ms 1h -2d", ["-new 1"], "", "a.ms"),
    ],
)
def test_an_unknown_option_leaves_doubt_about_what_follows_it(
    line: str, unknown: list[str], doubtful: str, sets: str
) -> None:
    reading = read(line)
    told = [[each.text, *(word.text for word in each.following)] for each in reading.unknown]
    assert told == [each.split() for each in unknown]
    assert [word.text for word in reading.doubtful] == doubtful.split()
    assert list(reading.measurement_sets) == sets.split()
    assert not reading.certain
    words = line.split()
    assert [words[each.index] for each in reading.unknown] == [each[0] for each in told]
    following = [word for each in reading.unknown for word in each.following]
    assert [words[word.index] for word in following] == [word.text for word in following]


def test_other_options_are_read_in_spite_of_an_unknown_one() -> None:
    reading = read("wsclean -j 4 -new /x -name y -abs-mem 2 -predict a.ms")
    assert reading.unknown == (UnknownOption(3, "-new", (Word(4, "/x"),)),)
    assert (reading.mode, reading.name, reading.threads) == (Mode.PREDICT, "y", 4)
    assert reading.memory_gib == 2.0


@pytest.mark.parametrize(
    ("line", "incomplete"),
    [
        ("wsclean -j", Word(1, "-j")),
        ("wsclean -name x -size 1024", Word(3, "-size")),
        ("wsclean -reorder -beam-shape 1 2", Word(2, "-beam-shape")),
        ("wsclean -weight", Word(1, "-weight")),
        ("wsclean -weight briggs", Word(1, "-weight")),
        ("wsclean -new 1 --j", Word(3, "--j")),
        ("chgcentre -from-ms", Word(1, "-from-ms")),
        ("wsclean -weight natural", None),
        ("wsclean -size 1 1", None),
    ],
)
def test_an_option_can_lack_values(line: str, incomplete: Word | None) -> None:
    reading = read(line)
    assert reading.incomplete == incomplete
    assert reading.certain is (incomplete is None)
    assert reading.measurement_sets == ()
    assert reading.threads is None


# -- what was put in is read -------------------------------------------------------


@dataclass(frozen=True)
class Built:
    option: Option
    words: tuple[str, ...]


ANY_WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=8)
WORDS = st.one_of(
    ANY_WORD,
    st.sampled_from(["-5d22m54.321s", "-version", "--name", "briggs", "-1", "a,b", "/a.ms"]),
)
SETS = st.lists(WORDS.filter(lambda word: not word.startswith("-")), min_size=1, max_size=3)


@st.composite
def built(draw: st.DrawFn) -> Built:
    names = sorted(WSCLEAN.options.keys() - LAST_WORDS - {"dry-run"})
    option = WSCLEAN.options[draw(st.sampled_from(names))]
    values = [draw(WORDS) for _ in option.values]
    if values:
        values += [draw(WORDS) for _ in option.further.get(values[0], ())]
    return Built(option, (draw(st.sampled_from(["-", "--"])) + option.name, *values))


@given(options=st.lists(built(), max_size=8), sets=SETS)
def test_what_a_command_was_built_of_is_read(options: list[Built], sets: list[str]) -> None:
    command = ["wsclean", *(word for each in options for word in each.words), *sets]
    reading = read_command(command)
    assert reading is not None
    assert reading.measurement_sets == tuple(sets)
    assert (reading.unknown, reading.incomplete, reading.doubtful) == ((), None, ())
    names = ["wsclean", *(each.words[1] for each in options if each.option.name == "name")]
    assert reading.name == names[-1]
    modes = [MODES[each.option.name] for each in options if each.option.name in MODES]
    assert reading.mode is [Mode.IMAGE, *modes][-1]
    paths = [
        word
        for each in options
        for value, word in zip(each.option.values, each.words[1:], strict=False)
        if value.use
    ]
    assert [path.text for path in reading.paths] == [*paths, *sets]
    assert all(command[path.index] == path.text for path in reading.paths)


@given(
    before=st.lists(built(), max_size=3),
    following=st.lists(WORDS.filter(lambda word: word[:1] != "-"), max_size=4),
    after=built(),
    sets=SETS,
)
def test_what_follows_an_unknown_option_up_to_the_next_is_no_measurement_set(
    before: list[Built], following: list[str], after: Built, sets: list[str]
) -> None:
    words = [word for each in before for word in each.words]
    reading = read_command(["wsclean", *words, "-new-one", *following, *after.words, *sets])
    assert reading is not None
    assert reading.measurement_sets == tuple(sets)
    (unknown,) = reading.unknown
    assert [word.text for word in unknown.following] == following
    assert reading.doubtful == ()


OPTIONS = st.sampled_from(["-new", "-size", "-weight", "-j", "-datacolumn", "-f"])


@given(st.lists(st.one_of(WORDS, OPTIONS), max_size=8))
def test_any_words_are_read_and_each_set_is_one_of_them(words: list[str]) -> None:
    for program in ("wsclean", "chgcentre"):
        command = [program, *words]
        reading = read_command(command)
        assert reading is not None
        assert all(command[path.index] == path.text for path in reading.paths)
        assert all(command[word.index] == word.text for word in reading.doubtful)
        assert not (reading.doubtful and reading.measurement_sets)
        assert len(reading.measurement_sets) <= len(words)
