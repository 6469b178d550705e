"""What the tags of a recording rest on, over time: attention, contributions, occlusion, gradients.

Two kinds of maps. `attention` and `contribution` look into a transformer and are the pictures of
the self-attention paper: attention says where a model looks, which is at whatever is loud or new,
whatever the tag; the contribution of a position says which tags it brings, and tells tags apart.
`occlusion` and `gradients` ask any model: the first silences a part and sees what the tag loses,
the second shares the tag's logit out among the parts of the spectrogram (integrated gradients).

Source: Won, Chun, Serra, "Toward interpretable music tagging with self-attention", 2019.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from musrep_jax.dsp.spectrogram import LogMel, log_mel_spectrogram, to_hertz
from musrep_jax.evaluation.aggregation import probabilities
from musrep_jax.inference.chunks import check_not_silent, cut, find_silent_chunks, prepare
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.models.attention_maps import (
    AttentionReader,
    TokenGrid,
    attention_maps,
    contribution_logits,
)
from musrep_jax.runtime.suggestions import suggest_name
from musrep_jax.types import Array, PyTree

METHODS = ("attention", "contribution", "occlusion", "gradients")
"""What can be asked; the first two of models with attention only."""

CAPTIONS = {
    "attention": "Attention follows what is loud or new; it does not tell tags apart.",
    "contribution": "What the model would say if it heard this moment alone; it tells tags apart.",
    "occlusion": "What the logit of the tag loses when this moment is silenced.",
    "gradients": "The logit of the tag, shared out: the values sum to the difference to silence.",
}
"""Method -> what its map is to be read as."""

_DISPLAY_BANDS = 96


class ExplanationError(ValueError):
    """There is no such map of this model."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A map of a recording over time, for each head or tag.

    Attributes:
        method: one of `METHODS`.
        names: of the maps: heads, or tags.
        spans: float64 (columns, 2), start and end of each column in seconds.
        values: float32 (maps, columns), or (maps, rows, columns) over frequency, low to high.
        hertz: (rows + 1,), edges of the rows in Hz; None of a map without frequency.
        special: float32 (maps, chunks), what belongs to the class token and to no moment; None
            where there is none.
        chunks: float64 (chunks, 2), the model's chunks in seconds; attention sums to 1 in each.
        error: greatest difference, over the chunks, between the sum of a map and the logit
            difference that it shares out, per map; None for other methods.
    """

    method: str
    names: tuple[str, ...]
    spans: np.ndarray
    values: np.ndarray
    chunks: np.ndarray
    hertz: np.ndarray | None = None
    special: np.ndarray | None = None
    error: np.ndarray | None = None

    def over_time(self) -> np.ndarray:
        """Returns the maps without frequency, (maps, columns): sums, of contributions maxima."""
        if self.values.ndim == 2:
            return self.values
        return self.values.max(axis=1) if self.method == "contribution" else self.values.sum(axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Returns the map as JSON values."""
        arrays = {
            "spans": self.spans, "values": self.values, "chunks": self.chunks,
            "hertz": self.hertz, "special": self.special, "error": self.error,
        }  # fmt: skip
        return {
            "method": self.method,
            "names": list(self.names),
            **{key: None if x is None else np.round(x, 6).tolist() for key, x in arrays.items()},
        }


def find_columns(labels: Sequence[str], tags: Sequence[str]) -> list[int]:
    """Returns the columns of tags.

    Args:
        labels: of the model, in order.
        tags: names.

    Raises:
        ExplanationError: if the model has no such label.
    """
    unknown = [tag for tag in tags if tag not in labels]
    if unknown:
        raise ExplanationError(
            f"The model has no label {unknown[0]!r}.{suggest_name(unknown[0], labels)} Its "
            f"{len(labels)} labels are listed by `musrep models MODEL`."
        )
    return [list(labels).index(tag) for tag in tags]


def check_reader(tagger: LoadedEncoder) -> AttentionReader:
    """Returns the model if it has attention to look into.

    Raises:
        ExplanationError: if it has none.
    """
    model = tagger.model
    reason = ""
    if not isinstance(model, AttentionReader):
        reason = "has no class token whose attention could be read"
    else:
        try:
            model.check_attention()
        except ValueError:
            reason = "has no attention weights as it is set"
    if reason or not isinstance(model, AttentionReader):
        raise ExplanationError(
            f"{tagger.card['model']['name']} {reason}: ask for occlusion or gradients, which any "
            "model answers."
        )
    return model


