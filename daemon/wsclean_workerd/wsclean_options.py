"""The options of WSClean and chgcentre as data: how many values, and which are paths. Pure.

The table says what the programs accept, which is not all that their help shows, and not always
with as many values as it shows. It was read off the versions 3.6 and 3.7, and the tests put
each option to both of them.
"""

from __future__ import annotations

import enum
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Use(enum.Enum):
    """What a program does with a path."""

    INPUT = "input"
    """Reads the file or table."""
    OUTPUT = "output"
    """Writes the file."""
    INPUT_PREFIX = "input prefix"
    """Reads files whose names begin with it."""
    OUTPUT_PREFIX = "output prefix"
    """Writes files whose names begin with it, and may read such files, too."""
    INPUT_FOLDER = "input folder"
    """Looks for files in the folder."""
    WORK_FOLDER = "work folder"
    """Writes temporary files into the folder."""
    MEASUREMENT_SET = "measurement set"
    """Reads the Measurement Set and may write to it, and temporary files beside it."""


class Standing(enum.Enum):
    """How an option is treated by the versions that the table is for."""

    SHOWN = "shown"
    """It is in the help."""
    HIDDEN = "hidden"
    """It is accepted, though the help is silent about it."""
    DEPRECATED = "deprecated"
    """It is accepted with a warning, and another one is to be used."""
    REFUSED = "refused"
    """It is in the help, and no version knows it."""


class Mode(enum.Enum):
    """What a command does."""

    IMAGE = "image"
    PREDICT = "predict"
    DRAW_MODEL = "draw model"
    RESTORE = "restore"
    CHANGE_CENTRE = "change centre"
    NOTHING = "nothing"
    """It prints something or checks its options, and touches no file."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of an option.

    Attributes:
        use: What is done with the path that it is, or None if it is none.
        listed: Whether it is a list of paths with commas between them.
    """

    use: Use | None = None
    listed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a program.

    Attributes:
        name: Its name without dashes.
        values: The words that belong to it.
        further: The words that come after the first value if it is this one.
        standing: How it is treated.
        since: The first version that has it: 3.6 stands for that and those before.
    """

    name: str
    values: tuple[Value, ...] = ()
    further: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    standing: Standing = Standing.SHOWN
    since: str = "3.6"

    def values_after(self, first: str) -> tuple[Value, ...]:
        """The words that belong to it if this is the word behind it."""
        return self.values + self.further.get(first, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """How the command line of a program is read.

    Attributes:
        options: The options by name.
        dashes: What an option begins with, the longest first.
        most_sets: How many of the words behind the options are Measurement Sets, or
            None if all of them are.
        mode: What it does if no option says otherwise.
        default_name: What the names of its output begin with if no option says so, or
            None if there is no such thing.
    """

    options: Mapping[str, Option]
    dashes: tuple[str, ...]
    most_sets: int | None
    mode: Mode
    default_name: str | None

    def find(self, word: str) -> Option | None:
        """The option that a word beginning with a dash is, or None if it is not known."""
        dashes = next(each for each in self.dashes if word.startswith(each))
        return self.options.get(word.removeprefix(dashes))


MODES = {
    "predict": Mode.PREDICT,
    "draw-model": Mode.DRAW_MODEL,
    "restore": Mode.RESTORE,
    "restore-list": Mode.RESTORE,
}
"""The options that say what is done; the last one counts."""

LAST_WORDS = frozenset({"version", "help"})
"""The options that print something and behind which nothing is read."""

GRIDDERS = {"use-idg": "idg", "use-wgridder": "wgridder", "direct-ft": "direct-ft"}
"""The options that choose a gridder, besides `-gridder`, and which."""

IDG_GRIDDERS = frozenset({"idg", "facet-idg"})
"""The gridders that can use a GPU."""

GPU_IDG_MODES = frozenset({"gpu", "hybrid"})
"""The values of `-idg-mode` with which they do; letters may be upper case."""


def grammar_of(program: str) -> Grammar | None:
    """How the command line of a program is read.

    Args:
        program: The first word of a command.

    Returns:
        The grammar, or None if nothing is known of the program. Such a one is taql, too: the
        tables that it uses are named inside a query.
    """
    return _GRAMMARS.get(posixpath.basename(program))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_V = Value()

_FLAGS = _names("""
    apply-facet-beam apply-primary-beam apply-time-frequency-smearing asp circular-beam
    compound-tasks continue diagonal-solutions diagonal-visibilities direct-ft dry-run
    elliptical-beam even-timesteps fit-beam fit-beam-with-negatives fit-beam-without-negatives
    fit-rm gap-channel-division grid-with-beam help iuwt iuwt-snr-test join-channels
    join-polarizations local-rms log-time make-psf make-psf-only mf-weighting mfs-weighting
    min-grid-resolution multiscale negative no-dirty no-fast-subminor no-fit-beam
    no-iuwt-snr-test no-mf-weighting no-mfs-weighting no-min-grid-resolution
    no-multiscale-fast-subminor no-negative no-reorder no-small-inversion
    no-solution-directions-check no-update-model-required no-work-on-master odd-timesteps predict
    quiet reorder reuse-primary-beam reuse-reordered save-aterms save-first-residual save-psf-pb
    save-reordered save-source-list save-uv save-weights scalar-beam scalar-visibilities
    shared-facet-reads shared-facet-writes skip-final-iteration small-inversion
    squared-channel-joining stop-negative store-imaging-weights subtract-model theoretic-beam
    update-model-required use-differential-lofar-beam use-idg use-weights-as-taper use-wgridder
    v verbose version
