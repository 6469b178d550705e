"""The learned filters of a model: recorded beside its result, drawn with the other figures."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from musrep_jax.models import Tagger
from musrep_jax.reporting.drawing import save_figure
from musrep_jax.reporting.filter_figures import draw_filters
from musrep_jax.types import PyTree

FILTERS = "filters"
"""Stem of the file in the folder of a job."""

BEFORE, AFTER = "before_", "after_"

FilterRecord = Mapping[str, np.ndarray]


def record_filters(model: Tagger, before: PyTree, after: PyTree) -> FilterRecord | None:
    """Returns the filters of a model with a harmonic front end, None for other models.

    Args:
        model: the tagger.
        before: its variables at the start of the training.
        after: its variables now.

    Returns:
        `before_` and `after_` with each name of `HarmonicCNN.filter_shapes`; `mode`; `bin_hz`.
    """
    if not hasattr(model, "filter_shapes"):
        return None
    record = {"mode": np.array(model.front_end["mode"])}
    record["bin_hz"] = np.array(model.sample_rate / model.front_end["n_fft"])
    for prefix, variables in ((BEFORE, before), (AFTER, after)):
        shapes = jax.device_get(model.apply(variables, method="filter_shapes"))
        record |= {f"{prefix}{name}": np.asarray(values) for name, values in shapes.items()}
    return record


def save_filter_figure(record: Path, path: Path, title: str) -> Path:
    """Returns the path of the figure of a model's filters after writing it.

    Args:
        record: file with the arrays of `record_filters`.
        path: of the figure.
        title: names model and data set.
    """
    with np.load(record) as stored:
        before, after = (
            {n.removeprefix(prefix): stored[n] for n in stored.files if n.startswith(prefix)}
            for prefix in (BEFORE, AFTER)
        )
        figure = draw_filters(
            before, after, title=title, mode=str(stored["mode"]), bin_hz=float(stored["bin_hz"])
        )
    return save_figure(figure, path)