def cut_recording(
    tagger: LoadedEncoder, audio: np.ndarray, sample_rate: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the chunks of a recording, where they start, and the part that each stands for.

    Args:
        tagger: the model.
        audio: (samples,), mono, float in [-1, 1].
        sample_rate: of the audio, in Hz.

    Returns:
        float32 (chunks, samples); (chunks,), start of the chunk's samples in the recording; and
        (chunks, 2), the part that belongs to this chunk alone, both in samples of the model.

    Raises:
        AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
    """
    waveform = prepare(audio, sample_rate, tagger.sample_rate)
    chunks, spans = cut(waveform, tagger.chunking, 0.0)
    check_not_silent(find_silent_chunks(chunks))
    starts = spans[:, 0] - tagger.chunking.margin
    own = spans.copy()
    own[1:, 0] = np.maximum(own[1:, 0], spans[:-1, 1])
    return chunks, starts, own


def join_columns(
    maps: Sequence[np.ndarray],
    starts: np.ndarray,
    own: np.ndarray,
    first: float,
    step: float,
    sample_rate: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the columns of all chunks side by side, without padding and without repetition.

    Args:
        maps: of each chunk, (..., columns).
        starts: of the chunks' samples, see `cut_recording`.
        own: the part of each chunk.
        first: start of the first column in a chunk, in samples.
        step: between columns, in samples.
        sample_rate: in Hz.

    Returns:
        Spans in seconds, float64 (columns, 2), and the values, (..., columns).
    """
    spans, parts = [], []
    for part, start, (low, high) in zip(maps, starts, own, strict=True):
        edges = start + first + step * np.arange(part.shape[-1] + 1)
        left, right = np.maximum(edges[:-1], low), np.minimum(edges[1:], high)
        is_own = right > left
        spans.append(np.stack([left[is_own], right[is_own]], axis=1) / sample_rate)
        parts.append(part[..., is_own])
    return np.concatenate(spans), np.concatenate(parts, axis=-1)


def explain_attention(tagger: LoadedEncoder, audio: np.ndarray, sample_rate: int) -> Explanation:
    """Returns whom the class token attends to: the sum over heads, each head, the first block.

    Args:
        tagger: a model with attention.
        audio: (samples,), mono, float in [-1, 1].
        sample_rate: of the audio, in Hz.

    Raises:
        AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
        ExplanationError: if the model has no attention.
    """
    model = check_reader(tagger)

    def forward(variables: PyTree, inputs: Array) -> Mapping[str, Array]:
        maps = attention_maps(model, variables, inputs)
        return {name: maps[name] for name in maps if "map" in name}

    chunks, starts, own = cut_recording(tagger, audio, sample_rate)
    rows = list(tagger.run_program("attention", forward, chunks))
    maps = [
        np.concatenate([
            row["attention_map"][None],
            row["attention_map_per_head"],
            row["first_block_attention_map"][None],
        ])
        for row in rows
    ]  # fmt: skip
    heads = tuple(f"head {number}" for number in range(1, len(maps[0]) - 1))
    names = ("all heads", *heads, "first block")
    return _read_tokens("attention", names, maps, starts, own, tagger, model.token_grid)


def explain_contributions(
    tagger: LoadedEncoder, audio: np.ndarray, sample_rate: int, tags: Sequence[str], output: str
) -> Explanation:
    """Returns the probability of each tag from each position of the last block alone.

    Args:
        tagger: a model with attention and labels.
        audio: (samples,), mono, float in [-1, 1].
        sample_rate: of the audio, in Hz.
        tags: of the labels.
        output: "sigmoid" or "softmax".

    Raises:
        AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
        ExplanationError: if the model has no attention or no such label.
    """
    model, columns = check_reader(tagger), find_columns(tagger.labels, tags)

    def forward(variables: PyTree, inputs: Array) -> Array:
        return contribution_logits(model, variables, inputs)

    chunks, starts, own = cut_recording(tagger, audio, sample_rate)
    rows = tagger.run_program("contribution", forward, chunks)
    maps = [probabilities(row, output).T[columns].astype(np.float32) for row in rows]
    return _read_tokens("contribution", tags, maps, starts, own, tagger, model.token_grid)


def _read_tokens(
    method: str,
    names: Sequence[str],
    maps: Sequence[np.ndarray],
    starts: np.ndarray,
    own: np.ndarray,
    tagger: LoadedEncoder,
    grid: TokenGrid,
) -> Explanation:
    """Returns the map of tokens, the special ones apart: (maps, tokens) of each chunk."""
    special = np.stack([part[:, : grid.num_special].mean(axis=1) for part in maps], axis=1)
    moments = [part[:, grid.num_special :] for part in maps]
    hertz = None
    if grid.bands is not None:
        num_rows = len(grid.bands) - 1
        moments = [part.reshape(len(part), num_rows, -1) for part in moments]
        hertz = to_hertz(get_log_mel(tagger), np.asarray(grid.bands))
    rate = tagger.sample_rate
    spans, values = join_columns(moments, starts, own, grid.start, grid.step, rate)
    return Explanation(method, tuple(names), spans, values, own / rate, hertz, special)


def get_log_mel(tagger: LoadedEncoder) -> LogMel:
    """Returns the settings of a model's spectrogram, or usual ones for a picture.

    Args:
        tagger: the model.
    """
    if reads_log_mel(tagger):
        return tagger.model.log_mel
    rate = tagger.sample_rate
    return LogMel(sample_rate=rate, n_fft=1024, n_mels=_DISPLAY_BANDS, f_max=rate / 2)


def reads_log_mel(tagger: LoadedEncoder) -> bool:
    """Returns whether a model reads a log-mel spectrogram, its own or one handed in."""
    front_end = tagger.model.front_end
    return front_end is not None and front_end.get("kind") == "log_mel"


def compute_spectrogram(
    tagger: LoadedEncoder, audio: np.ndarray, sample_rate: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the spectrogram of a recording, for the picture above a map.

    Args:
        tagger: the model, for its sample rate and front end.
        audio: (samples,), mono, float in [-1, 1].
        sample_rate: of the audio, in Hz.

    Returns:
        float32 (bands, frames) on the front end's level; edges of the bands in Hz, (bands + 1,);
        edges of the frames in seconds, (frames + 1,).
    """
    settings = get_log_mel(tagger)
    waveform = prepare(audio, sample_rate, tagger.sample_rate)
    waveform = np.pad(waveform, (0, max(0, settings.n_fft - len(waveform))))
    level = np.asarray(jax.jit(log_mel_spectrogram, static_argnums=1)(waveform[None], settings)[0])
    hertz = to_hertz(settings, np.arange(settings.n_mels + 1) - 0.5)
    first, step = frame_grid(settings)
    edges = np.clip(first + step * np.arange(len(level) + 1), 0, len(waveform))
    return level.T, hertz, edges / tagger.sample_rate


def frame_grid(settings: LogMel) -> tuple[float, float]:
    """Returns start of the first frame's column and step between columns, in samples."""
    middle = 0.0 if settings.is_centered else settings.n_fft / 2
    return middle - settings.hop_length / 2, float(settings.hop_length)


def join_halves(
    first: tuple[np.ndarray, int], second: tuple[np.ndarray, int], tagger: LoadedEncoder
) -> np.ndarray:
    """Returns one chunk: the start of one recording, then the start of another.

    The picture that shows that a map tells two musics apart (Won et al. 2019, contrast demo).

    Args:
        first: audio (samples,) and its rate in Hz.
        second: the same.
        tagger: the model, for rate and length of a chunk.

    Returns:
        float32 (chunk's samples,), at the model's rate; a recording shorter than half a chunk is
        padded with silence.

    Raises:
        AudioInputError: if one of them is empty, not mono or not finite.
    """
    half = tagger.num_samples // 2
    joined = np.zeros(tagger.num_samples, np.float32)
    for (audio, rate), start in ((first, 0), (second, half)):
        part = prepare(audio, rate, tagger.sample_rate)[:half]
        joined[start : start + len(part)] = part
    return joined
