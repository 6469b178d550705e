"""Deformations of whole recordings: time stretch, pitch shift, compression, noise.

| name               | value                                         | published       |
|--------------------|-----------------------------------------------|-----------------|
| `pitch:VALUE`      | semitones, up or down                         | -1, 1           |
| `stretch:VALUE`    | speed: 2 is half as long; `2^0.5` may be said | 2^-0.5, 2^0.5   |
| `compression:N`    | preset 1 to 6, see `companding.PRESETS`       | 4, 6            |
| `noise:VALUE`      | share of white noise, 0 to 1                  | 0.1, 0.4        |

`A..B` is a range, whose steps are a semitone, a factor of 2^0.5, a preset, and 0.1; `A..B/STEP`
gives another one, which is a factor for `stretch`. What would change nothing is left out of ranges.

Source: Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based automatic music tagging models",
SMC 2020, section 5 (minzwon/sota-music-tagging-models, `training/` and the thesis of Won, 2022,
chapter 3). Differences: noise is seeded, and of an odd number of samples none is dropped.
"""

import contextlib
import dataclasses
import math
import re
import warnings
from collections.abc import Callable

import numpy as np

from musrep_jax.data.deformed.companding import PRESETS, compress

PITCH, STRETCH, COMPRESSION, NOISE = "pitch", "stretch", "compression", "noise"
CLEAN = "clean"
"""The name of no deformation."""
PUBLISHED = (
    "pitch:-1", "pitch:1", "stretch:2^-0.5", "stretch:2^0.5",
    "compression:4", "compression:6", "noise:0.1", "noise:0.4",
)  # fmt: skip
"""The deformations of the study."""
DEFORMATION_WORDS = (
    "names separated by commas, such as pitch:-1,1, stretch:2^-0.5, compression:4,6, "
    "noise:0.1..0.4, or published"
)
VERSION = 1
"""To be raised when any deformation gives other samples than before."""
_MAX_POINTS = 200
_WINDOW = 2048
"""Samples of librosa's default window."""
_SUFFIX = re.compile(rf"(?P<name>.+)@(?P<deformation>({PITCH}|{STRETCH}|{COMPRESSION}|{NOISE}):.*)")


