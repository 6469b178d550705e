"""One shard of a data set, made track by track so that nothing that was made is made twice.

The tracks of a split, sorted by a hash of their ids, are cut into shards: fixed lists, whatever the
number of workers. `make_shard` stores every encoded track as a piece of its own, under a temporary
name that is changed once the piece is whole, then joins the pieces into one file of records. It is
a plain function of plain data, and so runs in this process, in another, or on another machine that
sees the same folder. In the building folder lie

| path                        | what                                                            |
|-----------------------------|-----------------------------------------------------------------|
| `pieces/SPLIT-00003/000014` | an encoded track, or why it was refused                         |
| `done/SPLIT-00003.records`  | a finished shard                                                |
| `done/SPLIT-00003.json`     | its `ShardStats`; where this stands, the shard is done          |
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from musrep_jax.data.build.lock import BuildInterruptedError
from musrep_jax.runtime.files import replace_file, write_bytes, write_json

MIN_SHARD_TRACKS = 16
MAX_SHARDS = 128
"""Of a split: each open shard takes a file descriptor, of which a process often has 1024."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """The outcome of one track.

    Attributes:
        track_id: of the track.
        record: the serialized example; empty when the track was refused.
        factor: that its waveform was scaled by.
        refused: the path that the report names, or "".
        reason: for the refusal, one sentence.
    """

    track_id: str
    record: bytes = b""
    factor: float = 1.0
    refused: str = ""
    reason: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether the track is left out of the data set."""
        return not self.record


class Codec(Protocol):
    """How tracks become records, and records a file; picklable."""

    def encode(self, track_id: str, made: Any) -> Piece:
        """Loads a track and returns it in its stored form."""

    def write(self, path: pathlib.Path, records: Iterable[bytes]) -> None:
        """Writes a file of records."""


@dataclasses.dataclass(frozen=True)
class ShardRecipe:
    """The settings shared by all shards of a data set; picklable.

    Attributes:
        folder: the building folder.
        load: from a planned track to what it holds, or to its refusal.
        codec: from there to bytes.
    """

    folder: str
    load: Callable[[Any], Any]
    codec: Codec


