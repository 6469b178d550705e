"""`speech_commands`: version 2, 35 spoken words, one to each second of audio."""

from collections.abc import Sequence
from typing import ClassVar

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.builder import CorpusBuilder
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.download.files import SourceFile

WORDS = (
    *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward"),
    *("four", "go", "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on"),
    *("one", "right", "seven", "sheila", "six", "stop", "three", "tree", "two", "up"),
    *("visual", "wow", "yes", "zero"),
)
"""In alphabetical order, as in minzwon/data-driven-harmonic-filters; the corpus states none."""

_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
_SPEAKER_SEPARATOR = "_nohash_"


class Builder(CorpusBuilder):
    """One word per recording, at 16 kHz, split by speaker; see README.md."""

    NAME = "speech_commands"
    TITLE = "Speech Commands v2: 105,829 recordings of one of 35 words each, up to 1 s long."
    LICENCE = "CC BY 4.0"
    LABEL_SETS: ClassVar = {"words": WORDS}
    SPLIT_CARDS: ClassVar = {
        "official": SplitCard(
            rule="The lists in the archive for validation and test, the rest for training; a hash "
            "of the speaker decides, so that no speaker is in two parts.",
            source="Warden, Speech Commands (arXiv 1804.03209)",
            sizes={"train": 84843, "validation": 9981, "test": 11005},
            disjoint_by="speaker",
        ),
    }
    FILES = (
        SourceFile(
            "speech_commands_v0.02.tar.gz",
            "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            2428923189,
            "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            unpack=True,
        ),
    )
    GROUP = "speaker"
    MAX_SECONDS = 1.0

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns what lies in the folders of the words, and what the lists name besides."""
        del label_set, split_name  # There is one of each.
        splits = {path: split for split in _LISTS for path in self._read_list(split)}
        for word in WORDS:
            for file in self.need(word).glob("*.wav"):
                splits.setdefault(f"{word}/{file.name}", "train")
        return [self._track(path, split) for path, split in splits.items()]

    def _read_list(self, split: str) -> list[str]:
        paths = self.read_text(_LISTS[split]).splitlines()
        for number, path in enumerate(paths, 1):
            word, _, name = path.partition("/")
            if word not in WORDS or not name.endswith(".wav"):
                raise BuildError(
                    f"line {number} of {self.folder / _LISTS[split]} is {path!r}, not WORD/NAME.wav"
                    " with one of the 35 words of version 2; unpack the archive anew."
                )
        return paths

    def _track(self, path: str, split: str) -> CorpusTrack:
        word, name = path.split("/")
        speaker, found, _ = name.partition(_SPEAKER_SEPARATOR)
        sources = {"speaker": speaker} if found else {}
        return CorpusTrack(path.removesuffix(".wav"), path, (word,), split, sources)
