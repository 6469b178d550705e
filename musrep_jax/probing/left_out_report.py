"""What an output layer for new labels is worth, by the examples that were left out of it."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from musrep_jax.evaluation import metrics
from musrep_jax.evaluation.bootstrap import (
    Interval,
    metric_interval,
    resample_metrics,
    share_interval,
)
from musrep_jax.evaluation.decisions import has_one_label_per_track, make_single_label_report
from musrep_jax.evaluation.metrics import BoolArray, FloatArray
from musrep_jax.evaluation.support import (
    REASON_TEXTS,
    Units,
    choose_groups,
    make_units,
    support_labels,
)
from musrep_jax.probing.few_examples import THRESHOLD

NUM_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class LabelReport:
    """How well one label is told from examples that were left out.

    Attributes:
        label: its name.
        num_examples: examples with it.
        num_without: examples without it.
        roc_auc: chance is 0.5.
        roc_auc_ci: 95 % interval; NaN where `reason` says why there is none.
        reason: such as "too few tracks", or "".
        p_value: that scores without any relation to the label rank as well or better.
        found: share of the examples with it whose score is above 0.5.
        found_ci: 95 % interval.
        false_alarms: share of the examples without it whose score is above 0.5.
        false_alarms_ci: 95 % interval.
        taken_for: other label -> number of examples of this label that were taken for it.
    """

    label: str
    num_examples: int
    num_without: int
    roc_auc: float
    roc_auc_ci: Interval
    reason: str
    p_value: float
    found: float
    found_ci: Interval
    false_alarms: float
    false_alarms_ci: Interval
    taken_for: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class LeftOutReport:
    """How well labels are told from examples that were left out.

    Attributes:
        labels: one report of each.
        choice: of examples with one label each, `accuracy` and `balanced_accuracy` of taking the
            most probable label, with intervals, chance and what always answering the commonest one
            reaches, see `decisions.make_single_label_report`; None of other examples.
    """

    labels: list[LabelReport]
    choice: dict[str, Any] | None


def report_left_out(
    targets: BoolArray, scores: FloatArray, names: Sequence[str], groups: np.ndarray
) -> LeftOutReport:
    """Returns what scores of examples that were left out are worth.

    Intervals and tests are over groups, where several examples are of one.

    Args:
        targets: bool (examples, labels); each label is on some and not on all.
        scores: (examples, labels), probabilities.
        names: of the labels.
        groups: (examples,).
    """
    chosen = choose_groups(groups)
    units = make_units(len(targets), chosen)
    is_choice = has_one_label_per_track(targets)
    if is_choice:
        decided = np.eye(len(names), dtype=bool)[scores.argmax(axis=1)]
    else:
        decided = scores > THRESHOLD
    areas = metrics.roc_auc(targets, scores)
    resamples = resample_metrics(
        targets, scores, num_resamples=NUM_RESAMPLES, track_groups=chosen
    ).roc_auc
    reports = []
    for column, (label, support) in enumerate(
        zip(names, support_labels(targets, units), strict=True)
    ):
        has = targets[:, column]
        wrong = decided[has] & ~targets[has]
        taken = Counter({names[other]: int(n) for other, n in enumerate(wrong.sum(axis=0)) if n})
        found, found_ci = _measure_share(decided[:, column], has, units)
        alarms, alarms_ci = _measure_share(decided[:, column], ~has, units)
        reports.append(
            LabelReport(
                label=label,
                num_examples=int(has.sum()),
                num_without=int((~has).sum()),
                roc_auc=float(areas[column]),
                roc_auc_ci=metric_interval(resamples[:, column], float(areas[column]), support),
                reason=REASON_TEXTS[support.reason] if support.reason else "",
                p_value=_test_ranking(has, scores[:, column], units),
                found=found,
                found_ci=found_ci,
                false_alarms=alarms,
                false_alarms_ci=alarms_ci,
                taken_for=dict(taken.most_common()),
            )
        )
    choice = None
    if is_choice:
        choice = make_single_label_report(targets, scores, names, NUM_RESAMPLES, 0, chosen)
    return LeftOutReport(reports, choice)


def _measure_share(decided: BoolArray, among: BoolArray, units: Units) -> tuple[float, Interval]:
    """Returns the share of examples that were decided for, and its interval over units."""
    share = float(decided[among].mean())
    return share, share_interval(share, len(np.unique(units.index[among])))


def _test_ranking(has: BoolArray, scores: FloatArray, units: Units) -> float:
    """Returns the one-sided p-value of a Mann-Whitney test between the mean scores of units.

    A unit with examples of both kinds counts once in each. The scores of examples that were left
    out in turn are not quite independent, so the value is an approximate one.
    """
    from scipy.stats import mannwhitneyu

    sides = []
    for side in (has, ~has):
        total = np.bincount(units.index[side], scores[side], units.count)
        count = np.bincount(units.index[side], minlength=units.count)
        sides.append((total / np.maximum(count, 1))[count > 0])
    return float(mannwhitneyu(*sides, alternative="greater").pvalue)
