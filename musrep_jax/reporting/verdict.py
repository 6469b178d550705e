"""The findings of an experiment, as sentences above its tables."""

from collections.abc import Iterable, Sequence

from musrep_jax.reporting.display_names import make_display_names
from musrep_jax.reporting.results import (
    SIGNIFICANCE,
    Cell,
    drop_baselines,
    ordered,
    parse_number,
)


def describe_verdict(cells: Iterable[Cell], metric: str = "roc_auc") -> list[str]:
    """Returns the findings of an experiment, one sentence per question, or nothing.

    Args:
        cells: of `results.json`.
        metric: by which a difference is judged.

    Returns:
        How many transfers do better or worse than training from scratch, by source, and how many
        trained models do better or worse than the baseline; by p-values below `SIGNIFICANCE`.
    """
    trained, sentences = drop_baselines(cells), []
    for source in ordered(trained, "source"):
        carried = [c for c in trained if c.get("source") == source and c.get("versus_scratch")]
        if carried:
            counts = count_outcomes(carried, "versus_scratch", metric, "training from scratch")
            name = make_display_names([source, *ordered(trained, "target")])[source]
            sentences.append(f"From {name}: {counts}.")
    beside = [cell for cell in trained if cell.get("versus_baseline")]
    if beside:
        title = "the baseline (log-mel statistics, linear model)"
        counts = count_outcomes(beside, "versus_baseline", metric, title)
        sentences.append(f"All trained models: {counts}.")
        if not any(is_better(cell, "versus_baseline", metric) for cell in beside):
            sentences.append(
                "No trained model is shown to beat the baseline here: train longer, use more "
                "tracks, or take the baseline."
            )
    return sentences


def is_better(cell: Cell, field: str, metric: str, sign: float = 1.0) -> bool:
    """Returns whether a recorded difference is positive with a p-value below `SIGNIFICANCE`.

    Args:
        cell: of `results.json`.
        field: `versus_scratch` or `versus_baseline`.
        metric: `roc_auc` or `pr_auc`.
        sign: -1 asks whether it is negative.
    """
    recorded = ((cell.get(field) or {}).get(metric)) or {}
    return (
        parse_number(recorded.get("p_value")) < SIGNIFICANCE
        and sign * parse_number(recorded.get("difference")) > 0
    )


def count_outcomes(cells: Sequence[Cell], field: str, metric: str, reference: str) -> str:
    """Returns the numbers of cells with a positive, negative, or inconclusive difference.

    Args:
        cells: of `results.json`.
        field: see `is_better`.
        metric: `roc_auc` or `pr_auc`.
        reference: what they are compared with, in words.
    """
    better = sum(is_better(cell, field, metric) for cell in cells)
    worse = sum(is_better(cell, field, metric, sign=-1.0) for cell in cells)
    undecided = len(cells) - better - worse
    return (
        f"better than {reference} in {better} of {len(cells)}, worse in {worse}, undecided in "
        f"{undecided}"
    )
