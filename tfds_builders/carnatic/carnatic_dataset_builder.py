"""`carnatic`: Carnatic music: concert recordings with raga, tala, instruments and form.

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
    "instrument--Violin",
    "instrument--Mridangam",
    "form--Kriti",
    "tala--adi",
    "instrument--Ghatam",
    "instrument--Khanjira",
    "tala--rupaka",
    "tala--mishra chapu",
    "form--Varnam - Tana Varnam",
    "form--Alapana",
    "form--Pallavi",
    "raga--ragamalika",
    "tala--khanda chapu",
    "instrument--Morsing",
    "raga--thodi",
    "form--Thillana",
    "form--Mangalam",
    "raga--bhairavi",
    "raga--kalyani",
)
"""In the published order, that of their number of training recordings when the paper was written.
What Dunya knows changes, so they are stated and not counted."""


class Builder(DunyaBuilder):
    """The recordings of the published lists; see README.md."""

    NAME = "carnatic"
    TITLE = "Carnatic music: concert recordings with raga, tala, instruments and form."
    TRADITION = "carnatic"
    LABEL_SETS: Mapping[str, tuple[str, ...]] = {"top20": LABELS}
    SPLIT_CARDS: Mapping[str, SplitCard] = dunya_split_cards(train=1829, validation=261, test=522)
    FILES = split_files("carnatic")
    MAX_SECONDS = 330.0
