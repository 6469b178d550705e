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
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.dsp.augment.operations import OPERATIONS, Drawn, to_uniform
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
    return compose(steps, sample_rate, responses) if steps else None


def compose(
    steps: Sequence[Step], sample_rate: int, responses: np.ndarray | None = None
) -> Augment:
    """Returns the augmentation of steps, see `make_augment`.

    Args:
        steps: one after the other.
        sample_rate: of the waveforms, in Hz.
        responses: see `make_augment`.
    """
    operations = [OPERATIONS[step.name] for step in steps]
    applied = [
        operation.make(sample_rate, {**operation.ranges, **step.ranges}, responses)
        for operation, step in zip(operations, steps, strict=True)
    ]

    def augment(key: Array, audio: Array) -> Array:
        # Everything random at once: compiling a generator takes longer than running it.
        group_key, row_key = jax.random.split(key)
        num_draws = [1 + operation.num_draws for operation in operations]
        of_rows = _draw_bits(row_key, len(audio), sum(num_draws))
        bits = jnp.split(of_rows, np.cumsum(num_draws)[:-1], axis=1)
        of_groups = to_uniform(
            _draw_bits(group_key, -(-len(audio) // GROUP), len(steps) * (GROUP + 1))
        )
        chances = jnp.split(of_groups, len(steps), axis=1)
        for index, (step, operation) in enumerate(zip(steps, operations, strict=True)):
            draws, apply = bits[index], applied[index]
            if operation.is_costly:
                audio = _apply_to_drawn(
                    apply, step.probability, chances[index], draws[:, 1:], audio
                )
            else:
                is_wanted = to_uniform(draws[:, :1]) < step.probability
                audio = jnp.where(is_wanted, jax.vmap(apply)(draws[:, 1:], audio), audio)
        return audio

    return augment


AUGMENT_WORDS = (
    f"one of {', '.join(CHAINS)}, or operations of {', '.join(OPERATIONS)} separated by commas, or "
    f"{NONE}"
)
"""What `make_augment` takes, in words."""


def is_chain(name: object) -> bool:
    """Returns whether a value is the name of a chain, names of operations, or `NONE`."""
    try:
        return isinstance(name, str) and (name == NONE or bool(parse_chain(name)))
    except ValueError:
        return False


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
        raise ValueError(f"There is no augmentation {wrong[0]!r}: name {AUGMENT_WORDS}.")
    usual = {step.name: step.probability for step in CHAINS["published"]}
    return tuple(Step(word, usual.get(word, 0.5)) for word in words)


def _apply_to_drawn(
    apply: Drawn, probability: float, chances: Array, bits: Array, audio: Array
) -> Array:
    """Returns the batch with an operation on the examples that are drawn in each group.

    The last group is filled up with absent examples, which take part in the drawing: who is drawn
    does not depend on how many there are.

    Args:
        apply: the operation.
        probability: of each example.
        chances: float32 (groups, `GROUP` + 1), uniform in [0, 1): of each example, and of how many
            are drawn.
        bits: uint32 (batch, draws), of the operation's parameters.
        audio: float32 (batch, samples).
    """
    batch, num_groups = len(audio), len(chances)
    most = min(math.ceil(probability * GROUP), batch)

    def draw_rows(chances: Array, is_there: Array) -> tuple[Array, Array, Array]:
        """Returns the rows to compute, (most,), where each is among them, and which are wanted."""
        count = jnp.floor(probability * GROUP + chances[GROUP])
        is_drawn = jnp.argsort(jnp.argsort(chances[:GROUP])) < count
        order = jnp.argsort(jnp.where(is_there, chances[:GROUP], jnp.inf))
        return order[:most], jnp.minimum(jnp.argsort(order), most - 1), is_drawn & is_there

    is_there = np.arange(num_groups * GROUP).reshape(num_groups, GROUP) < batch
    rows, ranks, is_drawn = jax.vmap(draw_rows)(chances, jnp.asarray(is_there))
    take = jax.vmap(lambda examples, rows: examples[rows])
    groups = _group(audio, num_groups)
    changed = jax.vmap(jax.vmap(apply))(take(_group(bits, num_groups), rows), take(groups, rows))
    groups = jnp.where(is_drawn[:, :, None], take(changed, ranks), groups)
    return groups.reshape(-1, audio.shape[1])[:batch]


def _group(array: Array, num_groups: int) -> Array:
    """Returns (batch, width) as (groups, `GROUP`, width), filled up with zeros."""
    if missing := num_groups * GROUP - len(array):
        array = jnp.pad(array, ((0, missing), (0, 0)))
    return array.reshape(num_groups, GROUP, array.shape[1])


def _draw_bits(key: Array, num_rows: int, num_draws: int) -> Array:
    """Returns uint32 (rows, draws); a row depends on its number alone."""

    def draw(row: Array) -> Array:
        return jax.random.bits(jax.random.fold_in(key, row), (num_draws,))

    return jax.vmap(draw)(jnp.arange(num_rows))
