"""Metrics, intervals, decisions and reports of taggers and of transfer experiments.

Everything here is numpy on the host.
"""

from musrep_jax.evaluation.aggregation import aggregate_tracks
from musrep_jax.evaluation.bootstrap import bootstrap_intervals
from musrep_jax.evaluation.comparison import (
    PairedComparison,
    compare_statistic,
    compare_systems,
    compare_values,
    paired_bootstrap,
)
from musrep_jax.evaluation.metrics import EvaluationError, average_precision, roc_auc
from musrep_jax.evaluation.tagging import TaggingReport, make_report

__all__ = [
    "EvaluationError",
    "PairedComparison",
    "TaggingReport",
    "aggregate_tracks",
    "average_precision",
    "bootstrap_intervals",
    "compare_statistic",
    "compare_systems",
    "compare_values",
    "make_report",
    "paired_bootstrap",
    "roc_auc",
]
