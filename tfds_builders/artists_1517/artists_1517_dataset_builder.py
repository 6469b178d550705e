"""`artists_1517`: songs of 1517 artists, as folders of genres."""

from typing import ClassVar

from musrep_jax.data.corpora.genre_folders import GenreFolders

GENRES = (
    "alternative & punk",
    "blues",
    "children's",
    "classical",
    "comedy & spoken word",
    "country",
    "easy listening & vocals",
    "electronic & dance",
    "folk",
    "hip-hop",
    "jazz",
    "latin",
    "new age",
    "r&b & soul",
    "reggae",
    "religious",
    "rock & pop",
    "soundtracks & more",
    "world",
)
"""In alphabetical order, in the spelling of Hamel et al., ISMIR 2013."""


class Builder(GenreFolders):
    """The collection; see README.md."""

    NAME = "artists_1517"
    TITLE = "1517-Artists: 3,180 songs in 19 genres, of which the first 30 s are used."
    LICENCE = "none known; commercial recordings, gathered for research"
    LABEL_SETS: ClassVar = {"genres": GENRES}
    MAX_SECONDS = 30.0
