"""Windows of tracks in an embedding, and sums over the frames of tracks."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import ml_collections
import numpy as np

from musrep_jax.data.datasets import Tracks
from musrep_jax.data.input import pipeline
from musrep_jax.models.joint_embedding import LogMelWindows, find_heard
from musrep_jax.runtime.progress import Progress
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.training import sharding
from musrep_jax.types import Array, PyTree, model_inputs


@dataclasses.dataclass(frozen=True)
class FrameSums:
    """Sums over the frames of tracks that are not silent.

    Attributes:
        sums: float64 (tracks, bands), of log-mel values.
        squares: float64 (bands,), of their squares, over all tracks.
        counts: float64 (tracks,), frames.
    """

    sums: np.ndarray
    squares: np.ndarray
    counts: np.ndarray

    def moments(self) -> np.ndarray:
        """Returns mean and mean square of every band over all frames, float64 (2, bands)."""
        return np.stack([self.sums.sum(axis=0), self.squares]) / max(self.counts.sum(), 1)

    def means(self, silent: np.ndarray) -> np.ndarray:
        """Returns the mean frame of each track, float64 (tracks, bands).

        Args:
            silent: (bands,), what stands for that of a silent track.
        """
        counts = np.maximum(self.counts, 1)[:, None]
        return np.where(self.counts[:, None] > 0, self.sums / counts, silent)


def make_scorer(
    model: LogMelWindows, tracks: Tracks, settings: ml_collections.ConfigDict
) -> SplitScorer:
    """Returns what passes over the windows of tracks, which follow one another frame by frame.

    Args:
        model: with or without an embedding.
        tracks: of a split.
        settings: of the job.
    """
    scorer = SplitScorer(model, tracks, settings, None)
    step = model.chunking.length - model.chunking.overlap
    scorer.table = pipeline.make_chunk_table(
        tracks,
        scorer.chunk,
        hop_seconds=step / model.sample_rate,
        max_seconds=settings.train.max_seconds,
        tail=settings.evaluation.tail,
    )
    return scorer


@functools.lru_cache(maxsize=16)
def _make_measure(model: LogMelWindows) -> Callable[[Array, Array], tuple[Array, Array, Array]]:
    """Returns the compiled function (inputs, mask) -> sums, squares, counts, one row a window."""

    def measure(inputs: Array, mask: Array) -> tuple[Array, Array, Array]:
        frames = model.apply({}, inputs, method="spectrogram")
        weights = (find_heard(frames) * mask[:, None])[..., None]
        sums, squares = (frames * weights).sum(axis=1), (frames**2 * weights).sum(axis=1)
        return sums, squares, weights.sum(axis=(1, 2))

    return jax.jit(measure)


def measure_frames(
    model: LogMelWindows, tracks: Tracks, settings: ml_collections.ConfigDict
) -> FrameSums:
    """Returns sums over the frames of tracks, which do not depend on what a model has learned.

    Args:
        model: whose spectrogram is taken.
        tracks: of a split.
        settings: of the job.
    """
    scorer, measure = make_scorer(model, tracks, settings), _make_measure(model)
    sums = np.zeros((len(tracks), model.n_mels))
    squares, counts = np.zeros(model.n_mels), np.zeros(len(tracks))
    progress = Progress(f"frames of {tracks.spec.name}, {tracks.split}", unit="chunks")
    done = 0
    for batch in scorer.batches():
        found = sharding.to_host((*measure(model_inputs(batch), batch["mask"]), batch["mask"]))
        per_window, square, count, mask = (np.asarray(part, np.float64) for part in found)
        owner = sharding.to_host(batch["track_index"])
        np.add.at(sums, owner, per_window)
        np.add.at(counts, owner, count)
        squares += square.sum(axis=0)
        done += int(mask.sum())
        progress(done, len(scorer.table))
    progress.close()
    return FrameSums(sums, squares, counts)


def embed_windows(
    model: LogMelWindows, variables: PyTree, tracks: Tracks, settings: ml_collections.ConfigDict
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the windows of tracks, float32 (windows, width), and the track of each, (windows,).

    Args:
        model: with or without an embedding.
        variables: of the model.
        tracks: of a split.
        settings: of the job.
    """
    scorer = make_scorer(model, tracks, settings)
    progress = Progress(f"embedding {tracks.spec.name}, {tracks.split}", unit="chunks")
    found = scorer.outputs(variables, ("embedding",), progress=progress)["embedding"]
    progress.close()
    return found, scorer.table[:, 0]