class DeformationError(ValueError):
    """A deformation cannot be applied as asked; the message is one sentence that says why."""


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What values a kind of deformation takes.

    Attributes:
        low: smallest value.
        high: largest value.
        neutral: value that changes nothing, or None.
        step: of ranges; a factor if `is_geometric`.
        is_geometric: whether ranges are multiplied through.
        is_whole: whether values are whole numbers.
        words: what a value is.
    """

    low: float
    high: float
    neutral: float | None
    step: float
    words: str
    is_geometric: bool = False
    is_whole: bool = False


KINDS: dict[str, _Kind] = {
    PITCH: _Kind(-24, 24, 0, 1, "semitones from -24 to 24"),
    STRETCH: _Kind(0.25, 4, 1, math.sqrt(2), "a speed from 0.25 to 4", is_geometric=True),
    COMPRESSION: _Kind(1, 6, None, 1, "a preset from 1 to 6", is_whole=True),
    NOISE: _Kind(0, 1, 0, 0.1, "a share from 0 to 1"),
}
"""Kind -> its values."""


@dataclasses.dataclass(frozen=True)
class Deformation:
    """A kind of deformation at a strength.

    Attributes:
        kind: of `KINDS`.
        text: the value as it was written.
    """

    kind: str
    text: str

    @property
    def name(self) -> str:
        """As in configs, such as `pitch:-1`."""
        return f"{self.kind}:{self.text}"

    @property
    def value(self) -> float:
        """The strength."""
        return _parse_number(self.text)

    def change_length(self, num_samples: np.ndarray | int) -> np.ndarray:
        """Returns the lengths of recordings after the deformation.

        Args:
            num_samples: int (tracks,), before it.
        """
        lengths = np.asarray(num_samples, np.int64)
        if self.kind != STRETCH:
            return lengths
        # As librosa rounds, half to even; of very little at least a sample is left.
        return np.maximum(np.rint(lengths / self.value).astype(np.int64), np.minimum(lengths, 1))


def parse_deformations(text: str) -> tuple[Deformation, ...]:
    """Returns the deformations that a text names, each once.

    Args:
        text: names separated by commas; a value without a kind has that of the name before, and
            `published` stands for `PUBLISHED`.

    Raises:
        DeformationError: if a part cannot be read, or a value is out of its range.

    Example:
        >>> [one.name for one in parse_deformations("pitch:-1,1, noise:0..0.2, stretch:0.5..1")]
        ['pitch:-1', 'pitch:1', 'noise:0.1', 'noise:0.2', 'stretch:0.5', 'stretch:0.7071']
    """
    found: list[Deformation] = []
    kind = ""
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part == "published":
            found += map(parse_deformation, PUBLISHED)
            continue
        named, colon, values = part.partition(":")
        kind, values = (named.strip(), values.strip()) if colon else (kind, part)
        if kind not in KINDS:
            raise DeformationError(
                f"{part!r} names no deformation; there are "
                f"{', '.join(f'{name}:VALUE' for name in KINDS)}, and published for those of the "
                "study."
            )
        found += _expand_values(kind, values, part)
    return tuple(dict.fromkeys(found))


def parse_deformation(text: str) -> Deformation:
    """Returns the one deformation that a text names.

    Args:
        text: such as `pitch:-1`.

    Raises:
        DeformationError: if it names none, or several.
    """
    found = parse_deformations(text)
    if len(found) != 1:
        raise DeformationError(
            f"{text!r} names {len(found)} deformations; name one, such as pitch:2."
        )
    return found[0]


def split_deformation(dataset: str) -> tuple[str, Deformation | None]:
    """Returns the name of a data set without its deformation, and that, or None.

    Args:
        dataset: `NAME`, or `NAME@KIND:VALUE`.

    Raises:
        DeformationError: if the value is out of its range.

    Example:
        >>> split_deformation("audio_folder:/music@pitch:-2")
        ('audio_folder:/music', Deformation(kind='pitch', text='-2'))
    """
    match = _SUFFIX.fullmatch(dataset)
    if match is None:
        return dataset, None
    return match["name"], parse_deformation(match["deformation"])


def strip_deformation(dataset: str) -> str:
    """Returns the name of a data set without its deformation, which is not checked.

    Args:
        dataset: `NAME`, or `NAME@KIND:VALUE`.
    """
    match = _SUFFIX.fullmatch(dataset)
    return dataset if match is None else match["name"]


def are_deformations(value: object) -> bool:
    """Returns whether a value of a config names deformations, or none."""
    try:
        return isinstance(value, str) and parse_deformations(value) is not None
    except DeformationError:
        return False


def deform(
    audio: np.ndarray, sample_rate: int, deformation: Deformation, seed: int = 0
) -> np.ndarray:
    """Returns a deformed recording.

    Args:
        audio: float (samples,), mono. The level is kept: compression clips what lies beyond
            [-1, 1], the others do not.
        sample_rate: in Hz.
        deformation: what is done.
        seed: of the noise.

    Returns:
        float32 (samples,); `Deformation.change_length` says how many.

    Raises:
        DeformationError: if the audio is no mono waveform, is empty or not finite.
    """
    values = np.asarray(audio)
    if values.ndim != 1:
        raise DeformationError(
            f"The audio has shape {values.shape}; a deformation takes mono (samples,): average the "
            "channels first, e.g. audio.mean(axis=1)."
        )
    if not len(values):
        raise DeformationError("The audio is empty: there is nothing to deform.")
    if not np.issubdtype(values.dtype, np.floating):
        raise DeformationError(
            f"The audio is {values.dtype}; a deformation takes floating point in [-1, 1]: divide "
            "16-bit samples by 32768."
        )
    if not np.isfinite(values).all():
        raise DeformationError(
            f"The audio has {int((~np.isfinite(values)).sum())} samples that are not finite: "
            "repair or leave out the recording."
        )
    changed = _APPLY[deformation.kind](
        values.astype(np.float32), sample_rate, deformation.value, seed
    )
    return np.ascontiguousarray(changed, np.float32)


def shift_pitch(audio: np.ndarray, sample_rate: int, semitones: float) -> np.ndarray:
    """Returns audio whose pitch is moved, at the same length: a phase vocoder and resampling.

    Args:
        audio: float32 (samples,).
        sample_rate: in Hz.
        semitones: 12 to an octave.
    """
    import librosa

    with _pads_quietly(audio):
        return librosa.effects.pitch_shift(
            audio, sr=sample_rate, n_steps=semitones, bins_per_octave=12
        )


def stretch_time(audio: np.ndarray, rate: float) -> np.ndarray:
    """Returns audio that is `rate` times as fast, at the same pitch: a phase vocoder.

    Args:
        audio: float32 (samples,).
        rate: above 1 is shorter.
    """
    import librosa

    length = int(Deformation(STRETCH, repr(float(rate))).change_length(len(audio)))
    with _pads_quietly(audio):
        # librosa leaves nothing of a sample or two.
        return librosa.util.fix_length(librosa.effects.time_stretch(audio, rate=rate), size=length)


def add_white_noise(audio: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Returns `(1 - share) * audio + share * noise`.

    The noise is Gaussian, scaled to a peak of 1 and then to the largest sample of the audio, which
    is the positive peak and not that of the absolute value; that of silence is silence.

    Args:
        audio: float32 (samples,).
        share: of the noise, 0 to 1.
        seed: of the noise.
    """
    # The published filter of the noise is flat: transform and inverse leave it as it is.
    noise = np.random.default_rng(seed).standard_normal(len(audio))
    noise *= float(audio.max()) / np.abs(noise).max()
    return ((1 - share) * audio.astype(np.float64) + share * noise).astype(np.float32)


