"""Data sets and the input pipeline; knows no JAX.

from musrep_jax.data import open_dataset
dataset = open_dataset("audio_folder:recordings", sample_rate=16000)
dataset.spec.label_names, dataset.tracks("train").label_matrix
"""

from musrep_jax.data.datasets import DATASETS, Dataset, DatasetError, open_dataset
from musrep_jax.data.input.tracks import Tracks
from musrep_jax.data.specs import SPLITS, ChunkSpec, DatasetSpec

__all__ = [
    "DATASETS",
    "SPLITS",
    "ChunkSpec",
    "Dataset",
    "DatasetError",
    "DatasetSpec",
    "Tracks",
    "open_dataset",
]
