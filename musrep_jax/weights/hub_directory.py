"""Directories of pretrained encoders as the Hugging Face Hub has them, opened as models of ours.

`config.json` says the architecture, `preprocessor_config.json`, where it is there, how the waveform
is prepared, and `model.safetensors` or `pytorch_model.bin` holds the weights. Nothing in them is
executed. Fields that matter for the forward pass and that no model here has are refused.

Source: huggingface/transformers (HubertConfig, Wav2Vec2FeatureExtractor) and the configuration of
m-a-p/MERT-v1-95M, whose field names and defaults these are.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from musrep_jax.config import ConfigError
from musrep_jax.models import Tagger, create_model
from musrep_jax.rules.kinds import flag, judge
from musrep_jax.rules.model_settings import MODEL_FIELDS, SIZE
from musrep_jax.runtime.integrity import sha256_of
from musrep_jax.types import PyTree
from musrep_jax.weights.checks import check_finite
from musrep_jax.weights.files import WeightFileError, read_state_dict
from musrep_jax.weights.state_dicts import convert_state_dict

CONFIG_FILE, PREPROCESSOR_FILE = "config.json", "preprocessor_config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""The first one that is there is read."""
CHUNK_SECONDS = 5
"""Of the recordings that MERT was pretrained on. Source: Li et al. 2024, section 4.2."""

NO_PREPROCESSOR_NOTE = (
    f"there is no {PREPROCESSOR_FILE}, so the waveform is taken as it is: if the model was trained "
    "on waveforms of mean 0 and variance 1, import it with normalizes_input=true."
)

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class HubDirectory:
    """A directory that has been understood.

    Attributes:
        weights: the file of the weights.
        model: a key of `MODELS`.
        settings: of the model.
        notes: sentences that a user of the model should know.
    """

    weights: Path
    model: str
    settings: Mapping[str, Any]
    notes: tuple[str, ...]


def read_hub_directory(path: str | Path) -> HubDirectory:
    """Returns what the files of a directory say, without reading the weights.

    Args:
        path: of the directory.

    Raises:
        FileNotFoundError: if `config.json` or the weights are not there.
        WeightFileError: if a file is damaged, or the architecture is another one.
    """
    path = Path(path)
    config = _read_json(path / CONFIG_FILE)
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise WeightFileError(
            f"model_type in {path / CONFIG_FILE} is {kind!r}; this version opens "
            f"{', '.join(ARCHITECTURES)}."
        )
    weights = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), None)
    if weights is None:
        parts = sorted(file.name for file in path.glob("*.index.json"))
        why = f"the weights are in several files ({parts[0]})" if parts else "there are no weights"
        raise FileNotFoundError(
            f"{path}: {why}; expected {' or '.join(WEIGHT_FILES)}, in one file."
        )
    preprocessor, notes = {}, (NO_PREPROCESSOR_NOTE,)
    if (path / PREPROCESSOR_FILE).is_file():
        preprocessor, notes = _read_json(path / PREPROCESSOR_FILE), ()
        preprocessor = {"do_normalize": True, **preprocessor}  # the extractor's own default
    model, read_settings = ARCHITECTURES[kind]
    try:
        settings = read_settings(config, preprocessor)
    except ConfigError as error:
        raise WeightFileError(f"{path / CONFIG_FILE} cannot be used: {error}") from error
    return HubDirectory(weights, model, settings, notes)


