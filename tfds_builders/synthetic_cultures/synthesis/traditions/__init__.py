"""The five traditions; a new one is one file here and one line in this table."""

from collections.abc import Mapping

from musrep_jax.tfds_builders.synthetic_cultures.synthesis.plans import Tradition
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.traditions import (
    carnatic,
    greek,
    hindustani,
    makam,
    western,
)

TRADITIONS: Mapping[str, Tradition] = {
    "western": western.TRADITION,
    "greek": greek.TRADITION,
    "makam": makam.TRADITION,
    "hindustani": hindustani.TRADITION,
    "carnatic": carnatic.TRADITION,
}
"""Name of the builder config -> tradition."""