_APPLY: dict[str, Callable[[np.ndarray, int, float, int], np.ndarray]] = {
    PITCH: lambda audio, rate, value, seed: shift_pitch(audio, rate, value),
    STRETCH: lambda audio, rate, value, seed: stretch_time(audio, value),
    COMPRESSION: lambda audio, rate, value, seed: compress(audio, rate, PRESETS[int(value)]),
    NOISE: lambda audio, rate, value, seed: add_white_noise(audio, value, seed),
}


def _pads_quietly(audio: np.ndarray) -> contextlib.AbstractContextManager[object]:
    """Silences that a clip is shorter than the window of the phase vocoder, which pads it."""
    if len(audio) >= _WINDOW:
        return contextlib.nullcontext()
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def _parse_number(text: str) -> float:
    """Returns a number, also one such as `2^0.5`; NaN for anything else."""
    base, power, exponent = text.partition("^")
    try:
        value = float(base) ** float(exponent) if power else float(base)
    except (ValueError, OverflowError, ZeroDivisionError):
        return math.nan
    return value if isinstance(value, float) and math.isfinite(value) else math.nan


def _expand_values(kind: str, text: str, part: str) -> list[Deformation]:
    """Returns the deformations of a value or a range of values."""
    known = KINDS[kind]
    match = re.fullmatch(r"(?P<low>.+?)\.\.(?P<high>[^/]+)(/(?P<step>.+))?", text)
    if match is None:
        return [Deformation(kind, _check_value(kind, text, part))]
    low, high = (
        _parse_number(_check_value(kind, match[side].strip(), part)) for side in ("low", "high")
    )
    step = known.step if match["step"] is None else _parse_number(match["step"].strip())
    least = 1 if known.is_geometric else 0
    if not (low < high and step > least) or (known.is_whole and step != int(step)):
        raise DeformationError(
            f"{part!r} is no range: write the lower value first, and a step above {least}, as in "
            f"{kind}:{known.low:g}..{known.high:g}/{known.step:.4g}."
        )
    length = math.log(high / low, step) if known.is_geometric else (high - low) / step
    count = int(length + 1e-6) + 1
    if count > _MAX_POINTS:
        raise DeformationError(f"{part!r} has {count} values; take a step that makes fewer.")
    places = np.arange(count)
    points = low * step**places if known.is_geometric else low + step * places
    if not math.isclose(points[-1], high, rel_tol=1e-6, abs_tol=1e-9):
        points = np.append(points, high)
    texts = (f"{round(point, 9) + 0.0:.4g}" for point in points)
    return [
        Deformation(kind, text)
        for text in dict.fromkeys(texts)
        if known.neutral is None or not math.isclose(float(text), known.neutral)
    ]


def _check_value(kind: str, text: str, part: str) -> str:
    """Returns the text of a value, or raises."""
    known, value = KINDS[kind], _parse_number(text)
    is_right = known.low <= value <= known.high and (not known.is_whole or value == int(value))
    if not is_right:
        raise DeformationError(f"{part!r}: the value of {kind} is {known.words}, not {text!r}.")
    return f"{value:g}" if known.is_whole else text
