"""The taggram: the tags of a recording over time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.reporting import captions
from musrep_jax.reporting.drawing import Figure, add_title, canvas

NUM_LABELS = 30


def taggram(
    spans: ArrayLike,
    scores: ArrayLike,
    labels: Sequence[str],
    *,
    title: str,
    num_labels: int = NUM_LABELS,
) -> Figure:
    """Returns a figure of the probabilities of the most probable labels over time.

    Args:
        spans: (chunks, 2), start and end in seconds; the last may overlap the one before, whose
            part is then drawn up to its own end.
        scores: (chunks, labels), probabilities; NaN where nothing can be judged, in silence.
        labels: names.
        title: of the recording.
        num_labels: that are shown at most, those with the greatest mean, in the model's order.
    """
    times, values = np.asarray(spans, np.float64), np.asarray(scores, np.float64)
    means = np.nan_to_num(values).mean(axis=0)
    shown = np.sort(np.argsort(-means, kind="stable")[:num_labels])
    starts = np.maximum(times[:, 0], np.concatenate([[0.0], times[:-1, 1]]))
    edges = np.append(starts, times[-1, 1])
    width = min(16.0, 6.0 + 0.1 * len(times))
    with canvas(width, 1.4 + 0.22 * len(shown)) as figure:
        axes = figure.add_subplot()
        mesh = axes.pcolormesh(
            edges, np.arange(len(shown) + 1), values[:, shown].T, cmap="cividis", vmin=0, vmax=1
        )
        axes.set_facecolor("#DDDDDD")
        axes.set_yticks(
            np.arange(len(shown)) + 0.5, [captions.shorten(labels[k], 32) for k in shown]
        )
        axes.invert_yaxis()
        axes.set_xlabel("time in s")
        figure.colorbar(mesh, label="probability")
        left_out = len(labels) - len(shown)
        more = f"the {len(shown)} most probable of {len(labels)} labels" if left_out else ""
        silence = "gray: silence, not judged" if np.isnan(values).any() else ""
        add_title(figure, title, "; ".join(filter(None, (more, silence))))
    return figure
