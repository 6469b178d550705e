"""The canvas, the colors and the axes of all figures. Only in these files is matplotlib imported.

Every function of a figure returns a `Figure` that belongs to no window system; `save_figure` writes
it as PNG. Colors are those of Okabe and Ito ("Color Universal Design", 2008), and the diverging map
red to blue, which color-blind readers tell apart.
"""

import contextlib
import functools
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from musrep_jax.reporting import captions
from musrep_jax.reporting.results import BASELINE
from musrep_jax.runtime.files import replace_file

DPI = 150
# Scripts that matplotlib's own font lacks are taken from these where they are installed.
FALLBACK_FONTS = (
    "Noto Sans",
    "Noto Sans Devanagari",
    "Noto Sans Tamil",
    "Noto Sans Telugu",
    "Noto Sans Kannada",
    "Noto Sans Malayalam",
    "Noto Sans Bengali",
    "Noto Naskh Arabic",
    "Noto Sans CJK JP",
    "Lohit Devanagari",
    "Lohit Tamil",
    "FreeSans",
    "Arial Unicode MS",
)
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Names of data sets and labels are text: a dollar sign starts no formula.
    "text.parse_math": False,
}
MODE_STYLES = {
    "scratch": ("#000000", "o", "--"),
    "output_layer": ("#D55E00", "s", "-"),
    "all_layers": ("#0072B2", "^", "-"),
    BASELINE: ("#888888", "D", "-."),
}
EXTRA_COLORS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SERIES_COLORS = ("#000000", "#0072B2", "#D55E00", *EXTRA_COLORS)
SERIES_MARKERS = "osD^vP*X"
"""Of lines that are no modes of transfer: features, models, classifiers."""
CHANCE_COLOR = "#777777"
_MISSING_GLYPH = re.compile(r"Glyph (\d+) .*missing from font")


@contextlib.contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """Yields an empty figure to draw on, with the project's style.

    Args:
        width: in inches.
        height: in inches.
    """
    with matplotlib.rc_context({**STYLE, "font.family": _font_families()}):
        yield Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Returns the path of the figure after writing it, whole, as PNG with 150 dots per inch.

    Args:
        figure: on a `canvas`.
        path: the file; its folder is created.
    """
    path = Path(path)
    style = {**STYLE, "font.family": _font_families()}
    with matplotlib.rc_context(style), _gather_missing_letters():
        # Laid out here, it is drawn once; matplotlib draws a figure with a layout engine twice.
        if engine := figure.get_layout_engine():
            engine.execute(figure)
            figure.set_layout_engine(None)
        with replace_file(path) as temporary:
            figure.savefig(temporary, dpi=DPI, format="png")
    return path


def add_title(figure: Figure, first: str, second: str) -> None:
    """Sets the title, broken into lines that fit the figure's width.

    Args:
        figure: on a `canvas`.
        first: what is shown.
        second: a further line, or an empty text.
    """
    max_characters = int(figure.get_figwidth() * 10.5)
    lines = [captions.wrap(first, max_characters), captions.wrap(second, max_characters)]
    figure.suptitle("\n".join(line for line in lines if line), fontsize=12)


def make_white_outline() -> dict[str, Any]:
    """Returns text settings that keep a word readable over hatching or a grid."""
    return {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5}, "color": "#444444"}


def set_score_limits(panel: Axes, values: Iterable[float], axis: str = "y") -> None:
    """Sets an axis of scores, which ends at 1, see `captions.limit_scores`.

    Args:
        panel: the axes.
        values: that are drawn; those that are not finite are passed over.
        axis: "x" or "y".
    """
    set_limits = panel.set_xlim if axis == "x" else panel.set_ylim
    set_limits(*captions.limit_scores(values))


def set_quantity_limits(panel: Axes, values: Iterable[float]) -> None:
    """Sets the y axis of a loss or a rate, on which a constant is a line in the middle.

    Args:
        panel: the axes.
        values: that are drawn; those that are not finite are passed over.
    """
    limits = captions.limit_quantity(values)
    if limits is not None:
        panel.set_ylim(*limits)
    panel.ticklabel_format(axis="y", useOffset=False)


@contextlib.contextmanager
def _gather_missing_letters() -> Iterator[None]:
    """Says in one sentence, once, what matplotlib says of every letter that no font has."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    letters = set()
    for warning in caught:
        if found := _MISSING_GLYPH.match(str(warning.message)):
            letters.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    if letters:
        _say_missing_letters("".join(sorted(letters)))


@functools.cache
def _say_missing_letters(letters: str) -> None:
    logging.getLogger(__name__).warning(
        "Figures show these letters as boxes, because no installed font has them: %s. Install one "
        "that does, such as fonts-noto of Debian and Ubuntu.", letters,
    )  # fmt: skip


@functools.cache
def _font_families() -> tuple[str, ...]:
    """Returns matplotlib's own font and the fallbacks that are installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed))
