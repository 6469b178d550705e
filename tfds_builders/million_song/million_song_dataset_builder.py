"""Million Song Dataset with Last.fm tags: the conventional split and the artist-level one (CALS).

Sources: T. Bertin-Mahieux, D. P. W. Ellis, B. Whitman, P. Lamere, "The Million Song Dataset", ISMIR
2011. Conventional split: public repository jongpillee/music_dataset_split. CALS: M. Won, K. Choi,
X. Serra, "Semi-supervised Music Tagging Transformer", ISMIR 2021, and its public repository.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.audio_index import index_audio
from musrep_jax.data.corpora.builder import CorpusBuilder
from musrep_jax.data.corpora.restricted_pickle import load_restricted_pickle
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.download.files import SourceFile
from musrep_jax.data.specs import UNLABELED

CONVENTIONAL_TAGS = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s"),
    *("alternative rock", "jazz", "beautiful", "metal", "chillout", "male vocalists"),
    *("classic rock", "soul", "indie rock", "Mellow", "electronica", "80s", "folk", "90s", "chill"),
    *("instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic"),
    *("experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country"),
    *("easy listening", "sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock"),
    *("60s", "rnb", "indie pop", "sad", "House", "happy"),
)
"""In the order of `50tagList.txt`, which is that of the columns of the tag vectors."""
CALS_TAGS = (
    *("rock", "pop", "indie", "alternative", "electronic", "hip-hop", "metal", "jazz", "punk"),
    *("folk", "alternative rock", "indie rock", "dance", "hard rock", "00s", "soul", "hardcore"),
    *("80s", "country", "classic rock", "punk rock", "blues", "chillout", "experimental"),
    *("heavy metal", "death metal", "90s", "reggae", "progressive rock", "ambient", "acoustic"),
    *("beautiful", "british", "rnb", "funk", "metalcore", "mellow", "world", "guitar", "trance"),
    *("indie pop", "christian", "house", "spanish", "latin", "psychedelic", "electro", "piano"),
    *("70s", "progressive metal"),
)
"""In the order of the published code, which is that of the columns of `*_binaries.npy`. Cleaned:
not the conventional fifty, though many names are the same."""

_CONVENTIONAL = "MSD_split"
_VECTORS = "msd_id_to_tag_vector.cP"
_CALS = "data/splits"
_CALS_PARTS = {"train": "train", "validation": "valid", "test": "test"}
_MIN_SECONDS = 29.1
"""Of the clips in the conventional lists."""
_ARTISTS = "unique_tracks.txt"
_ARTISTS_URL = f"http://millionsongdataset.com/sites/default/files/AdditionalFiles/{_ARTISTS}"
_SEPARATOR = "<SEP>"
_CONVENTIONAL_URL = (
    "https://raw.githubusercontent.com/jongpillee/music_dataset_split/"
    "07e855758f180ac8bdc0e3abebbde19277094681"
)
_CALS_URL = (
    "https://raw.githubusercontent.com/minzwon/semi-supervised-music-tagging-transformer/"
    "ca6a68741cdc962358a88955114fb879956a5f70"
)
_AUDIO_INSTRUCTIONS = (
    "What people use are 7digital's previews of 30 s, which are no longer public and may not be "
    "passed on. If your group has them, put them below audio/ in any folders, named by MSD id: "
    "audio/A/B/C/TRABC....mp3 (letters three to five of the id), or .wav, .flac, .ogg, .opus, .m4a."
)
_ARTISTS_INSTRUCTIONS = (
    "It is an additional file of the data set (millionsongdataset.com, getting the dataset); "
    "without it all works, but artists in two parts are not seen."
)


_Row = tuple[str, str, np.ndarray]
"""Track id, split, columns of its tags."""


def _conventional(name: str, size: int | None, sha256: str | None) -> SourceFile:
    path = f"{_CONVENTIONAL}/{name}"
    return SourceFile(path, f"{_CONVENTIONAL_URL}/{path}", size, sha256)


def _cals(name: str, size: int | None, sha256: str | None) -> SourceFile:
    path = f"{_CALS}/{name}"
    return SourceFile(path, f"{_CALS_URL}/{path}", size, sha256)


class Builder(CorpusBuilder):
    """Thirty-second previews with fifty tags; see README.md.

    Attributes:
        NUM_TRAIN: of the published training list; what follows in it is the validation part.
    """

    NAME = "million_song"
    TITLE = "Million Song Dataset: previews with the fifty most frequent Last.fm tags."
    LICENCE = (
        "Metadata of the Million Song Dataset and Last.fm tags: research, non-commercial; audio: "
        "previews of commercial recordings, not to be passed on; split lists: MIT."
    )
    LABEL_SETS: Mapping[str, tuple[str, ...]] = {
        "top50": CONVENTIONAL_TAGS,
        "cals50": CALS_TAGS,
    }
    SPLIT_CARDS: Mapping[str, SplitCard] = {
        "conventional": SplitCard(
            rule="published lists of clips over 29.1 s with a tag; the last 11,774 of the training "
            "list are validation. Artists lie in several parts.",
            source="jongpillee/music_dataset_split, MSD_split",
            sizes={"train": 201_680, "validation": 11_774, "test": 28_435},
            labels=("top50",),
        ),
        "cals": SplitCard(
            rule="cleaned and artist-level stratified split, with unlabelled tracks of other "
            "artists for training.",
            source="minzwon/semi-supervised-music-tagging-transformer, data/splits",
            sizes={"train": 163_504, "validation": 34_730, "test": 34_913, UNLABELED: 516_415},
            disjoint_by="artist",
            labels=("cals50",),
        ),
    }
    FORMS = ("encoded", "pcm16", "log_mel")
    GROUP = "artist"
    NUM_TRAIN = 201_680
    FILES = (
        _conventional("filtered_list_train.cP", None, None),
        _conventional(
            "filtered_list_test.cP",
            841_954,
            "084441297cdd59c944d104e940d864588e61458eaf8e7c1bf008cc9236e2a99a",
        ),
        _conventional(_VECTORS, None, None),
        _cals("train_ids.npy", None, None),
        _cals("train_binaries.npy", None, None),
        _cals(
            "valid_ids.npy",
            2_500_688,
            "a22ea7d1cba392db5aa5e1955683be899272feb2a5ecd0a61e0063888e89191d",
        ),
        _cals("valid_binaries.npy", None, None),
        _cals(
            "test_ids.npy",
            2_513_864,
            "ca6fcfe798ed6b8814251de9c5ab7e0413f41dd9cdea2edca176bbfe229bb304",
        ),
        _cals("test_binaries.npy", None, None),
        _cals("student_ids.npy", None, None),
        SourceFile(_ARTISTS, _ARTISTS_URL, None, None, how=_ARTISTS_INSTRUCTIONS),
        SourceFile("audio", None, None, None, how=_AUDIO_INSTRUCTIONS),
    )

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns every track of a split; see `CorpusBuilder.read_tracks`."""
        is_cals = split_name == "cals"
        rows = self._read_cals() if is_cals else self._read_conventional()
        audio = index_audio(self.folder)
        artists = self._read_artists({track_id for track_id, _, _ in rows})
        names = self.LABEL_SETS[label_set]
        return [
            CorpusTrack(
                track_id=track_id,
                path=audio.get(track_id, f"audio/{'/'.join(track_id[2:5])}/{track_id}.mp3"),
                labels=tuple(names[column] for column in columns),
                split=split,
                sources={"artist": artists[track_id]} if track_id in artists else {},
                seconds=None if is_cals else _MIN_SECONDS,
            )
            for track_id, split, columns in rows
        ]

    def _read_conventional(self) -> list[_Row]:
        train, test = (self._read_pickle(f"filtered_list_{x}.cP", list) for x in ("train", "test"))
        parts = {
            "train": train[: self.NUM_TRAIN],
            "validation": train[self.NUM_TRAIN :],
            "test": test,
        }
        vectors = self._read_pickle(_VECTORS, dict)
        rows = []
        for split, names in parts.items():
            for name in names:
                vector = np.ravel(vectors.get(name, ()))
                if len(vector) != len(CONVENTIONAL_TAGS):
                    raise BuildError(
                        f"{self.folder / _CONVENTIONAL / _VECTORS} has {len(vector)} instead of "
                        f"{len(CONVENTIONAL_TAGS)} tags for {name}, which a list beside it names: "
                        "they do not belong together; download them anew."
                    )
                rows.append((name, split, np.flatnonzero(vector)))
        return rows

    def _read_pickle(self, name: str, kind: type) -> Any:
        path = self.need(f"{_CONVENTIONAL}/{name}")
        content = load_restricted_pickle(path)
        if not isinstance(content, kind) or not all(isinstance(key, str) for key in content):
            raise BuildError(f"{path} is no {kind.__name__} of track ids; download it anew.")
        return content

    def _read_cals(self) -> list[_Row]:
        rows = []
        for split, part in _CALS_PARTS.items():
            names = self.read_list(f"{_CALS}/{part}_ids.npy")
            path = self.need(f"{_CALS}/{part}_binaries.npy")
            try:
                matrix = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise BuildError(
                    f"{path} cannot be read as a numpy array ({error}); download it anew."
                ) from error
            if matrix.shape != (len(names), len(CALS_TAGS)):
                raise BuildError(
                    f"{path} has the shape {matrix.shape} instead of {(len(names), len(CALS_TAGS))}"
                    f", a row of tags for each id of {part}_ids.npy; download both anew."
                )
            rows += [
                (name, split, np.flatnonzero(row)) for name, row in zip(names, matrix, strict=True)
            ]
        nothing = np.zeros(0, np.int64)
        rows += [(name, UNLABELED, nothing) for name in self.read_list(f"{_CALS}/student_ids.npy")]
        return rows

    def _read_artists(self, wanted: Set[str]) -> dict[str, str]:
        """Returns track id -> name of its artist, where the data set's list of tracks is there."""
        path = self.folder / _ARTISTS
        if not path.is_file():
            return {}
        artists = {}
        # A name here and there is not UTF-8; it still tells artists apart.
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                track_id, *others = line.split(_SEPARATOR)
                if len(others) < 2:
                    raise BuildError(
                        f"line {number} of {path} is not TRACK{_SEPARATOR}SONG{_SEPARATOR}ARTIST: "
                        "the file is damaged; download it anew."
                    )
                if track_id in wanted:
                    artists[track_id] = others[1]
        return artists

    def _notes(self) -> list[str]:
        """Adds what cannot be known without the list of tracks."""
        notes = super()._notes()
        if not any(track.sources for track in self.tracks):
            notes.append(f"artists are not known, and leakage is not seen: {_ARTISTS} is missing.")
        return notes