def import_hub_directory(
    path: str | Path, settings: Mapping[str, Any] | None = None
) -> tuple[Tagger, PyTree, dict[str, Any]]:
    """Returns a pretrained encoder of a Hub directory: a backbone, its variables, and facts.

    Args:
        path: of the directory.
        settings: of the model, in the place of those that the directory says: `{"layer": "7"}`.

    Returns:
        The unbound model; its variables, float32; and what a card says of them: `model` (its name
        and settings), `imported_from`, `sha256` and `notes`.

    Raises:
        FileNotFoundError: if `config.json` or the weights are not there.
        WeightFileError: if a file is damaged, or the architecture is another one.
        WeightsError: if weights and configuration do not belong together; every key is named.
        ImportWeightsError: if values are not finite.
    """
    directory = read_hub_directory(path)
    chosen = {**directory.settings, **(settings or {})}
    model = create_model(directory.model, 0, chosen)
    arrays = read_state_dict(directory.weights)
    check_finite(arrays, directory.weights)
    facts = {
        "model": {"name": directory.model, "settings": chosen},
        "imported_from": directory.weights.name,
        "sha256": sha256_of(directory.weights),
        "notes": list(directory.notes),
    }
    return model, convert_state_dict(arrays, model), facts


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no {file}: a directory of the Hub has {CONFIG_FILE} and "
            f"{' or '.join(WEIGHT_FILES)}."
        )
    try:
        found = json.loads(file.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightFileError(f"{file} is damaged or no JSON: {error}") from error
    if not isinstance(found, dict):
        raise WeightFileError(f"{file} holds a JSON {type(found).__name__} and no object.")
    return found


_HUBERT_FIELDS: tuple[tuple[str, str, Any], ...] = (
    ("conv_dim", "front_channels", (512,) * 7),
    ("conv_kernel", "front_kernels", (10, 3, 3, 3, 3, 2, 2)),
    ("conv_stride", "front_strides", (5, 2, 2, 2, 2, 2, 2)),
    ("conv_bias", "front_bias", False),
    ("feat_extract_norm", "front_norm", "group"),
    ("feat_proj_layer_norm", "normalizes_features", True),
    ("hidden_size", "width", 768),
    ("num_hidden_layers", "depth", 12),
    ("num_attention_heads", "num_heads", 12),
    ("layer_norm_eps", "norm_epsilon", 1e-5),
    ("num_conv_pos_embeddings", "position_kernel", 128),
    ("num_conv_pos_embedding_groups", "position_groups", 16),
    ("feat_proj_dropout", "front_dropout_rate", 0.0),
    ("hidden_dropout", "block_dropout_rate", 0.1),
    ("activation_dropout", "activation_dropout_rate", 0.1),
    ("attention_dropout", "attention_dropout_rate", 0.1),
    ("layerdrop", "layer_drop_rate", 0.1),
)
"""Field of the configuration, setting of ours, and the published default."""

_REQUIRED: tuple[tuple[str, Any], ...] = (
    ("hidden_act", "gelu"),
    ("feat_extract_activation", "gelu"),
    ("feature_extractor_cqt", False),
    ("deepnorm", False),
    ("conv_pos_batch_norm", False),
)
"""Fields that change the forward pass, and the only value of each that is computed here."""


def read_hubert_settings(config: Config, preprocessor: Config) -> dict[str, Any]:
    """Returns the settings of a `MERT` that a configuration of HuBERT's family describes.

    Args:
        config: of the model.
        preprocessor: of the waveform; empty if there is none.

    Raises:
        ConfigError: if a field has a value that no model here computes; the sentence names it.
    """
    for key, only in _REQUIRED:
        if config.get(key, only) != only:
            raise ConfigError(f"{key} is {config[key]!r}; only {only!r} is computed here.")
    found: dict[str, Any] = {}
    for key, field, default in _HUBERT_FIELDS:
        value = config.get(key, default)
        judge(key, value, MODEL_FIELDS[field])
        found[field] = tuple(value) if isinstance(value, list) else value
    fronts = ("front_channels", "front_kernels", "front_strides")
    lengths = [len(found[field]) for field in fronts]
    lengths.append(config.get("num_feat_extract_layers", lengths[0]))
    if len(set(lengths)) != 1:
        raise ConfigError(
            "conv_dim, conv_kernel, conv_stride and num_feat_extract_layers describe "
            f"{', '.join(map(str, lengths))} layers; all must describe as many."
        )
    width, hidden = found["width"], config.get("intermediate_size", 3072)
    is_pre, is_normal = config.get("do_stable_layer_norm", False), preprocessor.get("do_normalize")
    judge("intermediate_size", hidden, SIZE)
    judge("do_stable_layer_norm", is_pre, flag())
    judge("do_normalize", bool(is_normal) if is_normal is None else is_normal, flag())
    for what, total, part in (
        ("intermediate_size", hidden, width),
        ("hidden_size", width, found["num_heads"]),
        ("hidden_size", width, found["position_groups"]),
    ):
        if total % part:
            raise ConfigError(f"{what} is {total}; it must be a multiple of {part}.")
    rate = preprocessor.get("sampling_rate", config.get("sample_rate"))
    if rate is None:
        raise ConfigError(
            f"neither it nor {PREPROCESSOR_FILE} says the sampling rate: add sample_rate, in Hz, "
            "to it."
        )
    judge("sampling_rate", rate, MODEL_FIELDS["sample_rate"])
    return {
        **found,
        "mlp_ratio": hidden // width,
        "norm_position": "pre" if is_pre else "post",
        "sample_rate": rate,
        "num_samples": CHUNK_SECONDS * rate,
        "normalizes_input": bool(is_normal),
    }


ARCHITECTURES: dict[str, tuple[str, Callable[[Config, Config], dict[str, Any]]]] = {
    "hubert": ("mert", read_hubert_settings),
    "mert_model": ("mert", read_hubert_settings),
}
"""`model_type` -> the model here, and what reads its settings."""
