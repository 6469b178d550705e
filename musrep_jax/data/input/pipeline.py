"""From tracks to batches: random crops for training, tables of chunks for evaluation.

Batches are made inside a Grain `MapDataset`, so that batch i is a function of (seed, i) alone: the
same for any number of workers, and resumed by beginning at step i. Of several processes each makes
its own rows of batch i and reads no other track. See `musrep_jax.types.Batch` for what a batch
holds.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from musrep_jax.data.input.batch_stream import Batch, BatchStream
from musrep_jax.data.input.samplers import (
    ONE_STREAM,
    EpochOrder,
    Sampler,
    SamplingError,
    check_batch_size,
)
from musrep_jax.data.input.tracks import Tracks
from musrep_jax.data.specs import ChunkSpec, DatasetSpec
from musrep_jax.runtime.rows import RowShare

_NUM_STEPS = 2**40
"""Of a stream without end; times any batch size it is a number that numpy counts with."""

_MIN_READ_SHARE = 0.5


class ChunkError(ValueError):
    """A model cannot read a data set in these chunks; the message is one sentence."""


def check_compatible(spec: DatasetSpec, chunk: ChunkSpec) -> None:
    """Raises unless the model that `chunk` describes can read the data set.

    Args:
        spec: of the data set.
        chunk: the model's input.

    Raises:
        ChunkError: if the sample rates differ, or the data set holds spectrograms and the model
            reads waveforms or makes its spectrograms otherwise (the fields that differ are named).
    """
    if spec.stored_form == "log_mel":
        if chunk.front_end is None:
            raise ChunkError(
                f"data set {spec.name!r} holds log-mel spectrograms only, and this model reads the "
                "waveform; choose a model with a log-mel front end, or another data set."
            )
        differing = [
            f"{name} is {spec.front_end[name]!r} in the data set and "
            f"{chunk.front_end.get(name, 'not stated')!r} in the model"
            for name in spec.front_end
            if not _is_close(spec.front_end[name], chunk.front_end.get(name))
        ]
        if differing:
            raise ChunkError(
                f"the spectrograms of data set {spec.name!r} are not those of this model: "
                f"{'; '.join(differing)}. Set the model's front end to the data set's."
            )
    if chunk.sample_rate != spec.sample_rate:
        raise ChunkError(
            f"data set {spec.name!r} is at {spec.sample_rate} Hz and the model at "
            f"{chunk.sample_rate} Hz; open it with sample_rate={chunk.sample_rate}."
        )


def _is_close(first: Any, second: Any) -> bool:
    """Returns whether two settings are equal; numbers to within rounding."""
    if isinstance(first, int | float) and isinstance(second, int | float):
        return bool(np.isclose(first, second, rtol=1e-9, atol=0.0))
    return first == second


def chunk_length(spec: DatasetSpec, chunk: ChunkSpec) -> int:
    """Returns the length of a chunk in the data set's own units: samples, or frames."""
    return chunk.num_frames if spec.stored_form == "log_mel" else chunk.num_samples


def _input_name(spec: DatasetSpec) -> str:
    return "log_mel" if spec.stored_form == "log_mel" else "audio"


