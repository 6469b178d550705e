"""The figure of harmonic filters before and after they were learned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation.metrics import FloatArray
from musrep_jax.reporting.drawing import (
    CHANCE_COLOR,
    EXTRA_COLORS,
    Axes,
    Figure,
    add_title,
    canvas,
    make_white_outline,
)

Shapes = Mapping[str, FloatArray]

HARMONIC_COLORS = ("#0072B2", "#D55E00", *EXTRA_COLORS, "#000000")
BEFORE_STYLE = {"color": CHANCE_COLOR, "ls": "--", "lw": 1.1}
AFTER_COLOR = "#0072B2"
NUM_SHOWN_BANDS = 4
CENTS_PER_OCTAVE = 1200
FREQUENCY_TICKS = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)
SYMBOLS = {"quality": "Q", "alpha": "alpha", "beta": "beta (Hz)"}
MOVING_MODES = ("full", "direct")
"""Modes that learn center frequencies."""

MIN_SHIFT_CENTS = 50.0
"""A quarter tone: shifts that nobody hears look like none."""


def draw_filters(
    before: Mapping[str, ArrayLike],
    after: Mapping[str, ArrayLike],
    *,
    title: str,
    mode: str,
    bin_hz: float,
) -> Figure:
    """Returns the shapes of some filters, and the bandwidth of all, before and after learning.

    Left: the triangles of four bands, one color per harmonic. Right: bandwidth against center
    frequency with the learned numbers; where centers are learned also how far the bands moved.

    Args:
        before: `centres` and `bandwidths` (bands, harmonics) in Hz; `quality`, `alpha`, `beta`
            (1,).
        after: the same, of the trained model.
        title: names model and data set, and says when the data is synthetic.
        mode: what was learned: `only_Q`, `fixed`, `full` or `direct`.
        bin_hz: distance of the FFT bins, in Hz; narrower filters may fall between them.

    Returns:
        A figure with one axes per shown band, one for bandwidths, where centers are learned one
        for shifts.
    """
    old = {name: np.asarray(values, np.float64) for name, values in before.items()}
    new = {name: np.asarray(values, np.float64) for name, values in after.items()}
    num_bands, num_harmonics = new["centres"].shape
    rows = np.unique(np.linspace(0, num_bands - 1, NUM_SHOWN_BANDS + 1).round().astype(int)[1:])
    with canvas(11.0, 7.6) as figure:
        sides = figure.add_gridspec(1, 2)
        left = sides[0].subgridspec(len(rows), 1)
        right = sides[1].subgridspec(2 if mode in MOVING_MODES else 1, 1)
        for place, band in enumerate(rows):
            panel = figure.add_subplot(left[place])
            for harmonic in range(num_harmonics):
                colour = HARMONIC_COLORS[harmonic % len(HARMONIC_COLORS)]
                corners = _triangle(new, band, harmonic)
                panel.plot(corners, (0, 1, 0), color=colour, lw=1.6, label=f"{harmonic + 1}",
                           clip_on=False)  # fmt: skip
                panel.fill(corners, (0, 1, 0), color=colour, alpha=0.15, lw=0)
                label = "before learning" if harmonic == 0 else None
                if mode != "fixed":
                    panel.plot(
                        _triangle(old, band, harmonic), (0, 1, 0), label=label, **BEFORE_STYLE
                    )
            panel.set_title(f"band {band + 1} of {num_bands}", loc="left", fontsize=9, pad=3)
            panel.set_ylim(0, 1)
            panel.set_yticks((0, 1))
            panel.set_ylabel("weight")
        panel.set_xlabel("frequency (Hz)")
        handles, labels = panel.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: (not labels[i].isdigit(), i))
        figure.legend(
            [handles[i] for i in order],
            [f"harmonic {labels[i]}" if i == order[0] else labels[i] for i in order],
            loc="outside lower center",
            ncols=len(order),
            columnspacing=1.2,
        )
        _draw_bandwidths(figure.add_subplot(right[0]), old, new, mode, bin_hz)
        if mode in MOVING_MODES:
            _draw_shifts(figure.add_subplot(right[1]), old, new)
        add_title(figure, f"Harmonic filters: {title}", "")
    return figure


def _triangle(shapes: Shapes, band: int, harmonic: int) -> tuple[float, ...]:
    """Returns the frequencies at which a filter begins, peaks and ends."""
    centre, width = (float(shapes[n][band, harmonic]) for n in ("centres", "bandwidths"))
    return centre - width / 2, centre, centre + width / 2


def _draw_bandwidths(panel: Axes, old: Shapes, new: Shapes, mode: str, bin_hz: float) -> None:
    """Draws bandwidth against center frequency, and says what was learned."""
    if mode != "fixed":
        panel.plot(*_sorted_pairs(old), label="before learning", **BEFORE_STYLE)
    label = "fixed" if mode == "fixed" else "after learning"
    panel.plot(*_sorted_pairs(new), color=AFTER_COLOR, lw=2, label=label)
    panel.axhline(bin_hz, color="#D55E00", ls=":", lw=1.4, label=f"FFT bins, {bin_hz:.4g} Hz apart")
    panel.set_xscale("log")
    panel.set_yscale("log")
    _plain_ticks(panel.xaxis, new["centres"])
    widths = np.concatenate([old["bandwidths"].ravel(), new["bandwidths"].ravel(), [bin_hz]])
    _plain_ticks(panel.yaxis, widths)
    panel.grid(alpha=0.3)
    panel.set_ylabel("bandwidth (Hz)")
    if mode not in MOVING_MODES:
        panel.set_xlabel("center frequency (Hz)")
    learned = {"only_Q": ("quality",), "fixed": ()}.get(mode, tuple(SYMBOLS))
    lines = [f"mode {mode}"]
    for name, symbol in SYMBOLS.items():
        now = float(new[name].ravel()[0])
        if name in learned:
            lines.append(f"{symbol}: {float(old[name].ravel()[0]):.4g} → {now:.4g}")
        else:
            lines.append(f"{symbol}: {now:.4g}, not learned")
    place = {"ha": "left", "va": "top", "transform": panel.transAxes}
    panel.text(0.03, 0.97, "\n".join(lines), fontsize=9.5, **place, **make_white_outline())
    panel.legend(loc="lower right", fontsize=9)


def _draw_shifts(panel: Axes, old: Shapes, new: Shapes) -> None:
    """Draws how far the bands moved in pitch."""
    fundamentals = old["centres"][:, 0]
    cents = CENTS_PER_OCTAVE * np.log2(new["centres"][:, 0] / fundamentals)
    panel.axhline(0, **BEFORE_STYLE)
    panel.plot(fundamentals, cents, color=AFTER_COLOR, lw=2)
    limit = max(MIN_SHIFT_CENTS, 1.15 * float(np.abs(cents).max()))
    panel.set_ylim(-limit, limit)
    panel.set_xscale("log")
    _plain_ticks(panel.xaxis, fundamentals)
    panel.grid(alpha=0.3)
    panel.set_xlabel("first harmonic before learning (Hz)")
    panel.set_ylabel("shift (cents)")


def _sorted_pairs(shapes: Shapes) -> tuple[FloatArray, FloatArray]:
    """Returns centers and bandwidths of all filters in rising order."""
    centres, widths = shapes["centres"].ravel(), shapes["bandwidths"].ravel()
    order = np.argsort(centres)
    return centres[order], widths[order]


def _plain_ticks(axis: Any, values: FloatArray) -> None:
    """Puts round numbers of Hz at a logarithmic axis."""
    low, high = float(np.min(values)), float(np.max(values))
    axis.set_ticks([tick for tick in FREQUENCY_TICKS if 0.7 * low <= tick <= 1.3 * high])
    axis.set_major_formatter(
        lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
    )
    axis.set_minor_formatter(lambda value, _: "")
