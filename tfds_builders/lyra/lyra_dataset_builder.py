"""`lyra`: Greek traditional and folk music, as the log-mel spectrograms that its authors publish.

A label is `instruments--X`, `genres--X` or `place--X`. The text `None` of the column `place` is a
class like any other: 312 training pieces have no place.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.builder import GENERATED_SPLIT, CorpusBuilder
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.download.files import SourceFile

TRAINING, TEST = "split/training.tsv", "split/test.tsv"

TOP30 = (
    "instruments--Voice", "genres--Traditional", "instruments--Violin", "instruments--Percussion",
    "instruments--Laouto", "instruments--Guitar", "instruments--Klarino", "genres--Nisiotiko",
    "place--None", "instruments--Bass", "instruments--Accordion", "instruments--Santouri",
    "genres--Aegean", "place--Aegean-sea", "genres--Epirotic", "place--Epirus",
    "instruments--Bouzouki", "genres--Mikrasiatiko", "place--Asia-minor", "genres--Rebetiko",
    "genres--Laiko", "instruments--Piano", "instruments--Lyra", "instruments--Oud",
    "genres--Macedonian", "place--Macedonia", "genres--Peloponnesian", "place--Peloponnese",
    "instruments--Mandolin", "instruments--Kanonaki",
)  # fmt: skip
"""The most frequent labels of `training.tsv`, validation part included, equals by code point."""

DUPLICATE_LABELS = {
    "place--Aegean-sea": "genres--Aegean",
    "place--Epirus": "genres--Epirotic",
    "place--Asia-minor": "genres--Mikrasiatiko",
    "place--Macedonia": "genres--Macedonian",
    "place--Peloponnese": "genres--Peloponnesian",
}
"""Places that exactly the pieces of one genre have: the same label twice."""

MERGED25 = tuple(name for name in TOP30 if name not in DUPLICATE_LABELS)

_FIELDS = ("instruments", "genres", "place")
_COLUMNS = ("id", *_FIELDS, "youtube-id", "start-ts", "end-ts")
_VALIDATION_SEED, _VALIDATION_SHARE = 10, 0.1
_PREFIXES = ("mel-spectrograms/", "")
_LISTS_URL = (
    "https://raw.githubusercontent.com/pxaris/lyra-dataset/"
    "55f84a2c3b93feb34e3043edb61591f299240f82/data"
)


class Builder(CorpusBuilder):
    """Reads the published tables; a piece is a file `mel-spectrograms/ID.npy`."""

    VERSION = tfds.core.Version("1.0.0")
    NAME = "lyra"
    TITLE = "Lyra: Greek traditional and folk music with instruments, genres and places."
    LICENCE = (
        "metadata CC BY-NC-SA 4.0; the spectrograms are published without a licence of their own, "
        "the recordings belong to their owners"
    )
    LABEL_SETS: ClassVar = {"top30": TOP30, "merged25": MERGED25}
    SPLIT_CARDS: ClassVar = {
        "published": SplitCard(
            rule="Training and test part as published, no YouTube source in both; validation is "
            "the random tenth of the training part that the cross-cultural code draws (NumPy's "
            "legacy generator, seed 10), and shares all its sources with the rest.",
            source="pxaris/lyra-dataset and pxaris/ccml",
            sizes={"train": 1116, "validation": 124, "test": 330},
        ),
        "source": SplitCard(
            rule="The test part as published; about a fifth of the training part is validation, "
            "made so that no YouTube source lies in two parts.",
            disjoint_by="youtube",
        ),
    }
    FORMS = ("log_mel",)
    IS_LOG_MEL = True
    FILES = (
        SourceFile(
            TRAINING,
            f"{_LISTS_URL}/split/training.tsv",
            172_392,
            "7df7d9637ae91a15d4a465b18160aa73e4a147166441194eb72605c079f90dbd",
        ),
        SourceFile(
            TEST,
            f"{_LISTS_URL}/split/test.tsv",
            46_007,
            "849cc544b88e852efc4c6a3a96df6b511435a322e1f5b62825f2ee82bc5d552f",
        ),
        SourceFile(
            "mel-spectrograms.zip",
            None,
            None,
            None,
            unpack=True,
            how="Download it (7.8 GB) with a browser from "
            "https://drive.google.com/file/d/1xMQIbi7Rkugr0gwtitIDSf2yQHbb-L4v (linked by "
            "https://github.com/pxaris/lyra-dataset); not mel-spectrograms_initial.zip, whose "
            "front end is another one.",
        ),
    )
    GROUP = "youtube"

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns the pieces of a split."""
        training = self.read_table(TRAINING, _COLUMNS)
        test = self.read_table(TEST, _COLUMNS)
        if split_name == "source":
            splits = [GENERATED_SPLIT] * len(training)
        else:
            validation = set(draw_validation(len(training)))
            splits = [
                "validation" if index in validation else "train" for index in range(len(training))
            ]
        splits += ["test"] * len(test)
        rows = [*training, *test]
        prefix = self.find_prefix(_PREFIXES, [f"{row['id']}.npy" for row in rows])
        return [
            self._track(prefix, row, split, is_merged=label_set == "merged25")
            for row, split in zip(rows, splits, strict=True)
        ]

    def _track(self, prefix: str, row: dict[str, str], split: str, is_merged: bool) -> CorpusTrack:
        labels = [f"{field}--{name}" for field in _FIELDS for name in row[field].split("|")]
        if is_merged:
            labels = [DUPLICATE_LABELS.get(name, name) for name in labels]
        try:
            seconds = float(row["end-ts"]) - float(row["start-ts"])
        except ValueError as error:
            raise BuildError(
                f"{self.folder}: piece {row['id']!r} has no start and end in seconds ({error})."
            ) from error
        return CorpusTrack(
            track_id=row["id"],
            path=f"{prefix}{row['id']}.npy",
            labels=tuple(labels),
            split=split,
            sources={"youtube": row["youtube-id"]},
            seconds=seconds,
        )


def draw_validation(num_training: int) -> list[int]:
    """Returns which rows of `training.tsv` the cross-cultural code takes for validation.

    Args:
        num_training: number of rows.

    Source: pxaris/ccml, `training/datasets/lyra.py`.

    Example:
        >>> draw_validation(1240)[:8]
        [123, 416, 326, 229, 307, 501, 74, 871]
    """
    order = np.arange(num_training)
    np.random.RandomState(_VALIDATION_SEED).shuffle(order)
    return order[: int(_VALIDATION_SHARE * num_training)].tolist()
