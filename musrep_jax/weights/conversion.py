"""Weights of others become an exported model, as a training run writes it; nothing is computed."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from musrep_jax.config import ConfigError, choose
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.evaluation.aggregation import OUTPUTS
from musrep_jax.exports.cards import format_model_readme
from musrep_jax.inference.card import make_card
from musrep_jax.models import ALIASES, create_model, model_settings
from musrep_jax.models.spectrogram_transformer import set_input_statistics
from musrep_jax.runtime.integrity import sha256_of
from musrep_jax.training.checkpoints import save_export
from musrep_jax.training.logs import make_run_record
from musrep_jax.weights.checks import (
    ImportWeightsError,
    check_finite,
    check_front_end,
    check_labels,
    find_head,
    find_matching_models,
    is_image_transformer,
    left_out,
)
from musrep_jax.weights.files import read_state_dict
from musrep_jax.weights.hub_directory import read_hub_directory
from musrep_jax.weights.model_fields import infer_settings
from musrep_jax.weights.state_dicts import WeightsError, convert_state_dict

SPATIAL = ("frequency_time", "time_frequency")
AGGREGATES = ("probability", "logit")
AUDIOSET_CLASSES = 527

AUDIOSET_NOTE = (
    "527 output units are AudioSet's classes: the published model was trained on Kaldi filter "
    "banks (25 ms windows, 10 ms steps), and this front end computes others, so take these weights "
    "as a start for training, not as a finished tagger."
)
IMAGE_NOTE = (
    "these are weights of an image transformer: a start for training; what they say about sound "
    "before that means little."
)
STATISTICS_NOTE = (
    "the file has no input statistics, so the input is not normalized: state mean and standard "
    "deviation of the training data in dB (--input-mean, --input-std); transfer takes those of its "
    "target."
)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        path: of the export.
        inferred: settings that were read off the weights, or stated beside them.
        left_out: keys of the file that the model has no use for, without counters and front-end
            constants.
        notes: sentences that a user of the model should know.
    """

    path: Path
    inferred: Mapping[str, Any]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def convert_weights(
    weights: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
    name: str,
    licence: str,
    labels: Sequence[str] | None = None,
    citation: str = "",
    settings: Mapping[str, Any] | None = None,
    spatial: str = "frequency_time",
    aggregate: str = "probability",
    output: str = "sigmoid",
    input_statistics: tuple[float, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    published: Mapping[str, Any] | None = None,
) -> Conversion:
    """Writes the export of a file of weights; see `importing.import_weights`, which opens it too.

    Args:
        weights: file of the weights, see `read_state_dict`, or a directory as the Hub has them,
            see `read_hub_directory`.
        out: directory of the export; an export that is there is replaced, nothing else is.
        model: a key of `MODELS` or `ALIASES`; None where a directory says it.
        name: of the data that the weights were trained on.
        licence: of the weights.
        labels: names of the output units in order, or None for a backbone.
        citation: of the weights.
        settings: of the model; what is left out is read off the weights or is the default.
        spatial: axes of the checkpoint's 2-D kernels.
        aggregate: how a track's chunks are joined.
        output: "sigmoid" or "softmax".
        input_statistics: mean and standard deviation of the training data in dB.
        provenance: further facts for the card, on where the file came from.
        published: what the authors say of the weights, for the card.

    Raises:
        ValueError: as `import_weights` does.
    """
    notes: list[str] = []
    stated: Mapping[str, Any] = {}
    if Path(weights).is_dir():
        directory = read_hub_directory(weights)
        weights, notes = directory.weights, list(directory.notes)
        if model is not None and ALIASES.get(model, model) != directory.model:
            raise ConfigError(
                f"The model is {model!r}, and {weights.parent} holds {directory.model!r}: leave "
                "the model out."
            )
        model, stated = directory.model, directory.settings
    if model is None:
        raise ConfigError(
            f"The model of {weights} is not said: a file of weights alone does not say it."
        )
    known = ALIASES.get(model, model)
    choose(spatial, SPATIAL, "spatial")
    choose(aggregate, AGGREGATES, "aggregate")
    choose(output, OUTPUTS, "output")
    for field, text in (("name", name), ("licence", licence)):
        if not text.strip():
            raise ConfigError(f"The {field} is empty: an export says where its weights come from.")
    given = dict(settings or {})
    create_model(known, 1, given)
    arrays = read_state_dict(weights)
    defaults = model_settings(known)
    inferred = {
        **{k: v for k, v in stated.items() if k not in given and v != defaults[k]},
        **infer_settings(known, arrays, {**stated, **given}),
    }
    chosen = {**inferred, **given}
    head_key, num_classes = find_head(arrays, create_model(known, 1, chosen))
    is_image_model = is_image_transformer(arrays, head_key)
    check_labels(labels, head_key, num_classes, Path(weights), is_image_model=is_image_model)
    tagger = create_model(known, num_classes or len(labels or ()) or 1, chosen)
    check_front_end(arrays, tagger)
    check_finite(arrays, Path(weights))
    try:
        variables = convert_state_dict(
            arrays, tagger, spatial=spatial, keep_head=labels is not None
        )
    except WeightsError as error:
        fitting = " or ".join(find_matching_models(arrays, known, spatial))
        hint = f" They fit the model {fitting}." if fitting else ""
        raise WeightsError(f"{error}{hint}") from error
    if labels is None:
        tagger = create_model(known, 0, chosen)
        params = {k: v for k, v in variables["params"].items() if not tagger.is_head_path((k,))}
        variables = {**variables, "params": params}
    if "input_statistics" in variables:
        if input_statistics is not None:
            variables = set_input_statistics(variables, *input_statistics)
        notes += [IMAGE_NOTE] if is_image_model else []
        notes += [AUDIOSET_NOTE] if num_classes == AUDIOSET_CLASSES else []
        notes += [STATISTICS_NOTE] if input_statistics is None else []
    elif input_statistics is not None:
        raise ImportWeightsError(
            f"The model {model!r} does not normalize its input by the data's mean and deviation: "
            "leave the input statistics out."
        )
    training = {
        "imported_from": Path(weights).name,
        "sha256": sha256_of(weights),
        "spatial": spatial,
        **(provenance or {}),
        "notes": notes,
    }
    card = make_card(
        tagger,
        name=known,
        data=DatasetSpec(
            name=name,
            label_names=tuple(labels or ()),
            sample_rate=tagger.sample_rate,
            stored_form="encoded",
            split_sizes={},
            licence=licence,
            citation=citation,
            description=f"Weights imported from {Path(weights).name}; not trained here.",
        ),
        training=training,
        metrics={},
        versions=make_run_record(),
        aggregate=aggregate,
        output=output,
    )
    if published:
        card["published"] = dict(published)
    path = save_export(out, variables, card, format_model_readme(card))
    return Conversion(
        path=path,
        inferred=inferred,
        left_out=left_out(arrays, tagger, keeps_head=labels is not None),
        notes=tuple(notes),
    )
