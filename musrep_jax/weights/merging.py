"""Exports that share a start become one: their average, or a start plus their task vectors.

A task vector is what a training has added to the weights that it started from. Backbones are
combined parameter by parameter; output layers are not, because they start at random: the merged
model has every label of every export, and a label that several have takes the mean of theirs.

Source: Ilharco et al., "Editing models with task arithmetic", ICLR 2023; Wortsman et al., "Model
soups", ICML 2022; Kanatas et al., "CultureMERT", ISMIR 2025 (a factor of 0.2 for each culture).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from musrep_jax.config import ConfigError
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.inference.card import make_card
from musrep_jax.inference.tagger import LoadedEncoder
from musrep_jax.models import Tagger
from musrep_jax.training.logs import make_run_record
from musrep_jax.types import PyTree

SETTINGS_LEFT_FREE = ("dtype", "remat", "attention_implementation", "num_samples", "layer")
"""Settings of a model that its parameters do not depend on, beside the rates of dropout."""
HEAD = "head"
SUM_TOLERANCE = 1e-6

Path = tuple[str, ...]


class Source(NamedTuple):
    """An export that is merged.

    Attributes:
        place: as a person names it.
        loaded: the opened model.
    """

    place: str
    loaded: LoadedEncoder


class Merged(NamedTuple):
    """The result of a merge.

    Attributes:
        model: unbound, with the labels of all exports.
        variables: of the model.
        labels: names of the output units in order.
    """

    model: Any
    variables: PyTree
    labels: tuple[str, ...]


def check_mergeable(sources: Sequence[Source]) -> None:
    """Raises unless exports are the same model, by name, settings and shapes.

    Args:
        sources: the exports, and the start they share if it is given.

    Raises:
        ConfigError: if two differ; the sentence says in what.
    """
    first = sources[0]
    for other in sources[1:]:
        pair = f"{first.place} and {other.place} cannot be merged"
        ours, theirs = first.loaded.card, other.loaded.card
        names = [card["model"]["name"] for card in (ours, theirs)]
        if names[0] != names[1]:
            raise ConfigError(f"{pair}: one is {names[0]!r} and the other {names[1]!r}.")
        settings = [card["model"]["settings"] for card in (ours, theirs)]
        wrong = [
            f"{key} is {_plain(settings[0].get(key))} and {_plain(settings[1].get(key))}"
            for key in sorted({*settings[0], *settings[1]})
            if key not in SETTINGS_LEFT_FREE
            and not (key.endswith("_rate") and key != "sample_rate")
            and _plain(settings[0].get(key)) != _plain(settings[1].get(key))
        ]
        both_tag = first.loaded.labels and other.loaded.labels
        for field in ("output", "aggregate"):
            if both_tag and ours[field] != theirs[field]:
                wrong.append(f"{field} is {ours[field]!r} and {theirs[field]!r}")
        if both_tag and ours["output"] == "softmax" and first.loaded.labels != other.loaded.labels:
            wrong.append("their exclusive classes differ")
        if not wrong:
            shapes = [
                {path: value.shape for path, value in _flatten(s.loaded, is_head=False).items()}
                for s in (first, other)
            ]
            wrong = [
                f"{'/'.join(path)} has the shape {shapes[0].get(path)} and {shapes[1].get(path)}"
                for path in sorted({*shapes[0], *shapes[1]})
                if shapes[0].get(path) != shapes[1].get(path)
            ][:3]
        if wrong:
            raise ConfigError(f"{pair}: {'; '.join(wrong)}.")


def check_weights(weights: Sequence[float], count: int, *, has_base: bool) -> tuple[float, ...]:
    """Returns one weight per export.

    Args:
        weights: one per export, one for all, or none: equal shares of an average, 1 per vector.
        count: number of exports.
        has_base: whether task vectors are added to a start, so that any weights do.

    Raises:
        ConfigError: if there are too many or too few, or those of an average do not sum to 1.
    """
    if not weights:
        return (1.0 if has_base else 1.0 / count,) * count
    if len(weights) == 1 and has_base:
        weights = tuple(weights) * count
    if len(weights) != count:
        raise ConfigError(
            f"--weights has {len(weights)} numbers and there are {count} exports: give one of each."
        )
    if not np.isfinite(weights).all():
        raise ConfigError("--weights must be finite numbers.")
    if not has_base and abs(sum(weights) - 1) > SUM_TOLERANCE:
        raise ConfigError(
            f"The weights of an average sum to 1, these to {sum(weights):g}: change them, or give "
            "the start that the exports share (--base), to which their task vectors are added."
        )
    return tuple(map(float, weights))


def merge(
    sources: Sequence[Source], weights: Sequence[float], base: Source | None = None
) -> Merged:
    """Returns the average of exports, or a start plus their weighted task vectors.

    Args:
        sources: the exports, checked by `check_mergeable` together with the base.
        weights: one of each.
        base: the start that they share, or None for an average.
    """
    trees = [_flatten(source.loaded, is_head=False) for source in sources]
    start = None if base is None else _flatten(base.loaded, is_head=False)
    values: dict[Path, np.ndarray] = {}
    for path in trees[0]:
        parts = [tree[path].astype(np.float64) for tree in trees]
        if start is not None:
            origin = start[path].astype(np.float64)
            total = origin + sum(w * (x - origin) for w, x in zip(weights, parts, strict=True))
        else:
            total = sum(w * x for w, x in zip(weights, parts, strict=True))
        if path[-1] == "var":  # a running variance stays one, whatever is added
            total = np.maximum(total, np.min(parts, axis=0))
        values[path] = np.asarray(total, trees[0][path].dtype)
    head, labels = merge_heads([source for source in sources if source.loaded.labels])
    values |= head
    model = sources[0].loaded.model
    if isinstance(model, Tagger):
        model = model.clone(num_classes=len(labels))
    return Merged(model, traverse_util.unflatten_dict(values), labels)


def merge_heads(sources: Sequence[Source]) -> tuple[dict[Path, np.ndarray], tuple[str, ...]]:
    """Returns the parameters of the merged output layer, and its labels.

    Args:
        sources: exports with labels; may be none.

    Returns:
        Path -> array, and the labels in the order in which the exports have them.
    """
    labels = tuple(dict.fromkeys(label for s in sources for label in s.loaded.labels))
    heads = [_flatten(source.loaded, is_head=True) for source in sources]
    merged: dict[Path, np.ndarray] = {}
    for path in heads[0] if heads else ():
        if HEAD not in path:
            merged[path] = np.mean([head[path] for head in heads], axis=0)
            continue
        columns = [
            np.mean(
                [
                    head[path][..., source.loaded.labels.index(label)]
                    for source, head in zip(sources, heads, strict=True)
                    if label in source.loaded.labels
                ],
                axis=0,
            )
            for label in labels
        ]
        merged[path] = np.stack(columns, axis=-1)
    return merged, labels


def make_merged_card(
    merged: Merged, sources: Sequence[Source], weights: Sequence[float], base: Source | None
) -> dict[str, Any]:
    """Returns the card of a merged export; scores and thresholds of its parts are not its own.

    Args:
        merged: the result.
        sources: the exports.
        weights: one of each.
        base: the start, or None for an average.
    """
    everything = [*sources, *([base] if base else [])]
    cards = [source.loaded.card for source in everything]
    joined = {
        field: "; ".join(dict.fromkeys(str(card["data"][field]) for card in cards))
        for field in ("licence", "citation")
    }
    parts = ", ".join(
        f"{weight:g} x {source.loaded.card['data']['name']}"
        for source, weight in zip(sources, weights, strict=True)
    )
    how = f"added to {base.loaded.card['data']['name']}" if base else "averaged"
    first = cards[0]
    data = DatasetSpec(
        name=" + ".join(dict.fromkeys(card["data"]["name"] for card in cards)),
        label_names=merged.labels,
        sample_rate=first["sample_rate"],
        stored_form="encoded",
        split_sizes={},
        description=f"Merged from {parts}, {how}; not trained as a whole.",
        is_synthetic=all(card["data"].get("is_synthetic", False) for card in cards),
        **joined,
    )
    training = {
        "merged": [
            {"fingerprint": source.loaded.fingerprint, "data": source.loaded.card["data"]["name"],
             "weight": weight}
            for source, weight in zip(sources, weights, strict=True)
        ],
        "base": None if base is None else base.loaded.fingerprint,
    }  # fmt: skip
    return make_card(
        merged.model,
        name=first["model"]["name"],
        data=data,
        training=training,
        metrics={},
        versions=make_run_record(),
        aggregate=first["aggregate"],
        output=first["output"],
    )


def measure_relation(sources: Sequence[Source]) -> float:
    """Returns the smallest correlation of two exports' kernels; near 0 they share no start.

    Args:
        sources: two exports or more.
    """

    def kernels(source: Source) -> np.ndarray:
        flat = _flatten(source.loaded, is_head=False)
        return np.concatenate([v.ravel() for p, v in sorted(flat.items()) if p[-1] == "kernel"])

    first, *others = (kernels(source) for source in sources)
    return min(float(np.corrcoef(first, other)[0, 1]) for other in others)


def _flatten(loaded: LoadedEncoder, *, is_head: bool) -> dict[Path, np.ndarray]:
    """Returns the arrays of the output layer, or all others."""
    flat: Mapping[Path, Any] = traverse_util.flatten_dict(loaded.variables)
    return {
        path: np.asarray(jax.device_get(value))
        for path, value in flat.items()
        if loaded.model.is_head_path(path[1:]) == is_head
    }


def _plain(value: Any) -> Any:
    """Returns a setting with tuples as lists, as JSON has them."""
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
