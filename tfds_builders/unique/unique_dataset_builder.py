"""`unique`: excerpts of 30 s in 14 genres, as folders of genres."""

from typing import ClassVar

from musrep_jax.data.corpora.genre_folders import GenreFolders

GENRES = (
    "blues",
    "country",
    "dance",
    "electronica",
    "hip-hop",
    "jazz",
    "klassik",
    "reggae",
    "rock",
    "schlager",
    "soul_rnb",
    "volksmusik",
    "world",
    "wort",
)
"""In alphabetical order, in the spelling of Hamel et al., ISMIR 2013."""


class Builder(GenreFolders):
    """The collection; see README.md."""

    NAME = "unique"
    TITLE = "Unique: 3,115 excerpts of 30 s in 14 genres."
    LICENCE = "none known; commercial recordings, gathered for research"
    LABEL_SETS: ClassVar = {"genres": GENRES}
