"""`fma`: the medium subset of the Free Music Archive, clips of 30 s with 20 genres.

The genres of a track are those of `split/metadata.npy` of the cross-cultural code: the track's own
and all their parents. That file is a pickle; it is read as plain data, and nothing in it can be
called (`musrep_jax/data/corpora/restricted_pickle.py`).
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import tensorflow_datasets as tfds

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.builder import GENERATED_SPLIT, CorpusBuilder
from musrep_jax.data.corpora.restricted_pickle import load_restricted_pickle
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.download.files import SourceFile

GENRES = "split/metadata.npy"
TRACKS = "fma_metadata/tracks.csv"

TOP20 = (
    "Rock", "Electronic", "Punk", "Experimental", "Hip-Hop", "Folk", "Garage", "Instrumental",
    "Indie-Rock", "Pop", "Chip Music", "Ambient Electronic", "International", "IDM", "Techno",
    "Downtempo", "Soundtrack", "Chiptune", "House", "Hardcore",
)  # fmt: skip
"""The most frequent genres of the training part of `crosscultural`, equals by code point."""

TRUNCATED_TRACK_IDS = (
    1486, 5574, 65753, 80391, 98558, 98559, 98560, 98565, 98566, 98567, 98568, 98569, 98571, 99134,
    105247, 108925, 126981, 127336, 133297, 143992,
)  # fmt: skip
"""Clips that were cut by a wrong length, so that they are short or empty. Source: mdeff/fma#8; the
published lists of `crosscultural` leave out exactly these."""

_PREFIXES = ("fma_medium/", "")
_LISTS = {
    "train": "split/train.npy",
    "validation": "split/valid.npy",
    "test": "split/test.npy",
}
_SUBSETS = {"small", "medium"}
"""What `tracks.csv` calls them: the medium subset contains the small one."""
_OFFICIAL_SPLITS = {"training": "train", "validation": "validation", "test": "test"}
_SECONDS = 30.0
_UNKNOWN_ALBUM_ID = "-1"
"""What `tracks.csv` gives a track of no album; source: `creation.ipynb` of mdeff/fma."""
_LISTS_URL = "https://raw.githubusercontent.com/pxaris/ccml/1f20c2f3df38ad0ef6ae774ca6a280ed9d23e04e/data/fma"
_ARCHIVES_URL = "https://os.unil.cloud.switch.ch/fma"
_TRACK_COLUMNS = (("set", "subset"), ("set", "split"), ("artist", "id"), ("album", "id"))


class Builder(CorpusBuilder):
    """Reads genres and lists of the cross-cultural code, artists and the official split of FMA."""

    VERSION = tfds.core.Version("1.0.0")
    NAME = "fma"
    TITLE = "FMA-medium: clips of 30 s of the Free Music Archive with their hierarchy of genres."
    LICENCE = (
        "recordings under the Creative Commons licence that each artist chose (tracks.csv, "
        "track.license); metadata CC BY 4.0; lists and genres of pxaris/ccml Apache-2.0"
    )
    LABEL_SETS: ClassVar = {"top20": TOP20}
    SPLIT_CARDS: ClassVar = {
        "crosscultural": SplitCard(
            rule="Random 70, 10 and 20 % of the tracks, as published in lists; artists and albums "
            "lie in several parts.",
            source="pxaris/ccml (Papaioannou, Benetos and Potamianos, ISMIR 2023)",
            sizes={"train": 17486, "validation": 2498, "test": 4996},
        ),
        "official": SplitCard(
            rule="The split of FMA itself, column `set.split` of tracks.csv: about 80, 10 and 10 % "
            "of each genre, no artist in two parts.",
            source="mdeff/fma (Defferrard, Benzi, Vandergheynst and Bresson, ISMIR 2017)",
            sizes={"train": 19922, "validation": 2505, "test": 2573},
            disjoint_by="artist",
        ),
        "artist": SplitCard(
            rule="The tracks of `crosscultural`, made anew by artist: about 60, 15 and 25 % of "
            "them.",
            disjoint_by="artist",
        ),
    }
    FILES = (
        SourceFile(
            "split/train.npy",
            f"{_LISTS_URL}/split/train.npy",
            419_792,
            "2696415293bfc7003219c969f2b50c80fef37c44d9e3981be28635ac514ce7d4",
        ),
        SourceFile(
            "split/valid.npy",
            f"{_LISTS_URL}/split/valid.npy",
            60_080,
            "8cfc237e989e43996352acf67ccad548db4620ad26840c5e593a19664e907f45",
        ),
        SourceFile(
            "split/test.npy",
            f"{_LISTS_URL}/split/test.npy",
            120_032,
            "ad05773b1156b29662f35cc1f7ad58ff592f17ef3fe39b213455221bf40ff137",
        ),
        SourceFile(
            GENRES,
            f"{_LISTS_URL}/split/metadata.npy",
            776_729,
            "506f9b51e0f39c49193b18ca8eb91dcbea754776eac6c4d34feac8e1c78b187d",
        ),
        SourceFile(
            "fma_metadata.zip",
            f"{_ARCHIVES_URL}/fma_metadata.zip",
            358_412_441,
            "d9527a5297a65da31c5676484d5047c3e2b8a8060ce72a46e26158be736bf265",
            unpack=True,
            how="https://github.com/mdeff/fma links it (sha1 f0df49ffe5f2a6008d7dc83c6915b31835dfe"
            "733); needed for the splits official and artist, and for leakage by artist.",
        ),
        SourceFile(
            "fma_medium.zip",
            f"{_ARCHIVES_URL}/fma_medium.zip",
            23_825_005_356,
            None,
            unpack=True,
            how="https://github.com/mdeff/fma links it (sha1 c67b69ea232021025fca9231fc1c7c1a063ab"
            "50b).",
        ),
    )
    GROUP = "artist"
    KNOWN_BAD: ClassVar = {
        f"{prefix}{f'{number:06d}'[:3]}/{number:06d}.mp3": "was cut by a wrong length and is short "
        "or empty (mdeff/fma#8)."
        for prefix in _PREFIXES
        for number in TRUNCATED_TRACK_IDS
    }

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns the tracks of a split."""
        genres = self._read_genres()
        needs_tracks = split_name != "crosscultural"
        facts = self._read_facts() if needs_tracks or (self.folder / TRACKS).exists() else {}
        if split_name == "official":
            splits = {track_id: _OFFICIAL_SPLITS[fact["split"]] for track_id, fact in facts.items()}
        else:
            splits = {
                track_id: GENERATED_SPLIT if split_name == "artist" else split
                for split, file in _LISTS.items()
                for track_id in self.read_list(file)
            }
        paths = {track_id: f"{track_id[:3]}/{track_id}.mp3" for track_id in splits}
        prefix = self.find_prefix(_PREFIXES, list(paths.values()))
        unknown = [track_id for track_id in splits if track_id not in genres]
        if unknown:
            raise BuildError(f"{self.folder / GENRES} has no genres of track {unknown[0]!r}.")
        return [
            CorpusTrack(
                track_id=track_id,
                path=f"{prefix}{paths[track_id]}",
                labels=tuple(genres[track_id]),
                split=split,
                sources={
                    kind: facts[track_id][kind] for kind in ("artist", "album") if track_id in facts
                },
                seconds=_SECONDS,
            )
            for track_id, split in splits.items()
        ]

    def _read_genres(self) -> Mapping[str, Sequence[str]]:
        """Returns track id -> names of its genres, parents included."""
        path = self.need(GENRES)
        genres = load_restricted_pickle(path)
        if not isinstance(genres, dict) or not all(
            isinstance(key, str) and isinstance(value, list) for key, value in genres.items()
        ):
            raise BuildError(f"{path} is not the published table of genres; download it anew.")
        return genres

    def _read_facts(self) -> dict[str, dict[str, str]]:
        """Returns track id -> split, artist and album of the medium subset, from `tracks.csv`."""
        source = self.folder / TRACKS
        rows = self.iter_rows(TRACKS, delimiter=",")
        columns = list(zip(next(rows, []), next(rows, []), strict=False))
        missing = [name for name in _TRACK_COLUMNS if name not in columns]
        if missing:
            raise BuildError(
                f"{source} has no column {'.'.join(missing[0])}: it is not the published table; "
                "download it anew."
            )
        subset, split, artist, album = (columns.index(name) for name in _TRACK_COLUMNS)
        facts = {}
        for row in rows:
            if row[0].isdigit() and row[subset] in _SUBSETS:
                if row[split] not in _OFFICIAL_SPLITS:
                    raise BuildError(f"{source} gives track {row[0]} the split {row[split]!r}.")
                facts[f"{int(row[0]):06d}"] = {
                    "split": row[split],
                    "artist": row[artist],
                    "album": "" if row[album] == _UNKNOWN_ALBUM_ID else row[album],
                }
        return facts
