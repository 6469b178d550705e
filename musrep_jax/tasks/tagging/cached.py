"""Batches of embeddings that a frozen backbone computed once."""

import itertools
from collections.abc import Callable, Iterator, Mapping

import ml_collections
import numpy as np

from musrep_jax.data.datasets import Tracks
from musrep_jax.data.input.pipeline import wrap_rows
from musrep_jax.data.input.samplers import draw_tracks
from musrep_jax.models import Tagger
from musrep_jax.tasks.embedding_cache import embed_once
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.training import sharding
from musrep_jax.types import PyTree


def cached_batches(
    model: Tagger,
    tracks: Tracks,
    settings: ml_collections.ConfigDict,
    variables: PyTree,
    seed: int,
) -> Callable[[int], Iterator[Mapping[str, np.ndarray]]]:
    """Returns batches of embeddings that are computed once, see `embed_once`.

    An epoch takes one chunk of every track, drawn from its consecutive chunks: what a random crop
    is to a waveform. Batch i is a function of the seed and i only.

    Args:
        model: the tagger.
        tracks: training tracks.
        settings: of the job.
        variables: of the frozen backbone.
        seed: of the order and the choice of chunks.

    Returns:
        start step -> iterator of batches with `embedding`, `labels` and `mask`.
    """
    scorer = SplitScorer(model, tracks, settings, None)
    embeddings = embed_once(scorer, variables)
    owner = scorer.table[:, 0]
    first = np.searchsorted(owner, np.arange(len(tracks)))
    counts = np.bincount(owner, minlength=len(tracks))
    labels = tracks.label_matrix
    size = settings.train.batch_size
    taken, mask = wrap_rows(sharding.local_rows(size, scorer.mesh), size)

    def batches(start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
        for step in itertools.count(start_step):
            owners = draw_tracks(step, size, len(tracks), seed)
            chosen = np.random.default_rng((seed, step, size)).random(size)
            rows = first[owners] + (chosen * counts[owners]).astype(int)
            yield {
                "embedding": embeddings[rows[taken]],
                "labels": labels[owners[taken]],
                "mask": mask,
            }

    return batches
