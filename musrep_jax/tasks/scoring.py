"""Outputs and scores of a model on the tracks of a split, chunk by chunk, on the accelerator."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from musrep_jax.data.datasets import Tracks
from musrep_jax.data.input import pipeline
from musrep_jax.data.specs import ChunkSpec
from musrep_jax.evaluation import decisions, metrics
from musrep_jax.evaluation.aggregation import aggregate_tracks
from musrep_jax.models import Tagger
from musrep_jax.tasks import binding
from musrep_jax.tasks.settings import make_chunk_spec
from musrep_jax.training import sharding
from musrep_jax.training.objective import Direction
from musrep_jax.types import Array, Batch, PyTree, model_inputs

SELECTABLE: dict[str, Direction] = {
    "roc_auc": "max",
    "pr_auc": "max",
    "f1_samples": "max",
    "loss": "min",
}
"""Metric of `SplitScorer.summary` -> which value of it is the best."""
_BATCHES_IN_FLIGHT = 2
"""More would wait, with their audio, in the device's memory."""


class SplitScorer:
    """Scores all tracks of a split again and again with changing parameters.

    Args:
        model: the tagger.
        tracks: the split.
        settings: of the job; its `evaluation` section says how chunks are cut and joined.
        num_chunks: per track; None is consecutive chunks.
    """

    def __init__(
        self,
        model: Tagger,
        tracks: Tracks,
        settings: ml_collections.ConfigDict,
        num_chunks: int | None,
    ) -> None:
        self.model, self.tracks = model, tracks
        self.chunk: ChunkSpec = make_chunk_spec(model)
        self.settings = settings
        self.mesh = sharding.make_mesh(settings.train.num_devices)
        self.output = binding.get_output_activation(settings.train.loss)
        self.table = pipeline.make_chunk_table(
            tracks,
            self.chunk,
            num_chunks=num_chunks,
            reaches_end=settings.evaluation.reaches_end,
            max_seconds=settings.train.max_seconds,
            tail=settings.evaluation.tail,
        )

    def batches(self) -> Iterator[Batch]:
        """Yields every chunk of the split once, in batches of one size on all devices."""
        size = self.settings.evaluation.batch_size
        rows = sharding.local_rows(size, self.mesh)
        for batch in pipeline.chunk_batches(
            self.tracks, self.chunk, self.table, batch_size=size, rows=rows, as_stored=True
        ):
            yield sharding.shard_batch(batch, self.mesh)

    def outputs(
        self,
        variables: PyTree,
        names: Sequence[str] = ("logits", "embedding"),
        reduce: Callable[[Array], Array] | None = None,
        pool: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns outputs of the model for every chunk, all in one pass over the split.

        Batches are split over the devices.

        Args:
            variables: of the model.
            names: of outputs: "logits", (chunks, classes); "embedding", (chunks, width); or any
                other of `model.output_names()`, such as "layer_3" or "attention_1".
            reduce: applied to every output on the device, (batch, ...) -> (batch, ...), so that
                only what is kept leaves it.
            pool: over time, "mean", "max" or "both", see `Encoder.outputs`.
            progress: is called with the chunks that are on their way, and all.

        Returns:
            Name -> (chunks, ...), in the order of `table`.

        Raises:
            ConfigError: if the model gives no output of a name.
        """
        forward = binding.make_forward(self.model, tuple(names), reduce, pool)
        variables = sharding.replicate(variables, self.mesh)
        size, found = self.settings.evaluation.batch_size, []
        count = len(self.table)
        for batch in self.batches():
            found.append(forward(variables, model_inputs(batch)))
            if len(found) > _BATCHES_IN_FLIGHT:
                jax.block_until_ready(found[-1 - _BATCHES_IN_FLIGHT])
            if progress is not None:
                progress(min(size * len(found), count), count)
        # A batch that the devices do not divide was padded at its end.
        found = sharding.to_host(found)
        return {
            name: np.concatenate([part[name][:size] for part in found])[:count] for name in names
        }

    def embeddings(
        self, variables: PyTree, progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        """Returns what a frozen backbone gives the output layer, float32 (chunks, width).

        Args:
            variables: of the model.
            progress: see `outputs`.
        """
        name = self.model.frozen_output
        if name == "embedding":  # by the program that `scores` has compiled
            return self.outputs(variables, progress=progress)[name]
        return self.outputs(variables, (name,), progress=progress)[name]

    def scores(self, variables: PyTree, embeddings: np.ndarray | None = None) -> np.ndarray:
        """Returns the probabilities of every track.

        Args:
            variables: of the model.
            embeddings: (chunks, width), computed before with the same backbone, to save time.

        Returns:
            float64 (tracks, classes).
        """
        if embeddings is None:
            logits = self.outputs(variables)["logits"]
        else:
            logits = sharding.to_host(binding.make_classify(self.model)(variables, embeddings))
        return aggregate_tracks(
            logits,
            self.table[:, 0],
            None,
            len(self.tracks),
            self.settings.evaluation.aggregate,
            self.output,
        )

    def summary(self, variables: PyTree, embeddings: np.ndarray | None = None) -> dict[str, Any]:
        """Returns the metrics by which a training is evaluated.

        Args:
            variables: of the model.
            embeddings: see `scores`.

        Returns:
            `loss` of the track scores, `roc_auc` and `pr_auc` over rankable labels, and
            `f1_samples`, the mean over tracks of F1 at `evaluation.threshold`.
        """
        return self.summarize(self.tracks.label_matrix, self.scores(variables, embeddings))

    def summarize(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        """Returns the metrics of any tracks, see `summary`.

        Args:
            labels: (tracks, classes), 0 or 1.
            scores: (tracks, classes), probabilities.
        """
        used = metrics.is_evaluable(labels > 0)
        guesses = decisions.predict(scores, self.settings.evaluation.threshold)
        return {
            "loss": self.loss_of(labels, scores),
            "roc_auc": metrics.average_selected(metrics.roc_auc(labels, scores), used),
            "pr_auc": metrics.average_selected(metrics.average_precision(labels, scores), used),
            "f1_samples": decisions.f1_scores(labels, guesses)["samples"],
        }

    def summarize_track(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        """Returns the metrics of one track that are means over tracks: `loss`, `f1_samples`.

        Args:
            labels: (classes,), 0 or 1.
            scores: (classes,), probabilities.
        """
        guesses = decisions.predict(scores[None], self.settings.evaluation.threshold)
        f1 = decisions.f1_scores(labels[None], guesses)["samples"]
        return {"loss": self.loss_of(labels[None], scores[None]), "f1_samples": float(f1)}

    def loss_of(self, labels: np.ndarray, scores: np.ndarray) -> float:
        """Returns the mean loss of track scores, per label or, of exclusive classes, per track."""
        clipped = np.clip(scores, 1e-7, 1 - 1e-7)
        losses = -labels * np.log(clipped)
        if self.output == "softmax":
            return float(losses.sum(axis=1).mean())
        return float((losses - (1 - labels) * np.log1p(-clipped)).mean())
