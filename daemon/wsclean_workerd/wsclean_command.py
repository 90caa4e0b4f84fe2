"""Reads a command as WSClean does: what it does, to which files, and with how much. Pure.

WSClean takes words as options while they begin with a dash. Each option takes its values
whatever they look like, a dash in front included; the first other word begins the list of
Measurement Sets, which goes on to the end. So only who knows how many values each option has
can say which words are Measurement Sets. That is the table in `wsclean_options`.

An option that is not in the table is one of another version, or a mistake. How many values it
has cannot be known, but this much can: behind a Measurement Set there are no options. So the
words between it and the next option are values of it, for certain, although nobody knows whether
they are paths. If no option follows, each of the words may be a value or a Measurement Set: they
are `doubtful`. What looks like an option is a dash, or two, and a letter, since a value such as
a declination of -5d22m goes on with a digit. An option of the table is taken for one also there.

How a `Reading` is meant to be used:

* Locks: `measurement_sets` and `doubtful` are what may be written, so a caller that locks both has
  locked enough, whatever the unknown option means. `name` is to be locked, too, if
  `name_is_written`; otherwise several jobs can read it at the same time. What is in `paths` as
  an output is written as well, and `temporary_names` are, if there are any. A command of
  `Mode.NOTHING` needs no lock. Relative paths are relative to the working directory.
* Claims: `threads`, `memory_gib`, `memory_fraction` and `uses_gpu` are what the command allows
  itself, None where it takes all there is. With both limits of memory the lower one counts. If
  `unreadable` is not empty, WSClean refuses the command, or reads a number that is not
  understood here: claim everything, or refuse the command with the words given there.
* Paths: `paths` says of each word that is a path, by its index, what it is and whether it is a
  list; so a name that contains commas or an equals sign is left whole. Words of `unknown`
  options may be paths of any kind.
* Refusals: `incomplete` is an option that lacks values, with which WSClean ends at once; and so
  it does without a Measurement Set if `lacks_input`. If `certain` is false, the command is to
  be treated with what is said here about doubt, not refused: a newer version may know it.
"""

from __future__ import annotations

