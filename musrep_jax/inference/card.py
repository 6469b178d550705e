"""The card of an export: its self-description."""

from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.config import fingerprint
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.models import AudioEncoder, Encoder, Tagger, model_settings

CARD_FORMATS = (1, 2)
"""Card formats that this version reads: 1 of models that read audio, taggers and backbones, so that
earlier versions open them too; 2 says what an encoder `reads`, which has no labels and may have no
audio.
"""


def make_card(
    model: Encoder,
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
    label_groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Returns the card of an export: everything needed to use and to assess the model.

    Args:
        model: the encoder or tagger.
        name: its key in `MODELS`.
        data: the data it was trained on; its label names are the output units in order, and there
            are none for a backbone or an encoder, which have no output layer.
        training: how it was trained.
        metrics: its scores.
        versions: of the software it was made with.
        aggregate: how a track's chunks are joined, "probability" or "logit".
        output: what turns logits into probabilities: "sigmoid" for labels that are there or not
            each by itself, "softmax" for classes of which a recording has one.
        thresholds: label -> probability above which it is said to be there, fitted on validation
            data; None when nothing was fitted.
        calibration: label -> slope and offset that turn its probability, on the logit scale, into
            one that means what it says, see `evaluation.calibration`; None when nothing was fitted.
        label_groups: name -> labels of which a recording has one at most, see
            `evaluation.label_sets.find_exclusive_groups`; None when nothing is known.
    """
    settings = {key: getattr(model, key) for key in model_settings(name)}
    front_end = None if model.front_end is None else dict(model.front_end)
    is_audio = isinstance(model, AudioEncoder)
    rate, num_samples = (model.sample_rate, model.num_samples) if is_audio else (None, None)
    if isinstance(model, Tagger):
        kind: dict[str, Any] = {"card_format": 1}
    else:
        kind = {
            "card_format": 2,
            "reads": model.INPUT,
            "input_shape": list(model.input_shape.shape),
        }
    return {
        **kind,
        "model": {"name": name, "settings": settings},
        "front_end": front_end,
        "front_end_id": fingerprint({"front_end": front_end, "sample_rate": rate}),
        "sample_rate": rate,
        "num_samples": num_samples,
        "labels": list(data.label_names),
        "aggregate": aggregate,
        "output": output,
        "thresholds": dict(thresholds or {}),
        "calibration": {label: list(pair) for label, pair in (calibration or {}).items()},
        "label_groups": {group: list(names) for group, names in (label_groups or {}).items()},
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


def to_tuples(value: Any) -> Any:
    """Returns JSON lists as tuples, as model fields use them, including nested ones.

    Example:
        >>> to_tuples([[4, 2], [4, 2]])
        ((4, 2), (4, 2))
    """
    return tuple(to_tuples(v) for v in value) if isinstance(value, list) else value
