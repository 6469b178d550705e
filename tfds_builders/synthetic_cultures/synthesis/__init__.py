"""The project's own synthesis of five music traditions: generated audio with exact labels."""

from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tracks import (
    SAMPLE_RATE,
    TRACK_SECONDS,
    SyntheticCorpus,
    SyntheticTrack,
    label_counts,
    label_vocabulary,
    make_corpus,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.traditions import TRADITIONS

from musrep_jax.data.audio.log_mel import FRONT_END, log_mel

__all__ = [
    "FRONT_END",
    "SAMPLE_RATE",
    "TRACK_SECONDS",
    "TRADITIONS",
    "SyntheticCorpus",
    "SyntheticTrack",
    "label_counts",
    "label_vocabulary",
    "log_mel",
    "make_corpus",
]
