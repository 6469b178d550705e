"""What trains an embedding: frames of several data sets in turn, WARP, and norms that are kept."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.datasets import Dataset, Tracks
from musrep_jax.data.input import pipeline
from musrep_jax.data.input.samplers import EpochOrder, InTurn
from musrep_jax.losses import warp_loss
from musrep_jax.models.joint_embedding import JointEmbedding, find_heard
from musrep_jax.tasks import binding
from musrep_jax.tasks.jobs import Job, slugify_name, strip_parents
from musrep_jax.tasks.joint_embedding.windows import FrameSums, measure_frames
from musrep_jax.tasks.settings import make_chunk_spec
from musrep_jax.training import sharding
from musrep_jax.training.objective import Objective, UpdateState
from musrep_jax.training.projection import limit_norms
from musrep_jax.types import Array, Batch, LossFn, PyTree, TrainState, model_inputs

ENCODER, LABELS = "encoder", "labels"
"""Subtrees of the parameters: the network, and the vectors of each data set's labels."""
_MIN_VARIANCE, _NO_FEATURE = 1e-3, 1e30
"""A band that varies less is constant, and is divided by so much that it becomes 0."""


@dataclasses.dataclass(frozen=True)
class SourceSet:
    """One of the data sets that an embedding is trained on.

    Attributes:
        name: as in the config.
        dataset: opened.
        train: tracks that are trained on.
        validation: tracks that choose the weights, and their frames.
        frames: of the training tracks.
    """

    name: str
    dataset: Dataset
    train: Tracks
    validation: tuple[Tracks, FrameSums]
    frames: FrameSums

    @property
    def key(self) -> str:
        """Its name in the parameters and in batches."""
        return slugify_name(self.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingObjective(Objective):
    """An embedding and its data sets, as training sees them.

    Attributes:
        model: the embedding.
        sets: data sets in the order of their turns.
    """

    model: JointEmbedding
    sets: tuple[SourceSet, ...]


def make_objective(
    job: Job,
    model: JointEmbedding,
    opened: Sequence[tuple[str, Dataset, Mapping[str, Tracks]]],
    settings: ml_collections.ConfigDict,
) -> EmbeddingObjective:
    """Returns the objective of a training job.

    Args:
        job: the job.
        model: the embedding, without output layer.
        opened: name, data set, and its tracks by split, for each.
        settings: of the job.

    Raises:
        ConfigError: if two data sets have the same name, or one has fewer than two labels.
    """
    sets = []
    for name, dataset, tracks in opened:
        if len(tracks["train"].spec.label_names) < 2:
            raise ConfigError(
                f"{strip_parents(name)} has fewer than two labels to tell apart; choose others "
                "with joint_embedding.labels, or leave it out."
            )
        for split in ("train", "validation"):
            if not len(tracks[split]):
                raise ConfigError(
                    f"No {split} track of {strip_parents(name)} has one of its labels; choose "
                    "others with joint_embedding.labels, or leave it out."
                )
        validation = tracks["validation"], measure_frames(model, tracks["validation"], settings)
        frames = measure_frames(model, tracks["train"], settings)
        sets.append(SourceSet(name, dataset, tracks["train"], validation, frames))
    keys = [one.key for one in sets]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"Two data sets have the same name {sorted(keys)[0]!r}; rename a folder.")
    own = settings.joint_embedding
    variables = draw_variables(model, sets, job.seed, own.max_norm)
    chunk = dataclasses.replace(make_chunk_spec(model), num_samples=model.n_fft)  # one frame
    size = settings.train.batch_size
    share = sharding.row_share(sharding.make_mesh(settings.train.num_devices))
    sampler = InTurn(
        {
            one.key: EpochOrder(len(one.train), size, seed=job.seed + place)
            for place, one in enumerate(sets)
        }
    )
    # Frames of one track after the other would be alike: a batch has one frame of each track.
    tracks = {one.key: one.train for one in sets}

    def batches(start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
        return pipeline.crop_batches(
            tracks, chunk, sampler, seed=job.seed, start_step=start_step,
            num_workers=settings.data.num_workers, rows=share, as_stored=True,
        )  # fmt: skip

    def evaluate(state: TrainState) -> Mapping[str, float]:
        found = sharding.to_host({"params": state.params, **state.model_state})
        return summarize_errors(found, {one.key: one.validation for one in sets})

    return EmbeddingObjective(
        variables=variables,
        loss_fn=make_loss(model, own.scheme),
        batches=batches,
        evaluate=evaluate,
        select_by=("error", "min"),
        steps_per_epoch=max(1, sum(len(one.train) for one in sets) // size),
        is_trainable=is_trained,
        update_state=make_projection(own.max_norm),
        model=model,
        sets=tuple(sets),
    )


def is_trained(path: tuple[str, ...]) -> bool:
    """Returns whether a parameter is trained: the embedding and the vectors of labels.

    Args:
        path: of the parameter.
    """
    return path[0] == LABELS or path[1] == "projection"


@functools.lru_cache(maxsize=64)
def make_loss(model: JointEmbedding, scheme: str) -> LossFn:
    """Returns WARP on the frames of the data set whose turn it is; equal arguments share it.

    Args:
        model: the embedding.
        scheme: a key of `musrep_jax.losses.WARP_SCHEMES`.
    """

    def loss_fn(
        params: PyTree, model_state: PyTree, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        ((name, stream),) = batch.items()
        variables = {
            "params": params[ENCODER],
            **{collection: trees[ENCODER] for collection, trees in model_state.items()},
        }
        features = model.apply(variables, model_inputs(stream), train=False, method="features")
        frames = model.apply(variables, features, train=False, method="embed_frames")
        scores = frames @ params[LABELS][name].T  # (batch, frames, labels)
        mask = stream["mask"][:, None] * find_heard(features)
        labels = jnp.broadcast_to(stream["labels"][:, None], scores.shape)
        flat = (scores.reshape(-1, scores.shape[-1]), labels.reshape(-1, scores.shape[-1]))
        return warp_loss(*flat, key, mask.reshape(-1), scheme), (model_state, {})

    return loss_fn


@functools.lru_cache(maxsize=64)
def make_projection(max_norm: float) -> UpdateState:
    """Returns what follows every update: long columns of V and W are shortened.

    Args:
        max_norm: of a column, C in WSABIE.
    """

    def update_state(state: TrainState, batch: Batch, key: Array) -> TrainState:
        return state.replace(params=_limit_params(state.params, max_norm))

    return update_state


def _limit_params(params: PyTree, max_norm: float) -> PyTree:
    """Returns the parameters with no row of the embedding's kernel or of labels above a norm."""
    encoder = params[ENCODER]
    projection = {"kernel": limit_norms(encoder["projection"]["kernel"], max_norm)}
    labels = {name: limit_norms(rows, max_norm) for name, rows in params[LABELS].items()}
    return {**params, ENCODER: {**encoder, "projection": projection}, LABELS: labels}


def draw_variables(
    model: JointEmbedding, sets: Sequence[SourceSet], seed: int, max_norm: float
) -> dict[str, Any]:
    """Returns initial variables: normal values of deviation 1 / sqrt(bands), and the statistics.

    Frames are standardized by the training tracks; every data set counts alike, however large.

    Args:
        model: the embedding.
        sets: data sets.
        seed: of the values.
        max_norm: see `make_projection`.

    Source: WSABIE (IJCAI 2011), section 5, of the values.
    """
    random = np.random.default_rng(seed)
    audio = jnp.zeros((1, model.n_fft))
    fresh = jax.device_get(binding.make_init(model)(jax.random.key(seed), audio))
    moments = np.mean([one.frames.moments() for one in sets], axis=0)
    variance = moments[1] - moments[0] ** 2
    norm = {
        "mean": moments[0].astype(np.float32),
        "var": np.where(variance > _MIN_VARIANCE, variance, _NO_FEATURE).astype(np.float32),
    }

    def draw(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / np.sqrt(model.n_mels)).astype(np.float32)

    encoder = {**fresh["params"], "projection": {"kernel": draw(model.n_mels, model.width)}}
    labels = {one.key: draw(one.train.label_matrix.shape[1], model.width) for one in sets}
    params = _limit_params({ENCODER: encoder, LABELS: labels}, max_norm)
    return jax.device_get({"params": params, "batch_stats": {ENCODER: {"norm": norm}}})


def summarize_errors(
    variables: PyTree, tracks: Mapping[str, tuple[Tracks, FrameSums]]
) -> dict[str, float]:
    """Returns the share of tracks whose best label is not one of theirs.

    The scores of a track are the means over its frames: as the embedding is linear, they are those
    of its mean frame.

    Args:
        variables: of an objective.
        tracks: name of a data set -> its tracks and their frames; unlabeled tracks do not count.

    Returns:
        `error`, the mean over data sets, and `error_NAME` of each.
    """
    norm = variables["batch_stats"][ENCODER]["norm"]
    kernel = variables["params"][ENCODER]["projection"]["kernel"]
    found = {}
    for name, (some, frames) in tracks.items():
        frame = (frames.means(norm["mean"]) - norm["mean"]) / np.sqrt(norm["var"])
        scores = frame @ kernel @ variables["params"][LABELS][name].T
        held = some.label_matrix > 0
        is_right = held[np.arange(len(held)), scores.argmax(axis=1)]
        found[f"error_{name}"] = float(1 - is_right[held.any(axis=1)].mean())
    return {"error": float(np.mean(list(found.values()))), **found}
