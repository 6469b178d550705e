"""MTG-Jamendo: full tracks under Creative Commons licenses, tagged by those who uploaded them.

Source: D. Bogdanov, M. Won, P. Tovstogan, A. Porter, X. Serra, "The MTG-Jamendo Dataset for
Automatic Music Tagging", ICML 2019 workshop; public repository MTG/mtg-jamendo-dataset.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from musrep_jax.tfds_builders.mtg_jamendo.published_splits import (
    COMMIT,
    GENRES,
    INSTRUMENTS,
    MOODS,
    SPLIT_FILES,
    TOP50,
)

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.audio_index import index_audio
from musrep_jax.data.corpora.builder import CorpusBuilder
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.download.files import SourceFile

_COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
_SUBSETS = {
    "top50": ("top50",),
    "genre": ("genre",),
    "instrument": ("instrument",),
    "moodtheme": ("moodtheme",),
    "all": ("genre", "instrument", "moodtheme"),
}
"""Label set -> split files that it is read from. All tags are those of the three categories
together: the published files of all tags say the same (checked in validation and test of all five
splits), and no checksum of their training parts is known."""
_NUM_TRACKS_ALL = {
    0: {"train": 32859, "validation": 11101, "test": 11565},
    1: {"train": 33007, "validation": 10937, "test": 11581},
    2: {"train": 32616, "validation": 12246, "test": 10663},
    3: {"train": 33747, "validation": 10757, "test": 11021},
    4: {"train": 31509, "validation": 11893, "test": 12123},
}
_CHECKSUMS = "data/download/raw_30s_audio_sha256_tracks.txt"
_RAW_URL = f"https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/{COMMIT}"
_AUDIO_INSTRUCTIONS = (
    "Clone https://github.com/MTG/mtg-jamendo-dataset and run its own `python "
    "scripts/download/download.py --dataset raw_30s --type audio --unpack --remove FOLDER/audio` "
    "(508 GB; --type audio-low: 156 GB, mono; --dataset autotagging_moodtheme: the mood/theme "
    "tracks only, 152 or 46 GB); it resumes and checks every file."
)


class Builder(CorpusBuilder):
    """The tracks of a set of tags in one of the five published splits."""

    NAME = "mtg_jamendo"
    TITLE = "MTG-Jamendo: full tracks from Jamendo with genre, instrument and mood/theme tags."
    LICENCE = (
        "Audio: Creative Commons, each track its own (audio_licenses.txt of the public "
        "repository); metadata: CC BY-NC-SA 4.0."
    )
    LABEL_SETS: Mapping[str, tuple[str, ...]] = {
        "top50": TOP50,
        "genre": GENRES,
        "instrument": INSTRUMENTS,
        "moodtheme": MOODS,
        "all": (*GENRES, *INSTRUMENTS, *MOODS),
    }
    SPLIT_CARDS: Mapping[str, SplitCard] = {
        f"split{number}": SplitCard(
            rule=f"published split {number} of five; no artist in two parts, every tag in each.",
            source=f"MTG/mtg-jamendo-dataset, data/splits/split-{number}",
            disjoint_by="artist",
        )
        for number in range(5)
    }
    FORMS = ("encoded", "pcm16", "log_mel")
    GROUP = "artist"
    FILES = (
        *(
            SourceFile(row.path, f"{_RAW_URL}/{row.path}", row.size, row.sha256)
            for row in SPLIT_FILES
        ),
        SourceFile(_CHECKSUMS, f"{_RAW_URL}/{_CHECKSUMS}", None, None),
        SourceFile("audio", None, None, None, how=_AUDIO_INSTRUCTIONS),
    )

    @property
    def card(self) -> SplitCard:
        """The card of the split, with the sizes that it has for these labels."""
        number = int(self.split_name.removeprefix("split"))
        if self.label_set == "all":
            sizes = _NUM_TRACKS_ALL[number]
        else:
            rows = [row for row in SPLIT_FILES if row[:2] == (number, self.label_set)]
            sizes = {row.part: row.num_tracks for row in rows}
        return dataclasses.replace(super().card, sizes=sizes)

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns every track of a split; see `CorpusBuilder.read_tracks`."""
        number = int(split_name.removeprefix("split"))
        audio = index_audio(self.folder)
        checksums = self._read_checksums()
        tracks: dict[str, CorpusTrack] = {}
        for row in SPLIT_FILES:
            if row.number != number or row.subset not in _SUBSETS[label_set]:
                continue
            for track_id, artist, album, path, seconds, tags in self._read_rows(row.path):
                known = tracks.get(track_id)
                tracks[track_id] = CorpusTrack(
                    track_id=track_id,
                    path=audio.get(path.rpartition("/")[2].partition(".")[0], f"audio/{path}"),
                    labels=(*(known.labels if known else ()), *tags),
                    split=row.part,
                    sources={
                        "artist": artist,
                        "album": album,
                        "recording": checksums.get(path, ""),
                    },
                    seconds=seconds,
                )
        return list(tracks.values())

    def _read_rows(self, path: str) -> Iterator[tuple[str, str, str, str, float, list[str]]]:
        """Yields the rows of a split file; every field from the sixth on is a tag."""
        rows = self.iter_rows(path)
        if next(rows, None) != _COLUMNS:
            raise BuildError(
                f"{self.folder / path} does not begin with the columns {', '.join(_COLUMNS)}; "
                f"download it anew with `musrep download {self.NAME}`."
            )
        for number, row in enumerate(rows, 2):
            try:
                track_id, artist, album, audio, seconds, *tags = row
                length = float(seconds)
            except ValueError as error:
                raise BuildError(
                    f"row {number} of {self.folder / path} has no five fields of which the last is "
                    f"a length in seconds ({error}): the file is damaged; download it anew."
                ) from error
            yield track_id, artist, album, audio, length, tags

    def _read_checksums(self) -> dict[str, str]:
        """Returns path -> published sha256 of the audio, where that list is there.

        Some tracks are the same file under two artists; equal sums make that known as leakage.
        """
        path = self.folder / _CHECKSUMS
        if not path.is_file():
            return {}
        rows = (line.split() for line in self.read_text(_CHECKSUMS).splitlines())
        return {row[1]: row[0] for row in rows if len(row) == 2}