@dataclasses.dataclass(frozen=True)
class Shard:
    """A fixed list of planned tracks that becomes one file; picklable.

    Attributes:
        split: that the tracks belong to.
        index: of the shard in its split.
        tracks: in the order of their records.
    """

    split: str
    index: int
    tracks: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Name of its files in the building folder."""
        return f"{self.split}-{self.index:05d}"


@dataclasses.dataclass(frozen=True)
class ShardStats:
    """The contents of a finished shard.

    Attributes:
        num_records: tracks in it.
        num_bytes: of all records together.
        file_bytes: size of the file.
        refused: path and reason of every track that is not in it.
        scaled: id of every track that was scaled down, and its factor.
    """

    num_records: int
    num_bytes: int
    file_bytes: int
    refused: tuple[tuple[str, str], ...]
    scaled: tuple[tuple[str, float], ...]


def hash_track_id(split: str, track_id: str) -> str:
    """Returns what records are ordered by: the hash that TFDS takes, salted with the split."""
    key = split + track_id.replace("\\", "/")
    return hashlib.md5(key.encode("utf-8"), usedforsecurity=False).hexdigest()


def plan_shards(split: str, tracks: Sequence[Any]) -> list[Shard]:
    """Returns the shards of a split.

    Args:
        split: name of the split.
        tracks: planned tracks in any order; each has a `track_id`.
    """
    ordered = sorted(tracks, key=lambda track: hash_track_id(split, track.track_id))
    size = max(MIN_SHARD_TRACKS, -(-len(ordered) // MAX_SHARDS))
    return [
        Shard(split, index, tuple(ordered[start : start + size]))
        for index, start in enumerate(range(0, len(ordered), size))
    ]


def make_shard(
    shard: Shard, recipe: ShardRecipe, on_track: Callable[[Piece], None] = lambda piece: None
) -> ShardStats:
    """Builds a shard, or its missing part, and returns its contents.

    Args:
        shard: to make.
        recipe: how.
        on_track: called after each track that was made now, when it is safely stored; what it
            raises ends the work, and nothing is lost.
    """
    folder = pathlib.Path(recipe.folder)
    facts = read_shard_stats(folder, shard)
    if facts is not None:
        return facts
    pieces = folder / "pieces" / shard.name
    pieces.mkdir(parents=True, exist_ok=True)
    for number, track in enumerate(shard.tracks):
        if read_piece(pieces / f"{number:06d}", track.track_id) is None:
            piece = recipe.codec.encode(track.track_id, recipe.load(track))
            _write_piece(pieces / f"{number:06d}", piece)
            on_track(piece)
    return _join(shard, recipe, pieces)


def read_shard_stats(folder: pathlib.Path, shard: Shard) -> ShardStats | None:
    """Returns the contents of a finished shard, or None if it is not finished."""
    path = _shard_stats_path(folder, shard)
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    pairs = {name: tuple(map(tuple, stored[name])) for name in ("refused", "scaled")}
    return ShardStats(**{**stored, **pairs})


def count_pieces(folder: pathlib.Path, shard: Shard) -> int:
    """Returns how many tracks of an unfinished shard are stored."""
    pieces = folder / "pieces" / shard.name
    return sum(path.suffix == "" for path in pieces.iterdir()) if pieces.is_dir() else 0


def install_shard(
    folder: pathlib.Path, shard: Shard, facts: ShardStats, target: pathlib.Path
) -> None:
    """Moves the file of a finished shard to its final place, unless it is there already.

    Args:
        folder: of the build.
        shard: that is done.
        facts: what it holds.
        target: its final path, on the same disk.

    Raises:
        BuildInterruptedError: if the file is not there, or not as long as it was; it is then made
            again by the next build.
    """
    path = _records_path(folder, shard)
    if path.exists():
        os.replace(path, target)
    if not target.exists() or target.stat().st_size != facts.file_bytes:
        invalidate_shards(folder, [shard])
        raise BuildInterruptedError(
            f"the file of the finished shard {shard.name} in {folder} was lost or damaged; run the "
            "same command again, which makes it anew."
        )


def invalidate_shards(folder: pathlib.Path, shards: Iterable[Shard]) -> None:
    """Has finished shards made anew by the next build."""
    for shard in shards:
        _shard_stats_path(folder, shard).unlink()


def merge_shard_stats(facts: Iterable[ShardStats]) -> dict[str, Any]:
    """Returns the part of a build report about shards: refused and scaled tracks."""
    facts = list(facts)
    refused = sorted(row for entry in facts for row in entry.refused)
    return {
        "refused": [{"path": path, "reason": reason} for path, reason in refused],
        "scaled": dict(sorted(pair for entry in facts for pair in entry.scaled)),
    }


def _shard_stats_path(folder: pathlib.Path, shard: Shard) -> pathlib.Path:
    return folder / "done" / f"{shard.name}.json"


def _records_path(folder: pathlib.Path, shard: Shard) -> pathlib.Path:
    return folder / "done" / f"{shard.name}.records"


def _join(shard: Shard, recipe: ShardRecipe, pieces: pathlib.Path) -> ShardStats:
    """Joins the pieces of a shard into its file, then removes them."""
    refused, scaled, sizes = [], [], []

    def records() -> Iterator[bytes]:
        for number, track in enumerate(shard.tracks):
            piece = read_piece(pieces / f"{number:06d}", track.track_id)
            if piece.is_refused:
                refused.append((piece.refused, piece.reason))
                continue
            if piece.factor != 1.0:
                scaled.append((piece.track_id, piece.factor))
            sizes.append(len(piece.record))
            yield piece.record

    folder = pathlib.Path(recipe.folder)
    target = _records_path(folder, shard)
    with replace_file(target) as temporary:
        recipe.codec.write(temporary, records())
    size = target.stat().st_size
    facts = ShardStats(len(sizes), sum(sizes), size, tuple(refused), tuple(scaled))
    write_json(_shard_stats_path(folder, shard), dataclasses.asdict(facts))
    shutil.rmtree(pieces)
    return facts


def _write_piece(path: pathlib.Path, piece: Piece) -> None:
    header = {**dataclasses.asdict(piece), "record": len(piece.record)}
    header["crc"] = zlib.crc32(piece.record)
    line = json.dumps(header).encode("ascii") + b"\n"
    # Waiting for the disk would cost more than many a track does: a piece that a power cut leaves
    # incomplete is told by its length and checksum, and made again.
    write_bytes(path, line + piece.record, is_synced=False)


def read_piece(path: pathlib.Path, track_id: str) -> Piece | None:
    """Returns a stored track, or None if it is not there, not whole, or another one."""
    try:
        with open(path, "rb") as file:
            header = json.loads(file.readline())
            record = file.read()
    except (FileNotFoundError, ValueError):
        return None
    size, crc = header.pop("record"), header.pop("crc")
    if (header["track_id"], len(record), zlib.crc32(record)) != (track_id, size, crc):
        return None
    return Piece(**{**header, "record": record})
