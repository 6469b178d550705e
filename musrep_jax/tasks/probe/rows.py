"""Rows of tables of probes: jobs that differ in nothing but the seed, and tests between them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.evaluation.comparison import apply_holm_correction
from musrep_jax.evaluation.friedman import FriedmanTest, friedman_test
from musrep_jax.reporting.layout import EMPTY_CELL
from musrep_jax.reporting.results import parse_interval, parse_number
from musrep_jax.reporting.tables import format_value
from musrep_jax.tasks.jobs import shorten_settings, strip_result_folders
from musrep_jax.tasks.probe.comparison import FIELD
from musrep_jax.tasks.probe.matrix import SIMILARITY, list_features
from musrep_jax.tasks.tagging.matrix import split_features
from musrep_jax.tasks.task import Result


@dataclasses.dataclass(frozen=True)
class Row:
    """Probes that differ in nothing but the seed.

    Attributes:
        features: their name.
        classifier: its text.
        size: of training, see `musrep_jax.evaluation.subsets`.
        study: settings that were varied, in words.
        results: one per seed, finished ones only.
    """

    features: str
    classifier: str
    size: Any
    study: str
    results: tuple[Result, ...]

    def value(self, metric: str) -> float:
        """Returns the mean of a metric over seeds."""
        return float(np.mean([get_metric(result, metric)["value"] for result in self.results]))

    def interval(self, metric: str) -> tuple[float, float]:
        """Returns the mean of the bounds over seeds, NaN where there is none."""
        bounds = [parse_interval(get_metric(result, metric)["ci"]) for result in self.results]
        low, high = np.mean(bounds, axis=0)
        return float(low), float(high)

    def spread(self, metric: str) -> float:
        """Returns the standard deviation of a metric over seeds, NaN of one."""
        values = [get_metric(result, metric)["value"] for result in self.results]
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    def format(self, metric: str) -> str:
        """Returns a metric for a cell of a table."""
        if all(one["name"] != metric for one in self.results[0]["metrics"]):
            return EMPTY_CELL
        return format_value(self.value(metric), self.interval(metric))

    @property
    def name(self) -> str:
        """The row in words."""
        return ", ".join(filter(None, (self.features, self.classifier, self.study)))


def sort_results(results: Sequence[Result], config: ml_collections.ConfigDict) -> list[Result]:
    """Returns results in the order of a config; what it does not name comes last.

    Args:
        results: of all jobs.
        config: of the experiment.
    """
    order = {
        field: {text: place for place, text in enumerate(listed)}
        for field, listed in (
            ("features", list_features(config)),
            ("classifier", split_features(config.classifiers)),
        )
    }
    last = len(results)
    return sorted(
        results,
        key=lambda result: tuple(order[field].get(result[field], last) for field in order),
    )


def list_rows(results: Sequence[Result]) -> list[Row]:
    """Returns the rows of finished probes, in their order.

    Args:
        results: of one data set.
    """
    found: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        if result["error"] is None and result["classifier"] != SIMILARITY:
            study = shorten_settings(result.get("study") or {})
            words = ", ".join(f"{name}={value}" for name, value in study.items())
            key = (result["features"], result["classifier"], result["num_train_tracks"], words)
            found.setdefault(key, []).append(result)
    return [Row(*key, results=tuple(alike)) for key, alike in found.items()]


def correct_p_values(rows: Sequence[Row]) -> np.ndarray:
    """Returns the p-value of each row against the first features, corrected for their number.

    Of several seeds the largest p-value counts. NaN where nothing was compared.

    Args:
        rows: of one table.
    """
    raw = []
    for row in rows:
        values = [parse_number((r.get(FIELD) or {}).get("p_value")) for r in row.results]
        raw.append(max(values) if all(map(math.isfinite, values)) else math.nan)
    return apply_holm_correction(raw)


def rank_rows(rows: Sequence[Row]) -> tuple[list[Row], FriedmanTest] | None:
    """Returns the rows that can be ranked over folds, and Friedman's test; None of too few.

    Args:
        rows: of one table; of several seeds the mean of a fold counts.
    """
    metric = rows[0].results[0]["metrics"][0]["name"]
    kept, values = [], []
    for row in rows:
        folds = [[parse_number(f[metric]) for f in r.get("per_fold") or ()] for r in row.results]
        if folds and folds[0] and np.isfinite(folds).all():
            kept.append(row)
            values.append(np.mean(folds, axis=0))
    if len(kept) < 2 or len({len(one) for one in values}) > 1:
        return None
    return kept, friedman_test(np.stack(values, axis=1))


def get_metric(result: Result, name: str) -> dict[str, Any]:
    """Returns a metric of a result with its value and chance as numbers.

    Args:
        result: of a job.
        name: of the metric.
    """
    found = next(metric for metric in result["metrics"] if metric["name"] == name)
    return {**found, "value": parse_number(found["value"]), "chance": parse_number(found["chance"])}


def name_first(rows: Sequence[Row]) -> str:
    """Returns the name of the features that the others were compared with.

    Args:
        rows: of one table.
    """
    named = [r[FIELD]["features"] for row in rows for r in row.results if r.get(FIELD)]
    return strip_result_folders({"features": named[0]})["features"] if named else rows[0].features


def measure_difference(row: Row) -> float:
    """Returns the mean difference from the first features, NaN for these.

    Args:
        row: of a table.
    """
    return float(
        np.mean([parse_number((r.get(FIELD) or {}).get("difference")) for r in row.results])
    )
