"""Embeddings of a frozen backbone, computed once for a data set and kept beside it.

`DATASET/embeddings/KEY.npz` holds the embeddings of chunks of a split, by track and start; its name
says by which backbone, of which records and how they were computed. Cells of a learning curve,
whose training tracks are parts of each other, take what is there and add what is not.
"""

import copy
import dataclasses
import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from musrep_jax.models import Tagger
from musrep_jax.runtime import distributed
from musrep_jax.runtime.files import replace_file
from musrep_jax.runtime.progress import Progress
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.types import PyTree

FOLDER = "embeddings"
MAX_BYTES = 1 << 30
"""Maximum size of a data set's files; the least recently used ones are removed."""
_FORMAT = 1


def embed_once(scorer: SplitScorer, variables: PyTree) -> np.ndarray:
    """Returns the embedding of every chunk of a split; none is computed that was computed before.

    A file that is damaged counts as none. Two processes may do this at once: files are replaced
    whole, and the later one stays. Several processes of one training compute their shares anew.

    Args:
        scorer: of the split.
        variables: of the model; those of the output layer do not matter.

    Returns:
        float32 (chunks, width), in the order of `scorer.table`.
    """
    if distributed.is_active():
        return scorer.embeddings(variables)
    store = scorer.tracks.store
    path = store.directory / FOLDER / f"{_make_key(scorer, variables)}.npz"
    # A track of a subset has another number than in its split.
    chunks = np.stack([scorer.tracks.rows[scorer.table[:, 0]], scorer.table[:, 1]], axis=1)
    places, kept = _read(path)
    number = {place: row for row, place in enumerate(map(tuple, places.tolist()))}
    found = np.array([number.get(place, -1) for place in map(tuple, chunks.tolist())], np.int64)
    missing = np.flatnonzero(found < 0)
    if len(missing):
        part = copy.copy(scorer)
        part.table = scorer.table[missing]
        progress = Progress(f"embedding {store.spec.name}, {store.split}", unit="chunks")
        computed = part.embeddings(variables, progress)
        progress.close()
        found[missing] = len(places) + np.arange(len(missing))
        places = np.concatenate([places, chunks[missing]])
        kept = np.concatenate([kept, computed]) if len(kept) else computed
        _write(path, places, kept)
    else:
        _touch(path)
    return kept[found]


def _make_key(scorer: SplitScorer, variables: PyTree) -> str:
    """Returns a hash of all that the embedding of a chunk follows from."""
    store, model = scorer.tracks.store, scorer.model
    facts = {
        "format": _FORMAT,
        "split": store.split,
        "records": store.hash_content()["records"],
        "sample_rate": store.spec.sample_rate,
        "stored_form": store.spec.stored_form,
        "chunk": dataclasses.asdict(scorer.chunk),
        "model": _describe_backbone(model),
        "batch": scorer.settings.evaluation.batch_size,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode("utf-8"))
    for path, leaf in sorted(traverse_util.flatten_dict(variables).items()):
        if not model.is_head_path(path[1:]):
            values = np.ascontiguousarray(jax.device_get(leaf))
            digest.update(repr((path, values.shape, values.dtype.str)).encode("utf-8"))
            digest.update(values.tobytes())
    return digest.hexdigest()[:32]


def _describe_backbone(model: Tagger) -> dict[str, str]:
    """Returns the class and settings of a model, without the size of its output layer."""
    without = {"parent", "name", "num_classes"}
    fields = {field.name for field in dataclasses.fields(model)} - without
    settings = {name: repr(getattr(model, name)) for name in sorted(fields)}
    return {"class": type(model).__qualname__, **settings}


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns places, int64 (chunks, 2), and embeddings, float32 (chunks, width), of a file.

    Of one that is not there or damaged, none.
    """
    nothing = np.zeros((0, 2), np.int64), np.zeros((0, 0), np.float32)
    try:
        with np.load(path, allow_pickle=False) as stored:  # a zip: every part has a checksum
            places, values = stored["places"], stored["embeddings"]
    except FileNotFoundError:
        return nothing
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        print(f"{path} is damaged ({error}): its embeddings are computed again", file=sys.stderr)
        return nothing
    is_whole = places.ndim == values.ndim == 2 and places.shape == (len(values), 2)
    if not is_whole or places.dtype != np.int64 or values.dtype != np.float32:
        print(f"{path} is damaged: its embeddings are computed again", file=sys.stderr)
        return nothing
    return places, values


def _write(path: Path, places: np.ndarray, values: np.ndarray) -> None:
    """Keeps embeddings, unless they are too large or the folder takes none; removes the oldest."""
    if places.nbytes + values.nbytes > MAX_BYTES:
        return
    try:
        path.parent.mkdir(exist_ok=True)
        with replace_file(path, is_synced=False) as temporary, temporary.open("wb") as file:
            np.savez(file, places=places, embeddings=values)
        used = {other: other.stat() for other in path.parent.glob("*.npz")}
        by_age = sorted(used.keys() - {path}, key=lambda other: used[other].st_mtime_ns)
        for other in by_age:
            if sum(status.st_size for status in used.values()) <= MAX_BYTES:
                break
            other.unlink(missing_ok=True)
            del used[other]
    except OSError as error:  # a data set for reading only, a full disk: work goes on without
        print(f"embeddings are not kept in {path.parent}: {error.strerror}", file=sys.stderr)


def _touch(path: Path) -> None:
    """Marks a file as just used, if that is possible."""
    if os.access(path, os.W_OK):
        os.utime(path)
