"""What an export says about itself, its card."""

from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.config import fingerprint
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.models import Tagger, model_settings

CARD_FORMAT = 1


def make_card(
    model: Tagger,
    *,
    name: str,
    data: DatasetSpec,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    versions: Mapping[str, Any],
    aggregate: str = "probability",
    output: str = "sigmoid",
    thresholds: Mapping[str, float] | None = None,
    calibration: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Returns what an export says about itself: everything needed to use and to judge it.

    Args:
        model: the tagger.
        name: its key in `MODELS`.
        data: the data it was trained on; its label names are the output units in order, and there
            are none for a backbone, a model without output layer.
        training: how it was trained.
        metrics: what it reached.
        versions: of everything it was made with.
        aggregate: how a track's chunks are joined, "probability" or "logit".
        output: what turns logits into probabilities: "sigmoid" for labels that are there or not
            each by itself, "softmax" for classes of which a recording has one.
        thresholds: label -> probability above which it is said to be there, fitted on validation
            data; None when nothing was fitted.
        calibration: label -> slope and offset that turn its probability, on the logit scale, into
            one that means what it says, see `evaluation.calibration`; None when nothing was fitted.
    """
    settings = {key: getattr(model, key) for key in model_settings(name)}
    front_end = None if model.front_end is None else dict(model.front_end)
    return {
        "card_format": CARD_FORMAT,
        "model": {"name": name, "settings": settings},
        "front_end": front_end,
        "front_end_id": fingerprint({"front_end": front_end, "sample_rate": model.sample_rate}),
        "sample_rate": model.sample_rate,
        "num_samples": model.num_samples,
        "labels": list(data.label_names),
        "aggregate": aggregate,
        "output": output,
        "thresholds": dict(thresholds or {}),
        "calibration": {label: list(pair) for label, pair in (calibration or {}).items()},
        "data": {
            "name": data.name,
            "licence": data.licence,
            "citation": data.citation,
            "description": data.description,
            "is_synthetic": data.is_synthetic,
            "split_sizes": dict(data.split_sizes),
            "fingerprint": data.fingerprint,
        },
        "training": dict(training),
        "metrics": dict(metrics),
        "versions": dict(versions),
    }
