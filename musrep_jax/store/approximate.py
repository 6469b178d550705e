"""Approximate nearest neighbors among millions of tracks: a faiss index next to the arrays.

    nearest-METRIC.json          rows that are indexed, which ones, and the name of the index
    nearest-METRIC-*.faiss       the index: cells of k-means, 8 bits a number (IVF, SQ8)

The index proposes rows; their scores are computed from the embeddings, so those that come back are
exact. Rows that were added later are compared one by one until they are a tenth of the store; then
the index is rebuilt, as it is when its rows no longer match (a store that was truncated or created
again), or when its file is missing or incomplete. The JSON is written last, atomically.

Why faiss: it is maintained, and its wheels hold for Python 3.10 and later; hnswlib has had no
release since 2023 and no wheels.

Measured with `python -m benchmarks.nearest` (1,000,000 tracks of 64 numbers, 2 cores, processor
time of a query, median): of the 10 nearest it finds 1.00 around 1,000 centers, and 0.90 around
100,000, where there are more centers than cells, in 5.9 ms; exact search takes 50.6 ms. Making the
index took 2 minutes on a busy machine, and it has 73 MB.
"""

import hashlib
import importlib.util
import json
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np

from musrep_jax.runtime.files import replace_file, write_json
from musrep_jax.store.files import StoreError
from musrep_jax.store.search import METRICS, check_query, rank_by_vector, top
from musrep_jax.store.store import Store

INDEX_FORMAT = 1
MIN_APPROXIMATE_TRACKS = 1_000_000
"""Tracks from which a search is approximate unless it is told otherwise."""

MAX_UNINDEXED_SHARE = 0.1
"""Fraction of rows after the indexed ones above which the index is rebuilt."""

POINTS_PER_CELL = 50
"""Training vectors per center: more than faiss requires (39)."""

PROBED_CELL_SHARE, MIN_PROBED_CELLS = 1 / 32, 32
"""Cells that are searched for a query."""

CANDIDATES_PER_RESULT = 10
"""Candidate rows of the index per requested row."""


def is_available() -> bool:
    """Returns whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def rank_approximately(
    store: Store,
    query: np.ndarray,
    k: int,
    *,
    metric: str = "cosine",
    present: np.ndarray | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows near to a vector, including most of the nearest, and their scores.

    Args:
        store: that is searched; the index is made in its folder where there is none that fits.
        query: (width,).
        k: rows at most.
        metric: as of `rank_by_vector`.
        present: bool (tracks,), rows that may be found; None for all.
        tell: called with a sentence when an index is about to be made.

    Returns:
        Rows (k,) and their exact scores (k,), best first.

    Raises:
        QueryError: if there is no such metric, or the vector does not fit.
        StoreError: if faiss is missing, or the index cannot be written.
    """
    query = check_query(store.embeddings, query, metric)
    faiss = _faiss()
    present = np.ones(len(store), bool) if present is None else present
    found = _open_index(faiss, store, metric)
    if found is None:
        tell(f"Making the index of {len(store):,} tracks, once ...")
        build_index(store, metric)
        found = _open_index(faiss, store, metric)
        if found is None:
            raise StoreError(f"{store.path} was changed while its index was made: ask again.")
    index, num_rows = found
    # The selector keeps a pointer only: the bits have to outlive the search.
    bits = np.packbits(present[:num_rows], bitorder="little")
    settings = faiss.SearchParametersIVF(
        sel=faiss.IDSelectorBitmap(bits),
        nprobe=max(MIN_PROBED_CELLS, int(index.nlist * PROBED_CELL_SHARE)),
    )
    asked, num_threads = _prepare(query[None], metric), faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # one query is too little to share: threads would wait for others
    try:
        proposed = index.search(asked, max(100, CANDIDATES_PER_RESULT * k), params=settings)[1][0]
    finally:
        faiss.omp_set_num_threads(num_threads)
    tail = num_rows + np.flatnonzero(present[num_rows:])
    rows = np.concatenate([np.sort(proposed[proposed >= 0]), tail])
    if len(rows) < min(k, np.count_nonzero(present)):
        return rank_by_vector(store.embeddings, query, k, metric=metric, present=present)
    best, scores = top(METRICS[metric](np.asarray(store.embeddings[rows]), query), k)
    return rows[best], scores