""")

_ONE_VALUE = _names("""
    abs-auto-mask abs-mem abs-threshold aterm-kernel-size auto-mask auto-mask-nmiter
    auto-threshold baseline-averaging beam-aterm-update beam-fitting-size beam-mode beam-model
    beam-normalisation-mode beam-size channel-division-frequencies channel-to-node channels-out
    clean-border component-optimization data-column deconvolution-channels deconvolution-threads
    direct-ft-precision draw-spectral-terms facet-beam-update feather-size field
    fit-spectral-log-pol fit-spectral-pol gain grid-mode gridder horizon-mask idg-mode
    intervals-out j kernel-size link-polarizations local-rms-method local-rms-strength
    local-rms-window major-iteration-mode max-mpi-message-size maxuv-l maxuvw-m maxw mem mgain
    mgain-boosting minuv-l minuvw-m model-column model-storage-manager moresane-arg moresane-sl
    multiscale-convolution-padding multiscale-gain multiscale-max-scales multiscale-scale-bias
    multiscale-scales multiscale-shape niter nmiter nwlayers nwlayers-factor oversampling padding
    parallel-deconvolution parallel-gridding parallel-reordering pb-grid-size pol
    primary-beam-limit scale simulate-noise sinc-window-size spws super-weight taper-edge
    taper-edge-tukey taper-gaussian taper-inner-tukey taper-tukey threshold
    visibility-weighting-mode weight weighting-rank-filter weighting-rank-filter-size
    wgridder-accuracy wstack-grid-mode wstack-kernel-size wstack-nwlayers wstack-nwlayers-factor
    wstack-oversampling wtowers-accuracy wtowers-kernel-size wtowers-padding wtowers-subgrid-size
    wtowers-support wtowers-w-kernel-size wtowers-w-padding wtowers-w-support
""")

_TWO_VALUES = _names("""
    channel-range dd-psf-grid draw-centre draw-frequencies interval nwlayers-for-size shift size
    spectral-correction wstack-nwlayers-for-size
