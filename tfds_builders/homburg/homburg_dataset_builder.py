"""`homburg`: excerpts of 10 s in nine genres, as folders of genres."""

from typing import ClassVar

from musrep_jax.data.corpora.genre_folders import GenreFolders

GENRES = (
    "alternative",
    "blues",
    "electronic",
    "folkcountry",
    "funksoulrnb",
    "jazz",
    "pop",
    "raphiphop",
    "rock",
)
"""In alphabetical order, in the spelling of Hamel et al., ISMIR 2013."""


class Builder(GenreFolders):
    """The collection; see README.md."""

    NAME = "homburg"
    TITLE = "Homburg: 1,886 excerpts of 10 s in nine genres."
    LICENCE = "none known; commercial recordings, gathered for research"
    LABEL_SETS: ClassVar = {"genres": GENRES}
