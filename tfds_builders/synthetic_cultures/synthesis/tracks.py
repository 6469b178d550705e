"""The tracks of a synthetic tradition: who plays what in which split, and how it sounds.

Every random number comes from a generator that is seeded with the data set's seed, the tradition
and the number of the track (or performer), so that one track can be made again by itself.
"""

import collections
import dataclasses
import hashlib
import pathlib
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.arrangement import render_plan
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.performers import (
    Performer,
    make_performer,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.plans import Option, TrackPlan, Tradition
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.recording import record
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.traditions import TRADITIONS

from musrep_jax.data.specs import SPLITS

MIN_PERFORMERS, TRACKS_OF_PERFORMER = 48, 4
TRACK_SECONDS = 8.0
SAMPLE_RATE = 16000
PERFORMER_SHARES = {"train": 7, "validation": 2, "test": 3}
"""Twelfths of the performers, and so of the tracks, in each split."""
RARE_SHARE = 0.035
"""Share of tracks made of what is too rare to be in the vocabulary; they end without a label."""


@dataclasses.dataclass(frozen=True)
class SyntheticTrack:
    """One track before it is rendered.

    Attributes:
        track_id: unique in its tradition.
        number: from 0.
        split: one of `SPLITS`.
        performer: who plays.
        is_rare: whether it was made to lie outside the vocabulary.
        plan: its facts.
        labels: the plan's labels that are in the vocabulary; may be empty.
    """

    track_id: str
    number: int
    split: str
    performer: Performer
    is_rare: bool
    plan: TrackPlan
    labels: tuple[str, ...]

    @property
    def group(self) -> str:
        """Name of the performer."""
        return f"{self.track_id.rsplit('-', 1)[0]}-performer-{self.performer.number:02d}"


@dataclasses.dataclass(frozen=True)
class SyntheticCorpus:
    """All tracks of one tradition.

    Attributes:
        tradition: which one.
        seed: of everything random.
        seconds: mean length of a track.
        sample_rate: in Hz.
        label_names: the vocabulary, in the order of the output units.
        tracks: in the order of their numbers.
    """

    tradition: Tradition
    seed: int
    seconds: float
    sample_rate: int
    label_names: tuple[str, ...]
    tracks: tuple[SyntheticTrack, ...]

    def of_split(self, split: str) -> list[SyntheticTrack]:
        """Returns the tracks of one split."""
        return [track for track in self.tracks if track.split == split]

    def fingerprint(self) -> str:
        """Returns a hash of everything that the sound follows from: settings and source code.

        The code itself is hashed, because a version number is forgotten; the price is a rebuild
        after a change that was only a comment.
        """
        settings = (self.tradition.name, self.seed, len(self.tracks), self.seconds)
        digest = hashlib.sha256(repr((*settings, self.sample_rate)).encode())
        folder = pathlib.Path(__file__).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
        return digest.hexdigest()[:16]

    def render(self, track: SyntheticTrack) -> np.ndarray:
        """Returns the waveform of a track.

        Args:
            track: one of `tracks`.

        Returns:
            float32 in (-1, 1), shape (samples,); lengths differ by up to a tenth from the mean.
        """
        rng = _generator(self.seed, self.tradition.name, "sound", track.number)
        seconds = self.seconds * rng.uniform(0.9, 1.1)
        mix = render_plan(
            track.plan, track.performer, rng, seconds=seconds, sample_rate=self.sample_rate
        )
        return record(
            mix,
            track.performer,
            rng,
            level_db=track.plan.level_db,
            sample_rate=self.sample_rate,
        )


def _generator(seed: int, tradition: str, purpose: str, number: int) -> np.random.Generator:
    """Returns the generator of one purpose; `crc32` turns names into the same numbers anywhere."""
    words = (seed, zlib.crc32(tradition.encode()), zlib.crc32(purpose.encode()), number)
    return np.random.default_rng(words)


def assign_splits(num_performers: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Returns the split of each performer, in shares as near to `PERFORMER_SHARES` as can be.

    Args:
        num_performers: at least three.
        rng: shuffles the performers.

    Returns:
        Names of splits, length `num_performers`.

    Raises:
        ValueError: if there are fewer performers than splits.
    """
    if num_performers < len(SPLITS):
        raise ValueError(
            f"{num_performers} performers cannot fill {len(SPLITS)} splits; "
            "ask for more tracks, at least three"
        )
    total = sum(PERFORMER_SHARES.values())
    held_out = {
        split: max(1, round(num_performers * PERFORMER_SHARES[split] / total))
        for split in ("validation", "test")
    }
    names = [split for split, count in held_out.items() for _ in range(count)]
    names = ["train"] * (num_performers - len(names)) + names
    return tuple(names[place] for place in rng.permutation(num_performers))


def allot(options: Sequence[Option], count: int, rng: np.random.Generator) -> list[str]:
    """Returns `count` values in the options' shares, rounded by largest remainder, in random order.

    Args:
        options: to choose from; shares need not sum to one.
        count: values wanted.
        rng: shuffles.

    Returns:
        Values, length `count`.
    """
    shares = np.array([option.share for option in options], np.float64)
    exact = count * shares / shares.sum()
    counts = np.floor(exact).astype(int)
    # A stable sort: among equal remainders the option that stands first wins.
    for place in np.argsort(-(exact - counts), kind="stable")[: count - counts.sum()]:
        counts[place] += 1
    values = [o.value for o, n in zip(options, counts, strict=True) for _ in range(n)]
    return [values[place] for place in rng.permutation(count)]


def label_vocabulary(label_sets: Sequence[Sequence[str]], num_labels: int) -> tuple[str, ...]:
    """Returns the most frequent labels: by descending count, ties by code point.

    Args:
        label_sets: labels of every training track.
        num_labels: at most so many.

    Returns:
        Label names in the order of the output units.

    Source: the rule of the cross-cultural tagging paper's public code.
    """
    counts = collections.Counter(label for labels in label_sets for label in set(labels))
    return tuple(sorted(sorted(counts), key=lambda label: -counts[label])[:num_labels])


def _choices(
    tradition: Tradition, split: str, rare: Sequence[bool], seed: int
) -> list[dict[str, str]]:
    """Returns what is chosen for each track of a split."""
    chosen: list[dict[str, str]] = [{} for _ in rare]
    for axis, options in tradition.choices.items():
        for is_rare in (False, True):
            places = [i for i, flag in enumerate(rare) if flag == is_rare]
            allowed = [
                option
                for option in options
                if option.is_rare == is_rare and (split == "train" or not option.is_train_only)
            ]
            rng = _generator(seed, tradition.name, f"{axis}/{split}", int(is_rare))
            for place, value in zip(places, allot(allowed, len(places), rng), strict=True):
                chosen[place][axis] = value
    return chosen


def make_corpus(
    name: str,
    *,
    seed: int = 0,
    num_tracks: int | None = None,
    seconds: float = TRACK_SECONDS,
    sample_rate: int = SAMPLE_RATE,
) -> SyntheticCorpus:
    """Returns the planned tracks of a tradition; sound is made by `SyntheticCorpus.render`.

    Args:
        name: a key of `TRADITIONS`.
        seed: of everything random.
        num_tracks: at least three; the vocabulary's promises hold from about 100 on. None for the
            tradition's own number.
        seconds: mean length of a track, at least 1.
        sample_rate: in Hz.

    Returns:
        The corpus.

    Raises:
        ValueError: if the tradition is unknown, or the corpus would be too small or too short.
    """
    if name not in TRADITIONS:
        raise ValueError(f"unknown tradition {name!r}; choose one of {', '.join(TRADITIONS)}")
    if seconds < 1.0:
        raise ValueError(f"tracks of {seconds} s are too short for music; use at least 1 s")
    tradition = TRADITIONS[name]
    num_tracks = tradition.num_tracks if num_tracks is None else num_tracks
    num_performers = min(num_tracks, max(MIN_PERFORMERS, num_tracks // TRACKS_OF_PERFORMER))
    splits = assign_splits(num_performers, _generator(seed, name, "splits", 0))
    performers = [
        make_performer(number, _generator(seed, name, "performer", number))
        for number in range(num_performers)
    ]
    planned: dict[int, tuple[str, bool, TrackPlan]] = {}
    for split in SPLITS:
        numbers = [i for i in range(num_tracks) if splits[i % num_performers] == split]
        num_rare = max(1, round(RARE_SHARE * len(numbers))) if len(numbers) > 2 else 0
        order = _generator(seed, name, f"rare/{split}", 0).permutation(len(numbers))
        rare = [bool(place < num_rare) for place in order]
        choices = _choices(tradition, split, rare, seed)
        for number, is_rare, chosen in zip(numbers, rare, choices, strict=True):
            rng = _generator(seed, name, "plan", number)
            planned[number] = (split, is_rare, tradition.plan(chosen, is_rare, rng))
    training = [plan.labels for split, _, plan in planned.values() if split == "train"]
    label_names = label_vocabulary(training, tradition.num_labels)
    known = set(label_names)
    tracks = tuple(
        SyntheticTrack(
            track_id=f"{name}-{number:04d}",
            number=number,
            split=planned[number][0],
            performer=performers[number % num_performers],
            is_rare=planned[number][1],
            plan=planned[number][2],
            labels=tuple(label for label in planned[number][2].labels if label in known),
        )
        for number in range(num_tracks)
    )
    return SyntheticCorpus(tradition, seed, seconds, sample_rate, label_names, tracks)


def label_counts(corpus: SyntheticCorpus) -> Mapping[str, Mapping[str, int]]:
    """Returns the number of positives of every label, for each split."""
    return {
        split: {
            label: sum(label in track.labels for track in corpus.of_split(split))
            for label in corpus.label_names
        }
        for split in SPLITS
    }
