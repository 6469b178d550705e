"""Whether a map shows what a tagger's answer rests on: deletion and insertion curves.

The parts of a recording are silenced in the order of the map, the most important first, or filled
in, and the probability of the tag is followed. A map that is right lowers it sooner, or raises it
sooner, than a random order does.

Source: Petsiuk, Das, Saenko, "RISE: randomized input sampling for explanation of black-box models",
BMVC 2018 (deletion and insertion).
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.evaluation.aggregation import probabilities
from musrep_jax.inference.chunks import check_not_silent, cut, find_silent_chunks, prepare
from musrep_jax.inference.explanation import Explanation, find_columns
from musrep_jax.inference.tagger import LoadedTagger
from musrep_jax.types import Array, PyTree

NUM_PARTS = 16
"""Equal parts of a chunk that are silenced or filled in one by one."""
NUM_RANDOM = 5
"""Random orders beside the map's."""

ExplainTag = Callable[[np.ndarray, int, Sequence[str]], Explanation]
"""`(audio, sample_rate, tags) -> map`, such as `tagger.occlusion`."""


@dataclasses.dataclass(frozen=True)
class Curves:
    """How the probability of a tag falls and rises in one recording.

    Attributes:
        tag: the most probable of those asked for.
        deletion: float64 (parts + 1,), silenced in the order of the map; the first is the whole.
        insertion: float64 (parts + 1,), filled in; the first is silence.
        random_deletion: float64 (orders, parts + 1).
        random_insertion: float64 (orders, parts + 1).
    """

    tag: str
    deletion: np.ndarray
    insertion: np.ndarray
    random_deletion: np.ndarray
    random_insertion: np.ndarray

    @property
    def deletion_gain(self) -> float:
        """How much lower the mean probability is than with random orders; above 0 is faithful."""
        return float(self.random_deletion.mean() - self.deletion.mean())

    @property
    def insertion_gain(self) -> float:
        """How much higher the mean probability is than with random orders."""
        return float(self.insertion.mean() - self.random_insertion.mean())


def rank_parts(explanation: Explanation, seconds: float, num_parts: int) -> np.ndarray:
    """Returns equal parts of a chunk, the most important first.

    Args:
        explanation: of one tag, whose first map is read.
        seconds: length of the chunk.
        num_parts: that it is cut into.

    Returns:
        int (num_parts,), numbers of parts; those without a column are last.
    """
    values, spans = explanation.over_time()[0], explanation.spans
    edges = np.linspace(0, seconds, num_parts + 1)
    shared = np.minimum(spans[None, :, 1], edges[1:, None]) - np.maximum(
        spans[None, :, 0], edges[:-1, None]
    )
    shared = np.maximum(shared, 0)
    if explanation.method in ("contribution", "occlusion", "attention"):  # a value for all of it
        weights = np.maximum(shared.sum(axis=1), 1e-12)
    else:  # values that sum: a column gives each part its share
        shared, weights = shared / np.maximum(spans[:, 1] - spans[:, 0], 1e-12), 1.0
    importance = np.where(shared.any(axis=1), shared @ values / weights, -np.inf)
    return np.argsort(-importance, kind="stable")


def measure_faithfulness(
    tagger: LoadedTagger,
    audio: np.ndarray,
    sample_rate: int,
    explain: ExplainTag,
    *,
    tags: Sequence[str] = (),
    seed: int = 0,
    num_parts: int = NUM_PARTS,
    num_random: int = NUM_RANDOM,
) -> Curves:
    """Returns deletion and insertion curves of the first chunk of a recording.

    Args:
        tagger: the tagger.
        audio: (samples,), mono, float in [-1, 1].
        sample_rate: of the audio, in Hz.
        explain: how the map is made.
        tags: of the labels, of which the most probable is followed; empty for all of them.
        seed: of the random orders.
        num_parts: of the chunk.
        num_random: random orders.

    Raises:
        AudioInputError: if the audio is empty, not mono, not finite, or its first chunk silent.
        BackboneError: if the model has no output layer.
        ExplanationError: if there is no such label.
    """
    tagger.check_head()
    columns = find_columns(tagger.labels, tags or tagger.labels)
    waveform = prepare(audio, sample_rate, tagger.sample_rate)
    chunks, _ = cut(waveform, tagger.chunking, 0.0)
    chunk = chunks[0]
    check_not_silent(find_silent_chunks(chunks[:1]))
    rate, length = tagger.sample_rate, len(chunk)

    def forward(bound: tuple[PyTree, Array], inputs: Array) -> Array:
        variables, masks = bound
        part = -(-length // num_parts)

        def apply(mask: Array) -> Array:
            heard = inputs * jnp.repeat(mask, part)[None, :length]
            return tagger.model.apply(variables, heard, train=False).logits

        return jax.lax.map(apply, masks).swapaxes(0, 1)

    whole = probabilities(
        np.stack([logits for logits, _ in tagger.run_chunks([chunk])]), tagger.output
    )[0]
    column = max(columns, key=lambda column: whole[column])
    tag = tagger.labels[column]
    order = rank_parts(explain(chunk, rate, [tag]), length / rate, num_parts)
    generator = np.random.default_rng(seed)
    orders = [order, *(generator.permutation(num_parts) for _ in range(num_random))]
    # Of each order, the masks of deletion; those of insertion are their complements.
    keeps = np.ones((len(orders), num_parts + 1, num_parts), np.float32)
    for row, one in enumerate(orders):
        for count in range(num_parts):
            keeps[row, count + 1 :, one[count]] = 0.0
    masks = np.concatenate([keeps, 1 - keeps]).reshape(-1, num_parts)
    bound = (tagger.variables, jnp.asarray(masks))
    (logits,) = tagger.run_program(
        f"faithfulness {num_parts} {len(masks)}", forward, [chunk], bound
    )
    found = probabilities(logits, tagger.output)[:, column].reshape(2, len(orders), num_parts + 1)
    deletion, insertion = found
    return Curves(tag, deletion[0], insertion[0], deletion[1:], insertion[1:])