def wrap_rows(rows: range | RowShare | None, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which examples of a batch stand in the given rows, and which rows are real.

    Args:
        rows: of a batch that may have been padded to a larger one, or which share of them; None for
            the batch as it is.
        batch_size: of the batch.

    Returns:
        int64 (rows,), below `batch_size`: a row behind the end repeats an example; and the mask,
        float32 (rows,), 0 for those.

    Example:
        >>> wrap_rows(range(2, 4), 3)
        (array([2, 0]), array([1., 0.], dtype=float32))
    """
    if isinstance(rows, RowShare):
        rows = rows(batch_size)
    wanted = np.arange(batch_size) if rows is None else np.array(rows)
    return wanted % batch_size, (wanted < batch_size).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _RandomCrops:
    """Makes training batch number `step`, with its own random generator."""

    tracks: Tracks | Mapping[str, Tracks]
    chunk: ChunkSpec
    sampler: Sampler
    rows: range | RowShare | None
    as_stored: bool

    def __call__(self, step: int, rng: np.random.Generator) -> Batch:
        """Returns the batch; every start from 0 to the last possible one is equally likely."""
        roles = self.sampler(step, rng)
        streams = {role: self._crops_of(role, indices, rng) for role, indices in roles.items()}
        return streams[ONE_STREAM] if list(streams) == [ONE_STREAM] else streams

    def _crops_of(self, role: str, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Returns the stream of a role."""
        tracks = self.tracks[role] if isinstance(self.tracks, Mapping) else self.tracks
        length = chunk_length(tracks.spec, self.chunk)
        last_starts = np.maximum(tracks.num_samples[indices] - length, 0)
        starts = rng.integers(0, last_starts, endpoint=True)
        taken, mask = wrap_rows(self.rows, len(indices))
        indices, starts = indices[taken], starts[taken]
        crops = tracks.empty_batch(len(indices), length, as_stored=self.as_stored)
        for crop, index, start in zip(crops, indices, starts, strict=True):
            tracks.crop(index, start, length, out=crop)
        return {
            _input_name(tracks.spec): crops,
            "labels": tracks.label_matrix[indices],
            "mask": mask,
            "track_index": np.asarray(indices, np.int32),
        }


def crop_batches(
    tracks: Tracks | Mapping[str, Tracks],
    chunk: ChunkSpec,
    sampler: Sampler,
    *,
    seed: int,
    start_step: int = 0,
    num_workers: int = 0,
    rows: range | RowShare | None = None,
    as_stored: bool = False,
) -> Iterator[Batch]:
    """Returns endless batches of random crops of the tracks that a sampler draws.

    Each role of the sampler is a stream of the batch, `{role: stream}`; a sampler of the role
    `ONE_STREAM` gives batches that are one stream. A track shorter than the chunk is followed by
    zeros (-100 dB in a log-mel data set). Batch i depends on the seed, the sampler and i only: it
    is the same for any number of workers and processes, and after any number of resumes.

    Args:
        tracks: that the sampler counts; one set for all roles, or role -> its own.
        chunk: what the model sees.
        sampler: `(step, rng) -> role -> track indices`, see `musrep_jax.data.input.samplers`.
        seed: of what the sampler draws from `rng`, and of the crops.
        start_step: number of batches to skip: a resumed run continues with its own data.
        num_workers: processes; 0 prepares batches in a thread of this one. The batches are the
            same. Processes take seconds to start, and pay off only where decoding is dear.
        rows: of every stream, what this one of several processes reads: a `RowShare` for streams
            of any sizes, or a range, see `wrap_rows`; None for all.
        as_stored: leave the crops in the precision of the data set, int16 or float16, for
            `training.sharding.shard_batch` to widen on the device.

    Returns:
        Iterator over batches; see `musrep_jax.types.Batch`.

    Raises:
        ChunkError: if the model cannot read a data set.
        SamplingError: if the sampler and the tracks do not fit each other.
    """
    import grain

    for one in tracks.values() if isinstance(tracks, Mapping) else (tracks,):
        check_compatible(one.spec, chunk)
    _check_roles(tracks, sampler)
    make = _RandomCrops(tracks, chunk, sampler, rows, as_stored)
    dataset = grain.MapDataset.range(_NUM_STEPS).seed(seed).random_map(make)
    return BatchStream(dataset[start_step:], num_workers)


def _check_roles(tracks: Tracks | Mapping[str, Tracks], sampler: Sampler) -> None:
    """Raises unless the tracks have what the sampler draws for its first batches."""
    by_role = tracks if isinstance(tracks, Mapping) else None
    for step in range(1 if by_role is None else len(by_role)):  # data sets may take turns
        for role, indices in sampler(step, np.random.default_rng(step)).items():
            if by_role is not None and role not in by_role:
                raise SamplingError(
                    f"the sampler draws the role {role!r}, but there are tracks for "
                    f"{', '.join(map(repr, by_role))} only; give tracks for every role."
                )
            count = len(tracks if by_role is None else by_role[role])
            if len(indices) == 0 or not 0 <= np.min(indices) <= np.max(indices) < count:
                raise SamplingError(
                    f"the sampler draws the tracks {np.unique(indices)} for role {role!r}; there "
                    f"must be at least one, of the {count} tracks 0 to {count - 1}."
                )


def train_batches(
    tracks: Tracks,
    chunk: ChunkSpec,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_workers: int = 0,
    rows: range | RowShare | None = None,
    as_stored: bool = False,
) -> Iterator[Batch]:
    """Returns endless batches of random crops, one crop of each track per epoch.

    Tracks are shuffled anew in every epoch; a batch may span two. It is `crop_batches` with an
    `EpochOrder`.

    Args:
        tracks: to train on.
        chunk: what the model sees.
        batch_size: crops per batch.
        seed: of order and crops.
        start_step: see `crop_batches`, as all that follow.
        num_workers: processes.
        rows: of every batch, what this one of several processes reads; None for all.
        as_stored: leave the crops in the precision of the data set.

    Returns:
        Iterator over dicts of arrays; see `musrep_jax.types.Batch`.

    Raises:
        ChunkError: if the model cannot read the data set.
    """
    return crop_batches(
        tracks,
        chunk,
        EpochOrder(len(tracks), batch_size, seed),
        seed=seed,
        start_step=start_step,
        num_workers=num_workers,
        rows=rows,
        as_stored=as_stored,
    )


def make_chunk_table(
    tracks: Tracks,
    chunk: ChunkSpec,
    *,
    num_chunks: int | None = None,
    reaches_end: bool = False,
    hop_seconds: float | None = None,
    max_seconds: float | None = None,
    tail: str = "keep",
) -> np.ndarray:
    """Returns where the chunks lie whose scores make up the score of each track.

    Chunks follow one another by the hop. With `tail="keep"` what is left at the end of a track is
    scored too, by a last chunk that is shifted back so as to end with the track: nothing is dropped
    and no padding is taken for music. A track shorter than one chunk has one, padded.

    Args:
        tracks: to be scored.
        chunk: what the model sees.
        num_chunks: take so many per track, evenly spaced from its start: the published scheme, hop
            `(length - chunk) // num_chunks`, which leaves the end of the track out. `hop_seconds`
            and `tail` do not apply then.
        reaches_end: whether `num_chunks` chunks reach the end of the track, hop `(length - chunk)
            // (num_chunks - 1)`.
        hop_seconds: between chunks; None for one chunk length.
        max_seconds: only the first so many seconds of a track are scored; None for all.
        tail: "keep", or "drop" as in published evaluations.

    Returns:
        int64 (chunks, 2): index of the track, and start in samples (or frames).

    Raises:
        ChunkError: if the model cannot read the data set.
        ValueError: if a setting is out of its range.

    Source: `num_chunks`: the evaluation in minzwon/sota-music-tagging-models, 16 chunks per track;
    `reaches_end`: Lee et al., MIREX 2017, 12 chunks per track, jongpillee/musicTagging_MSD.
    """
    check_compatible(tracks.spec, chunk)
    if tail not in ("keep", "drop"):
        raise ValueError(f"tail is {tail!r}; allowed are 'keep' and 'drop'.")
    _check_positive(num_chunks=num_chunks, hop_seconds=hop_seconds, max_seconds=max_seconds)
    length = chunk_length(tracks.spec, chunk)
    rate = float(tracks.spec.sample_rate)
    if tracks.spec.stored_form == "log_mel":
        rate /= int(tracks.spec.front_end["hop_length"])
    hop = length if hop_seconds is None else max(1, round(hop_seconds * rate))
    parts = []
    for index, track_length in enumerate(tracks.num_samples):
        if max_seconds is not None:
            track_length = min(int(track_length), max(length, int(max_seconds * rate)))
        last = int(track_length) - length
        if last <= 0:
            starts = np.zeros(1, np.int64)
        elif num_chunks is not None:
            hop_chunks = last // max(1, num_chunks - reaches_end)
            starts = np.unique(np.arange(num_chunks, dtype=np.int64) * hop_chunks)
        else:
            starts = np.arange(0, last + 1, hop, dtype=np.int64)
            if tail == "keep" and starts[-1] < last:
                starts = np.append(starts, last)
        parts.append(np.stack([np.full(len(starts), index, np.int64), starts], axis=1))
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class _TableChunks:
    """Makes evaluation batch number `step` from a table of chunks."""

    tracks: Tracks
    table: np.ndarray
    length: int
    batch_size: int
    is_whole: np.ndarray
    rows: range
    as_stored: bool

    def __call__(self, step: int) -> Batch:
        # Padding, of the last batch or to the devices, is at the end of the rows.
        chunks = self.table[step * self.batch_size : (step + 1) * self.batch_size]
        chunks = chunks[self.rows.start : self.rows.stop]
        spec, size = self.tracks.spec, len(self.rows)
        crops = self.tracks.empty_batch(size, self.length, as_stored=self.as_stored)
        crops[len(chunks) :] = 0
        labels = np.zeros((size, self.tracks.label_matrix.shape[1]), np.float32)
        mask = np.zeros(size, np.float32)
        track_index = np.zeros(size, np.int32)
        for crop, (index, start) in zip(crops, chunks, strict=False):
            whole = bool(self.is_whole[index])
            self.tracks.crop(index, start, self.length, whole=whole, out=crop)
        labels[: len(chunks)] = self.tracks.label_matrix[chunks[:, 0]]
        mask[: len(chunks)] = 1.0
        track_index[: len(chunks)] = chunks[:, 0]
        return {
            _input_name(spec): crops,
            "labels": labels,
            "mask": mask,
            "track_index": track_index,
        }


def chunk_batches(
    tracks: Tracks,
    chunk: ChunkSpec,
    table: np.ndarray,
    *,
    batch_size: int,
    rows: range | None = None,
    as_stored: bool = False,
) -> Iterator[Batch]:
    """Returns the chunks of a table in its order, once; over training tracks, to cache embeddings.

    Args:
        tracks: that the table was made for.
        chunk: what the model sees.
        table: of `make_chunk_table`, or rows of it.
        batch_size: chunks per batch. The last batch is filled up with zeros, mask 0 and
            track_index 0, so that a compiled step sees one shape only.
        rows: of every batch, what this one of several processes reads; None for all. Rows from
            `batch_size` on are filled up in the same way.
        as_stored: see `train_batches`.

    Returns:
        Iterator over dicts of arrays; see `musrep_jax.types.Batch`.

    Raises:
        ChunkError: if the model cannot read the data set.
    """
    import grain

    check_compatible(tracks.spec, chunk)
    check_batch_size(batch_size)
    length = chunk_length(tracks.spec, chunk)
    table = np.asarray(table, np.int64).reshape(-1, 2)
    # Where most of an encoded track is wanted, decoding it once is cheaper than chunk by chunk.
    per_track = np.bincount(table[:, 0], minlength=len(tracks))
    is_whole = (per_track > 1) & (per_track * length > _MIN_READ_SHARE * tracks.num_samples)
    rows = range(batch_size) if rows is None else rows
    make = _TableChunks(tracks, table, length, batch_size, is_whole, rows, as_stored)
    steps = grain.MapDataset.source(range(-(-len(table) // batch_size)))
    return BatchStream(steps.map(make), num_workers=0)


def _check_positive(**settings: float | None) -> None:
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}; it must be greater than 0, or None.")
