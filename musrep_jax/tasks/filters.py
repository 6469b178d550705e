"""The learned filters of a cell: recorded beside its result, drawn with the other figures."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from musrep_jax.models import Tagger
from musrep_jax.reporting.figures import save_figure
from musrep_jax.reporting.filter_figures import draw_filters
from musrep_jax.types import PyTree

FILE = "filters.npz"
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


def write_filters(folder: Path, record: FilterRecord | None) -> None:
    """Writes the record of a cell; one of an earlier training that is no longer true is removed.

    Args:
        folder: of the cell.
        record: from `record_filters`.
    """
    if record is None:
        (folder / FILE).unlink(missing_ok=True)
    else:
        np.savez_compressed(folder / FILE, **record)


def save_filter_figure(folder: Path, path: Path, title: str) -> Path | None:
    """Returns the path of the figure of a cell's filters after writing it, None without filters.

    Args:
        folder: of the cell.
        path: of the figure.
        title: names model and data set.
    """
    if not (folder / FILE).exists():
        return None
    with np.load(folder / FILE) as record:
        before, after = (
            {n.removeprefix(prefix): record[n] for n in record.files if n.startswith(prefix)}
            for prefix in (BEFORE, AFTER)
        )
        figure = draw_filters(
            before, after, title=title, mode=str(record["mode"]), bin_hz=float(record["bin_hz"])
        )
    return save_figure(figure, path)
