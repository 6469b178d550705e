"""Base class of collections that are folders of genres, each with recordings; artists where known.

    audio/GENRE/recording.mp3
    audio/GENRE/ARTIST/recording.mp3      the artist is the folder within that of the genre

Folders may be spelled in any way that has the same letters and digits as the genre's name. A table
`artists.tsv` (columns `path`, below `audio/`, and `artist`) says more artists, or others.
"""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from musrep_jax.data.audio.formats import AUDIO_SUFFIXES
from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.builder import GENERATED_SPLIT, CorpusBuilder
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.download.files import SourceFile

AUDIO, ARTISTS = "audio", "artists.tsv"
AUDIO_INSTRUCTIONS = (
    "No public address is known that stays; put the folders of genres of your copy into audio/, "
    "with a folder for each artist within them if you know the artists."
)
ARTIST_SPLIT = SplitCard(
    rule="Made by artist, about 60, 15 and 25 % of the recordings; a recording whose artist is not "
    "known counts as one by itself.",
    disjoint_by="artist",
)
STRATIFIED_SPLIT = SplitCard(
    rule="All recordings at random, genres in equal shares. Artists are not looked at: where one "
    "lies in several parts, scores flatter.",
)


class GenreFolders(CorpusBuilder):
    """Base of such collections: a subclass names the genres and the facts."""

    SPLIT_CARDS: ClassVar = {"artist": ARTIST_SPLIT, "stratified": STRATIFIED_SPLIT}
    FILES = (
        SourceFile(AUDIO, None, None, None, how=AUDIO_INSTRUCTIONS),
        SourceFile(ARTISTS, None, None, None, how="Optional: who plays, as README.md says."),
    )
    GROUP = "artist"

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns the recordings of all genre folders."""
        audio, genres = self.need(AUDIO), self.LABEL_SETS[label_set]
        genre_of = {_spell(genre): genre for genre in genres}
        artists = self._read_artists()
        tracks: dict[str, CorpusTrack] = {}
        for path in sorted(audio.rglob("*")):
            if path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():
                continue
            relative = path.relative_to(audio)
            genre = genre_of.get(_spell(relative.parts[0])) if len(relative.parts) > 1 else None
            if genre is None:
                raise BuildError(
                    f"{path} lies in no folder of a genre of {self.NAME}; these are "
                    f"{', '.join(genres)}."
                )
            name = relative.as_posix()
            artist = relative.parts[1] if len(relative.parts) > 2 else ""
            artist = artists.get(name, artist)
            track_id = relative.with_suffix("").as_posix()
            if track_id in tracks:
                raise BuildError(
                    f"{path} and {audio / tracks[track_id].path.partition('/')[2]} have the same "
                    "name but for the suffix; keep one of them."
                )
            tracks[track_id] = CorpusTrack(
                track_id, f"{AUDIO}/{name}", (genre,), GENERATED_SPLIT,
                sources={"artist": artist} if artist else {},
            )  # fmt: skip
        return list(tracks.values())

    def _read_artists(self) -> Mapping[str, str]:
        """Returns path -> artist of the table, which need not be there."""
        if not (self.folder / ARTISTS).is_file():
            return {}
        return {row["path"]: row["artist"] for row in self.read_table(ARTISTS, ("path", "artist"))}


def _spell(name: str) -> str:
    """Returns the letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", name.casefold())
