"""The outcome of a trained tagger: metrics, model card, fields of its result."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from musrep_jax.evaluation.support import describe_validation
from musrep_jax.evaluation.tagging import TaggingReport
from musrep_jax.inference.tagger import make_card
from musrep_jax.reporting.results import METRIC_TITLES, parse_number
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks import binding
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.settings import model_deviations
from musrep_jax.tasks.tagging.choice import FOLDS_FIELD, rank_validation
from musrep_jax.tasks.tagging.objective import TaggingObjective
from musrep_jax.tasks.task import (
    Metric,
)
from musrep_jax.training.logs import make_run_record
from musrep_jax.training.loop import FitResult


def list_metrics(report: TaggingReport) -> list[Metric]:
    """Returns the metrics that a tagger is judged by.

    Args:
        report: on the test split.
    """
    summary, metrics = report.to_dict(), []
    for name, title in METRIC_TITLES.items():
        low, high = summary[f"{name}_ci"]
        interval = None if low is None else (low, high)
        chance = (summary.get("random") or {}).get(name)
        value = parse_number(summary[name])
        metrics.append(Metric(name, value, interval, title=title, chance=chance))
    return metrics


def make_model_card(
    job: Job,
    objective: TaggingObjective,
    report: TaggingReport,
    calibration: Mapping[str, Sequence[float]],
    label_groups: Mapping[str, Sequence[str]],
    fit: FitResult,
    settings: ml_collections.ConfigDict,
) -> dict[str, Any]:
    """Returns the card of a trained tagger.

    Args:
        job: the job.
        objective: with which it was trained.
        report: on the test split.
        calibration: label -> slope and offset fitted on validation; empty for exclusive classes.
        label_groups: name -> labels of which a track has one at most.
        fit: what the loop returned.
        settings: of the job.
    """
    summary, folds = report.to_dict(), objective.judge_by_folds()
    fields = (
        "roc_auc", "pr_auc", "roc_auc_ci", "pr_auc_ci", "ci_reason", "num_tracks",
        "num_track_groups",
    )  # fmt: skip
    return make_card(
        objective.model,
        name=job["model"],
        data=objective.dataset.spec,
        training={
            "source": job["source"],
            "mode": job["mode"],
            "seed": job.seed,
            "num_train_tracks": len(objective.train_tracks),
            "best_step": fit.best_step,
            "loss": settings.train.loss,
            "notes": list(objective.start.notes),
        },
        metrics={
            "test": {name: summary[name] for name in fields},
            "validation": to_json_safe(fit.best_metrics),
            **({} if folds is None else {FOLDS_FIELD: to_json_safe(folds.metrics)}),
        },
        versions=make_run_record(),
        aggregate=settings.evaluation.aggregate,
        output=binding.get_output_activation(settings.train.loss),
        thresholds=report.f1_fitted["thresholds"],
        calibration=calibration,
        label_groups=label_groups,
    )


def is_still_rising(fit: FitResult, select_by: str) -> bool:
    """Returns whether validation was still getting better when a training ended.

    Patience and a plateau end what no longer rises. Otherwise the best evaluation is among the last
    fifth, and these are better in the mean than the fifth before them; of fewer than five
    evaluations it is the last one, and not the only one unless the time was over.

    Args:
        fit: what the loop returned.
        select_by: metric of the evaluations.
    """
    values = np.array([rank_validation(row, select_by)[0] for row in fit.history])
    if fit.stopped_early or not len(values):
        return False
    if len(values) < 5:
        is_only = len(values) == 1
        return fit.ran_out_of_time if is_only else bool(values[-1] > values[:-1].max())
    share = len(values) // 5
    last, before = values[-share:], values[-2 * share : -share]
    return bool(last.max() > values[:-share].max() and last.mean() > before.mean())


def describe_training(
    objective: TaggingObjective, fit: FitResult, settings: ml_collections.ConfigDict
) -> dict[str, Any]:
    """Returns the entries of a result besides its metrics: data, size, training.

    Args:
        objective: what was trained.
        fit: what the loop returned.
        settings: of the job.
    """
    spec = objective.dataset.spec
    leaves = jax.tree.leaves(objective.take_tagger(objective.variables)["params"])
    folds = objective.judge_by_folds()
    return to_json_safe(
        {
            "is_synthetic": spec.is_synthetic,
            "loss": settings.train.loss,
            "features": objective.start.name,
            "licence": spec.licence,
            "num_train_tracks_used": len(objective.train_tracks),
            "model_deviations": model_deviations(settings),
            "num_params": int(sum(np.size(leaf) for leaf in leaves)),
            "best_step": fit.best_step,
            "num_steps": int(fit.state.step),
            "stopped_early": fit.stopped_early,
            "is_still_rising": is_still_rising(fit, settings.train.select_by),
            "validation": fit.best_metrics,
            FOLDS_FIELD: None if folds is None else folds.metrics,
            "validation_size": describe_validation(
                objective.validation.tracks.label_matrix, objective.validation.tracks.groups
            ),
        }
    )
