"""`turkish_makam`: Turkish makam music: commercial recordings with makam, usul and instruments.

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
    "instrument--Kanun",
    "instrument--Tanbur",
    "instrument--Ney",
    "instrument--performing orchestra",
    "instrument--Oud",
    "instrument--Classical kemençe",
    "instrument--Cello",
    "instrument--Violin",
    "usul--Aksak",
    "makam--Hicaz",
    "instrument--Percussion",
    "usul--Düyek",
    "usul--Aksaksemai",
    "makam--Nihavent",
    "makam--Hüzzam",
    "instrument--Clarinet",
    "usul--Curcuna",
    "makam--Kürdilihicazkar",
    "instrument--Bendir",
    "makam--Uşşak",
    "makam--Rast",
    "instrument--Kudüm",
    "instrument--Viola",
    "usul--Yürüksemai",
    "usul--Sofyan",
    "makam--Segah",
    "usul--Ağıraksak",
    "makam--Hüseyni",
    "usul--Devr-i Kebir",
)
"""In the published order, that of their number of training recordings when the paper was written.
What Dunya knows changes, so they are stated and not counted."""


class Builder(DunyaBuilder):
    """The recordings of the published lists; see README.md."""

    NAME = "turkish_makam"
    TITLE = "Turkish makam music: commercial recordings with makam, usul and instruments."
    TRADITION = "makam"
    LABEL_SETS: Mapping[str, tuple[str, ...]] = {"top30": LABELS}
    SPLIT_CARDS: Mapping[str, SplitCard] = dunya_split_cards(train=3709, validation=529, test=1059)
    FILES = split_files("makam")
    MAX_SECONDS = 150.0
