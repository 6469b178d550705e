"""`magnatagatune`: clips of 29 s, tagged by the players of a game; the 50 top tags, or all 188.

Artist, album, recording and length are read off the file names
(`c/ARTIST-ALBUM-NN-TITLE-FROM-TO.mp3`, hyphens only between the parts), which say the same as
`clip_info_final.csv` and are always there.
"""

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

import tensorflow_datasets as tfds

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.builder import GENERATED_SPLIT, CorpusBuilder
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.download.files import SourceFile

ANNOTATIONS = "annotations_final.csv"

TOP50 = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast",
    "piano", "ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male",
    "singing", "vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman",
    "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man", "classic", "choir", "voice",
    "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello", "no voice", "weird",
    "country", "metal", "female voice", "choral",
)  # fmt: skip
"""In the order of the public lists `tags.npy`; other lists swap "metal" and "female voice"."""

ALL188 = (
    "no voice", "singer", "duet", "plucking", "hard rock", "world", "bongos", "harpsichord",
    "female singing", "clasical", "sitar", "chorus", "female opera", "male vocal", "vocals",
    "clarinet", "heavy", "silence", "beats", "men", "woodwind", "funky", "no strings", "chimes",
    "foreign", "no piano", "horns", "classical", "female", "no voices", "soft rock", "eerie",
    "spacey", "jazz", "guitar", "quiet", "no beat", "banjo", "electric", "solo", "violins", "folk",
    "female voice", "wind", "happy", "ambient", "new age", "synth", "funk", "no singing",
    "middle eastern", "trumpet", "percussion", "drum", "airy", "voice", "repetitive", "birds",
    "space", "strings", "bass", "harpsicord", "medieval", "male voice", "girl", "keyboard",
    "acoustic", "loud", "classic", "string", "drums", "electronic", "not classical", "chanting",
    "no violin", "not rock", "no guitar", "organ", "no vocal", "talking", "choral", "weird",
    "opera", "soprano", "fast", "acoustic guitar", "electric guitar", "male singer", "man singing",
    "classical guitar", "country", "violin", "electro", "reggae", "tribal", "dark", "male opera",
    "no vocals", "irish", "electronica", "horn", "operatic", "arabic", "lol", "low", "instrumental",
    "trance", "chant", "strange", "drone", "synthesizer", "heavy metal", "modern", "disco", "bells",
    "man", "deep", "fast beat", "industrial", "hard", "harp", "no flute", "jungle", "pop", "lute",
    "female vocal", "oboe", "mellow", "orchestral", "viola", "light", "echo", "piano", "celtic",
    "male vocals", "orchestra", "eastern", "old", "flutes", "punk", "spanish", "sad", "sax", "slow",
    "male", "blues", "vocal", "indian", "no singer", "scary", "india", "woman", "woman singing",
    "rock", "dance", "piano solo", "guitars", "no drums", "jazzy", "singing", "cello", "calm",
    "female vocals", "voices", "different", "techno", "clapping", "house", "monks", "flute",
    "not opera", "not english", "oriental", "beat", "upbeat", "soft", "noise", "choir",
    "female singer", "rap", "metal", "hip hop", "quick", "water", "baroque", "women", "fiddle",
    "english",
)  # fmt: skip
"""All tags in the order of the table's columns, misspelled ones as they are."""

_PREFIXES = ("", "mp3/")
"""Of the clips: the zip unpacks into the folders 0 to f; some keep these in a folder `mp3`."""
_FOLDER_SPLITS = {
    **dict.fromkeys("0123456789ab", "train"),
    "c": "validation",
    **dict.fromkeys("def", "test"),
}
EMPTY_CLIPS = (
    "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-"
    "le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
)
_PATH = re.compile(
    r"(?P<folder>[0-9a-f])/(?P<artist>[^/-]+)-(?P<album>[^/-]+)-(?P<number>\d+)-(?P<title>[^/-]*)"
    r"-(?P<start>\d+)-(?P<end>\d+)\.mp3"
)
_BASE_URL = "https://mirg.city.ac.uk/datasets/magnatagatune"
_PAGE = "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"
_DOWNLOAD_INSTRUCTIONS = f"The page {_PAGE} links it."
_PARTS = (
    (
        "mp3.zip.001",
        1_100_000_000,
        "f857fe185968773058cc71662c2ef5d8f2d4b7338e3c122cfd52f82dcb9760b9",
    ),
    (
        "mp3.zip.002",
        1_100_000_000,
        "fc2e1ec441755556ed1398b1808f1b08b6034372f8bc27394510c0c58cdb52ce",
    ),
    (
        "mp3.zip.003",
        772_769_864,
        "83a689824c17e82f6eb81cdbc4e4ca239a4cfc1fb41f1a5c80b861caec90450f",
    ),
)


