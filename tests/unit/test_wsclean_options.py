from __future__ import annotations

import pytest

from wsclean_workerd.wsclean_options import (
    CHGCENTRE,
    GRIDDERS,
    LAST_WORDS,
    MODES,
    WSCLEAN,
    Grammar,
    Mode,
    Standing,
    Use,
    grammar_of,
)


@pytest.mark.parametrize(
    ("program", "grammar"),
    [
        ("wsclean", WSCLEAN),
        ("wsclean-mp", WSCLEAN),
        ("/opt/wsclean-3.6/bin/wsclean", WSCLEAN),
        ("chgcentre", CHGCENTRE),
        # The tables of a query are inside it.
        ("taql", None),
        ("DP3", None),
        ("mpirun", None),
        ("wsclean.sh", None),
        ("wsclean/", None),
        ("", None),
    ],
)
def test_a_program_is_known_or_not(program: str, grammar: Grammar | None) -> None:
    assert grammar_of(program) is grammar


@pytest.mark.parametrize(
    ("grammar", "word", "name"),
    [
        (WSCLEAN, "-size", "size"),
        (WSCLEAN, "--size", "size"),
        (WSCLEAN, "---size", None),
        (WSCLEAN, "-Size", None),
        (WSCLEAN, "-siz", None),
        (WSCLEAN, "-size=1", None),
        (WSCLEAN, "-", None),
        (WSCLEAN, "--", None),
        (WSCLEAN, "-5", None),
        (CHGCENTRE, "-from-ms", "from-ms"),
        # It knows no second dash.
        (CHGCENTRE, "--from-ms", None),
        (CHGCENTRE, "-name", None),
    ],
)
def test_an_option_is_found_by_its_whole_name(
    grammar: Grammar, word: str, name: str | None
) -> None:
    option = grammar.find(word)
    assert (option and option.name) == name


@pytest.mark.parametrize(
    ("name", "first", "count"),
    [
        ("reorder", "", 0),
        ("j", "4", 1),
        ("size", "1024", 2),
        ("beam-shape", "1asec", 3),
        ("weight", "natural", 1),
        ("weight", "uniform", 1),
        ("weight", "briggs", 2),
        ("weight", "Briggs", 1),
        ("weight", "", 1),
        ("apply-facet-solutions", "a.h5,b.h5", 2),
        ("restore", "a.fits", 3),
        ("restore-list", "a.fits", 3),
    ],
)
def test_an_option_has_as_many_values(name: str, first: str, count: int) -> None:
    assert len(WSCLEAN.options[name].values_after(first)) == count


@pytest.mark.parametrize(
    ("name", "uses"),
    [
        ("name", [Use.OUTPUT_PREFIX]),
        ("temp-dir", [Use.WORK_FOLDER]),
        ("reuse-psf", [Use.INPUT_PREFIX]),
        ("fits-mask", [Use.INPUT]),
        ("casa-mask", [Use.INPUT]),
        ("mwa-path", [Use.INPUT_FOLDER]),
        ("apply-facet-solutions", [Use.INPUT, None]),
        ("restore", [Use.INPUT, Use.INPUT, Use.OUTPUT]),
        ("data-column", [None]),
        ("weight", [None]),
        ("save-source-list", []),
    ],
)
def test_a_value_is_a_path_or_not(name: str, uses: list[Use | None]) -> None:
    assert [value.use for value in WSCLEAN.options[name].values] == uses


def test_one_value_alone_is_a_list_of_paths() -> None:
    listed = [
        (name, place)
        for name, option in WSCLEAN.options.items()
        for place, value in enumerate(option.values)
        if value.listed
    ]
    assert listed == [("apply-facet-solutions", 0)]


def test_options_with_a_meaning_are_in_the_table() -> None:
    assert {*MODES, *GRIDDERS, *LAST_WORDS, "gridder", "idg-mode", "dry-run"} <= set(
        WSCLEAN.options
    )
    assert set(MODES.values()) == set(Mode) - {Mode.IMAGE, Mode.NOTHING, Mode.CHANGE_CENTRE}


def test_the_table_says_how_options_stand() -> None:
    options = WSCLEAN.options
    assert options["name"].standing is Standing.SHOWN
    assert options["threshold"].standing is Standing.DEPRECATED
    assert options["local-rms-image"].standing is Standing.HIDDEN
    assert options["scalar-beam"].standing is Standing.REFUSED
    assert (options["name"].since, options["draw-model"].since) == ("3.6", "3.7")
