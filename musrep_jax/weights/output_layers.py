"""New labels on a model that stays as it is: what its output layer sees, and another output layer.

Everything below the output layer is kept, so embeddings, stores and the probabilities of kept
labels are those of the model.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from musrep_jax.data.specs import DatasetSpec
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.inference.tagger import LoadedTagger, build_tagger, make_card
from musrep_jax.models import Tagger
from musrep_jax.training.checkpoints import ExportError
from musrep_jax.training.logs import make_run_record
from musrep_jax.types import PyTree

TAUGHT_FIELD = "taught"
"""Field of `card["training"]` of models whose labels were taught."""
_BLOCK_ROWS = 256
Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TaughtLabels:
    """Labels for an output layer.

    Attributes:
        names: of the labels.
        weights: float (width, labels), on `read_head_inputs`.
        bias: float (labels,).
        threshold: probability above which one is said to be there.
        groups: lists of labels of which a recording has one at most.
        licences: of the recordings that they were taught from.
        facts: how they were taught, as JSON values.
        metrics: what they are worth, as JSON values.
        notes: both as sentences.
    """

    names: Sequence[str]
    weights: np.ndarray
    bias: np.ndarray
    threshold: float
    groups: Sequence[Sequence[str]]
    licences: Sequence[str]
    facts: Mapping[str, Any]
    metrics: Mapping[str, Any]
    notes: Sequence[str]


def check_teachable(loaded: LoadedEncoder, place: object, *, keeps_labels: bool) -> None:
    """Raises if a model cannot be given labels.

    Args:
        loaded: the model.
        place: where it is from, for messages.
        keeps_labels: whether its own labels stay.

    Raises:
        ExportError: if it has no place for an output layer, or its labels exclude each other.
    """
    loaded.check_input("audio")
    if not isinstance(loaded.model, Tagger):
        raise ExportError(
            f"{place} holds {loaded.card['model']['name']!r}, which has no place for an output "
            "layer: teach a tagger, or a backbone of one."
        )
    if keeps_labels and loaded.labels and loaded.card.get("output") == "softmax":
        raise ExportError(
            f"The labels of {place} are classes of which each recording has exactly one, to which "
            "none can be added: leave them out with --replace-labels."
        )


def identify_embeddings(loaded: LoadedEncoder) -> str:
    """Returns the fingerprint of the model whose embeddings a model gives.

    It is that of the model that was taught, so that a store of one is a store of the other.

    Args:
        loaded: the model.
    """
    taught = loaded.card["training"].get(TAUGHT_FIELD)
    own = taught.get("embeddings_of") if isinstance(taught, Mapping) else None
    return own if isinstance(own, str) else loaded.fingerprint


def read_head_inputs(loaded: LoadedEncoder, embeddings: np.ndarray) -> np.ndarray:
    """Returns what the weights of the output layer are applied to.

    For most models that is the embedding; a model may have a normalization in between.

    Args:
        loaded: a tagger, or a backbone of one.
        embeddings: (rows, width).

    Returns:
        float64 (rows, width).
    """
    width = embeddings.shape[1]
    identity = np.eye(width, dtype=np.float32), np.zeros(width, np.float32)
    model, variables = _with_output_layer(loaded, *identity)
    return np.concatenate([*_classify(model, variables, embeddings)]).astype(np.float64)


def compute_logits(loaded: LoadedTagger, embeddings: np.ndarray) -> np.ndarray:
    """Returns the logits of embeddings, float64 (rows, labels).

    Args:
        loaded: a tagger with labels.
        embeddings: (rows, width), such as those of a store.
    """
    found = _classify(loaded.model, loaded.variables, embeddings)
    return np.concatenate([*found]).astype(np.float64)


def add_labels(
    loaded: LoadedEncoder, taught: TaughtLabels, place: object, *, keeps_labels: bool
) -> LoadedTagger:
    """Returns a model with more labels, or with others.

    Args:
        loaded: the model, see `check_teachable`.
        taught: the new labels; one that the model has replaces it.
        place: where the model is from, for messages.
        keeps_labels: whether its other labels stay, in front of the new ones.

    Raises:
        ExportError: if the result is no model that can be opened.
    """
    kept = [
        (column, label)
        for column, label in enumerate(loaded.labels)
        if keeps_labels and label not in taught.names
    ]
    weights, bias = taught.weights.astype(np.float32), taught.bias.astype(np.float32)
    if kept:
        columns = [column for column, _ in kept]
        old = {path[-1]: value for path, value in _list_dense(loaded).items()}
        weights = np.concatenate([old["kernel"][:, columns], weights], axis=1)
        bias = np.concatenate([old["bias"][columns], bias])
    model, variables = _with_output_layer(loaded, weights, bias)
    labels = [*(label for _, label in kept), *taught.names]
    return build_tagger(variables, _make_card(loaded, model, labels, taught), place)


def _make_card(
    loaded: LoadedEncoder, model: Tagger, labels: Sequence[str], taught: TaughtLabels
) -> dict[str, Any]:
    """Returns the card of a model with taught labels."""
    old = loaded.card
    kept = [label for label in labels if label not in taught.names]
    licences = [f"examples: {licence}" for licence in taught.licences]
    data = DatasetSpec(
        name=f"{old['data']['name']} + {len(taught.names)} taught",
        label_names=tuple(labels),
        sample_rate=old["sample_rate"],
        stored_form="encoded",
        split_sizes={},
        licence="; ".join(dict.fromkeys([old["data"]["licence"], *licences])),
        citation=old["data"].get("citation", ""),
        description=old["data"].get("description", ""),
        is_synthetic=False,
    )
    calibration = old.get("calibration") or {}
    groups = {
        name: [label for label in members if label in kept]
        for name, members in (old.get("label_groups") or {}).items()
    }
    return make_card(
        model,
        name=old["model"]["name"],
        data=data,
        training={
            TAUGHT_FIELD: {
                **taught.facts,
                "embeddings_of": identify_embeddings(loaded),
                "kept_labels": len(kept),
            },
            "notes": [*(old["training"].get("notes") or []), *taught.notes],
        },
        metrics=taught.metrics,
        versions=make_run_record(),
        aggregate=old["aggregate"],
        output="sigmoid",
        thresholds={
            **{k: v for k, v in (old.get("thresholds") or {}).items() if k in kept},
            **dict.fromkeys(taught.names, taught.threshold),
        },
        # A calibration is of all labels or of none; slope 1 and offset 0 change nothing.
        calibration={label: calibration.get(label, (1.0, 0.0)) for label in labels}
        if any(label in calibration for label in kept)
        else None,
        label_groups={
            **{name: members for name, members in groups.items() if len(members) > 1},
            **{f"taught: {', '.join(members)}": members for members in taught.groups},
        },
    )


def _list_dense(loaded: LoadedEncoder) -> dict[Path, np.ndarray]:
    """Returns kernel and bias of the output layer, by path without collection."""
    flat: Mapping[Path, Any] = traverse_util.flatten_dict(loaded.variables["params"])
    return {
        path: np.asarray(jax.device_get(value))
        for path, value in flat.items()
        if _is_dense(loaded.model, path)
    }


def _is_dense(model: Any, path: Path) -> bool:
    """Returns whether a parameter is the kernel or the bias of the output layer."""
    return model.is_head_path(path) and path[-1] in ("kernel", "bias")


def _with_output_layer(
    loaded: LoadedEncoder, weights: np.ndarray, bias: np.ndarray
) -> tuple[Tagger, PyTree]:
    """Returns the model with another output layer, and its variables."""
    model: Any = loaded.model.clone(num_classes=weights.shape[1])
    shapes = jax.eval_shape(
        lambda inputs: model.init(jax.random.key(0), inputs, train=False), model.batch_shape(1)
    )
    flat = traverse_util.flatten_dict(loaded.variables)
    given = {"kernel": weights, "bias": bias}
    values = {}
    for path, shape in traverse_util.flatten_dict(shapes).items():
        if _is_dense(model, path[1:]):
            values[path] = given[path[-1]]
        elif path in flat:
            values[path] = flat[path]
        else:  # what only a tagger has: learned weights of layers, which start as their mean
            values[path] = np.zeros(shape.shape, shape.dtype)
    return model, traverse_util.unflatten_dict(values)


def _classify(model: Any, variables: PyTree, embeddings: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the logits of embeddings in blocks, so that any number of them fits into memory."""

    @jax.jit
    def classify(rows: jax.Array) -> jax.Array:
        return model.apply(variables, rows, train=False, method="classify")

    for start in range(0, len(embeddings), _BLOCK_ROWS):
        block = np.asarray(embeddings[start : start + _BLOCK_ROWS], np.float32)
        padded = np.pad(block, ((0, _BLOCK_ROWS - len(block)), (0, 0)))
        yield np.asarray(classify(padded))[: len(block)]
