"""`gtzan`: ten genres, in the fault-filtered split and in one over all 1,000 excerpts."""

import pathlib
import re
from collections.abc import Sequence
from typing import ClassVar

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.builder import GENERATED_SPLIT, CorpusBuilder
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.download.files import SourceFile

GENRES = (
    *("blues", "classical", "country", "disco", "hiphop"),
    *("jazz", "metal", "pop", "reggae", "rock"),
)
"""In alphabetical order, that of the collection's folders."""

_EXCERPTS_PER_GENRE = 100
_EXCERPT_SECONDS = 30.0
_LISTS = {
    "train": "split/train_filtered.txt",
    "validation": "split/valid_filtered.txt",
    "test": "split/test_filtered.txt",
}
_LISTS_URL = (
    "https://raw.githubusercontent.com/jongpillee/music_dataset_split/"
    "07e855758f180ac8bdc0e3abebbde19277094681/GTZAN_split/"
)
_NAME = re.compile(rf"({'|'.join(GENRES)})/\1\.\d{{5}}")


def _list_file(split: str, size: int, sha256: str) -> SourceFile:
    path = _LISTS[split]
    return SourceFile(path, _LISTS_URL + pathlib.PurePosixPath(path).name, size, sha256)


class Builder(CorpusBuilder):
    """Excerpts of 30 s at 22,050 Hz with one genre each; see README.md."""

    NAME = "gtzan"
    TITLE = "GTZAN: 1,000 excerpts of 30 s, one of ten genres each."
    LICENCE = (
        "none stated; excerpts of commercial recordings, gathered for research in 2000 and 2001"
    )
    LABEL_SETS: ClassVar = {"genres": GENRES}
    SPLIT_CARDS: ClassVar = {
        "filtered": SplitCard(
            rule="The fault-filtered lists: 70 faulty or repeated excerpts left out, and artists "
            "kept within one part by those who made it; the lists themselves name no artist.",
            source="jongpillee/music_dataset_split, after Kereliuk, Sturm and Larsen, "
            "Deep Learning and Music Adversaries (2015)",
            sizes={"train": 443, "validation": 197, "test": 290},
        ),
        "stratified": SplitCard(
            rule="All 1,000 excerpts at random, genres in equal shares. The artists are not known "
            "to it: excerpts of one artist, and repeated ones, lie in different parts, and scores "
            "on it flatter.",
        ),
    }
    FILES = (
        _list_file(
            "train", 10152, "2b04966cef1486f1a7767b74271533fa23e220388db804a1937835e1fc4fa3fa"
        ),
        _list_file(
            "validation", 4522, "f8fbee7c52397a0e0f3a91dc54fedecb2e27f5bdc9a9daeab8cb10d077e26956"
        ),
        _list_file(
            "test", 6616, "09cafa6a89ce0a27f30ed250d56ecb4d03c22fffb5a693f96c7ae655ee02ac72"
        ),
        SourceFile(
            "genres.tar.gz",
            "https://web.archive.org/web/20220328223413/"
            "http://opihi.cs.uvic.ca/sound/genres.tar.gz",
            None,
            "24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6",
            unpack=True,
            how="The host of the collection is gone; put the ten genre folders of any copy "
            "(huggingface.co/datasets/marsyas/gtzan has one) into genres/ and leave the archive "
            "out.",
        ),
    )

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns the excerpts of the published lists, or all 1,000."""
        del label_set  # There is one.
        self.need("genres")
        if split_name == "filtered":
            return [
                self._track(name, split)
                for split, path in _LISTS.items()
                for name in self._read_list(path)
            ]
        return [
            self._track(f"{genre}/{genre}.{number:05d}", GENERATED_SPLIT)
            for genre in GENRES
            for number in range(_EXCERPTS_PER_GENRE)
        ]

    def _read_list(self, path: str) -> list[str]:
        """Returns names such as `blues/blues.00000`."""
        names = [line.strip().removesuffix(".wav") for line in self.read_text(path).splitlines()]
        for number, name in enumerate(names, 1):
            if not _NAME.fullmatch(name):
                raise BuildError(
                    f"line {number} of {self.folder / path} is {name!r}, not GENRE/GENRE.NNNNN.wav;"
                    " download it anew."
                )
        return names

    def _track(self, name: str, split: str) -> CorpusTrack:
        # Older copies of the collection are .au files.
        is_au = (self.folder / f"genres/{name}.au").is_file()
        path = f"genres/{name}.{'au' if is_au else 'wav'}"
        genre, track_id = name.split("/")
        return CorpusTrack(track_id, path, (genre,), split, seconds=_EXCERPT_SECONDS)
