"""`hindustani`: Hindustani music: commercial recordings with raga, tala, instruments and form.

Source: C. Papaioannou, E. Benetos, A. Potamianos, "From West to East: Who can understand the music
of the others better?", ISMIR 2023 (arXiv 2307.09795), for labels, split and the part of a recording
that is used; the CompMusic corpora in Dunya for everything else.
"""

from collections.abc import Mapping

from musrep_jax.data.corpora.dunya import split_files
from musrep_jax.data.corpora.dunya_builder import DunyaBuilder, dunya_split_cards
from musrep_jax.data.corpora.tracks import SplitCard

LABELS = (
    "instrument--Voice",
    "instrument--Tabla",
    "form--Khayal",
    "instrument--Harmonium",
    "tala--Teentaal",
    "instrument--Tambura",
    "tala--Ektaal",
    "instrument--Sarangi",
    "instrument--Pakhavaj",
    "form--Dhrupad",
    "tala--Jhaptaal",
    "form--Thumri",
    "form--Bhajan",
    "instrument--Sitar",
    "raga--Bhairabi",
    "form--Tarana",
    "instrument--Bansuri",
    "raga--Yaman kalyan",
    "tala--Rupak",
    "raga--Bageshree",
)
"""In the published order, that of their number of training recordings when the paper was written.
What Dunya knows changes, so they are stated and not counted."""


class Builder(DunyaBuilder):
    """The recordings of the published lists; see README.md."""

    NAME = "hindustani"
    TITLE = "Hindustani music: commercial recordings with raga, tala, instruments and form."
    TRADITION = "hindustani"
    LABEL_SETS: Mapping[str, tuple[str, ...]] = {"top20": LABELS}
    SPLIT_CARDS: Mapping[str, SplitCard] = dunya_split_cards(train=844, validation=120, test=240)
    FILES = split_files("hindustani")
    MAX_SECONDS = 780.0
