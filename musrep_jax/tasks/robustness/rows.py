"""The rows of a robustness table: one for each model and deformation."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.data.deformed.deformations import CLEAN, KINDS, parse_deformation
from musrep_jax.evaluation.comparison import apply_holm_correction
from musrep_jax.reporting.results import parse_interval, parse_number
from musrep_jax.tasks.jobs import shorten_settings
from musrep_jax.tasks.robustness.comparison import FIELD
from musrep_jax.tasks.robustness.matrix import shorten_tagger
from musrep_jax.tasks.tagging.matrix import BASELINE_MODEL
from musrep_jax.tasks.task import Result


@dataclasses.dataclass(frozen=True)
class Row:
    """A model on tracks with one deformation.

    Attributes:
        target: data set.
        tagger: its name.
        study: settings that were varied, in words.
        seed: of the noise, and of what was fitted.
        deformation: its name, or `clean`.
        result: of the job.
        clean: result of the same model on the clean tracks; empty if it failed.
    """

    target: str
    tagger: str
    study: str
    seed: int
    deformation: str
    result: Result
    clean: Result

    @property
    def versus(self) -> Mapping[str, Any]:
        """The differences from the clean tracks; empty where there are none."""
        return self.result.get(FIELD) or {}

    @property
    def label_names(self) -> list[str]:
        """The labels that were tested."""
        return list(self.result["per_label"])

    def value(self, metric: str) -> float:
        """Returns a metric, NaN where it is not defined."""
        return parse_number(self.result[metric])

    def clean_value(self, metric: str) -> float:
        """Returns a metric of the clean tracks, NaN where it is not known."""
        return parse_number(self.clean.get(metric))

    def interval(self, metric: str) -> tuple[float, float]:
        """Returns the interval of a metric, NaN bounds where there is none."""
        return parse_interval(self.result[f"{metric}_ci"])

    def difference(self, metric: str) -> float:
        """Returns the difference from the clean tracks, NaN where there is none."""
        return parse_number((self.versus.get(metric) or {}).get("difference"))

    def p_value(self, metric: str) -> float:
        """Returns the p-value of the difference, NaN where it was not tested."""
        return parse_number((self.versus.get(metric) or {}).get("p_value"))

    def label_difference(self, label: str, field: str = "difference") -> float:
        """Returns a label's difference in ROC-AUC, or another field of it, NaN without one."""
        entry = (self.versus.get("per_label") or {}).get(label) or {}
        return parse_number((entry.get("roc_auc") or {}).get(field))


def list_rows(results: Sequence[Result]) -> list[Row]:
    """Returns the rows of finished jobs; those of a model stand together, clean ones first.

    Args:
        results: of all jobs.
    """
    done = [result for result in results if result["error"] is None]
    texts = dict.fromkeys(result["tagger"] for result in done)
    short = {text: shorten_tagger(text) for text in texts}
    taken = list(short.values())
    names = {text: name if taken.count(name) == 1 else text for text, name in short.items()}
    found: dict[tuple[Any, ...], list[Result]] = {}
    for result in done:
        study = shorten_settings(result.get("study") or {})
        words = ", ".join(f"{name}={value}" for name, value in study.items())
        key = (result["target"], names[result["tagger"]], words, result["seed"])
        found.setdefault(key, []).append(result)
    rows = []
    # The baseline, which others are looked at beside, comes first.
    for key in sorted(found, key=lambda key: (key[0], key[1] != BASELINE_MODEL)):  # stable
        ours = sorted(found[key], key=lambda one: rank_deformation(one["deformation"]))
        clean = next((one for one in ours if one["deformation"] == CLEAN), {})
        rows += [Row(*key, one["deformation"], one, clean) for one in ours]
    return rows


def rank_deformation(name: str) -> tuple[int, float]:
    """Returns what puts deformations in order: clean tracks, then by kind and strength.

    Args:
        name: of a deformation, or `clean`.
    """
    if name == CLEAN:
        return -1, 0.0
    deformation = parse_deformation(name)
    return list(KINDS).index(deformation.kind), deformation.value


def correct_p_values(rows: Sequence[Row], metric: str) -> np.ndarray:
    """Returns the p-value of each row against the clean tracks, corrected for their number.

    Args:
        rows: of one table; NaN where nothing was compared.
        metric: `roc_auc` or `pr_auc`.
    """
    return apply_holm_correction([row.p_value(metric) for row in rows])