def build_index(store: Store, metric: str) -> None:
    """Builds the index of a store and a metric, replacing an earlier one.

    Args:
        store: that is indexed.
        metric: as of `rank_by_vector`.

    Raises:
        StoreError: if faiss is missing, or the index cannot be written.
    """
    faiss, num_rows, width = _faiss(), len(store), store.embeddings.shape[1]
    num_cells = max(1, int(2 * num_rows**0.5))
    kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(width, f"IVF{num_cells},SQ8", kind)
    num_points = min(num_rows, POINTS_PER_CELL * num_cells)
    chosen = np.random.default_rng(0).choice(num_rows, num_points, replace=False)
    index.cp.min_points_per_centroid = 1  # small stores are indexed when asked for
    index.train(_prepare(store.embeddings[np.sort(chosen)], metric))
    block = 1 << 16
    for start in range(0, num_rows, block):
        index.add(_prepare(store.embeddings[start : start + block], metric))
    about, old = _get_metadata_path(store.path, metric), _list_index_files(store.path, metric)
    file = store.path / f"nearest-{metric}-{uuid.uuid4().hex[:12]}.faiss"
    try:
        with replace_file(file) as temporary:
            faiss.write_index(index, str(temporary))
        facts = {"file": file.name, "bytes": file.stat().st_size, **_identity(store, num_rows)}
        write_json(about, facts)
    except (OSError, RuntimeError) as error:
        raise StoreError(
            f"the index of {store.path} cannot be written ({error}): search with --exact."
        ) from error
    for path in old:
        path.unlink(missing_ok=True)


def _open_index(faiss: Any, store: Store, metric: str) -> tuple[Any, int] | None:
    """Returns the index and its number of rows; None if no index fits the store."""
    try:
        facts = json.loads(_get_metadata_path(store.path, metric).read_text(encoding="utf-8"))
        num_rows, file = facts["rows"], store.path / facts["file"]
        is_whole = file.stat().st_size == facts["bytes"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    known = {key: value for key, value in facts.items() if key not in ("file", "bytes")}
    if not is_whole or not 0 < num_rows <= len(store) or known != _identity(store, num_rows):
        return None
    if len(store) - num_rows > MAX_UNINDEXED_SHARE * len(store):
        return None
    return faiss.read_index(str(file), faiss.IO_FLAG_MMAP), num_rows


def _identity(store: Store, num_rows: int) -> dict[str, Any]:
    """Returns the values that must match for an index to fit: rows are only ever appended."""
    ends = store.line(0) + b"\n" + store.line(num_rows - 1) if num_rows else b""
    return {
        "format": INDEX_FORMAT,
        "model": store.about["model"],
        "rows": num_rows,
        "ends": hashlib.sha256(ends).hexdigest(),
    }


def _prepare(vectors: np.ndarray, metric: str) -> np.ndarray:
    """Returns vectors as stored in the index: of length 1 for cosine similarity."""
    vectors = np.array(vectors, np.float32)
    if metric == "cosine":
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return vectors


def _get_metadata_path(path: pathlib.Path, metric: str) -> pathlib.Path:
    return path / f"nearest-{metric}.json"


def _list_index_files(path: pathlib.Path, metric: str) -> list[pathlib.Path]:
    return sorted(path.glob(f"nearest-{metric}-*.faiss"))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise StoreError(
            'approximate search needs the package faiss: install it with pip install "musrep_jax'
            '[ann]", or search with --exact.'
        ) from error
    return faiss
