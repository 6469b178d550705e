"""Initial variables of a training: fresh parameters, or the backbone of an exported model."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import traverse_util

from musrep_jax.config import ConfigError
from musrep_jax.data.datasets import Tracks
from musrep_jax.inference.card import to_tuples
from musrep_jax.models import ALIASES, MODELS, Tagger, model_class
from musrep_jax.models.spectrogram_transformer import set_input_statistics
from musrep_jax.tasks import binding
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.tasks.settings import make_chunk_spec
from musrep_jax.tasks.tagging.choice import FOLDS_FIELD, find_best
from musrep_jax.tasks.tagging.features import load_features
from musrep_jax.tasks.tagging.matrix import (
    BEST_START,
    LINEAR,
    SCRATCH,
)
from musrep_jax.tasks.tagging.sources import find_export, find_settings_source, read_settings
from musrep_jax.tasks.task import Context, UnavailableError
from musrep_jax.training import checkpoints, sharding
from musrep_jax.types import PyTree, model_inputs

STATISTICS = "input_statistics"


@dataclasses.dataclass(frozen=True)
class Start:
    """What a job starts from.

    Attributes:
        make_variables: model and training tracks -> the variables.
        name: of the features, where they are those of named encoders.
        notes: sentences on the origin of the variables, for the card.
    """

    make_variables: Callable[[Tagger, Tracks], PyTree]
    name: str | None = None
    notes: tuple[str, ...] = ()


def find_start(job: Job, context: Context) -> Start:
    """Returns what a job starts from, opened.

    The settings of the model are written into those of the job where its start brings them.

    Args:
        job: the job.
        context: of the job.

    Raises:
        UnavailableError: if a pretrained model cannot be fetched.
        ConfigError: if an export cannot be opened.
    """
    settings, source = context.settings, None
    if job["mode"] == LINEAR:
        features = load_features(job["source"])
        _write_model_settings(settings, features.settings)
        return Start(
            lambda model, tracks: features.make_variables(model), job["source"], features.notes
        )
    if job["source"] == BEST_START:
        variables, card = checkpoints.load_export(_find_best_start(job, context))
        _write_model_settings(settings, card["model"]["settings"])
        training = card["training"]
        return Start(lambda model, tracks: variables, training["source"], tuple(training["notes"]))
    brings = find_settings_source(context.config, job)
    if brings is not None:
        own = {key: value for key, value in settings.model.items() if value is not None}
        _write_model_settings(settings, {**read_settings(brings), **own})
    start = settings.model.start if job["source"] is None else job["source"]
    if job.needs:
        source = context.find_export(job.needs[0])
    elif start is not None:
        source = find_export(start)
    return Start(lambda model, tracks: initial_variables(model, settings, job.seed, tracks, source))


def _find_best_start(job: Job, context: Context) -> Path:
    """Returns the export of the linear model that is best by folds, or on validation data."""
    exports = [context.find_export(key) for key in job.needs if context.is_done(key)]
    if not exports:
        raise UnavailableError(
            "There is no candidate with a pretrained encoder whose layers could be trained: see "
            f"the others, name one in --config.candidates, or take {SCRATCH} there."
        )
    metrics = [checkpoints.read_card(path)["metrics"] for path in exports]
    kind = FOLDS_FIELD if all(FOLDS_FIELD in one for one in metrics) else "validation"
    measured = zip(exports, (one[kind] for one in metrics), strict=True)
    return find_best(measured, context.settings.train.select_by)


def _write_model_settings(settings: ml_collections.ConfigDict, values: Mapping[str, Any]) -> None:
    """Writes the settings of a model into those of a job."""
    with settings.ignore_type():
        for name, value in values.items():
            settings.model[name] = to_tuples(value)


def initial_variables(
    model: Tagger,
    settings: ml_collections.ConfigDict,
    seed: int,
    train_tracks: Tracks,
    source: Path | None,
) -> PyTree:
    """Returns the variables that a training starts from.

    Everything but the output layer comes from the source, by exact path and shape; the output
    layer is always fresh. A model that normalizes its input by the data's statistics gets those of
    the target's training tracks, unless `transfer.input_statistics` says "source".

    Args:
        model: the tagger.
        settings: of the job.
        seed: of fresh values.
        train_tracks: of the target.
        source: exported directory to start from, or None for fresh values.

    Raises:
        ConfigError: if the source is another model, or has another front end.
    """
    chunk = make_chunk_spec(model)
    shape = (1, model.num_samples)
    if train_tracks.spec.stored_form == "log_mel":
        shape = (1, chunk.num_frames, int(chunk.front_end["n_mels"]))
    fresh = binding.make_init(model)(jax.random.key(seed), jnp.zeros(shape, jnp.float32))
    if source is not None:
        variables, card = checkpoints.load_export(source)
        check_source(model, settings, card, source)
        fresh = replace_backbone(model, fresh, variables, source)
    keep = source is not None and settings.transfer.input_statistics == "source"
    if STATISTICS in fresh and not keep:
        mean, deviation = input_statistics(model, fresh, train_tracks, settings)
        fresh = set_input_statistics(fresh, mean, deviation)
    return fresh


def check_source(
    model: Tagger, settings: ml_collections.ConfigDict, card: Mapping[str, Any], path: Path
) -> None:
    """Raises when an exported model cannot be carried over to this one, naming what differs."""
    name = card["model"]["name"]
    kind = model_class(name) if name in {*MODELS, *ALIASES} else Tagger
    if not (isinstance(model, kind) or issubclass(kind, type(model))):
        raise ConfigError(
            f"The source {path} is the model {name!r}, the target's is {settings.model.name!r}: "
            f"say --config.model.name={name}, with --config.model.size=full for a published one."
        )
    ours, theirs = model.front_end, card["front_end"]
    if ours is not None and theirs is not None:
        wrong = [k for k in sorted({*ours, *theirs}) if ours.get(k) != theirs.get(k)]
        if wrong:
            listed = ", ".join(f"{k}: {theirs.get(k)} there, {ours.get(k)} here" for k in wrong)
            raise ConfigError(
                f"The source {path} was trained on another front end ({listed}): give the target's "
                "model the same settings."
            )
    elif (ours is None) != (theirs is None):
        raise ConfigError(
            f"The source {path} reads {'waveforms' if theirs is None else 'spectrograms'} and the "
            f"target's model {settings.model.name} does not: choose the same model for both."
        )


def replace_backbone(model: Tagger, fresh: PyTree, trained: PyTree, path: Path) -> PyTree:
    """Returns the fresh variables with everything but the output layer replaced.

    Args:
        model: the target's.
        fresh: its variables.
        trained: variables of the source.
        path: of the source, for the message.

    Raises:
        ConfigError: if a leaf is missing on one side or has another shape.
    """
    ours, theirs = traverse_util.flatten_dict(fresh), traverse_util.flatten_dict(trained)
    wrong = []
    for leaf in sorted({*ours, *theirs}):
        if model.is_head_path(leaf[1:]):
            continue
        shapes = [tree[leaf].shape if leaf in tree else "nothing" for tree in (theirs, ours)]
        if shapes[0] != shapes[1]:
            wrong.append(f"{'/'.join(leaf)} ({shapes[0]} there, {shapes[1]} here)")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ConfigError(
            f"The source {path} is not the same model: {'; '.join(wrong[:5])}{more}. Give the "
            "target's model the source's settings."
        )
    moved = {k: v if model.is_head_path(k[1:]) else jnp.asarray(theirs[k]) for k, v in ours.items()}
    return traverse_util.unflatten_dict(moved)


def input_statistics(
    model: Tagger, variables: PyTree, tracks: Tracks, settings: ml_collections.ConfigDict
) -> tuple[float, float]:
    """Returns mean and standard deviation of the model's spectrogram over the training tracks.

    They are taken once over consecutive chunks of every track, and stored with the model.

    Args:
        model: a model with the collection `input_statistics`.
        variables: of the model; they do not matter.
        tracks: the training tracks.
        settings: of the job.
    """
    moments = jax.jit(
        lambda inputs, mask: _moments(model.apply(variables, inputs, method="spectrogram"), mask)
    )
    scorer = SplitScorer(model, tracks, settings, None)
    total = np.zeros(3)
    for batch in scorer.batches():
        total += sharding.to_host(moments(model_inputs(batch), batch["mask"])).astype(np.float64)
    count, first, second = total
    mean = first / count
    return float(mean), float(np.sqrt(max(second / count - mean**2, 1e-12)))


def _moments(spectrogram: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns count, sum and sum of squares over the real rows of a batch."""
    weights = mask[:, None, None]
    count = mask.sum() * spectrogram[0].size
    return jnp.stack([count, (spectrogram * weights).sum(), (spectrogram**2 * weights).sum()])
