"""Whether published weights, labels and settings belong together, before anything is written."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from musrep_jax.dsp.spectrogram import mel_filter_bank
from musrep_jax.models import MODELS, SpectrogramTagger, Tagger, create_model, is_tagger
from musrep_jax.weights.model_fields import infer_settings
from musrep_jax.weights.state_dicts import CONSTANTS, convert_state_dict, rename

FILTER_BANK_TOLERANCE = 1e-3
"""Filter banks stored in checkpoints differ from exact ones by 1.3e-5; other conventions by 0.1 and
more."""


class ImportWeightsError(ValueError):
    """The weights, labels and settings do not belong together; the message says what differs."""


def find_head(arrays: Mapping[str, np.ndarray], model: Tagger) -> tuple[str | None, int]:
    """Returns the key of the output layer's kernel and its number of units; (None, 0) without one.

    Args:
        arrays: of the checkpoint, without prefixes.
        model: unbound, with the checkpoint's settings.
    """
    ignored = re.compile("|".join((CONSTANTS, *model.TORCH_IGNORED)))
    for name, value in model.adapt_torch_weights(arrays).items():
        *module, leaf = rename(name, model.TORCH_NAMES).split(".")
        if leaf == "weight" and model.is_head_path(module) and not ignored.search(name):
            return name, int(value.shape[0])
    return None, 0


def is_image_transformer(arrays: Mapping[str, np.ndarray], head_key: str | None) -> bool:
    """Returns whether weights are those of an image transformer, without a head for sound.

    Args:
        arrays: of the checkpoint, without prefixes.
        head_key: key of the output layer's kernel, or None.
    """
    has_token = not {"cls_token", "v.cls_token"}.isdisjoint(arrays)
    return has_token and head_key is None and "mlp_head.0.weight" not in arrays


def check_labels(
    labels: Sequence[str] | None,
    head_key: str | None,
    num_classes: int,
    file: Path,
    *,
    is_image_model: bool,
) -> None:
    """Raises when labels and output layer do not agree.

    Args:
        labels: names, or None for a backbone.
        head_key: key of the output layer's kernel, or None.
        num_classes: number of output units.
        file: of the weights, for the message.
        is_image_model: whether the weights are those of an image transformer.

    Raises:
        ImportWeightsError: if they do not agree.
    """
    if labels is None or (head_key is None and not is_image_model):
        return  # that the output layer is missing is said with all the other keys
    if head_key is None:
        raise ImportWeightsError(
            f"{file.name} is an image transformer and has no output layer for tags: leave the "
            "labels out and import a backbone (--backbone)."
        )
    if len(labels) != num_classes:
        raise ImportWeightsError(
            f"There are {len(labels)} labels, and the output layer of {file.name} ({head_key}) has "
            f"{num_classes} units: give the label list that the weights were trained with, in "
            "order; or import a backbone (--backbone), without labels."
        )


def check_front_end(arrays: Mapping[str, np.ndarray], model: Tagger) -> None:
    """Raises when the filter bank stored in a checkpoint is not the one that the model computes.

    The cross-cultural code's MusiCNN (time first) stores one of 96 bands that it does not use; it
    is not compared.

    Args:
        arrays: of the checkpoint.
        model: unbound.

    Raises:
        ImportWeightsError: if the size differs, or a value by more than `FILTER_BANK_TOLERANCE`.
    """
    is_unused = getattr(model, "orientation", "mel_first") == "time_first"
    if not isinstance(model, SpectrogramTagger) or is_unused:
        return
    own = mel_filter_bank(model.log_mel)
    for name, stored in arrays.items():
        if not re.search(r"(^|\.)fb$", name):
            continue
        if stored.shape != own.shape:
            difference = f"has the shape {stored.shape}, and this front end's is {own.shape}"
        elif np.abs(stored - own).max() > FILTER_BANK_TOLERANCE:
            difference = f"differs by up to {np.abs(stored - own).max():.3f} from this front end's"
        else:
            continue
        raise ImportWeightsError(
            f"The mel filter bank in the weights ({name}) {difference} ({model.n_mels} bands from "
            f"{model.f_min:g} to {model.f_max:g} Hz at {model.sample_rate} Hz, window "
            f"{model.n_fft}, HTK scale, peak 1), so the tags would be wrong: set sample_rate, "
            "n_fft, n_mels, f_min and f_max as in training."
        )


def check_finite(arrays: Mapping[str, np.ndarray], file: Path) -> None:
    """Raises when weights hold values that are not finite, naming the keys."""
    broken = [name for name, value in arrays.items() if not np.isfinite(value).all()]
    if broken:
        raise ImportWeightsError(
            f"{file.name} holds values that are not finite in {', '.join(broken)}: the training "
            "that made it had diverged, or the file is damaged."
        )


def find_matching_models(arrays: Mapping[str, np.ndarray], without: str, spatial: str) -> list[str]:
    """Returns the other models into which all the arrays fit, with the settings read off them."""
    found = []
    for name in sorted(MODELS):
        if name == without or not is_tagger(name):
            continue
        settings = infer_settings(name, arrays, {})
        _, num_classes = find_head(arrays, create_model(name, 1, settings))
        model = create_model(name, num_classes or 1, settings)
        try:
            convert_state_dict(arrays, model, spatial=spatial, keep_head=num_classes > 0)
        except (ValueError, TypeError, ArithmeticError):  # sizes that this model cannot have
            continue
        found.append(name)
    return found


def left_out(
    arrays: Mapping[str, np.ndarray], model: Tagger, *, keeps_head: bool
) -> tuple[str, ...]:
    """Returns the keys that the model has no use for, counters and constants aside."""
    adapted = model.adapt_torch_weights(arrays)
    return tuple(
        name
        for name in adapted
        if not re.search(CONSTANTS, name)
        and (
            any(re.search(pattern, name) for pattern in model.TORCH_IGNORED)
            or (not keeps_head and model.is_head_path(rename(name, model.TORCH_NAMES).split(".")))
        )
    )
