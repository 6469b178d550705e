"""Chains of random operations on a batch of waveforms, by name.

An operation is a function `(key, audio (samples,)) -> audio (samples,)` that draws its parameters.
It is applied to an example with a probability. Cheap operations are computed for every example and
chosen afterwards, each example by itself. Costly ones are computed only where they are wanted: of
every 16 neighboring examples as many are drawn as the probability says (where that is no whole
number, one more or less, drawn too), so that each example is chosen with exactly that probability
and no batch has none or all of one kind. What happens to an example depends on the key and its row
in the batch alone: neither on how many devices there are nor on what padding follows it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.dsp.augment.operations import OPERATIONS, RandomOp
from musrep_jax.types import Array

Augment = Callable[[Array, Array], Array]
"""`(key, audio (batch, samples)) -> audio (batch, samples)`."""

GROUP = 16
"""Neighboring examples among which those of a costly operation are drawn."""

NONE = "none"


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation of a chain.

    Attributes:
        name: a key of `OPERATIONS`.
        probability: that it is applied to an example.
        ranges: parameter -> (low, high), or a sequence of values to draw from, see `OPERATIONS`;
            what is not named has the default.
    """

    name: str
    probability: float
    ranges: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)


CHAINS: Mapping[str, tuple[Step, ...]] = {
    "published": (
        Step("polarity", 0.8),
        Step("noise", 0.3),
        Step("gain", 0.2),
        Step("filter", 0.8),
        Step("delay", 0.5),
        Step("pitch_shift", 0.4),
        Step("reverb", 0.3),
    ),
    "thesis": (
        Step("polarity", 0.7),
        Step("noise", 0.3),
        Step("gain", 0.3),
        Step("filter", 0.7, {"high_pass": (2200, 4000), "low_pass": (200, 1200)}),
        Step("delay", 0.7),
        Step("pitch_shift", 0.3),
        Step("reverb", 0.3),
    ),
}
"""Chains by name. `published` has the probabilities and ranges of the public code, `thesis` those
of the text: each probability .3 or .7, without saying which is whose (here the one nearer to the
code, and .7 for the delay), and the two filters' ranges exchanged.

Source: minzwon/semi-supervised-music-tagging-transformer; Won's thesis (UPF 2021), 4.3.
"""


def make_augment(
    name: str | None, sample_rate: int, responses: np.ndarray | None = None
) -> Augment | None:
    """Returns the augmentation of a name, or None for none.

    Args:
        name: of a chain, or of operations, separated by commas, each with its probability in
            `published` or 0.5 and its default ranges, in the order in which they are applied;
            "none", "" or None is no augmentation.
        sample_rate: of the waveforms, in Hz.
        responses: impulse responses float32 (responses, samples) at that rate, of which the
            operation `room` draws one for each example.

    Returns:
        `(key, audio (batch, samples)) -> audio`, to be compiled within a train step.

    Raises:
        ValueError: one sentence, if there is no such chain or operation, or if `room` lacks
            responses.
    """
    steps = parse_chain(name)
    if not steps:
        return None
    stages = []
    for index, step in enumerate(steps):
        operation = OPERATIONS[step.name]
        draw = operation.make(sample_rate, {**operation.ranges, **step.ranges}, responses)
        apply = _apply_to_drawn if operation.is_costly else _apply_by_chance
        stages.append((index, functools.partial(apply, draw, step.probability)))

    def augment(key: Array, audio: Array) -> Array:
        for index, stage in stages:
            audio = stage(jax.random.fold_in(key, index), audio)
        return audio

    return augment


def parse_chain(name: str | None) -> tuple[Step, ...]:
    """Returns the steps of a chain's name or of names of operations, see `make_augment`.

    Raises:
        ValueError: one sentence, if there is no such chain or operation.
    """
    name = name or NONE
    if name in CHAINS:
        return CHAINS[name]
    words = [word.strip() for word in name.split(",") if word.strip()]
    if words in ([], [NONE]):
        return ()
    if wrong := [word for word in words if word not in OPERATIONS]:
        raise ValueError(
            f"There is no augmentation {wrong[0]!r}: name one chain of {', '.join(CHAINS)}, or "
            f"operations of {', '.join(OPERATIONS)}, separated by commas, or {NONE!r}."
        )
    usual = {step.name: step.probability for step in CHAINS["published"]}
    return tuple(Step(word, usual.get(word, 0.5)) for word in words)


def _apply_by_chance(draw: RandomOp, probability: float, key: Array, audio: Array) -> Array:
    """Returns the batch with an operation on each example that chance chooses."""

    def apply(key: Array, audio: Array) -> Array:
        chance, own = jax.random.split(key)
        return jnp.where(jax.random.uniform(chance) < probability, draw(own, audio), audio)

    return jax.vmap(apply)(_row_keys(key, len(audio)), audio)


def _apply_to_drawn(draw: RandomOp, probability: float, key: Array, audio: Array) -> Array:
    """Returns the batch with an operation on the examples that are drawn in each group.

    The last group is filled up with absent examples, which take part in the drawing: who is drawn
    does not depend on how many there are.
    """
    batch, num_samples = audio.shape
    num_groups = -(-batch // GROUP)
    missing = num_groups * GROUP - batch
    is_there = np.arange(num_groups * GROUP).reshape(num_groups, GROUP) < batch
    group_key, row_key = jax.random.split(key)
    most = min(math.ceil(probability * GROUP), batch)

    def draw_rows(key: Array, is_there: Array) -> tuple[Array, Array, Array]:
        """Returns the rows to compute, (most,), where each is among them, and which are wanted."""
        first, second = jax.random.split(key)
        chance = jax.random.uniform(first, (GROUP,))
        count = jnp.floor(probability * GROUP + jax.random.uniform(second))
        is_drawn = jnp.argsort(jnp.argsort(chance)) < count
        order = jnp.argsort(jnp.where(is_there, chance, jnp.inf))
        return order[:most], jnp.minimum(jnp.argsort(order), most - 1), is_drawn & is_there

    rows, ranks, is_drawn = jax.vmap(draw_rows)(
        _row_keys(group_key, num_groups), jnp.asarray(is_there)
    )
    groups = jnp.pad(audio, ((0, missing), (0, 0))) if missing else audio
    groups = groups.reshape(num_groups, GROUP, num_samples)
    keys = _row_keys(row_key, num_groups * GROUP).reshape(num_groups, GROUP)
    take = jax.vmap(lambda examples, rows: examples[rows])
    changed = jax.vmap(jax.vmap(draw))(take(keys, rows), take(groups, rows))
    groups = jnp.where(is_drawn[:, :, None], take(changed, ranks), groups)
    return groups.reshape(-1, num_samples)[:batch]


def _row_keys(key: Array, num_rows: int) -> Array:
    """Returns a key for each row, which depends on its number alone."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(num_rows))