""")

_THREE_VALUES = _names("beam-shape")

_PATHS: Mapping[str, tuple[Value, ...]] = {
    "apply-facet-solutions": (Value(Use.INPUT, listed=True), _V),
    "aterm-config": (Value(Use.INPUT),),
    "casa-mask": (Value(Use.INPUT),),
    "draw-model": (Value(Use.INPUT),),
    "facet-regions": (Value(Use.INPUT),),
    "fits-mask": (Value(Use.INPUT),),
    "force-spectrum": (Value(Use.INPUT),),
    "local-rms-image": (Value(Use.INPUT),),
    "moresane-ext": (Value(Use.INPUT),),
    "mwa-path": (Value(Use.INPUT_FOLDER),),
    "name": (Value(Use.OUTPUT_PREFIX),),
    "python-deconvolution": (Value(Use.INPUT),),
    "restore": (Value(Use.INPUT), Value(Use.INPUT), Value(Use.OUTPUT)),
    "restore-list": (Value(Use.INPUT), Value(Use.INPUT), Value(Use.OUTPUT)),
    "reuse-dirty": (Value(Use.INPUT_PREFIX),),
    "reuse-psf": (Value(Use.INPUT_PREFIX),),
    "simulate-baseline-noise": (Value(Use.INPUT),),
    "temp-dir": (Value(Use.WORK_FOLDER),),
}

_FURTHER = {"weight": {"briggs": (_V,)}}

_STANDINGS = {
    Standing.HIDDEN: _names("""
        direct-ft-precision help local-rms-image wtowers-support wtowers-w-support
    """),
    Standing.DEPRECATED: _names("""
        diagonal-solutions direct-ft grid-mode kernel-size mfs-weighting no-mfs-weighting
        no-small-inversion nwlayers nwlayers-factor nwlayers-for-size oversampling small-inversion
        threshold use-idg use-wgridder
    """),
    Standing.REFUSED: _names("scalar-beam wtowers-kernel-size wtowers-w-kernel-size"),
}

_SINCE = {
    "3.7": _names("""
        apply-time-frequency-smearing auto-mask-nmiter component-optimization draw-centre
        draw-frequencies draw-model draw-spectral-terms fit-beam-with-negatives
        fit-beam-without-negatives fit-rm major-iteration-mode mgain-boosting shared-facet-writes
        sinc-window-size skip-final-iteration wtowers-accuracy wtowers-kernel-size
        wtowers-padding wtowers-subgrid-size wtowers-support wtowers-w-kernel-size
        wtowers-w-padding wtowers-w-support
    """),
}


def _wsclean_options() -> dict[str, Option]:
    standings = {name: key for key, names in _STANDINGS.items() for name in names}
    since = {name: version for version, names in _SINCE.items() for name in names}
    values = dict(_PATHS)
    for count, names in enumerate((_FLAGS, _ONE_VALUE, _TWO_VALUES, _THREE_VALUES)):
        values.update(dict.fromkeys(names, (_V,) * count))
    return {
        name: Option(
            name=name,
            values=each,
            further=_FURTHER.get(name, {}),
            standing=standings.get(name, Standing.SHOWN),
            since=since.get(name, "3.6"),
        )
        for name, each in values.items()
    }


WSCLEAN = Grammar(
    options=_wsclean_options(),
    dashes=("--", "-"),
    most_sets=None,
    mode=Mode.IMAGE,
    default_name="wsclean",
)
"""WSClean, and its variant for MPI."""

CHGCENTRE = Grammar(
    options={
        **{
            name: Option(name=name)
            for name in ("f", "flipuvwsign", "geozenith", "minw", "only-uvw", "shiftback", "zenith")
        },
        **{name: Option(name=name, standing=Standing.HIDDEN) for name in ("same", "show")},
        "datacolumn": Option(name="datacolumn", values=(_V,)),
        "from-ms": Option(name="from-ms", values=(Value(Use.INPUT),)),
    },
    dashes=("-",),
    most_sets=1,
    mode=Mode.CHANGE_CENTRE,
    default_name=None,
)
"""The program that moves the phase centre of one Measurement Set; a direction comes behind it."""

_GRAMMARS = {"wsclean": WSCLEAN, "wsclean-mp": WSCLEAN, "chgcentre": CHGCENTRE}
