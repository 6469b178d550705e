"""Approximate search against exact search: how many of the ten nearest it finds, and how fast.

    python -m benchmarks.nearest                    # a million tracks, 64 numbers each
    python -m benchmarks.nearest --centres=100000   # more centers than cells of the index: harder

The embeddings are drawn around random centers. Milliseconds are medians, on the clock and of the
processor; on a busy machine only the latter mean something.
"""

import argparse
import json
import pathlib
import tempfile
import time

import numpy as np

from musrep_jax.store import Store, StoreWriter, rank_by_vector
from musrep_jax.store.approximate import build_index, rank_approximately
from musrep_jax.store.arrays import GrowingArray
from musrep_jax.store.files import TRACKS_FILE, format_json_line

K = 10
SPREAD = 0.5
BLOCK = 1 << 16


def make_store(path: pathlib.Path, num_tracks: int, width: int, num_centres: int = 1000) -> Store:
    """Returns a store of made-up tracks.

    Args:
        path: of its folder.
        num_tracks: rows.
        width: numbers in an embedding.
        num_centres: around which they lie.
    """
    about = {"model": "made up", "name": "made up", "export": "", "labels": [], "width": width,
             "per_chunk": False}  # fmt: skip
    StoreWriter(path, about).close()
    random = np.random.default_rng(0)
    centres = random.standard_normal((num_centres, width), np.float32)
    with (
        GrowingArray(path / "embeddings.npy", (width,), "<f4") as embeddings,
        GrowingArray(path / "probabilities.npy", (0,), "<f4") as probabilities,
        open(path / TRACKS_FILE, "wb") as tracks,
    ):
        for start in range(0, num_tracks, BLOCK):
            rows = range(start, min(start + BLOCK, num_tracks))
            noise = random.standard_normal((len(rows), width), np.float32)
            embeddings.append(
                centres[random.integers(num_centres, size=len(rows))] + SPREAD * noise
            )
            probabilities.append(np.zeros((len(rows), 0)))
            for row in rows:
                track = {"path": f"/music/album_{row // 10:06d}/track_{row:07d}.flac"}
                track |= {"sha256": f"{row:064x}", "size": 0, "mtime_ns": 0, "seconds": 180.0}
                tracks.write(
                    format_json_line(track | {"chunks": 1, "first_chunk": row}).encode() + b"\n"
                )
        embeddings.count()
        probabilities.count()
    return Store(path)


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--centres", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "store"
        made = make_store(path, asked.tracks, asked.width, asked.centres)
        seconds = {"build_index": time.perf_counter()}
        build_index(made, "cosine")
        seconds["build_index"] = time.perf_counter() - seconds["build_index"]
        start = time.perf_counter()
        store = Store(path)
        seconds["open_store"] = time.perf_counter() - start
        queries = np.random.default_rng(1).integers(len(store), size=asked.queries)
        times, hits = {"exact": [], "approximate": []}, 0
        for row in queries:
            vector, found = store.embeddings[row], {}
            for name, search in (
                ("exact", lambda v: rank_by_vector(store.embeddings, v, K)),
                ("approximate", lambda v: rank_approximately(store, v, K)),
            ):
                start = time.perf_counter(), time.process_time()
                found[name] = set(search(vector)[0].tolist())
                end = time.perf_counter(), time.process_time()
                times[name].append(np.subtract(end, start))
            hits += len(found["exact"] & found["approximate"])
        size = sum(file.stat().st_size for file in path.glob("nearest-*"))
        result = {
            "tracks": asked.tracks,
            "width": asked.width,
            "centres": asked.centres,
            "recall_at_10": hits / (K * asked.queries),
            "milliseconds": {
                name: dict(
                    zip(("clock", "processor"), 1e3 * np.median(values, axis=0), strict=True)
                )
                for name, values in times.items()
            },
            "seconds": seconds,
            "index_megabytes": size / 1e6,
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
