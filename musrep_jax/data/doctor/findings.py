"""Diagnoses a file from its measurements: faults, and findings worth a note.

A fault goes into the quarantine list, so nothing is one that a healthy file can show. What says
that a file is too short is weighed by its strength: the corpus' metadata, then the length that its
own header promises, then an end that is visibly cut. Where the stronger one is content, the weaker
is no more than a note.

Clipped (a note: loud masters and chip music are at full scale on purpose): at least 1 % of the
samples lie between two equal neighbors at 0.9 of full scale or more. Three equal ones in a row are
what Audacity's Find Clipping counts ("start threshold", default 3); 1 % is the share that
`clipCheck` (speechcollectr for R) lets pass; a full-scale sine of 16 bits has 0.5 %. Lossy codecs
blur a flat top and exceed full scale with healthy audio too, and 8 bits repeat values anyway. There
the distribution of levels tells, a criterion of our own: of the samples at 0.6 of full scale or
more, 65 % are at 0.85 or more. A full-scale sine has 60 %, loud masters some 10 %; music that was
driven ten times into clipping and then encoded has 65 % to 80 %. Milder clipping is not seen there.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from musrep_jax.data.audio.containers import find_missing_audio
from musrep_jax.data.audio.ffmpeg import FFMPEG_ADVICE
from musrep_jax.data.audio.formats import SUFFIXES, TITLES
from musrep_jax.data.audio.resampling import SILENCE_LEVEL
from musrep_jax.data.doctor.measurements import FileMeasurements
from musrep_jax.data.doctor.quarantine import escape_path

FAULTS = {
    "missing": "listed by the corpus or the table, but not there",
    "dangling": "links to nothing",
    "unreadable": "may not be read",
    "empty": "0 bytes",
    "dead": "cannot be opened as audio",
    "damaged": "the decoder fails on the way, or parts are missing",
    "no_audio": "opens, and holds no audio",
    "truncated": "shorter than it should be",
    "not_finite": "NaN or infinite samples",
    "silent": "no sound at all",
    "constant": "a constant value (DC) and nothing else",
    "known_bad": "known to be bad",
}
"""Kind -> what it means. All but `missing` go into the quarantine list: it would keep a file out
that arrives later."""
NOTES = {
    "not_decoded": "needs the ffmpeg program to be decoded",
    "duplicate": "the same audio as another file",
    "contradiction": "the same audio as another file, with other labels",
    "leak": "the same audio as a file of another split",
    "wrong_extension": "another format than its name says",
    "name": "its name is not UTF-8, so that no table can list it",
    "outside": "listed, and outside the folder, by its path or behind a link",
    "junk": "foreign bytes before the audio",
    "no_header": "variable bit rate without a header: players guess its length",
    "length": "its length is told differently",
    "clipped": "clipped",
    "offset": "a large constant offset (DC)",
    "mostly_silent": "silent for most of its time",
    "mute_channel": "a channel without sound",
    "too_loud": "far beyond full scale",
    "sample_rate": "another sample rate than most",
    "channels": "another number of channels than most",
}
"""Kind -> what it means."""

_TOLERANCE_SECONDS, _TOLERANCE_SHARE, _MAX_TOLERANCE_SECONDS = 0.1, 0.05, 1.0
_MIN_FLAT_TOP_SHARE = 0.01
_HIGH_SHARE, _MIN_HIGH_TO_MEDIUM_RATIO = 0.05, 0.65
_MIN_DC_OFFSET, _MIN_DC_OFFSET_SECONDS = 0.05, 0.1
_MIN_CONSTANT_SHARE = 0.8
"""Of the time; lossy codecs ring for a while where the constant begins."""
_MOSTLY_SILENT_SHARE, _HALF_SILENT_SHARE, _LONG_SILENCE_SECONDS = 0.95, 0.5, 10.0
"""Single sounds padded to the length of a clip (ESC-50: up to 0.86) are meant so; half a track of
silence that lasts is not."""
_MAX_PEAK = 8.0
_MAJORITY_SHARE, _MIN_FILES = 0.75, 4


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """Something about a file.

    Attributes:
        path: relative to the folder, as `os.fsdecode` gives it.
        kind: a key of `FAULTS` or `NOTES`.
        reason: a clause that names the figures, with a full stop.
        is_fault: whether the file should not be used.
    """

    path: str
    kind: str
    reason: str
    is_fault: bool

    @property
    def is_listed(self) -> bool:
        """Whether it goes into the quarantine list."""
        return self.is_fault and self.kind != "missing"


def fault(path: str, kind: str, reason: str) -> Finding:
    """Returns a finding for which the file should not be used."""
    return Finding(path, kind, reason, is_fault=True)


def note(path: str, kind: str, reason: str) -> Finding:
    """Returns a finding that does no harm."""
    return Finding(path, kind, reason, is_fault=False)


def judge(path: str, facts: FileMeasurements, expected: float | None = None) -> list[Finding]:
    """Returns the faults and notes of one file.

    Args:
        path: as it will be reported.
        facts: that were measured.
        expected: its length in seconds from the corpus' metadata, where they tell.
    """
    container = facts.container
    if not facts.size:
        return [fault(path, "empty", "the file is empty (0 bytes).")]
    if facts.is_ffmpeg_missing:
        if container.truncation:
            return [fault(path, "truncated", f"{container.truncation}.")]
        title = TITLES.get(container.format, container.format)
        why = f"{title} takes ffmpeg to decode: {FFMPEG_ADVICE}."
        return [note(path, "not_decoded", why)]
    if facts.encoding.startswith("RAW/"):
        return [
            fault(path, "dead", "it has no header; its name alone makes it noise of raw bytes.")
        ]
    if facts.error and not facts.encoding:
        if container.truncation:
            return [fault(path, "truncated", f"{container.truncation}.")]
        what = f"it is {container.foreign}." if container.foreign else facts.error
        return [fault(path, "dead", what)]
    found = list(_find_name_issues(path, facts))
    if facts.error:
        return [*found, fault(path, "damaged", facts.error)]
    if not facts.num_frames:
        return [*found, fault(path, "no_audio", "no frame of audio could be decoded from it.")]
    found += _find_length_issues(path, facts, expected)
    found += _find_sound_issues(path, facts)
    return found


def _find_name_issues(path: str, facts: FileMeasurements) -> Iterator[Finding]:
    container = facts.container
    suffix = "." + path.rpartition(".")[2].lower()
    if container.format and suffix not in SUFFIXES[container.format]:
        yield note(path, "wrong_extension", f"it is {container.format}, whatever its name says.")
    if container.junk:
        yield note(path, "junk", f"{container.junk} bytes before its audio are no tag.")
    if container.is_estimate:
        yield note(path, "no_header", "its bit rate varies, and no header states its length.")


def _find_length_issues(
    path: str, facts: FileMeasurements, expected: float | None
) -> Iterator[Finding]:
    container, seconds = facts.container, facts.seconds
    trouble = _find_missing(facts)
    if expected is not None:
        tolerance = _TOLERANCE_SECONDS + min(_MAX_TOLERANCE_SECONDS, _TOLERANCE_SHARE * expected)
        told = f"{seconds:.2f} s of the {expected:.2f} s that the metadata tell"
        if seconds < expected - tolerance:
            yield fault(path, "truncated", f"it holds {told}.")
        elif trouble:
            yield note(path, "length", f"{trouble[1]}, but it holds {told}.")
        elif seconds > expected + tolerance:
            yield note(
                path, "length", f"it holds {seconds:.2f} s, the metadata tell {expected:.2f} s."
            )
    elif trouble:
        yield fault(path, trouble[0], f"{trouble[1]}.")
    elif container.truncation or container.corruption:
        what = container.truncation or container.corruption
        yield note(path, "length", f"{what}, but all that its header promises is there.")


def _find_missing(facts: FileMeasurements) -> tuple[str, str] | None:
    """Returns (kind, clause) if the file itself tells that something of it is missing."""
    announced = None
    if facts.declared_frames is not None and facts.sample_rate:
        announced = facts.declared_frames / facts.sample_rate
    return find_missing_audio(facts.container, facts.seconds, announced)


def _find_sound_issues(path: str, facts: FileMeasurements) -> Iterator[Finding]:
    if facts.num_not_finite:
        share = facts.num_not_finite / (facts.num_frames * facts.channels)
        told = f"{facts.num_not_finite} samples ({share:.2%}) are NaN or infinite"
        yield fault(path, "not_finite", f"{told}.")
    if facts.spread < 2 * SILENCE_LEVEL and abs(facts.offset) < SILENCE_LEVEL:
        yield fault(path, "silent", f"its peak is {facts.peak:.6f} of full scale.")
        return
    if facts.still >= _MIN_CONSTANT_SHARE or facts.spread < 2 * SILENCE_LEVEL:
        yield fault(path, "constant", f"its value is {facts.offset:.3f} throughout.")
        return
    if abs(facts.offset) >= _MIN_DC_OFFSET and facts.seconds >= _MIN_DC_OFFSET_SECONDS:
        yield note(path, "offset", f"its mean is {facts.offset:+.3f} of full scale.")
    if _is_clipped(facts):
        told = f"{max(facts.flat, facts.high):.1%} of its samples are at the top"
        yield note(path, "clipped", f"{told}.")
    if facts.silent >= _MOSTLY_SILENT_SHARE or (
        facts.silent >= _HALF_SILENT_SHARE and facts.longest_silence >= _LONG_SILENCE_SECONDS
    ):
        told = f"{facts.silent:.0%} of it, {facts.longest_silence:.1f} s at a stretch"
        yield note(path, "mostly_silent", f"{told}.")
    if facts.mute_channels:
        told = f"{facts.mute_channels} of its {facts.channels} channels"
        yield note(path, "mute_channel", f"{told}.")
    if facts.peak >= _MAX_PEAK:
        yield note(path, "too_loud", f"its peak is {facts.peak:.4g} times full scale.")


def _is_clipped(facts: FileMeasurements) -> bool:
    """Returns whether the waveform is cut off at the top; the head of this file says when."""
    if not facts.is_coarse:
        return facts.flat >= _MIN_FLAT_TOP_SHARE
    return facts.high >= _HIGH_SHARE and facts.high >= _MIN_HIGH_TO_MEDIUM_RATIO * facts.medium


def find_duplicates(
    facts: Mapping[str, FileMeasurements], *, is_fault: bool = False
) -> list[Finding]:
    """Returns a finding for every file but the first, in sorted order, that has the same audio.

    Args:
        facts: of the files that are otherwise usable, by path.
        is_fault: whether copies should not be used.
    """
    found = []
    for first, *others in _group_by_audio(facts):
        for path in others:
            is_copy = facts[path].content == facts[first].content
            what = "is a copy of" if is_copy else "sounds, sample for sample, like"
            reason = f"it {what} {escape_path(first)}."
            found.append(Finding(path, "duplicate", reason, is_fault))
    return found


def find_contradictions(
    facts: Mapping[str, FileMeasurements],
    labels: Mapping[str, Sequence[str]],
    splits: Mapping[str, str],
) -> list[Finding]:
    """Returns notes on files with the same audio whose labels contradict, or whose splits differ.

    Args:
        facts: of the files that are otherwise usable, by path.
        labels: of the files whose labels are known, by path.
        splits: of those whose split is given.
    """
    found = []
    for paths in _group_by_audio(facts):
        labeled = [path for path in paths if path in labels]
        for path in labeled[1:]:
            ours, theirs = set(labels[path]), set(labels[labeled[0]])
            if ours != theirs:
                told = f"it is {_list_labels(ours - theirs)} here"
                other = f"{_list_labels(theirs - ours)} in {escape_path(labeled[0])}"
                found.append(note(path, "contradiction", f"{told}, and {other}."))
        given = [path for path in paths if path in splits]
        for path in given[1:]:
            if splits[path] != splits[given[0]]:
                told = (
                    f"it is in {splits[path]}, and {escape_path(given[0])}, which sounds the same"
                )
                found.append(note(path, "leak", f"{told}, in {splits[given[0]]}."))
    return found


def _list_labels(names: Iterable[str]) -> str:
    return " and ".join(map(repr, sorted(names))) or "nothing else"


def _group_by_audio(facts: Mapping[str, FileMeasurements]) -> list[list[str]]:
    """Returns the paths with the same audio together, sorted."""
    alike = defaultdict(list)
    for path in sorted(facts):
        alike[facts[path].sound or facts[path].content].append(path)
    return list(alike.values())


def find_outliers(facts: Mapping[str, FileMeasurements]) -> list[Finding]:
    """Returns a note for each file whose rate or channels differ from those of nearly all others.

    Args:
        facts: of the files that were decoded, by path.
    """
    found = []
    for kind, unit in (("sample_rate", " Hz"), ("channels", " channel(s)")):
        counts = Counter(getattr(entry, kind) for entry in facts.values())
        if len(facts) < _MIN_FILES or len(counts) < 2:
            continue
        usual, count = counts.most_common(1)[0]
        if count >= _MAJORITY_SHARE * len(facts):
            found += [
                note(path, kind, f"{getattr(entry, kind)}{unit}; most have {usual}{unit}.")
                for path, entry in facts.items()
                if getattr(entry, kind) != usual
            ]
    return found
