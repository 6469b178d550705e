"""The content of a corpus' split and the leakage between its parts, as plain data and as files."""

import concurrent.futures
import csv
import io
import itertools
import os
import pathlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from musrep_jax.data.corpora.builder import CorpusBuilder
from musrep_jax.data.corpora.tracks import CorpusTrack, count_labels, find_shared_sources
from musrep_jax.data.specs import ALL_SPLITS
from musrep_jax.data.splits import content_hash, find_leakage
from musrep_jax.runtime.files import write_json, write_text

LABEL_SEPARATOR = "|"


def describe_split(builder: CorpusBuilder) -> dict[str, Any]:
    """Returns the card, sizes, label counts and shared sources of a builder's split.

    Args:
        builder: of the config; its metadata are read, no audio.

    Returns:
        `name`, `labels`, `split`; the card's `rule`, `source`, `disjoint_by`; `seed` (None if it
        does not matter); `parts`: split -> {tracks, published, hours, without_labels,
        labels_per_track}, hours None where lengths are unknown; `positives`: split -> label ->
        tracks; `sources`: kind -> {parts: split -> number of them, shared: pair -> number, list}.

    Raises:
        BuildError: if the metadata are not there or not as they should be.
    """
    card, tracks = builder.card, builder.tracks
    return {
        "format": 1,
        "name": builder.NAME,
        "labels": builder.label_set,
        "split": builder.split_name,
        "rule": card.rule,
        "source": card.source,
        "disjoint_by": card.disjoint_by,
        "seed": builder.seed if card.is_generated else None,
        "licence": builder.LICENCE,
        "parts": {
            split: _describe_part(tracks, split, builder)
            for split in ALL_SPLITS
            if any(track.split == split for track in tracks) or card.sizes.get(split)
        },
        "positives": count_labels(tracks, builder.label_names),
        "sources": _describe_sources(tracks),
    }


def _describe_part(
    tracks: Sequence[CorpusTrack], split: str, builder: CorpusBuilder
) -> dict[str, Any]:
    members = [track for track in tracks if track.split == split]
    limit = builder.MAX_SECONDS or float("inf")
    seconds = [track.seconds for track in members]
    is_known = bool(members) and None not in seconds
    num_labels = sum(len(track.labels) for track in members)
    return {
        "tracks": len(members),
        "published": builder.card.sizes.get(split),
        "hours": sum(min(length, limit) for length in seconds) / 3600 if is_known else None,
        "without_labels": sum(not track.labels for track in members),
        "labels_per_track": num_labels / len(members) if members else None,
    }


def _describe_sources(tracks: Sequence[CorpusTrack]) -> dict[str, dict[str, Any]]:
    described = {}
    for kind, shared in find_shared_sources(tracks).items():
        of_part = defaultdict(set)
        for track in tracks:
            if track.sources.get(kind):
                of_part[track.split].add(track.sources[kind])
        pairs = itertools.combinations([split for split in ALL_SPLITS if split in of_part], 2)
        described[kind] = {
            "parts": {split: len(of_part[split]) for split in ALL_SPLITS if split in of_part},
            "shared": {f"{a}, {b}": len(of_part[a] & of_part[b]) for a, b in pairs},
            "list": [{"source": row["group"], "splits": row["splits"]} for row in shared],
        }
    return described


def find_identical_audio(
    tracks: Sequence[CorpusTrack],
    folder: pathlib.Path,
    show: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Returns the files with the same bytes in two parts of a split.

    Only files that have the size of one in another part are read.

    Args:
        tracks: of all parts.
        folder: of the corpus.
        show: takes (bytes read, bytes in all).

    Returns:
        `files`: how many are there; `missing`: how many are not, or cannot be read; `sets`: list of
        {tracks, splits}.
    """
    by_size: dict[int, list[CorpusTrack]] = defaultdict(list)
    for track in tracks:
        path = folder / track.path
        if path.is_file():
            by_size[path.stat().st_size].append(track)
    alike = [
        (size, track)
        for size, group in by_size.items()
        if size and len({track.split for track in group}) > 1
        for track in group
    ]
    hashes, have, total = {}, 0, sum(size for size, _ in alike)
    num_there = sum(map(len, by_size.values()))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        paths = [folder / track.path for _, track in alike]
        for (size, track), digest in zip(alike, pool.map(_try_hash_file, paths), strict=True):
            hashes[track.track_id] = digest
            num_there -= not digest
            have += size
            if show:
                show(have, total)
    known = [track for _, track in alike]
    leakage = find_leakage(
        [track.track_id for track in known],
        [track.track_id for track in known],
        [hashes[track.track_id] for track in known],
        [track.split for track in known],
    )
    return {
        "files": num_there,
        "missing": len(tracks) - num_there,
        "sets": leakage["identical_audio"],
    }


def _try_hash_file(path: pathlib.Path) -> str:
    """Returns the hash of a file; "" for one that may not be read, which is counted as missing."""
    try:
        return content_hash(path)
    except OSError:
        return ""


def write_split(
    tracks: Sequence[CorpusTrack], card: Mapping[str, Any], out: pathlib.Path
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes a split as data: a table of its tracks and its card.

    The table is UTF-8, tab separated, with the columns track_id, path, split, labels (joined with
    `|`) and one for each kind of source.

    Args:
        tracks: of all parts, in order.
        card: as `describe_split` gives it.
        out: folder, made if need be.

    Returns:
        The paths of the table and of the card (JSON).
    """
    kinds = sorted({kind for track in tracks for kind in track.sources})
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["track_id", "path", "split", "labels", *kinds])
    for track in tracks:
        labels = LABEL_SEPARATOR.join(track.labels)
        sources = [track.sources.get(kind, "") for kind in kinds]
        writer.writerow([track.track_id, track.path, track.split, labels, *sources])
    seed = "" if card["seed"] is None else f"-seed{card['seed']}"
    stem = f"{card['name']}-{card['labels']}-{card['split']}{seed}"
    table, described = out / f"{stem}.tsv", out / f"{stem}.json"
    write_text(table, text.getvalue())
    write_json(described, card)
    return table, described
