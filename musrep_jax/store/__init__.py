"""Embeddings and tags of many recordings in a folder, found again in milliseconds; numpy only.

A store can be read without this package:

    embeddings = np.load("STORE/embeddings.npy", mmap_mode="r")
    probabilities = np.load("STORE/probabilities.npy", mmap_mode="r")
    tracks = [json.loads(line) for line in open("STORE/tracks.jsonl", encoding="utf-8")]

Row i of the arrays is line i of `tracks.jsonl`; `store.json` names the labels and the model.
`musrep_jax.store.store` has the format, `musrep_jax.store.search` the queries,
`musrep_jax.store.approximate` those of very large stores.
"""

from musrep_jax.store.files import FileIdentity, StoreError, identify_file
from musrep_jax.store.search import parse_tags, rank_by_tags, rank_by_vector
from musrep_jax.store.store import Store, StoreWriter

__all__ = [
    "FileIdentity",
    "Store",
    "StoreError",
    "StoreWriter",
    "identify_file",
    "parse_tags",
    "rank_by_tags",
    "rank_by_vector",
]
