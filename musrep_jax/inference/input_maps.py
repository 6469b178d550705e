"""Maps that any tagger answers: occlusion, and integrated gradients.

Source: Zeiler, Fergus, "Visualizing and understanding convolutional networks", ECCV 2014
(occlusion); Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", ICML 2017
(integrated gradients and their completeness).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.dsp.spectrogram import to_hertz
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.inference.explanation import (
    Explanation,
    ExplanationError,
    cut_recording,
    find_columns,
    frame_grid,
    get_log_mel,
    join_columns,
    reads_log_mel,
)
from musrep_jax.types import Array, PyTree

FADE_SECONDS = 0.01
"""At both ends of what is silenced, so that nothing clicks."""
COLUMN_SECONDS = 0.02
"""Of a gradient map of a model that reads waveforms."""
QUIETEST = 1e-5
"""Factor of a waveform where its path of gradients starts: 100 dB below."""
FIRST_STEPS, MOST_STEPS = 32, 512
TOLERANCE = 0.02
"""Of the logit difference: a path is cut finer until the sum of the map is as close."""
_SMALL_DIFFERENCE = 0.5


def explain_by_occlusion(
    tagger: LoadedEncoder,
    audio: np.ndarray,
    sample_rate: int,
    tags: Sequence[str],
    seconds: float = 0.5,
) -> Explanation:
    """Returns what each tag's logit loses when a part of the recording is silenced.

    Args:
        tagger: a tagger.
        audio: (samples,), mono, float in [-1, 1].
        sample_rate: of the audio, in Hz.
        tags: of its labels.
        seconds: length of what is silenced at once; a chunk is at least four of them.

    Raises:
        AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
        ExplanationError: if there is no such label, or no such length.
    """
    columns = find_columns(tagger.labels, tags)
    if not 0 < seconds < np.inf:
        raise ExplanationError(f"What is silenced at once is {seconds} s; it must be above 0.")
    rate, length = tagger.sample_rate, tagger.num_samples
    width = int(np.ceil(length / max(4, round(length / (seconds * rate)))))
    count = -(-length // width)
    fade = max(1, round(FADE_SECONDS * rate))

    def forward(variables: PyTree, inputs: Array) -> Array:
        def apply(audio: Array) -> Array:
            return tagger.model.apply(variables, audio, train=False).logits

        places = jnp.arange(length)

        def hide(number: Array) -> Array:
            outside = jnp.maximum(number * width - places, places - (number + 1) * width + 1)
            return apply(inputs * jnp.clip(outside / fade, 0, 1)[None])

        hidden = jax.lax.map(hide, jnp.arange(count))
        return (apply(inputs)[None] - hidden).transpose(1, 2, 0)

    chunks, starts, own = cut_recording(tagger, audio, sample_rate)
    rows = tagger.run_program(f"occlusion {width}", forward, chunks)
    maps = [row[columns] for row in rows]
    spans, values = join_columns(maps, starts, own, 0.0, float(width), rate)
    return Explanation("occlusion", tuple(tags), spans, values, own / rate)


def explain_by_gradients(
    tagger: LoadedEncoder, audio: np.ndarray, sample_rate: int, tags: Sequence[str]
) -> Explanation:
    """Returns each tag's logit, minus that of silence, shared out over the input.

    Of a model that reads a log-mel spectrogram the path goes from silence to the spectrogram, in a
    straight line on its level, and the map has time and frequency. Of a model that reads a waveform
    it goes from 100 dB below to the waveform, evenly in dB, and the map has time alone. The path is
    cut finer until the sum is within `TOLERANCE`; `error` is what is left.

    Args:
        tagger: a tagger.
        audio: (samples,), mono, float in [-1, 1].
        sample_rate: of the audio, in Hz.
        tags: of its labels.

    Raises:
        AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
        ExplanationError: if there is no such label.
    """
    columns = find_columns(tagger.labels, tags)
    has_frequency, rate = reads_log_mel(tagger), tagger.sample_rate
    chunks, starts, own = cut_recording(tagger, audio, sample_rate)
    attribute = _attribute_log_mel if has_frequency else _attribute_waveform

    def forward(bound: tuple[PyTree, Array, Array], inputs: Array) -> tuple[Array, Array]:
        return attribute(tagger, *bound, inputs)

    name = f"gradients {len(columns)}"
    selection = jax.nn.one_hot(np.array(columns), len(tagger.labels))
    steps, error = FIRST_STEPS, np.full(len(columns), np.inf)
    maps: Sequence[np.ndarray] = ()
    while steps <= MOST_STEPS:
        bound = (tagger.variables, selection, jnp.int32(steps))
        maps, differences = zip(*tagger.run_program(name, forward, chunks, bound), strict=True)
        sums = np.stack([part.reshape(len(part), -1).sum(axis=1) for part in maps])
        wanted = np.stack(differences)
        error = np.abs(sums - wanted)
        if (error <= TOLERANCE * np.maximum(np.abs(wanted), _SMALL_DIFFERENCE)).all():
            break
        steps *= 2
    hertz = None
    first, step = 0.0, float(_column_width(rate))
    if has_frequency:
        settings = get_log_mel(tagger)
        hertz = to_hertz(settings, np.arange(settings.n_mels + 1) - 0.5)
        first, step = frame_grid(settings)
    spans, values = join_columns(maps, starts, own, first, step, rate)
    worst = error.max(axis=0)
    return Explanation("gradients", tuple(tags), spans, values, own / rate, hertz, error=worst)


def _column_width(rate: int) -> int:
    return max(1, round(COLUMN_SECONDS * rate))


def _attribute_log_mel(
    tagger: LoadedEncoder, variables: PyTree, selection: Array, steps: Array, inputs: Array
) -> tuple[Array, Array]:
    """Returns (batch, tags, bands, frames) and the logit differences (batch, tags)."""
    model = tagger.model
    level = model.apply(variables, inputs, method="spectrogram")
    silence = jnp.full_like(level, get_log_mel(tagger).silence)

    def logits(level: Array) -> Array:
        return model.apply(variables, level, train=False).logits @ selection.T

    def add(number: Array, total: Array) -> Array:
        share = (number + 0.5) / steps
        return total + _gradients(logits, silence + share * (level - silence)) / steps

    tags = selection.shape[0]
    start = jnp.zeros((level.shape[0], tags, *level.shape[1:]))
    total = jax.lax.fori_loop(0, steps, add, start)
    values = (total * (level - silence)[:, None]).swapaxes(2, 3)
    return values, logits(level) - logits(silence)


def _attribute_waveform(
    tagger: LoadedEncoder, variables: PyTree, selection: Array, steps: Array, inputs: Array
) -> tuple[Array, Array]:
    """Returns (batch, tags, columns) and the logit differences (batch, tags)."""
    model, reach = tagger.model, -np.log(QUIETEST)

    def logits(audio: Array) -> Array:
        return model.apply(variables, audio, train=False).logits @ selection.T

    def add(number: Array, total: Array) -> Array:
        # Evenly in dB, for networks that hear levels: of factor a it is x a d(ln a).
        audio = inputs * jnp.exp(-reach * (1 - (number + 0.5) / steps))
        return total + _gradients(logits, audio) * audio[:, None] * reach / steps

    start = jnp.zeros((inputs.shape[0], selection.shape[0], inputs.shape[1]))
    total = jax.lax.fori_loop(0, steps, add, start)
    width = _column_width(tagger.sample_rate)
    short = -inputs.shape[1] % width
    total = jnp.pad(total, ((0, 0), (0, 0), (0, short)))
    values = total.reshape(*total.shape[:2], -1, width).sum(axis=-1)
    return values, logits(inputs) - logits(QUIETEST * inputs)


def _gradients(logits: Callable[[Array], Array], point: Array) -> Array:
    """Returns the gradient of each chosen logit, (batch, tags, ...)."""
    value, pull = jax.vjp(logits, point)
    one_hot = jnp.eye(value.shape[1])[:, None] * jnp.ones((1, value.shape[0], 1))
    return jax.lax.map(lambda row: pull(row)[0], one_hot).swapaxes(0, 1)