import math
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from wsclean_workerd.wsclean_options import (
    GPU_IDG_MODES,
    GRIDDERS,
    IDG_GRIDDERS,
    LAST_WORDS,
    MODES,
    Mode,
    Use,
    grammar_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wsclean_workerd.wsclean_options import Grammar, Option, Value

_Number = TypeVar("_Number", int, float)

_OPTION = re.compile(r"--?[A-Za-z]")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_DECIMAL = re.compile(r"\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SINGLE_POLARIZATIONS = frozenset({"I", "Q", "U", "V", "XX", "YY", "RR", "LL"})
_NEEDS_INPUT = frozenset({Mode.IMAGE, Mode.PREDICT, Mode.CHANGE_CENTRE})


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command.

    Attributes:
        index: Its place; that of the program is 0.
        text: The word.
    """

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class PathWord:
    """A word of a command that is a path, or a list of paths.

    Attributes:
        index: Its place; that of the program is 0.
        text: The word.
        use: What is done with the path.
        listed: Whether it is a list of paths with commas between them.
        option: The name of the option that it is a value of, or "" for a Measurement Set.
    """

    index: int
    text: str
    use: Use
    listed: bool = False
    option: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The paths."""
        return tuple(self.text.split(",")) if self.listed else (self.text,)


@dataclass(frozen=True, slots=True)
class UnknownOption:
    """An option that is not in the table.

    Attributes:
        index: Its place; that of the program is 0.
        text: The word.
        following: The words up to the next option, or to the end.
    """

    index: int
    text: str
    following: tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a command says.

    Attributes:
        mode: What it does.
        measurement_sets: The Measurement Sets as they are given.
        name: What the names of the images begin with, or None if there is no such thing.
        name_is_written: Whether it writes files that are named so. A prediction reads them,
            and only if it has more than one image to read does it write temporary ones.
        paths: The words that are paths, Measurement Sets included, in their order.
        threads: How many threads it may use, or None if as many as there are processors.
        memory_gib: How much memory it may use in GiB, or None if no number is given.
        memory_fraction: How much of the host's memory it may use, or None if all of it.
        uses_gpu: Whether it computes on a GPU.
        unknown: The options that are not in the table.
        doubtful: Words that are Measurement Sets, or values of the last of these options.
        unreadable: The numbers among these that are none, or out of range.
        incomplete: The option that lacks values, or None.
    """

    mode: Mode
    measurement_sets: tuple[str, ...] = ()
    name: str | None = None
    name_is_written: bool = False
    paths: tuple[PathWord, ...] = ()
    threads: int | None = None
    memory_gib: float | None = None
    memory_fraction: float | None = None
    uses_gpu: bool = False
    unknown: tuple[UnknownOption, ...] = ()
    doubtful: tuple[Word, ...] = ()
    unreadable: tuple[Word, ...] = ()
    incomplete: Word | None = None

    @property
    def certain(self) -> bool:
        """Whether every word is understood."""
        return not (self.unknown or self.unreadable or self.incomplete)

    @property
    def temporary_names(self) -> tuple[str, ...]:
        """What the names of temporary files begin with that are not beside their Measurement Set.

        In a work folder they are named by the last component of its path alone, so Measurement
        Sets of one name in different folders get in each other's way; and those that end in a
        slash have no name there at all.
        """
        folders = [path.text for path in self.paths if path.use is Use.WORK_FOLDER]
        if not folders or not folders[-1]:
            return ()
        sets = (*self.measurement_sets, *(word.text for word in self.doubtful))
        return tuple(posixpath.join(folders[-1], posixpath.basename(each)) for each in sets)

    @property
    def lacks_input(self) -> bool:
        """Whether it needs a Measurement Set and has none."""
        return self.mode in _NEEDS_INPUT and not (self.measurement_sets or self.doubtful)


def read_command(command: Sequence[str]) -> Reading | None:
    """Read a command.

    Args:
        command: The program and its arguments.

    Returns:
        What it says, or None if nothing is known of the arguments of this program.
    """
    grammar = grammar_of(command[0]) if command else None
    if grammar is None:
        return None
    scan = _scan(command, grammar)
    sets = command[scan.end :][: grammar.most_sets]
    mode = _mode(scan, grammar) if len(command) > 1 else Mode.NOTHING
    written = _name_is_written(scan, mode)
    counts = _numbers(scan, "j", _count)
    limits = _numbers(scan, "abs-mem", _decimal)
    percentages = _numbers(scan, "mem", _decimal)
    return Reading(
        mode=mode,
        measurement_sets=tuple(sets),
        name=scan.last("name", grammar.default_name),
        name_is_written=written,
        paths=(
            *_option_paths(scan, name_is_written=written),
            *(
                PathWord(index, text, Use.MEASUREMENT_SET)
                for index, text in enumerate(sets, scan.end)
            ),
        ),
        threads=_last(counts),
        memory_gib=_last(limits),
        memory_fraction=None if (percentage := _last(percentages)) is None else percentage / 100,
        uses_gpu=_uses_gpu(scan),
        unknown=tuple(scan.unknown),
        doubtful=scan.doubtful,
        unreadable=tuple(
            word for word, number in (*counts, *limits, *percentages) if number is None
        ),
        incomplete=scan.incomplete,
    )


# -- words ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """An option with its values."""

    option: Option
    values: tuple[Value, ...]
    words: tuple[Word, ...]


@dataclass(slots=True)
class _Scan:
    """The options of a command, and where the words behind them begin."""

    given: list[_Given] = field(default_factory=list)
    unknown: list[UnknownOption] = field(default_factory=list)
    doubtful: tuple[Word, ...] = ()
    incomplete: Word | None = None
    end: int = 1

    def has(self, *names: str) -> bool:
        """Whether one of these options is given."""
        return any(given.option.name in names for given in self.given)

    def words(self, name: str) -> list[Word]:
        """The first value of an option, as often as it is given."""
        return [given.words[0] for given in self.given if given.option.name == name]

    def last(self, name: str, otherwise: str | None = None) -> str | None:
        """The first value of an option where it is given last, which is the one that counts."""
        words = self.words(name)
        return words[-1].text if words else otherwise


def _scan(command: Sequence[str], grammar: Grammar) -> _Scan:
    scan = _Scan()
    while scan.end < len(command) and command[scan.end].startswith("-"):
        option = grammar.find(command[scan.end])
        if option is None:
            _take_unknown(scan, command)
        elif not _take(scan, command, option):
            scan.end = len(command)
    return scan


def _take(scan: _Scan, command: Sequence[str], option: Option) -> bool:
    """Take an option with its values; return whether more can follow."""
    start = scan.end + 1
    values = option.values_after(command[start]) if start < len(command) else option.values
    scan.end = start + len(values)
    if scan.end > len(command):
        scan.incomplete = Word(start - 1, command[start - 1])
        return False
    scan.given.append(_Given(option, values, _words(command, start, scan.end)))
    return option.name not in LAST_WORDS


def _take_unknown(scan: _Scan, command: Sequence[str]) -> None:
    """Take an option that is not known, with what may belong to it."""
    index, end = scan.end, scan.end + 1
    while end < len(command) and not _OPTION.match(command[end]):
        end += 1
    following = _words(command, index + 1, end)
    scan.unknown.append(UnknownOption(index, command[index], following))
    scan.end = end
    if end == len(command):
        scan.doubtful = following


def _words(command: Sequence[str], start: int, end: int) -> tuple[Word, ...]:
    return tuple(Word(index, command[index]) for index in range(start, end))


# -- what they say --------------------------------------------------------------------


def _mode(scan: _Scan, grammar: Grammar) -> Mode:
    if scan.has("dry-run", *LAST_WORDS):
        return Mode.NOTHING
    modes = [MODES[given.option.name] for given in scan.given if given.option.name in MODES]
    return modes[-1] if modes else grammar.mode


def _name_is_written(scan: _Scan, mode: Mode) -> bool:
    if mode in (Mode.NOTHING, Mode.CHANGE_CENTRE):
        return False
    if scan.unknown or mode in (Mode.IMAGE, Mode.DRAW_MODEL):
        return True
    return mode is Mode.PREDICT and _has_many_images(scan)


def _has_many_images(scan: _Scan) -> bool:
    """Whether a prediction is of several images, which it keeps in temporary files."""
    polarization = scan.last("pol") or "I"
    return (
        polarization.upper() not in _SINGLE_POLARIZATIONS
        or scan.last("channels-out", "1") != "1"
        or scan.has("facet-regions")
    )


def _option_paths(scan: _Scan, *, name_is_written: bool) -> Iterator[PathWord]:
    name_use = Use.OUTPUT_PREFIX if name_is_written else Use.INPUT_PREFIX
    for given in scan.given:
        name = given.option.name
        for value, word in zip(given.values, given.words, strict=True):
            if value.use:
                use = name_use if name == "name" else value.use
                yield PathWord(word.index, word.text, use, value.listed, name)


def _uses_gpu(scan: _Scan) -> bool:
    gridder: str | None = None
    for given in scan.given:
        name = given.option.name
        gridder = given.words[0].text if name == "gridder" else GRIDDERS.get(name, gridder)
    return gridder in IDG_GRIDDERS and (scan.last("idg-mode") or "").lower() in GPU_IDG_MODES


def _numbers(
    scan: _Scan, name: str, number: Callable[[str], _Number | None]
) -> list[tuple[Word, _Number | None]]:
    """The number that an option says, as often as it is given."""
    return [(word, number(word.text)) for word in scan.words(name)]


def _last(numbers: Sequence[tuple[Word, _Number | None]]) -> _Number | None:
    return numbers[-1][1] if numbers else None


def _count(text: str) -> int | None:
    """A whole number above 0. WSClean reads 0x10, 010 and 4k as C would; nobody writes that."""
    return int(text) if _COUNT.fullmatch(text) else None


def _decimal(text: str) -> float | None:
    """A number above 0."""
    number = float(text) if _DECIMAL.fullmatch(text) else 0.0
    return number if 0 < number < math.inf else None