class Builder(CorpusBuilder):
    """Reads the annotations; the folder that a clip lies in decides on its split."""

    VERSION = tfds.core.Version("1.0.0")
    NAME = "magnatagatune"
    TITLE = "MagnaTagATune: clips of 29 s of Magnatune's music, tagged by the players of a game."
    LICENCE = (
        "recordings by Magnatune, CC BY-NC-SA 1.0; annotations published for research, without a "
        "licence of their own"
    )
    LABEL_SETS: ClassVar = {"top50": TOP50, "all188": ALL188}
    SPLIT_CARDS: ClassVar = {
        "cleaned": SplitCard(
            rule="Clips that have one of the 50 tags and that decode, by folder: 0 to b train, c "
            "validation, d to f test.",
            source="the lists of minzwon/sota-music-tagging-models and pxaris/ccml",
            sizes={"train": 15247, "validation": 1529, "test": 4332},
            labels=("top50",),
        ),
        "all": SplitCard(
            rule="All clips, also those with none of the 50 tags, by folder: 0 to b train, c "
            "validation, d to f test.",
            source="the folders of the data set (van den Oord, Dieleman and Schrauwen, ISMIR 2014)",
            sizes={"train": 18709, "validation": 1825, "test": 5329},
        ),
        "artist": SplitCard(
            rule="The clips of `cleaned`, made anew by artist: about 60, 15 and 25 % of them.",
            disjoint_by="artist",
            labels=("top50",),
        ),
    }
    FILES = (
        SourceFile(
            ANNOTATIONS, f"{_BASE_URL}/{ANNOTATIONS}", 21_517_373, None, how=_DOWNLOAD_INSTRUCTIONS
        ),
        *(
            SourceFile(
                name, f"{_BASE_URL}/{name}", size, sha256, unpack=True, how=_DOWNLOAD_INSTRUCTIONS
            )
            for name, size, sha256 in _PARTS
        ),
    )
    GROUP = "artist"
    KNOWN_BAD: ClassVar = {
        f"{prefix}{path}": "is empty (0 bytes) as it is distributed."
        for prefix in _PREFIXES
        for path in EMPTY_CLIPS
    }

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns the clips of a split; the rows of the annotations that the split's rule takes."""
        rows = list(self._rows(self.LABEL_SETS[label_set]))
        prefix = self.find_prefix(_PREFIXES, [path for path, _ in rows])
        return [
            self._track(prefix, path, labels, split_name)
            for path, labels in rows
            if split_name == "all" or (labels and path not in EMPTY_CLIPS)
        ]

    def _rows(self, tags: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yields (path of the clip, those of the tags that it has) of each row of the table."""
        source = self.folder / ANNOTATIONS
        rows = self.iter_rows(ANNOTATIONS)
        header = next(rows, [])
        missing = [name for name in (*tags, "mp3_path") if name not in header]
        if missing:
            raise BuildError(
                f"{source} has no column {missing[0]!r}: it is not the published table; download "
                "it anew."
            )
        columns = [(name, header.index(name)) for name in tags]
        path_column = header.index("mp3_path")
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                raise BuildError(
                    f"row {number} of {source} has {len(row)} fields instead of {len(header)}: the "
                    "file is damaged; download it anew."
                )
            path = row[path_column]
            if path[:1] not in _FOLDER_SPLITS:
                raise BuildError(f"row {number} of {source} names no clip but {path!r}.")
            yield path, tuple(name for name, column in columns if row[column] == "1")

    def _track(
        self, prefix: str, path: str, labels: tuple[str, ...], split_name: str
    ) -> CorpusTrack:
        found = _PATH.fullmatch(path)
        sources = {}
        if found:
            artist, album = found["artist"], f"{found['artist']}-{found['album']}"
            recording = f"{album}-{found['number']}-{found['title']}"
            sources = {"artist": artist, "album": album, "recording": recording}
        return CorpusTrack(
            track_id=path.removesuffix(".mp3"),
            path=f"{prefix}{path}",
            labels=labels,
            split=GENERATED_SPLIT if split_name == "artist" else _FOLDER_SPLITS[path[0]],
            sources=sources,
            seconds=float(found["end"]) - float(found["start"]) if found else None,
        )
