"""Features by name, computed for the tracks of a data set.

A name is one or several parts with `+` between them. A part is an encoder, see
`musrep_jax.tasks.tagging.features`: `log_mel_statistics`, `pretrained:NAME`, `export:FOLDER`,
`hub:OWNER/NAME`, with outputs and a way to pool them over time in brackets, as in
`export:FOLDER[9,10,11,max]`; or what others computed, `table:FILE` and `store:FOLDER`, see
`feature_files`. Each encoder is run alone and its features are kept beside the data set, so that
other combinations find them.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.specs import SPLITS
from musrep_jax.models import create_model
from musrep_jax.models.combined_encoders import CombinedEncoders
from musrep_jax.models.outputs import POOLS
from musrep_jax.tasks.jobs import strip_parents
from musrep_jax.tasks.probe.feature_files import read_features
from musrep_jax.tasks.probe.tracks import LabeledTracks
from musrep_jax.tasks.probe.trial import SPLIT
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.tasks.tagging.features import (
    FILE_PREFIXES,
    Features,
    load_features,
    parse_features,
)
from musrep_jax.tasks.tagging.linear import embed_frozen, without_standardization
from musrep_jax.tasks.tagging.matrix import split_features
from musrep_jax.tasks.task import OpenDataset

FEATURE_WORDS = (
    "features separated by commas, such as log_mel_statistics, pretrained:NAME, export:FOLDER, "
    "export:FOLDER[9,10,max], table:FILE or store:FOLDER, several of them joined by +"
)


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a name.

    Attributes:
        text: of the encoder with its outputs, without pooling.
        pool: over time, of outputs that have a time axis.
    """

    text: str
    pool: str = "both"


@dataclasses.dataclass(frozen=True)
class WindowFeatures:
    """Features of the windows of tracks.

    Attributes:
        values: float32 (windows, features).
        owner: int64 (windows,), the track of each, ascending.
        notes: on encoders and tables, as sentences.
    """

    values: np.ndarray
    owner: np.ndarray
    notes: tuple[str, ...] = ()


def parse_parts(text: str) -> tuple[Part, ...]:
    """Returns the parts of a name of features.

    Args:
        text: see the module.

    Raises:
        ConfigError: if it cannot be read.

    Example:
        >>> parse_parts("log_mel_statistics+export:a[9,10,max]")[1]
        Part(text='export:a[9,10]', pool='max')
    """
    parts = []
    for encoder, part in zip(parse_features(text), text.split("+"), strict=True):
        pools = [name for name in encoder.outputs if name in POOLS]
        if len(pools) > 1:
            raise ConfigError(
                f"The features {part.strip()!r} name {' and '.join(pools)}: pool in one way."
            )
        outputs = ",".join(name for name in encoder.outputs if name not in POOLS)
        text_of = f"{encoder.place}[{outputs}]" if outputs else encoder.place
        parts.append(Part(text_of, *pools))
    return tuple(parts)


def are_features(value: Any) -> bool:
    """Returns whether a value names features, several separated by commas.

    Args:
        value: of the setting `features`.
    """
    names = split_features(value) if isinstance(value, str) else ()
    try:
        return bool(names) and all(parse_parts(name) for name in names)
    except ConfigError:
        return False


def compute_features(
    text: str,
    target: str,
    tracks: LabeledTracks,
    open_at: OpenDataset,
    settings: ml_collections.ConfigDict,
    *,
    is_pooled: bool,
    trained: Mapping[str, Path] | None = None,
) -> WindowFeatures:
    """Returns the features of the tracks that are probed.

    Args:
        text: name of the features.
        target: name of the data set.
        tracks: those of it that are probed.
        open_at: opens the data set at a sample rate.
        settings: of the job.
        is_pooled: whether every track has one window, the mean of its windows.
        trained: data set -> export of the network that was trained on it.

    Raises:
        ConfigError: if parts have other windows, or their values are not finite.
    """
    found, notes = [], []
    for part in parse_parts(text):
        if part.text.startswith(FILE_PREFIXES):
            values, more = read_features(part.text, tracks)
            found.append(WindowFeatures(values, np.arange(len(values))))
            notes += more
            continue
        opened = load_features(part.text, trained)
        one = _embed(opened, part.pool, target, tracks, open_at, settings)
        if not np.isfinite(one.values).all():
            raise ConfigError(f"The features {part.text!r} are not finite for every track.")
        found.append(_pool(one, len(tracks.track_ids)) if is_pooled else one)
    if any(not np.array_equal(one.owner, found[0].owner) for one in found):
        raise ConfigError(
            f"The features {text!r} cut tracks into different windows: take "
            "--config.probe.windows=pooled, which has one of each for a track."
        )
    values = np.concatenate([one.values for one in found], axis=1)
    notes += [note for one in found for note in one.notes]
    return WindowFeatures(values, found[0].owner, tuple(dict.fromkeys(notes)))


def _embed(
    opened: Features,
    pool: str,
    target: str,
    tracks: LabeledTracks,
    open_at: OpenDataset,
    settings: ml_collections.ConfigDict,
) -> WindowFeatures:
    """Returns the features that an encoder gives the chunks of tracks, as they are."""
    model = create_model(
        "combined_encoders",
        len(tracks.splits[0].spec.label_names),
        {**opened.settings, "pool": pool},
    )
    assert isinstance(model, CombinedEncoders)
    variables = without_standardization(jax.device_get(opened.make_variables(model)))
    values, owner, first = [], [], 0
    dataset = open_at(target, model.sample_rate)
    for split in (dataset.tracks(name) for name in SPLITS):
        scorer = SplitScorer(model, split, settings, settings.evaluation.num_chunks)
        values.append(embed_frozen(scorer, variables))
        owner.append(scorer.table[:, 0] + first)
        first += len(split)
    of_track = np.concatenate(owner)
    number = np.full(first, -1)
    number[tracks.kept] = np.arange(len(tracks.kept))
    is_kept = number[of_track] >= 0
    notes = opened.notes
    if settings.probe.protocol != SPLIT:
        notes += tuple(
            f"{place} was trained on {strip_parents(target)}, the tracks that are probed: its "
            "features know the labels it learned; --config.probe.protocol=split tests tracks that "
            "it has not seen."
            for place, fingerprint in opened.learned_from.items()
            if fingerprint == dataset.spec.fingerprint
        )
    return WindowFeatures(np.concatenate(values)[is_kept], number[of_track][is_kept], notes)


def _pool(features: WindowFeatures, count: int) -> WindowFeatures:
    """Returns the mean over the windows of every track."""
    starts = np.searchsorted(features.owner, np.arange(count))
    sums = np.add.reduceat(features.values.astype(np.float64), starts, axis=0)
    means = sums / np.bincount(features.owner, minlength=count)[:, None]
    return WindowFeatures(means.astype(np.float32), np.arange(count), features.notes)
