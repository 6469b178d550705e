"""The table of harmonic filters before and after they were learned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.reporting.filter_figures import CENTS_PER_OCTAVE, SYMBOLS
from musrep_jax.reporting.layout import Column, format_table
from musrep_jax.runtime.terminal import get_width

MAX_BANDS = 12
"""Rows of the table: the figure has all bands."""


def summarize_filters(
    before: Mapping[str, ArrayLike], after: Mapping[str, ArrayLike], *, mode: str
) -> dict[str, Any]:
    """Returns the learned numbers, and up to twelve bands from the lowest to the highest.

    Args:
        before: `centres` and `bandwidths` (bands, harmonics) in Hz; `quality`, `alpha`, `beta`
            (1,).
        after: the same, of the trained model.
        mode: what was learned, a mode of `HarmonicFilters`.

    Returns:
        `mode`; `quality`, `alpha` and `beta`, each before and after; `num_harmonics`; `cents`, the
        `lowest`, `highest` and `mean_distance` of how far the bands moved; `bands`, each with
        `band` (from 1), `center` and `bandwidth` in Hz and `quality` (center by bandwidth), each
        before and after, of the first harmonic, and `cents`. Harmonic n is n times the first.
    """
    sides = [{name: np.asarray(v, np.float64) for name, v in s.items()} for s in (before, after)]
    centers = [side["centres"][:, 0] for side in sides]
    widths = [side["bandwidths"][:, 0] for side in sides]
    cents = CENTS_PER_OCTAVE * np.log2(centers[1] / centers[0])
    num_bands, num_harmonics = sides[0]["centres"].shape
    shown = np.unique(np.linspace(0, num_bands - 1, MAX_BANDS).round().astype(int))
    return {
        "mode": mode,
        **{name: [float(side[name].ravel()[0]) for side in sides] for name in SYMBOLS},
        "num_harmonics": num_harmonics,
        "cents": {
            "lowest": float(cents.min()),
            "highest": float(cents.max()),
            "mean_distance": float(np.abs(cents).mean()),
        },
        "bands": [
            {
                "band": int(band) + 1,
                "center": [float(center[band]) for center in centers],
                "cents": float(cents[band]),
                "bandwidth": [float(width[band]) for width in widths],
                "quality": [float(c[band] / w[band]) for c, w in zip(centers, widths, strict=True)],
            }
            for band in shown
        ],
    }


def make_filter_table(summary: Mapping[str, Any], *, style: str = "markdown") -> str:
    """Returns the learned numbers in a sentence, and one row per band.

    Args:
        summary: of `summarize_filters`.
        style: `markdown` or `text`.
    """
    numbers = ", ".join(f"{SYMBOLS[name]} {_change(summary[name])}" for name in SYMBOLS)
    cents = summary["cents"]
    sentence = (
        f"Harmonic filters, mode {summary['mode']}, before and after: {numbers}. Bands moved by "
        f"{cents['lowest']:+.1f} to {cents['highest']:+.1f} cents, {cents['mean_distance']:.1f} on "
        f"average in either direction. Of the first of {summary['num_harmonics']} harmonics:"
    )
    columns = [
        Column(title, is_number=True)
        for title in ("Band", "Center (Hz)", "Cents moved", "Bandwidth (Hz)", "Center / bandwidth")
    ]
    rows = [
        [
            str(band["band"]),
            _change(band["center"]),
            f"{band['cents']:+.1f}",
            _change(band["bandwidth"]),
            _change(band["quality"]),
        ]
        for band in summary["bands"]
    ]
    return f"{sentence}\n\n{format_table(columns, rows, style, get_width())}"


def _change(values: tuple[float, float]) -> str:
    """Returns a number before and after."""
    old, new = (f"{value:.4g}" for value in values)
    return old if old == new else f"{old} → {new}"
