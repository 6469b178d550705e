"""The learned filters of a model: recorded beside its result, drawn with the other figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from musrep_jax.models import Tagger
from musrep_jax.reporting.drawing import save_figure
from musrep_jax.reporting.filter_figures import draw_filters
from musrep_jax.reporting.filter_table import summarize_filters
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


def describe_filters(record: FilterRecord) -> dict[str, Any]:
    """Returns the learned numbers and some bands before and after, as JSON values.

    Args:
        record: of `record_filters`.
    """
    return summarize_filters(*_take_sides(record), mode=str(record["mode"]))


def _take_sides(record: FilterRecord) -> list[dict[str, np.ndarray]]:
    """Returns what a record says of before and of after."""
    return [
        {name.removeprefix(side): record[name] for name in record if name.startswith(side)}
        for side in (BEFORE, AFTER)
    ]


def save_filter_figure(record: Path, path: Path, title: str) -> Path:
    """Returns the path of the figure of a model's filters after writing it.

    Args:
        record: file with the arrays of `record_filters`.
        path: of the figure.
        title: names model and data set.
    """
    with np.load(record) as stored:
        before, after = _take_sides(stored)
        figure = draw_filters(
            before, after, title=title, mode=str(stored["mode"]), bin_hz=float(stored["bin_hz"])
        )
    return save_figure(figure, path)
