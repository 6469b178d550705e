"""Maps of a recording under its spectrogram, on one time axis."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musrep_jax.reporting import captions
from musrep_jax.reporting.drawing import Axes, Figure, add_title, canvas

_TITLES = {
    "attention": "attention of the class token",
    "contribution": "probability from one moment alone",
    "occlusion": "loss of the logit in silence",
    "gradients": "integrated gradients of the logit",
}
_SIGNED = ("occlusion", "gradients")
_MAX_FIELDS = 6


def draw_explanations(
    spectrogram: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    explanations: Sequence[Mapping[str, Any]],
    *,
    title: str,
    captions_of: Mapping[str, str],
    joint: float | None = None,
) -> Figure:
    """Returns a figure of maps under the spectrogram.

    Args:
        spectrogram: level (bands, frames), edges of bands in Hz and of frames in seconds.
        explanations: method, names, spans, values, hertz and special of each, as arrays, see
            `musrep_jax.inference.explanation.Explanation`.
        title: of the recording.
        captions_of: method -> what its map is to be read as.
        joint: where two recordings are joined, in seconds.
    """
    panels = [
        {**part, "caption": captions_of[part["method"]] if number == 0 else ""}
        for one in explanations
        for number, part in enumerate(_list_panels(one))
    ]
    heights = [1.5, *(max(0.5, 0.24 * len(panel["names"])) for panel in panels)]
    heights = [h if "rows" not in p else 1.1 for h, p in zip(heights, [{}, *panels], strict=True)]
    duration = float(spectrogram[2][-1])
    width = min(14.0, 8.0 + 0.05 * duration)
    with canvas(width, 1.2 + sum(heights) + 0.3 * len(heights)) as figure:
        grid = figure.add_gridspec(
            len(heights), 3, height_ratios=heights, width_ratios=[0.035, 1, 0.02]
        )
        first = figure.add_subplot(grid[0, 1])
        level, hertz, seconds = spectrogram
        first.pcolormesh(seconds, hertz, level, cmap="magma", rasterized=True)
        first.set_yscale("symlog", linthresh=500)
        first.set_ylim(max(hertz[0], 1.0), hertz[-1])
        _set_hertz_ticks(first, hertz)
        first.set_title("spectrogram", loc="left", fontsize=10)
        for row, panel in enumerate(panels, start=1):
            axes = figure.add_subplot(grid[row, 1], sharex=first)
            _draw_panel(figure, axes, panel, grid[row, 0], grid[row, 2])
        for axes in figure.axes:
            if joint is not None and axes.get_shared_x_axes().joined(axes, first):
                axes.axvline(joint, color="#FFFFFF", linewidth=2.5)
                axes.axvline(joint, color="#000000", linewidth=1, linestyle="--")
        first.set_xlim(0, duration)
        shared = [a for a in figure.axes if a.get_shared_x_axes().joined(a, first)]
        for axes in shared[:-1]:
            axes.tick_params(labelbottom=False)
        shared[-1].set_xlabel("time in s")
        add_title(figure, title, "")
    return figure


def _list_panels(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a strip for all maps over time, or one field for each over time and frequency."""
    values = np.asarray(one["values"], np.float64)
    shared = {"method": one["method"], "spans": np.asarray(one["spans"])}
    if one["hertz"] is None:
        return [
            {**shared, "names": one["names"], "values": values, "special": one["special"]},
        ]
    return [
        {
            **shared,
            "names": [name],
            "values": values[index],
            "rows": np.asarray(one["hertz"]),
            "special": None if one["special"] is None else one["special"][index : index + 1],
        }
        for index, name in enumerate(one["names"][:_MAX_FIELDS])
    ]


def _draw_panel(
    figure: Figure, axes: Axes, panel: Mapping[str, Any], left: Any, right: Any
) -> None:
    """Draws one panel, its class token in a narrow column to the left, its scale to the right."""
    values, spans, method = panel["values"], panel["spans"], panel["method"]
    special = panel["special"]
    largest = max(float(np.abs(values).max()), 1e-6)
    if special is not None and method == "contribution":
        largest = max(largest, float(np.max(special)))
    colors = {"cmap": "cividis", "vmin": 0.0, "vmax": largest}
    if method in _SIGNED:
        colors = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    is_field = "rows" in panel
    rows = panel["rows"] if is_field else np.arange(len(values) + 1)
    edges, cells = _with_gaps(spans, values)
    mesh = axes.pcolormesh(edges, rows, cells, rasterized=True, **colors)
    names = [captions.shorten(name, 24) for name in panel["names"]]
    title = _TITLES[method]
    if is_field:
        axes.set_yscale("symlog", linthresh=500)
        axes.set_ylim(max(rows[0], 1.0), rows[-1])
        _set_hertz_ticks(axes, rows)
        title = f"{title}: {names[0]}"
    else:
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        axes.invert_yaxis()
    caption = f"\n{panel['caption']}" if panel["caption"] else ""
    axes.set_title(title + caption, loc="left", fontsize=9)
    figure.colorbar(mesh, cax=figure.add_subplot(right))
    if special is not None:
        column = figure.add_subplot(left)
        share = np.asarray(special, np.float64).mean(axis=1, keepdims=True)
        limits = {**colors, "vmax": max(largest, float(share.max()))}
        column.pcolormesh(np.arange(2), np.arange(len(share) + 1), share, **limits)
        column.invert_yaxis()
        column.set_xticks([0.5], ["class\ntoken"], fontsize=7)
        column.set_yticks([])
        # Its own scale where it outweighs all moments, and then its value in figures.
        for place, value in enumerate(share[:, 0]):
            column.text(
                0.5, place + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=6,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
            )  # fmt: skip


def _with_gaps(spans: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the edges of the columns, and the columns with an empty one where none is."""
    edges, cells = [float(spans[0, 0])], []
    for column, (start, end) in enumerate(spans.tolist()):
        if start > edges[-1] + 1e-9:
            edges.append(start)
            cells.append(np.full(values.shape[:-1], np.nan))
        edges.append(max(end, edges[-1] + 1e-9))
        cells.append(values[..., column])
    return np.array(edges), np.stack(cells, axis=-1)


def _set_hertz_ticks(axes: Axes, hertz: NDArray[Any]) -> None:
    """Labels a frequency axis in Hz and kHz."""
    ticks = [f for f in (250, 1000, 4000, 16000) if f < hertz[-1]]
    axes.set_yticks(ticks, [f"{f} Hz" if f < 1000 else f"{f // 1000} kHz" for f in ticks])
    axes.minorticks_off()
